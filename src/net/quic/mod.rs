//! The QUIC carrier: one bidirectional control stream, one unidirectional stream per object.
//!
//! Never one long stream for everything: one lost packet would hold up all that comes behind it, and
//! the receiver would have to hold it.
//!
//! Formats: a control message is its length (u32, little endian) and its bytes. An object is the
//! length of its header (u32), that of its body (u64), header, body, end of stream.

mod errors;
mod object;
mod watch;

use std::{
    fmt,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicI32, Ordering},
    },
    time::Duration,
};

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use quinn::{RecvStream, SendStream};
use rustls::pki_types::CertificateDer;
use tokio::{sync::Mutex, time::timeout};

use super::{
    congestion,
    connection::{Counters, WELCOME},
    error::{NetError, code},
    goodbye,
    key::NodeKey,
    limits::Options,
    tls, tuning,
};
use errors::{lost, of_connection, of_read, of_write, too_long};
pub(super) use errors::{of_connecting, of_listening};
use object::Arriving;

/// How much is asked of a stream at once.
const READ_BYTES: usize = 256 * 1024;

/// One connection with its control stream.
pub(super) struct Quic {
    connection: quinn::Connection,
    endpoint: quinn::Endpoint,
    options: Options,
    counters: Arc<Counters>,
    control_out: Mutex<ControlOut>,
    control_in: Mutex<ControlIn>,
    /// The priority of the object that is sent next. Each has a lower one than those before, so that
    /// what was lost of an older one goes first: quinn would send it after all that is waiting,
    /// while the receiver, who reads one after the other, waits for it. Control messages have 1.
    next_priority: AtomicI32,
    /// The object being received. It outlives a `recv_object` that was given up.
    arriving: Mutex<Option<Arriving>>,
    closed_here: OnceLock<(u32, String)>,
    /// Why this side gave the peer up by itself.
    found: Arc<OnceLock<NetError>>,
}

struct ControlOut {
    stream: SendStream,
    /// What a `send` that was given up has left behind: half a message must not be followed by
    /// another.
    pending: BytesMut,
}

struct ControlIn {
    stream: RecvStream,
    buffer: BytesMut,
}

impl Quic {
    /// The listening side: opens the control stream and bids the peer welcome.
    pub(super) async fn welcome(
        connection: quinn::Connection,
        endpoint: quinn::Endpoint,
        options: Options,
        counters: Arc<Counters>,
    ) -> Result<Self, NetError> {
        let (mut out, incoming) = connection.open_bi().await.map_err(of_connection)?;
        out.set_priority(1)
            .map_err(|_| lost("the control stream closed at once"))?;
        out.write_all(WELCOME).await.map_err(of_write)?;
        Ok(Self::new(
            connection, endpoint, options, counters, out, incoming,
        ))
    }

    /// The connecting side: waits for the welcome.
    pub(super) async fn join(
        connection: quinn::Connection,
        endpoint: quinn::Endpoint,
        options: Options,
        counters: Arc<Counters>,
    ) -> Result<Self, NetError> {
        let (out, mut incoming) = connection.accept_bi().await.map_err(of_connection)?;
        out.set_priority(1)
            .map_err(|_| lost("the control stream closed at once"))?;
        let mut word = [0; WELCOME.len()];
        match incoming.read_exact(&mut word).await {
            Ok(()) if word == *WELCOME => {}
            Err(quinn::ReadExactError::ReadError(error)) => return Err(of_read(error)),
            Ok(()) | Err(_) => return Err(NetError::protocol("no welcome on the control stream")),
        }
        let quic = Self::new(connection, endpoint, options, counters, out, incoming);
        let port = quic.endpoint.local_addr().map_or(0, |it| it.port());
        // It ends with the connection.
        tokio::spawn(watch::watch(
            quic.connection.clone(),
            port,
            Arc::clone(&quic.found),
        ));
        Ok(quic)
    }

    fn new(
        connection: quinn::Connection,
        endpoint: quinn::Endpoint,
        options: Options,
        counters: Arc<Counters>,
        out: SendStream,
        incoming: RecvStream,
    ) -> Self {
        Self {
            connection,
            endpoint,
            options,
            counters,
            control_out: Mutex::new(ControlOut {
                stream: out,
                pending: BytesMut::new(),
            }),
            control_in: Mutex::new(ControlIn {
                stream: incoming,
                buffer: BytesMut::new(),
            }),
            next_priority: AtomicI32::new(0),
            arriving: Mutex::new(None),
            closed_here: OnceLock::new(),
            found: Arc::default(),
        }
    }

    pub(super) async fn send(&self, message: &[u8]) -> Result<(), NetError> {
        let mut out = self.control_out.lock().await;
        self.flush(&mut out).await?;
        let length_bytes = u32::try_from(message.len()).map_err(|_| too_long(message))?;
        out.pending.reserve(4 + message.len());
        out.pending.put_u32_le(length_bytes);
        out.pending.extend_from_slice(message);
        self.flush(&mut out).await
    }

