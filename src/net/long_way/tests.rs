use super::*;

const PACKET_BYTES: u64 = 1_200;
/// The clock of the simulation.
const STEP: Duration = Duration::from_micros(100);
const ROUND_TRIP: Duration = Duration::from_millis(100);
/// 100 Mbit/s, in bytes.
const RATE: u64 = 12_500_000;

/// A way with one queue, which drops what doesn't fit.
struct Way {
    rate: u64,
    queue_max_bytes: u64,
    lost_per_mille: u64,
    random: u64,
    free_at: Duration,
}

impl Way {
    fn new(lost_per_mille: u64) -> Self {
        Self {
            rate: RATE,
            queue_max_bytes: 1_250_000,
            lost_per_mille,
            random: 42,
            free_at: Duration::ZERO,
        }
    }

    /// When the acknowledgement of a packet is back, unless it is lost.
    fn carry(&mut self, now: Duration) -> Option<Duration> {
        let waiting = self.free_at.saturating_sub(now);
        let queued_bytes = waiting.as_micros() * u128::from(self.rate) / 1_000_000;
        if queued_bytes > u128::from(self.queue_max_bytes) {
            return None;
        }
        let took = Duration::from_nanos(PACKET_BYTES * 1_000_000_000 / self.rate);
        self.free_at = self.free_at.max(now) + took;
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        let is_lost = self.random % 1_000 < self.lost_per_mille;
        (!is_lost).then_some(self.free_at + ROUND_TRIP)
    }
}

/// A sender that always has something to send, as quinn would: it paces at 1.25 windows per
/// round trip, and a packet is lost once one sent three later is acknowledged.
struct Sender {
    model: Model,
    began: Instant,
    /// When sent, and when the acknowledgement comes.
    packets: VecDeque<(Duration, Option<Duration>)>,
    in_flight_bytes: u64,
    tokens: u64,
    round_trip: Duration,
    delivered_bytes: u64,
}

impl Sender {
    fn new(began: Instant) -> Self {
        Self {
            model: Model::new(began, 1_200),
            began,
            packets: VecDeque::new(),
            in_flight_bytes: 0,
            tokens: 0,
            round_trip: ROUND_TRIP,
            delivered_bytes: 0,
        }
    }

    fn step(&mut self, now: Duration, way: &mut Way) {
        self.hear(now);
        let window = self.model.window();
        let paced = u128::from(window) * STEP.as_nanos() * 5 / 4 / self.round_trip.as_nanos();
        self.tokens = (self.tokens + u64::try_from(paced).unwrap()).min(10 * PACKET_BYTES);
        let mut sent_bytes = 0;
        while self.in_flight_bytes + PACKET_BYTES <= window && self.tokens >= PACKET_BYTES {
            self.tokens -= PACKET_BYTES;
            self.in_flight_bytes += PACKET_BYTES;
            sent_bytes += PACKET_BYTES;
            self.packets.push_back((now, way.carry(now)));
        }
        if sent_bytes > 0 {
            self.model.sent(self.began + now, sent_bytes);
        }
    }

    fn hear(&mut self, now: Duration) {
        let is_here = |packet: &(Duration, Option<Duration>)| packet.1.is_some_and(|at| at <= now);
        let Some(newest) = self.packets.iter().rposition(is_here) else {
            return;
        };
        let (mut lost_bytes, mut kept) = (0, VecDeque::new());
        for (at, packet) in self.packets.drain(..=newest).enumerate() {
            if is_here(&packet) {
                let (sent, now) = (self.began + packet.0, self.began + now);
                self.model.acknowledged(now, sent, PACKET_BYTES);
                self.round_trip = self.round_trip * 7 / 8 + now.duration_since(sent) / 8;
                self.delivered_bytes += PACKET_BYTES;
                self.in_flight_bytes -= PACKET_BYTES;
            } else if at + 3 <= newest {
                lost_bytes += PACKET_BYTES;
            } else {
                kept.push_back(packet);
            }
        }
        kept.append(&mut self.packets);
        self.packets = kept;
        let now = self.began + now;
        self.model
            .acknowledged_all(now, self.in_flight_bytes, false);
        if lost_bytes > 0 {
            self.in_flight_bytes -= lost_bytes;
            self.model.lost(lost_bytes, false);
        }
    }
}

/// Runs from one second to another, and returns the share of the way's rate that each had.
fn run(senders: &mut [Sender], way: &mut Way, seconds: std::ops::Range<u64>) -> Vec<f64> {
    let delivered = |senders: &[Sender]| -> Vec<u64> {
        senders.iter().map(|one| one.delivered_bytes).collect()
    };
    let before = delivered(senders);
    let steps = |seconds: u64| Duration::from_secs(seconds).as_micros() / STEP.as_micros();
    for step in steps(seconds.start)..steps(seconds.end) {
        let now = STEP * u32::try_from(step).unwrap();
        for sender in &mut *senders {
            sender.step(now, way);
        }
    }
    let possible = way.rate * (seconds.end - seconds.start);
    let bytes = delivered(senders).into_iter().zip(before);
    bytes
        .map(|(after, before)| (after - before) as f64 / possible as f64)
        .collect()
}

