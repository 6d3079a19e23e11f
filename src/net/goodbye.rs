//! A congestion controller that lets a goodbye out.
//!
//! quinn-proto up to 0.11.19 holds CONNECTION_CLOSE back while the congestion window is full, and a
//! closed connection handles no acknowledgement that would empty it: the packet is never sent, and
//! the peer waits for its idle time-out (quinn-rs/quinn#2785; fixed after 0.11 in #2787). Every push
//! that is interrupted would end like that. So the real controller is wrapped, and for the goodbye
//! alone the window is opened. To be removed with the next release of quinn.

use std::{
    any::Any,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use quinn::congestion::{Controller, ControllerFactory, ControllerMetrics};

/// LIMIT: how long the driver of a connection may take to send what it was told to.
const OUT: Duration = Duration::from_millis(250);
/// How often it is asked whether it has.
const ASK: Duration = Duration::from_millis(1);
/// What was closed of late.
static CLOSED: Mutex<Vec<Closed>> = Mutex::new(Vec::new());

/// A connection that was told to say goodbye.
struct Closed {
    connection: quinn::Connection,
    /// What it had sent before.
    sent_datagrams: u64,
    at: Instant,
}

impl Closed {
    fn is_out(&self) -> bool {
        let age = self.at.elapsed();
        age >= OUT || age >= ASK && self.connection.stats().udp_tx.datagrams > self.sent_datagrams
    }
}

/// More than can be in flight, and more than quinn's pacer paces.
const OPEN_WINDOW_BYTES: u64 = 1 << 40;

/// Makes controllers that can be opened.
pub(super) struct Openable<F>(pub(super) Arc<F>);

struct Wrapped {
    inner: Box<dyn Controller>,
    open: Arc<AtomicBool>,
}

/// Closes `connection` so that the peer hears of it.
pub(super) fn close(connection: &quinn::Connection, code: u32, reason: &[u8]) {
    let has_ended = connection.close_reason().is_some();
    let sent_datagrams = connection.stats().udp_tx.datagrams;
    if let Ok(wrapped) = connection
        .congestion_state()
        .into_any()
        .downcast::<Wrapped>()
    {
        // ORDER: before the close, whose packet is tried at once.
        wrapped.open.store(true, Ordering::Release);
    }
    connection.close(code.into(), reason);
    if has_ended {
        return;
    }
    let mut closed = CLOSED.lock().unwrap_or_else(PoisonError::into_inner);
    closed.retain(|closed| !closed.is_out());
    closed.push(Closed {
        connection: connection.clone(),
        sent_datagrams,
        at: Instant::now(),
    });
}

/// Waits until the goodbyes of what was just closed or dropped are out. A process that ends before
/// leaves its sessions with their agents until those give up.
///
/// RACE: a packet that a driver sent just before it heard of the goodbye is taken for it. The next
/// one is on its way within `ASK`; at worst the session stays with the agent for the idle limit.
pub async fn let_goodbyes_out() {
    let mut closed = std::mem::take(&mut *CLOSED.lock().unwrap_or_else(PoisonError::into_inner));
    loop {
        closed.retain(|closed| !closed.is_out());
        if closed.is_empty() {
            return;
        }
        tokio::time::sleep(ASK).await;
    }
}

impl<F: ControllerFactory + Send + Sync + 'static> ControllerFactory for Openable<F> {
    fn build(self: Arc<Self>, now: Instant, current_mtu: u16) -> Box<dyn Controller> {
        let inner = Arc::clone(&self.0).build(now, current_mtu);
        Box::new(Wrapped {
            inner,
            open: Arc::default(),
        })
    }
}

impl Controller for Wrapped {
    fn on_sent(&mut self, now: Instant, bytes: u64, last_packet_number: u64) {
        self.inner.on_sent(now, bytes, last_packet_number);
    }

    fn on_ack(
        &mut self,
        now: Instant,
        sent: Instant,
        bytes: u64,
        app_limited: bool,
        rtt: &quinn_proto::RttEstimator,
    ) {
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
        self.inner.on_mtu_update(new_mtu);
    }

    fn window(&self) -> u64 {
        if self.open.load(Ordering::Acquire) {
            OPEN_WINDOW_BYTES
        } else {
            self.inner.window()
        }
    }

    fn metrics(&self) -> ControllerMetrics {
        self.inner.metrics()
    }

    fn clone_box(&self) -> Box<dyn Controller> {
        let (inner, open) = (self.inner.clone_box(), Arc::clone(&self.open));
        Box::new(Self { inner, open })
    }

    fn initial_window(&self) -> u64 {
        self.inner.initial_window()
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}
