//! Congestion control for a long way: what was delivered decides, not what was lost.
//!
//! A model of the way, after BBR, version 3 (draft-ietf-ccwg-bbr), with its rate samples
//! (draft-cheng-iccrg-delivery-rate-estimation): the largest delivery rate of the last rounds, and
//! the shortest round trip of the last seconds. Their product is what the way itself holds; the
//! window is that and a little more, so that a rate that has become free is found.
//!
//! quinn's own BBR is the first version. It begins with `ProbeRtt`, takes its samples between two
//! neighbouring acknowledgements, and a window of twice the product lets quinn's pacer, which knows
//! the window alone, overflow every queue: on a way of 100 Mbit/s and 100 ms with 0.5 % loss a third
//! of all packets was lost (decision 16).
//!
//! What differs from the draft, since a controller of quinn has nothing to say but a window: no
//! pacing rate, and so no cycle of gains. quinn paces at 1.25 windows per round trip, and from
//! there on acknowledgements are the clock. A window of [`CRUISE`] probes all the time, by the
//! queue that it allows itself.
//!
//! Up to [`LOSS_BORNE`] of a round's packets may be lost without an answer. More is a way that
//! holds less than was thought: the window goes down to seven tenths, in each such round anew, and
//! comes back by an eighth in each round without.

