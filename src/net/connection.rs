//! One authenticated connection, whatever carries it.
//!
//! Two kinds of traffic: control messages, in order, and objects, side by side, each with a header
//! and a body. Both directions and both kinds work at the same time from different tasks; clones
//! are the same connection, and dropping the last one closes it.
//!
//! Giving up a call is always safe: a control message is sent whole or not at all or by the next
//! `send`, a received one is never lost, and an object whose sender gives up is never seen by the
//! receiver.

use std::sync::{
    Arc, Weak,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use bytes::Bytes;

use super::{
    error::NetError,
    key::NodeKey,
    limits::{CONTROL_MAX_BYTES, HEADER_MAX_BYTES, Object, check},
    pipe::Pipe,
    quic::Quic,
};

/// What the listening side says first, when it has accepted the peer's key. In TLS 1.3 a client is
/// done before the server has judged it; only this tells the client that it is welcome.
pub(super) const WELCOME: &[u8; 9] = b"fanout/1\n";

/// An authenticated connection.
#[derive(Debug, Clone)]
pub struct Connection {
    shared: Arc<Shared>,
}

/// A connection that is not kept open by being remembered.
#[derive(Debug, Clone)]
pub(super) struct WeakConnection(Weak<Shared>);

#[derive(Debug)]
struct Shared {
    peer: NodeKey,
    remote: String,
    carrier: Carrier,
    counters: Arc<Counters>,
}

#[derive(Debug)]
enum Carrier {
    Quic(Box<Quic>),
    Pipe(Box<Pipe>),
}

/// Bytes of control messages and objects with their framing, without what TLS, QUIC and the network
/// add.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    /// Handed to the transport.
    pub sent_bytes: u64,
    /// Read from the transport.
    pub received_bytes: u64,
    /// How often a control message came after one had gone out: the answers that this side waited
    /// for one after the other, each of which takes the way there and back.
    pub round_trips: u64,
}

#[derive(Debug, Default)]
pub(super) struct Counters {
    sent_bytes: AtomicU64,
    received_bytes: AtomicU64,
    has_spoken: AtomicBool,
    round_trips: AtomicU64,
}

