//! A long and lossy link between two network namespaces: what a kernel with `netem` would do.
//!
//! Both ends are TUN devices called `wan0`. Each packet that is read from one is dropped with the
//! given probability, or written to the other after the given time; order is kept. The rate is
//! not ours: `tc tbf` on both devices limits it, and a full queue there loses packets as well.

use anyhow::{Context, Result, anyhow};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use std::fs::File;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};
use tappers::{Interface, Tun};

const LARGEST_PACKET: usize = 9_216;

/// What the link is like.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wide {
    /// In each direction.
    pub(crate) mbit: u32,
    /// One way.
    pub(crate) delay: Duration,
    /// Of a thousand packets, in each direction.
    pub(crate) lost_per_mille: u64,
}

/// A running link. Its threads end when the devices are deleted.
pub(crate) struct Link(());

impl Link {
    /// Makes a device here and one in the other namespace, and starts forwarding.
    pub(crate) fn start(wide: Wide, other_namespace: &str) -> Result<Self> {
        let near = Arc::new(device()?);
        let other = File::open(other_namespace).context("open the namespace")?;
        // Only this thread moves, and it ends here; the device stays there.
        let far = thread::spawn(move || {
            move_into_link_name_space(other.as_fd(), Some(LinkNameSpaceType::Network))?;
            device()
        });
        let far = far.join().map_err(|_| anyhow!("the thread panicked"))??;
        let far = Arc::new(far);
        forward(Arc::clone(&near), Arc::clone(&far), wide, 1);
        forward(far, near, wide, 2);
        Ok(Self(()))
    }
}

fn device() -> Result<Tun> {
    let name = Interface::new("wan0").context("a name")?;
    Tun::new_named(name).context("make a TUN device (/dev/net/tun)")
}

fn forward(from: Arc<Tun>, to: Arc<Tun>, wide: Wide, seed: u64) {
    let (queue, queued) = channel();
    thread::spawn(move || receive(&from, &queue, wide, seed));
    thread::spawn(move || deliver(&to, &queued));
}

fn receive(from: &Tun, queue: &Sender<(Instant, Vec<u8>)>, wide: Wide, seed: u64) {
    let mut random = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut buffer = vec![0; LARGEST_PACKET];
    loop {
        match from.recv(&mut buffer) {
            Ok(length) => {
                let due = Instant::now() + wide.delay;
                random ^= random >> 12;
                random ^= random << 25;
                random ^= random >> 27;
                let dice = (random.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 24) % 1_000;
                if dice >= wide.lost_per_mille
                    && queue.send((due, buffer[..length].to_vec())).is_err()
                {
                    return;
                }
            }
            Err(error) if error.raw_os_error() == Some(libc::EIO) => {
                // It isn't up yet.
                thread::sleep(Duration::from_millis(5));
            }
            Err(_) => return,
        }
    }
}

fn deliver(to: &Tun, queued: &Receiver<(Instant, Vec<u8>)>) {
    while let Ok((due, packet)) = queued.recv() {
        thread::sleep(due.saturating_duration_since(Instant::now()));
        // As on a cable: whoever isn't there gets nothing.
        let _lost = to.send(&packet);
    }
}