use std::{
    any::Any,
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

use quinn::congestion::{Controller, ControllerFactory};
use quinn_proto::RttEstimator;

/// What is sent before anything is known, bytes: 200 packets, as BBR has it.
const INITIAL_WINDOW_BYTES: u64 = 200 * 1_200;

/// A window is never below so many packets (RFC 9002, section 7.2, has two; BBR has four).
const WINDOW_MIN_PACKETS: u64 = 4;

/// A window of so much of what the way holds, in percent, while the rate is being found.
const STARTUP: u64 = 250;

/// The same once it is known.
const CRUISE: u64 = 125;

/// The same while the shortest round trip is looked for anew.
const LOOK: u64 = 50;

/// The rate counts as found after so many rounds in which it grew by less than a fourth.
const ROUNDS_WITHOUT_GROWTH: u32 = 3;

/// It counts as found as well once a queue stands: when so many acknowledgements of a round all took
/// this part of the shortest round trip longer, and no less than this time (RFC 9406, section 4.2).
const QUEUE_SAMPLES: u32 = 8;
const QUEUE_PART: u32 = 8;
const QUEUE_MIN: Duration = Duration::from_millis(4);

/// A rate is remembered for so many rounds.
const ROUNDS_REMEMBERED: usize = 10;

/// A shortest round trip holds for so long.
const ROUND_TRIP_HOLDS: Duration = Duration::from_secs(10);

/// Then the queue is kept empty for so long, and a round trip.
const LOOK_LASTS: Duration = Duration::from_millis(200);

/// Of a hundred bytes of a round so many may be lost. BBR has two; then a way that loses two by chance
/// has as many bad rounds as good ones: 27 MB over 100 Mbit/s and 100 ms took 10.8 s.
const LOSS_BORNE: u64 = 4;

/// Fewer packets than these say nothing about a rate of loss.
const LOSS_PACKETS_MIN: u64 = 6;

/// LIMIT: batches of packets whose sending is remembered. quinn sends up to ten packets at once, so
/// this is 650 MB in flight in full batches.
const BATCHES_MAX: usize = 1 << 16;

/// Makes controllers for long ways.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct LongWayConfig;

impl ControllerFactory for LongWayConfig {
    fn build(self: Arc<Self>, now: Instant, current_mtu: u16) -> Box<dyn Controller> {
        Box::new(LongWay {
            model: Model::new(now, current_mtu),
        })
    }
}

/// [`Model`], as quinn asks for it.
#[derive(Debug, Clone)]
pub(super) struct LongWay {
    model: Model,
}

impl Controller for LongWay {
    fn on_sent(&mut self, now: Instant, bytes: u64, _last_packet_number: u64) {
        self.model.sent(now, bytes);
    }

    fn on_ack(
        &mut self,
        now: Instant,
        sent: Instant,
        bytes: u64,
        _app_limited: bool,
        _rtt: &RttEstimator,
    ) {
        self.model.acknowledged(now, sent, bytes);
    }

    fn on_end_acks(
        &mut self,
        now: Instant,
        in_flight: u64,
        app_limited: bool,
        _largest_packet_num_acked: Option<u64>,
    ) {
        self.model.acknowledged_all(now, in_flight, app_limited);
    }

    fn on_congestion_event(
        &mut self,
        _now: Instant,
        _sent: Instant,
        is_persistent_congestion: bool,
        lost_bytes: u64,
    ) {
        self.model.lost(lost_bytes, is_persistent_congestion);
    }

    fn on_mtu_update(&mut self, new_mtu: u16) {
        self.model.packet_bytes = new_mtu.into();
    }

    fn window(&self) -> u64 {
        self.model.window()
    }

    fn clone_box(&self) -> Box<dyn Controller> {
        Box::new(self.clone())
    }

    fn initial_window(&self) -> u64 {
        INITIAL_WINDOW_BYTES
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}

/// What was known when some packets were sent, all at the same moment.
#[derive(Debug, Clone, Copy)]
struct Batch {
    sent: Instant,
    /// Bytes delivered by then, and when the last of them was acknowledged.
    delivered_bytes: u64,
    delivered: Instant,
    /// When the packet was sent that was acknowledged last.
    first_sent: Instant,
}

/// What is known of the way.
#[derive(Debug, Clone)]
struct Model {
    packet_bytes: u64,
    /// The window, without what [`Self::ceiling`] takes from it.
    window_bytes: u64,
    /// What heavy loss leaves of the window.
    ceiling_bytes: Option<u64>,

    batches: VecDeque<Batch>,
    in_flight_bytes: u64,
    delivered_bytes: u64,
    delivered: Instant,
    first_sent: Instant,
    /// The last sent batch of which something was acknowledged since [`Self::acknowledged_all`].
    newest: Option<Batch>,
    newly_delivered_bytes: u64,

    /// The largest rate of each of the last rounds, bytes per second, this one's first.
    rates: [u64; ROUNDS_REMEMBERED],
    round: Round,
    /// The rate when it last grew by a fourth, and the rounds since.
    grown: (u64, u32),
    is_found: bool,

    /// The shortest round trip, and when it was last seen.
    round_trip: Option<(Duration, Instant)>,
    /// The last one.
    latest: Duration,
    look: Option<Look>,
}

/// What one round trip brings.
#[derive(Debug, Clone, Copy, Default)]
struct Round {
    /// It ends when something is acknowledged that was sent when so much was delivered.
    end_bytes: u64,
    delivered_bytes: u64,
    lost_bytes: u64,
    /// Less was sent than the window allowed.
    is_idle: bool,
    /// The network said that it is full.
    is_marked: bool,
    /// The most that was in flight.
    in_flight_bytes: u64,
    /// The shortest round trip, of so many acknowledgements.
    round_trip: Option<Duration>,
    samples: u32,
}

/// A look for the shortest round trip.
#[derive(Debug, Clone, Copy, Default)]
struct Look {
    /// Unknown until little enough is in flight.
    until: Option<Instant>,
    round_trip: Option<Duration>,
}

impl Model {
    fn new(now: Instant, packet_bytes: u16) -> Self {
        Self {
            packet_bytes: packet_bytes.into(),
            window_bytes: INITIAL_WINDOW_BYTES,
            ceiling_bytes: None,
            batches: VecDeque::new(),
            in_flight_bytes: 0,
            delivered_bytes: 0,
            delivered: now,
            first_sent: now,
            newest: None,
            newly_delivered_bytes: 0,
            rates: [0; ROUNDS_REMEMBERED],
            round: Round::default(),
            grown: (0, 0),
            is_found: false,
            round_trip: None,
            latest: Duration::ZERO,
            look: None,
        }
    }

    fn window(&self) -> u64 {
        let window_bytes = match self.look {
            Some(_) => self.held(LOOK),
            None => self.window_bytes,
        };
        window_bytes
            .min(self.ceiling_bytes.unwrap_or(u64::MAX))
            .max(self.window_min())
    }

    fn window_min(&self) -> u64 {
        WINDOW_MIN_PACKETS * self.packet_bytes
    }

    /// Bytes per second.
    fn rate(&self) -> u64 {
        self.rates.iter().copied().max().unwrap_or_default()
    }

    /// So many percent of what the way holds, bytes.
    fn held(&self, percent: u64) -> u64 {
        let round_trip = self.round_trip.map_or(Duration::ZERO, |(it, _)| it);
        let bytes = u128::from(self.rate()) * round_trip.as_micros() * u128::from(percent);
        u64::try_from(bytes / 100_000_000).unwrap_or(u64::MAX)
    }

    fn sent(&mut self, now: Instant, bytes: u64) {
        if self.in_flight_bytes == 0 {
            // Nothing was under way, so no time of waiting counts.
            self.delivered = now;
            self.first_sent = now;
        }
        self.in_flight_bytes += bytes;
        self.round.in_flight_bytes = self.round.in_flight_bytes.max(self.in_flight_bytes);
        if self.batches.back().is_some_and(|last| last.sent >= now) {
            return;
        }
        if self.batches.len() == BATCHES_MAX {
            self.batches.pop_front();
        }
        self.batches.push_back(Batch {
            sent: now,
            delivered_bytes: self.delivered_bytes,
            delivered: self.delivered,
            first_sent: self.first_sent,
        });
    }

    fn acknowledged(&mut self, now: Instant, sent: Instant, bytes: u64) {
        self.delivered_bytes += bytes;
        self.newly_delivered_bytes += bytes;
        self.delivered = now;
        let round_trip = now.saturating_duration_since(sent);
        self.latest = round_trip;
        let least = |it: Option<Duration>| Some(it.map_or(round_trip, |it| it.min(round_trip)));
        self.round.round_trip = least(self.round.round_trip);
        if let Some(look) = &mut self.look {
            look.round_trip = least(look.round_trip);
        }
        if self.round_trip.is_none_or(|(it, _)| round_trip <= it) {
            self.round_trip = Some((round_trip, now));
        }
        // What was sent together was sent by the clock of the last batch not after it.
        let after = self.batches.partition_point(|batch| batch.sent <= sent);
        let batch = after.checked_sub(1).and_then(|at| self.batches.get(at));
        if let Some(batch) = batch
            && self.newest.is_none_or(|newest| newest.sent <= batch.sent)
        {
            self.newest = Some(*batch);
        }
    }

    fn acknowledged_all(&mut self, now: Instant, in_flight_bytes: u64, is_idle: bool) {
        self.in_flight_bytes = in_flight_bytes;
        self.round.is_idle |= is_idle;
        let delivered_bytes = std::mem::take(&mut self.newly_delivered_bytes);
        self.round.delivered_bytes += delivered_bytes;
        if let Some(newest) = self.newest.take() {
            self.take_sample(now, &newest);
            if newest.delivered_bytes >= self.round.end_bytes {
                self.end_round();
            }
            self.forget(&newest);
            self.round.samples += 1;
        }
        self.is_found |= self.is_queue_standing();
        self.look_for_round_trip(now, is_idle);
        self.follow(delivered_bytes);
    }

    /// How fast what was under way together with this batch was delivered.
    fn take_sample(&mut self, now: Instant, newest: &Batch) {
        let sending = newest.sent.saturating_duration_since(newest.first_sent);
        let arriving = now.saturating_duration_since(newest.delivered);
        self.first_sent = newest.sent;
        let took = sending.max(arriving);
        let shortest = self.round_trip.map_or(Duration::ZERO, |(it, _)| it);
        // Less than a round trip is acknowledgements that came in a heap.
        if took.is_zero() || took < shortest {
            return;
        }
        let bytes = u128::from(self.delivered_bytes - newest.delivered_bytes);
        let rate = bytes * 1_000_000_000 / took.as_nanos();
        if let Some(this_round) = self.rates.first_mut() {
            *this_round = (*this_round).max(u64::try_from(rate).unwrap_or(u64::MAX));
        }
    }

    fn end_round(&mut self) {
        let ended = std::mem::take(&mut self.round);
        self.round.end_bytes = self.delivered_bytes;
        self.round.in_flight_bytes = self.in_flight_bytes;
        let is_heavy = ended.is_heavy(self.packet_bytes);
        if is_heavy {
            self.is_found |= !ended.is_idle;
            let most = self.window().min(ended.in_flight_bytes);
            self.ceiling_bytes = Some((most / 10 * 7).max(self.window_min()));
        }
        // What wasn't asked for says nothing about what the way can do.
        if ended.is_idle {
            return;
        }
        if !is_heavy {
            let raised = self.ceiling_bytes.map(|it| it + it.div_ceil(8));
            self.ceiling_bytes = raised.filter(|it| *it < self.window_bytes);
        }
        let rate = self.rate();
        if !self.is_found {
            if rate >= self.grown.0 / 4 * 5 {
                self.grown = (rate, 0);
            } else {
                self.grown.1 += 1;
            }
            self.is_found = self.grown.1 >= ROUNDS_WITHOUT_GROWTH;
        }
        self.rates.rotate_right(1);
        if let Some(this_round) = self.rates.first_mut() {
            *this_round = 0;
        }
    }

    fn is_queue_standing(&self) -> bool {
        let (Some((shortest, _)), Some(round_trip)) = (self.round_trip, self.round.round_trip)
        else {
            return false;
        };
        let queue = round_trip.saturating_sub(shortest);
        let is_full = !self.round.is_idle && self.round.samples >= QUEUE_SAMPLES;
        is_full && queue >= QUEUE_MIN.max(shortest / QUEUE_PART)
    }

    /// Batches so old that nothing of them will be acknowledged any more.
    fn forget(&mut self, newest: &Batch) {
        let round_trip = self.round_trip.map_or(Duration::ZERO, |(it, _)| it);
        let is_old =
            |batch: &Batch| newest.sent.saturating_duration_since(batch.sent) > round_trip * 4;
        while self.batches.front().is_some_and(is_old) {
            self.batches.pop_front();
        }
    }

    /// A shortest round trip that is old is looked for anew, with the queue kept empty.
    fn look_for_round_trip(&mut self, now: Instant, is_idle: bool) {
        let Some((shortest, seen)) = self.round_trip else {
            return;
        };
        let window_bytes = self.window();
        let Some(look) = &mut self.look else {
            if now.saturating_duration_since(seen) > ROUND_TRIP_HOLDS {
                if is_idle {
                    // There is no queue of ours.
                    self.round_trip = Some((self.latest, now));
                } else {
                    self.look = Some(Look::default());
                }
            }
            return;
        };
        match look.until {
            None if self.in_flight_bytes <= window_bytes => {
                look.until = Some(now + LOOK_LASTS.max(shortest));
                look.round_trip = None;
            }
            Some(until) if now >= until => {
                self.round_trip = Some((look.round_trip.unwrap_or(shortest), now));
                self.look = None;
            }
            _ => {}
        }
    }

    /// Sets the window to what is known now.
    fn follow(&mut self, delivered_bytes: u64) {
        let grown_bytes = self.window_bytes + delivered_bytes;
        self.window_bytes = if self.is_found {
            (self.held(CRUISE) + 3 * self.packet_bytes).min(grown_bytes)
        } else {
            // It never falls before the rate is found.
            grown_bytes.min(self.held(STARTUP)).max(self.window_bytes)
        };
    }

    fn lost(&mut self, bytes: u64, is_persistent: bool) {
        self.round.lost_bytes += bytes;
        self.in_flight_bytes = self.in_flight_bytes.saturating_sub(bytes);
        if is_persistent {
            // Whatever was known isn't true any more.
            self.rates = [0; ROUNDS_REMEMBERED];
            self.grown = (0, 0);
            self.is_found = false;
            self.ceiling_bytes = None;
            self.window_bytes = self.window_min();
        } else if bytes == 0 {
            // A mark of the network (ECN) is as good as a lost window.
            self.round.is_marked = true;
        }
    }
}

impl Round {
    /// More was lost than chance explains, or the network says itself that it is full.
    fn is_heavy(&self, packet_bytes: u64) -> bool {
        let all_bytes = self.delivered_bytes + self.lost_bytes;
        self.is_marked
            || self.lost_bytes >= LOSS_PACKETS_MIN * packet_bytes
                && self.lost_bytes * 100 > all_bytes * LOSS_BORNE
    }
}

#[cfg(test)]
mod tests;