impl Counters {
    pub(super) fn sent(&self, bytes: usize) {
        self.sent_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(super) fn received(&self, bytes: usize) {
        self.received_bytes
            .fetch_add(bytes as u64, Ordering::Relaxed);
    }

    fn spoke(&self) {
        self.has_spoken.store(true, Ordering::Relaxed);
    }

    fn was_answered(&self) {
        if self.has_spoken.swap(false, Ordering::Relaxed) {
            self.round_trips.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Connection {
    pub(super) fn over_quic(
        peer: NodeKey,
        remote: String,
        quic: Quic,
        counters: Arc<Counters>,
    ) -> Self {
        let carrier = Carrier::Quic(Box::new(quic));
        Self {
            shared: Arc::new(Shared {
                peer,
                remote,
                carrier,
                counters,
            }),
        }
    }

    pub(super) fn over_a_pipe(
        peer: NodeKey,
        remote: String,
        pipe: Pipe,
        counters: Arc<Counters>,
    ) -> Self {
        let carrier = Carrier::Pipe(Box::new(pipe));
        Self {
            shared: Arc::new(Shared {
                peer,
                remote,
                carrier,
                counters,
            }),
        }
    }

    /// Whose private key the other side has.
    pub fn peer(&self) -> NodeKey {
        self.shared.peer
    }

    /// Where the other side seems to be, for people. Never decide anything by it.
    pub fn remote(&self) -> &str {
        &self.shared.remote
    }

    /// `"quic"` or `"pipe"`.
    pub fn carrier(&self) -> &'static str {
        match &self.shared.carrier {
            Carrier::Quic(_) => "quic",
            Carrier::Pipe(_) => "pipe",
        }
    }

    /// Sends a control message. Returns when the transport has it, which waits while the peer
    /// doesn't read.
    pub async fn send(&self, message: &[u8]) -> Result<(), NetError> {
        check("A control message", message.len() as u64, CONTROL_MAX_BYTES)?;
        self.shared.counters.spoke();
        match &self.shared.carrier {
            Carrier::Quic(quic) => quic.send(message).await,
            Carrier::Pipe(pipe) => pipe.send(message).await,
        }
    }

    /// The next control message. One above the limit ends the connection.
    pub async fn recv(&self) -> Result<Bytes, NetError> {
        let message = match &self.shared.carrier {
            Carrier::Quic(quic) => quic.recv().await,
            Carrier::Pipe(pipe) => pipe.recv().await,
        }?;
        self.shared.counters.was_answered();
        Ok(message)
    }

    /// Sends an object. Returns when the transport has it all; that the peer has it, only the peer
    /// can say. Several may be sent at once; giving up takes the object back.
    pub async fn send_object(&self, header: &[u8], body: Bytes) -> Result<(), NetError> {
        check("An object's header", header.len() as u64, HEADER_MAX_BYTES)?;
        match &self.shared.carrier {
            Carrier::Quic(quic) => quic.send_object(header, body).await,
            Carrier::Pipe(pipe) => pipe.send_object(header, body).await,
        }
    }

    /// The next object, about in the order of sending. A body above `body_max_bytes` is stopped
    /// and reported, and the connection lives.
    ///
    /// Waits for room in the budget first, so objects must be dropped for others to come.
    pub async fn recv_object(&self, body_max_bytes: usize) -> Result<Object, NetError> {
        match &self.shared.carrier {
            Carrier::Quic(quic) => quic.recv_object(body_max_bytes).await,
            Carrier::Pipe(pipe) => pipe.recv_object(body_max_bytes).await,
        }
    }

    /// True where the way there and back takes long, as far as that was seen: bytes are dear then.
    pub fn is_long_way(&self) -> bool {
        match &self.shared.carrier {
            Carrier::Quic(quic) => quic.is_long_way(),
            Carrier::Pipe(_) => false,
        }
    }

    /// What went through so far.
    pub fn stats(&self) -> Stats {
        let counters = &self.shared.counters;
        Stats {
            sent_bytes: counters.sent_bytes.load(Ordering::Relaxed),
            received_bytes: counters.received_bytes.load(Ordering::Relaxed),
            round_trips: counters.round_trips.load(Ordering::Relaxed),
        }
    }

    /// Ends the connection now. What the peer hasn't received may be lost; see [`Self::finish`].
    pub fn close(&self, code: u32, reason: &str) {
        match &self.shared.carrier {
            Carrier::Quic(quic) => quic.close(code, reason),
            Carrier::Pipe(pipe) => pipe.close(code, reason),
        }
    }

    /// Delivers the control messages sent so far, then ends the connection. Takes a few seconds at
    /// most, whatever the peer does. Objects count as delivered only if the peer said so.
    pub async fn finish(&self, code: u32, reason: &str) {
        match &self.shared.carrier {
            Carrier::Quic(quic) => quic.finish(code, reason).await,
            Carrier::Pipe(pipe) => pipe.finish(code, reason).await,
        }
    }

    /// Waits until the connection is over, and says why.
    pub async fn closed(&self) -> NetError {
        match &self.shared.carrier {
            Carrier::Quic(quic) => quic.closed().await,
            Carrier::Pipe(pipe) => pipe.closed().await,
        }
    }

    /// Whether it isn't over yet, as far as this side knows.
    pub fn is_open(&self) -> bool {
        match &self.shared.carrier {
            Carrier::Quic(quic) => quic.is_open(),
            Carrier::Pipe(pipe) => pipe.is_open(),
        }
    }

    pub(super) fn downgrade(&self) -> WeakConnection {
        WeakConnection(Arc::downgrade(&self.shared))
    }
}

impl WeakConnection {
    pub(super) fn upgrade(&self) -> Option<Connection> {
        self.0.upgrade().map(|shared| Connection { shared })
    }

    pub(super) fn is_open(&self) -> bool {
        self.upgrade()
            .is_some_and(|connection| connection.is_open())
    }
}
