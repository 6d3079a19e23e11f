//! A bad line: a relay for UDP that loses, repeats, delays and reorders packets, both ways, as it is
//! told. Not every kernel that tests run on has `netem`.

use super::address::loopback_address;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// What a line does to packets; parts in percent.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Line {
    pub(crate) lost: u32,
    pub(crate) repeated: u32,
    /// Held back for up to three times the delay, so that later ones overtake them.
    pub(crate) reordered: u32,
    pub(crate) delay: Duration,
}

/// How many packets went which way.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) carried: AtomicU64,
    pub(crate) lost: AtomicU64,
    pub(crate) repeated: AtomicU64,
    pub(crate) reordered: AtomicU64,
}

/// A relay; it ends when this is dropped.
pub(crate) struct Relay {
    address: SocketAddr,
    counts: Arc<Counts>,
    is_over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Relay {
    /// A relay to `target` over such a line. The same seed does the same to the same packets.
    pub(crate) fn start(target: SocketAddr, line: Line, seed: u64) -> Self {
        let address = loopback_address();
        let socket = UdpSocket::bind(address).expect("bind the relay");
        socket.set_nonblocking(true).expect("nonblocking");
        let (counts, is_over) = (Arc::<Counts>::default(), Arc::<AtomicBool>::default());
        let mut carrier = Carrier {
            near: socket,
            target,
            line,
            random: StdRng::seed_from_u64(seed),
            far: HashMap::new(),
            waiting: BinaryHeap::new(),
            counts: counts.clone(),
            sequence: 0,
        };
        let over = is_over.clone();
        let thread = std::thread::spawn(move || {
            while !over.load(Ordering::Relaxed) {
                if !carrier.turn() {
                    std::thread::sleep(Duration::from_micros(300));
                }
            }
        });
        Self {
            address,
            counts,
            is_over,
            thread: Some(thread),
        }
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// What it has done so far.
    pub(crate) fn counts(&self) -> &Counts {
        &self.counts
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ended = thread.join();
        }
    }
}

/// A packet that is due at a time: to the client through the near socket, or to the target through
/// that client's own.
type Due = Reverse<(Instant, u64, SocketAddr, bool, Vec<u8>)>;

struct Carrier {
    near: UdpSocket,
    target: SocketAddr,
    line: Line,
    random: StdRng,
    far: HashMap<SocketAddr, UdpSocket>,
    waiting: BinaryHeap<Due>,
    counts: Arc<Counts>,
    sequence: u64,
}

impl Carrier {
    /// Takes what has come and sends what is due; false if there was neither.
    fn turn(&mut self) -> bool {
        let mut buffer = vec![0; 65_536];
        let mut is_busy = false;
        while let Ok((length, client)) = self.near.recv_from(&mut buffer) {
            is_busy = true;
            if !self.far.contains_key(&client) {
                let far = UdpSocket::bind((self.near.local_addr().unwrap().ip(), 0));
                let far = far.expect("bind");
                far.connect(self.target).expect("connect");
                far.set_nonblocking(true).expect("nonblocking");
                self.far.insert(client, far);
            }
            self.take(client, true, &buffer[..length]);
        }
        let clients: Vec<_> = self.far.keys().copied().collect();
        for client in clients {
            while let Ok(length) = self.far[&client].recv(&mut buffer) {
                is_busy = true;
                self.take(client, false, &buffer[..length]);
            }
        }
        let now = Instant::now();
        while self.waiting.peek().is_some_and(|Reverse(due)| due.0 <= now) {
            let Some(Reverse((_, _, client, is_outward, packet))) = self.waiting.pop() else {
                break;
            };
            is_busy = true;
            // A full buffer, or nobody who listens: lost, as on any line.
            let _sent = match is_outward {
                true => self.far[&client].send(&packet),
                false => self.near.send_to(&packet, client),
            };
        }
        is_busy
    }

    fn take(&mut self, client: SocketAddr, is_outward: bool, packet: &[u8]) {
        self.counts.carried.fetch_add(1, Ordering::Relaxed);
        if self.happens(self.line.lost) {
            self.counts.lost.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let mut copies = 1;
        if self.happens(self.line.repeated) {
            self.counts.repeated.fetch_add(1, Ordering::Relaxed);
            copies = 2;
        }
        for _ in 0..copies {
            let mut delay = self.line.delay;
            if self.happens(self.line.reordered) {
                self.counts.reordered.fetch_add(1, Ordering::Relaxed);
                delay = delay * self.random.random_range(1..=6) / 2 + Duration::from_millis(1);
            }
            self.sequence += 1;
            let due = Instant::now() + delay;
            let due = (due, self.sequence, client, is_outward, packet.to_vec());
            self.waiting.push(Reverse(due));
        }
    }

    fn happens(&mut self, percent: u32) -> bool {
        self.random.random_range(0..100) < percent
    }
}