    async fn flush(&self, out: &mut ControlOut) -> Result<(), NetError> {
        while out.pending.has_remaining() {
            let written = out.stream.write(&out.pending).await;
            let sent_bytes = written.map_err(|error| self.explain(of_write(error)))?;
            out.pending.advance(sent_bytes);
            self.counters.sent(sent_bytes);
        }
        Ok(())
    }

    /// The priority of one more object.
    fn take_priority(&self) -> i32 {
        let lower = |priority: i32| Some(priority.saturating_sub(1));
        let taken = self
            .next_priority
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, lower);
        taken.unwrap_or_else(|same| same)
    }

    pub(super) async fn recv(&self) -> Result<Bytes, NetError> {
        let mut control = self.control_in.lock().await;
        loop {
            if let Some(length) = control.buffer.first_chunk::<4>() {
                let announced_bytes = u32::from_le_bytes(*length);
                let bytes = match self.options.check_control(announced_bytes.into()) {
                    Ok(bytes) => bytes,
                    // What follows can't be told from messages any more.
                    Err(error) => return Err(self.fail(error)),
                };
                if control.buffer.len() >= 4 + bytes {
                    control.buffer.advance(4);
                    return Ok(control.buffer.split_to(bytes).freeze());
                }
            }
            match control.stream.read_chunk(READ_BYTES, true).await {
                Ok(Some(chunk)) => {
                    self.counters.received(chunk.bytes.len());
                    control.buffer.extend_from_slice(&chunk.bytes);
                }
                // The peer has no more to say; its reason follows.
                Ok(None) => {
                    return Err(
                        match timeout(tuning::GOODBYE, self.connection.closed()).await {
                            Ok(error) => self.explain(of_connection(error)),
                            Err(_) => self.fail(NetError::protocol("it ended the control stream")),
                        },
                    );
                }
                Err(error) => return Err(self.explain(of_read(error))),
            }
        }
    }

    pub(super) fn close(&self, code: u32, reason: &str) {
        // The first reason stands, as it does for the peer.
        self.closed_here.get_or_init(|| (code, reason.to_owned()));
        goodbye::close(&self.connection, code, reason.as_bytes());
    }

    pub(super) async fn finish(&self, code: u32, reason: &str) {
        let goodbye = async {
            let mut out = self.control_out.lock().await;
            if self.flush(&mut out).await.is_ok() && out.stream.finish().is_ok() {
                let delivered = out.stream.stopped();
                drop(out);
                // Any outcome means that there is nothing left to wait for.
                delivered.await.ok();
            }
        };
        // Whatever could not be delivered by then is lost with the connection.
        timeout(tuning::GOODBYE, goodbye).await.ok();
        self.close(code, reason);
        // The goodbye is a packet of its own, and this process may end next. The endpoint of a
        // listener has other connections: there the packet goes out in time.
        if self.endpoint.open_connections() <= 1 {
            timeout(Duration::from_millis(500), self.endpoint.wait_idle())
                .await
                .ok();
        }
    }

    pub(super) async fn closed(&self) -> NetError {
        let error = self.connection.closed().await;
        self.explain(of_connection(error))
    }

    pub(super) fn is_open(&self) -> bool {
        self.connection.close_reason().is_none()
    }

    /// Ends the connection because of `error`.
    fn fail(&self, error: NetError) -> NetError {
        self.close(error.close_code(), &error.to_string());
        error
    }

    /// Puts our own reason where the transport only knows that it was us.
    fn explain(&self, error: NetError) -> NetError {
        match (error, self.closed_here.get(), self.found.get()) {
            (NetError::ClosedHere { .. }, Some((code, reason)), _) => NetError::ClosedHere {
                code: *code,
                reason: reason.clone(),
            },
            (NetError::ClosedHere { .. }, None, Some(found)) => found.clone(),
            (error, ..) => error,
        }
    }
}

impl Quic {
    /// True where the way there and back takes long.
    pub(super) fn is_long_way(&self) -> bool {
        congestion::is_long_way(&self.connection)
    }
}

impl Drop for Quic {
    fn drop(&mut self) {
        if self.is_open() {
            self.close(code::DONE, "");
        }
    }
}

impl fmt::Debug for Quic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let stats = self.connection.stats();
        let calls = stats.udp_tx.ios.max(1);
        f.debug_struct("Quic")
            .field("remote", &self.connection.remote_address())
            .field("rtt", &stats.path.rtt)
            .field("mtu_bytes", &stats.path.current_mtu)
            // Close to 10 in bulk while GSO works.
            .field("datagrams_per_call", &(stats.udp_tx.datagrams / calls))
            .field("lost_packets", &stats.path.lost_packets)
            .finish_non_exhaustive()
    }
}

/// The key that the peer of a finished handshake has.
pub(super) fn peer_of(connection: &quinn::Connection) -> Result<NodeKey, NetError> {
    let chain = connection
        .peer_identity()
        .and_then(|any| any.downcast().ok());
    let chain: Option<Box<Vec<CertificateDer<'static>>>> = chain;
    tls::peer_key(chain.as_deref().map(Vec::as_slice))
}