#[test]
fn loss_by_chance_costs_what_was_lost_and_little_more() {
    for lost_per_mille in [0, 5, 10, 20] {
        let (mut senders, mut way) = ([Sender::new(Instant::now())], Way::new(lost_per_mille));
        let beginning = run(&mut senders, &mut way, 0..1);
        let then = run(&mut senders, &mut way, 1..8);
        assert!(beginning[0] > 0.5, "{lost_per_mille}: {beginning:?}");
        assert!(then[0] > 0.9, "{lost_per_mille}: {then:?}");
    }
}

#[test]
fn the_queue_stays_short() {
    let (mut senders, mut way) = ([Sender::new(Instant::now())], Way::new(0));
    run(&mut senders, &mut way, 0..3);
    let round_trip = senders[0].round_trip;
    assert!(round_trip < ROUND_TRIP * 7 / 5, "{round_trip:?}");
}

#[test]
fn heavy_loss_that_goes_on_leaves_a_small_window() {
    let (mut senders, mut way) = ([Sender::new(Instant::now())], Way::new(0));
    run(&mut senders, &mut way, 0..2);
    let before = senders[0].model.window();
    way.lost_per_mille = 100;
    run(&mut senders, &mut way, 2..5);
    let after = senders[0].model.window();
    assert!(after < before / 8, "{before} to {after}");
    way.lost_per_mille = 0;
    let again = run(&mut senders, &mut way, 5..10);
    assert!(again[0] > 0.5, "{again:?}");
}

#[test]
fn a_way_that_becomes_slower_is_followed() {
    let (mut senders, mut way) = ([Sender::new(Instant::now())], Way::new(5));
    run(&mut senders, &mut way, 0..3);
    way.rate = RATE / 5;
    way.queue_max_bytes /= 5;
    let slower = run(&mut senders, &mut way, 3..8);
    assert!(slower[0] > 0.8, "{slower:?}");
    let window = senders[0].model.window();
    assert!(window < 2 * RATE / 5 / 10, "{window}");
    way.rate = RATE;
    way.queue_max_bytes *= 5;
    run(&mut senders, &mut way, 8..11);
    let faster = run(&mut senders, &mut way, 11..13);
    assert!(faster[0] > 0.8, "{faster:?}");
}

#[test]
fn two_share_a_way() {
    let now = Instant::now();
    let (mut senders, mut way) = ([Sender::new(now), Sender::new(now)], Way::new(5));
    run(&mut senders[..1], &mut way, 0..2);
    run(&mut senders, &mut way, 2..12);
    let shares = run(&mut senders, &mut way, 12..22);
    assert!(shares.iter().all(|share| *share > 0.2), "{shares:?}");
    assert!(shares.iter().sum::<f64>() > 0.9, "{shares:?}");
}

#[test]
fn the_shortest_round_trip_is_looked_for_anew_with_an_empty_queue() {
    let (mut senders, mut way) = ([Sender::new(Instant::now())], Way::new(0));
    run(&mut senders, &mut way, 0..24);
    let (round_trip, seen) = senders[0].model.round_trip.unwrap();
    let after = seen.duration_since(senders[0].began);
    assert!(after > Duration::from_secs(20), "{after:?}");
    assert!(round_trip < ROUND_TRIP * 11 / 10, "{round_trip:?}");
}

#[test]
fn who_says_little_for_long_keeps_what_is_known() {
    let (mut senders, mut way) = ([Sender::new(Instant::now())], Way::new(0));
    run(&mut senders, &mut way, 0..2);
    let (began, model) = (senders[0].began, &mut senders[0].model);
    let before = model.window();
    model.in_flight_bytes = 0;
    for second in 3..30 {
        let sent = began + Duration::from_secs(second);
        model.sent(sent, PACKET_BYTES);
        model.acknowledged(sent + ROUND_TRIP, sent, PACKET_BYTES);
        model.acknowledged_all(sent + ROUND_TRIP, 0, true);
    }
    let after = model.window();
    assert!(after > before * 9 / 10, "{before} to {after}");
    assert!(after < before * 11 / 10, "{before} to {after}");
}

#[test]
fn where_nothing_gets_through_it_begins_anew_with_a_few_packets() {
    let (mut senders, mut way) = ([Sender::new(Instant::now())], Way::new(0));
    run(&mut senders, &mut way, 0..2);
    senders[0].model.lost(PACKET_BYTES, true);
    assert_eq!(senders[0].model.window(), 4 * PACKET_BYTES);
    run(&mut senders, &mut way, 2..4);
    let again = run(&mut senders, &mut way, 4..5);
    assert!(again[0] > 0.9, "{again:?}");
}

#[test]
fn a_mark_of_the_network_takes_three_tenths() {
    let (mut senders, mut way) = ([Sender::new(Instant::now())], Way::new(0));
    run(&mut senders, &mut way, 0..2);
    let before = senders[0].model.window();
    senders[0].model.lost(0, false);
    let steps = 2_000_000 / 100;
    for step in steps..steps + 1_500 {
        senders[0].step(STEP * step, &mut way);
    }
    let after = senders[0].model.window();
    assert!(after < before * 9 / 10, "{before} to {after}");
}
