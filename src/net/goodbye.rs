//! A goodbye that the peer hears.
//!
//! quinn-proto up to 0.11.19 holds CONNECTION_CLOSE back while the congestion window is full, and a
//! closed connection handles no acknowledgement that would empty it: the packet is never sent, and
//! the peer waits for its idle time-out (quinn-rs/quinn#2785; fixed after 0.11 in #2787). Every push
//! that is interrupted would end like that. So for the goodbye alone the window is opened, which our
//! controller can do. To be removed with the next release of quinn.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use super::congestion;

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

/// Closes `connection` so that the peer hears of it.
pub(super) fn close(connection: &quinn::Connection, code: u32, reason: &[u8]) {
    let has_ended = connection.close_reason().is_some();
    let sent_datagrams = connection.stats().udp_tx.datagrams;
    // ORDER: before the close, whose packet is tried at once.
    congestion::open_window(connection);
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
