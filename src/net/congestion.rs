//! Which congestion controller a connection gets: that of a short way until its round trips say
//! that it is a long one.
//!
//! On a long way CUBIC takes each lost packet for a full queue, and needs many round trips to come
//! back: 21 MB over 100 Mbit/s, 100 ms and 0.5 % loss took quinn's CUBIC 96 s, quinn's BBR 2.5 s, and
//! [`super::long_way`] is faster than that; without loss they are level. On a local network CUBIC is
//! the better known. So the first acknowledgements decide, before anything worth counting was sent,
//! and the decision stands for the connection.
//!
//! The same controller opens its window for a goodbye (`goodbye.rs`).

use std::{
    any::Any,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use quinn::congestion::{Controller, ControllerFactory, ControllerMetrics, CubicConfig};
use quinn_proto::RttEstimator;

use super::long_way::{LongWay, LongWayConfig};

/// From this round trip on, a way is long. Within a site, even across a city, it is below.
const LONG: Duration = Duration::from_millis(10);

/// So many acknowledgements, all of them late, make a way long: a busy machine may answer its
/// first packet late as well. A handshake has about as many.
const SAMPLES: u32 = 4;

/// More than can be in flight, and more than quinn's pacer paces.
const OPEN_WINDOW_BYTES: u64 = 1 << 40;

/// Makes controllers that choose.
pub(super) struct ByRoundTrip {
    pub(super) short: Arc<CubicConfig>,
    pub(super) long: Arc<LongWayConfig>,
}

struct Chosen {
    inner: Box<dyn Controller>,
    mtu: u16,
    /// What is left to be seen before it stands, and what it is then.
    choice: Option<(u32, Arc<LongWayConfig>)>,
    /// Shared with the copies that quinn hands out.
    is_open: Arc<AtomicBool>,
}

/// Lets everything out that is still to be sent.
pub(super) fn open_window(connection: &quinn::Connection) {
    let controller = connection.congestion_state().into_any();
    if let Ok(controller) = controller.downcast::<Chosen>() {
        controller.is_open.store(true, Ordering::Release);
    }
}

/// True if it was decided that this way is a long one.
pub(super) fn is_long_way(connection: &quinn::Connection) -> bool {
    let controller = connection.congestion_state().into_any();
    let chosen = controller.downcast::<Chosen>();
    chosen.is_ok_and(|it| it.choice.is_none() && it.inner.into_any().is::<LongWay>())
}

impl ControllerFactory for ByRoundTrip {
    fn build(self: Arc<Self>, now: Instant, current_mtu: u16) -> Box<dyn Controller> {
        Box::new(Chosen {
            inner: Arc::clone(&self.short).build(now, current_mtu),
            mtu: current_mtu,
            choice: Some((SAMPLES, Arc::clone(&self.long))),
            is_open: Arc::default(),
        })
    }
}

impl Chosen {
    fn look(&mut self, now: Instant, round_trip: Duration) {
        match self.choice.take() {
            Some((left, long)) if round_trip >= LONG => {
                if left > 1 {
                    self.choice = Some((left - 1, long));
                } else {
                    tracing::debug!(?round_trip, "a long way");
                    self.inner = long.build(now, self.mtu);
                }
            }
            _short_or_decided => {}
        }
    }
}

impl Controller for Chosen {
    fn on_sent(&mut self, now: Instant, bytes: u64, last_packet_number: u64) {
        self.inner.on_sent(now, bytes, last_packet_number);
    }

    fn on_ack(
        &mut self,
        now: Instant,
        sent: Instant,
        bytes: u64,
        app_limited: bool,
        rtt: &RttEstimator,
    ) {
        self.look(now, now.saturating_duration_since(sent));
        self.inner.on_ack(now, sent, bytes, app_limited, rtt);
    }

    fn on_end_acks(
        &mut self,
        now: Instant,
        in_flight: u64,
        app_limited: bool,
        largest_packet_num_acked: Option<u64>,
    ) {
        self.inner
            .on_end_acks(now, in_flight, app_limited, largest_packet_num_acked);
    }

    fn on_congestion_event(
        &mut self,
        now: Instant,
        sent: Instant,
        is_persistent_congestion: bool,
        lost_bytes: u64,
    ) {
        self.inner
            .on_congestion_event(now, sent, is_persistent_congestion, lost_bytes);
    }

    fn on_mtu_update(&mut self, new_mtu: u16) {
        self.mtu = new_mtu;
        self.inner.on_mtu_update(new_mtu);
    }

    fn window(&self) -> u64 {
        if self.is_open.load(Ordering::Acquire) {
            OPEN_WINDOW_BYTES
        } else {
            self.inner.window()
        }
    }

    fn metrics(&self) -> ControllerMetrics {
        self.inner.metrics()
    }

    fn clone_box(&self) -> Box<dyn Controller> {
        Box::new(Self {
            inner: self.inner.clone_box(),
            mtu: self.mtu,
            choice: self.choice.clone(),
            is_open: Arc::clone(&self.is_open),
        })
    }

    fn initial_window(&self) -> u64 {
        self.inner.initial_window()
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether these round trips, in milliseconds, make a way long.
    fn is_long(round_trips: &[u64]) -> bool {
        let now = Instant::now();
        let mut chosen = Chosen {
            inner: Arc::new(CubicConfig::default()).build(now, 1_200),
            mtu: 1_200,
            choice: Some((SAMPLES, Arc::default())),
            is_open: Arc::default(),
        };
        for round_trip in round_trips {
            chosen.look(now, Duration::from_millis(*round_trip));
        }
        chosen.inner.into_any().is::<LongWay>()
    }

    #[test]
    fn only_a_way_without_any_short_round_trip_is_long() {
        assert!(is_long(&[100, 101, 103, 100]));
        assert!(is_long(&[10, 10, 10, 10]));
        assert!(!is_long(&[100, 100, 100]), "not decided yet");
        assert!(!is_long(&[40, 30, 1, 40, 40, 40, 40]), "a busy machine");
        assert!(!is_long(&[0, 400, 400, 400, 400, 400]), "a full queue");
        assert!(is_long(&[100, 100, 100, 100, 1, 1]), "it stands");
    }
}
