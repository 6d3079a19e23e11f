//! The QUIC carrier: one bidirectional control stream, one unidirectional stream per object.
//!
//! Never one long stream for everything: on a lossy line quinn's BBR overruns the receiver's
//! reassembly of it, and the connection dies.
//!
//! Formats: a control message is its length (u32, little endian) and its bytes. An object is the
//! length of its header (u32), that of its body (u64), header, body, end of stream.

use std::{
    fmt,
    sync::{Arc, OnceLock},
    time::Duration,
};

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use quinn::{ConnectionError, ReadError, RecvStream, SendStream, VarInt, WriteError};
use tokio::{sync::Mutex, time::timeout};

use super::{
    connection::{Counters, WELCOME},
    error::{NetError, code, words_of_a_peer},
    goodbye,
    limits::{Object, Options, Room, check},
    tuning,
};

/// How much is asked of a stream at once.
const READ_BYTES: usize = 256 * 1024;

/// Length of an object's two length fields.
const OBJECT_HEAD_BYTES: usize = 12;

/// One connection with its control stream.
pub(super) struct Quic {
    connection: quinn::Connection,
    endpoint: quinn::Endpoint,
    options: Options,
    counters: Arc<Counters>,
    control_out: Mutex<ControlOut>,
    control_in: Mutex<ControlIn>,
    /// The object being received. It outlives a `recv_object` that was given up.
    arriving: Mutex<Option<Arriving>>,
    closed_here: OnceLock<(u32, String)>,
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

struct Arriving {
    stream: RecvStream,
    head: BytesMut,
    header: Option<Bytes>,
    body_bytes: usize,
    room: Option<Room>,
    body: BytesMut,
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
        Ok(Self::new(
            connection, endpoint, options, counters, out, incoming,
        ))
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
            arriving: Mutex::new(None),
            closed_here: OnceLock::new(),
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

    pub(super) async fn send_object(&self, header: &[u8], body: Bytes) -> Result<(), NetError> {
        let opened = self.connection.open_uni().await;
        let stream = opened.map_err(|error| self.explain(of_connection(error)))?;
        let mut stream = TakenBackOnDrop(Some(stream));
        let mut head = BytesMut::with_capacity(OBJECT_HEAD_BYTES + header.len());
        head.put_u32_le(u32::try_from(header.len()).map_err(|_| too_long(header))?);
        head.put_u64_le(body.len() as u64);
        head.extend_from_slice(header);
        for mut part in [head.freeze(), body] {
            while !part.is_empty() {
                let piece = part.split_to(part.len().min(READ_BYTES));
                let sent_bytes = piece.len();
                stream
                    .write(piece)
                    .await
                    .map_err(|error| self.explain(error))?;
                self.counters.sent(sent_bytes);
            }
        }
        stream.finish();
        Ok(())
    }

    pub(super) async fn recv_object(&self, body_max_bytes: usize) -> Result<Object, NetError> {
        let mut slot = self.arriving.lock().await;
        loop {
            let arriving = match &mut *slot {
                Some(arriving) => arriving,
                empty => {
                    let accepted = self.connection.accept_uni().await;
                    let stream = accepted.map_err(|error| self.explain(of_connection(error)))?;
                    empty.insert(Arriving::new(stream))
                }
            };
            let result = self.receive(arriving, body_max_bytes).await;
            // From here on nothing waits, so an object can't get lost between slot and caller.
            let arrived = slot.take();
            match (result, arrived) {
                (Ok(Progress::Complete), Some(arrived)) => {
                    if let (Some(header), Some(room)) = (arrived.header, arrived.room) {
                        return Ok(Object {
                            header,
                            body: arrived.body.freeze(),
                            room,
                        });
                    }
                }
                // The sender took it back: as if it had never been there.
                (Ok(Progress::TakenBack), _) | (Ok(_), None) => {}
                (Err(error), Some(mut arrived)) => {
                    // Fails only if the stream is over anyway.
                    arrived
                        .stream
                        .stop(VarInt::from_u32(error.close_code()))
                        .ok();
                    return Err(match error {
                        NetError::Protocol { .. } => self.fail(error),
                        error => error,
                    });
                }
                (Err(error), None) => return Err(error),
            }
        }
    }

    /// Reads on in an object, from wherever an earlier call was given up.
    async fn receive(
        &self,
        object: &mut Arriving,
        body_max_bytes: usize,
    ) -> Result<Progress, NetError> {
        while object.header.is_none() {
            let wanted_bytes = match object.lengths() {
                Some((header, body)) => {
                    let header_bytes = self.options.check_header(header)?;
                    object.body_bytes = check("An object", body, body_max_bytes)?;
                    OBJECT_HEAD_BYTES + header_bytes
                }
                None => OBJECT_HEAD_BYTES,
            };
            if object.lengths().is_some() && object.head.len() == wanted_bytes {
                object.head.advance(OBJECT_HEAD_BYTES);
                object.header = Some(object.head.split().freeze());
                break;
            }
            let missing_bytes = wanted_bytes - object.head.len();
            match self.read(&mut object.stream, missing_bytes).await? {
                Piece::Bytes(piece) => object.head.extend_from_slice(&piece),
                Piece::End => return Err(NetError::protocol("an object ends in its header")),
                Piece::TakenBack => return Ok(Progress::TakenBack),
            }
        }
        if object.room.is_none() {
            object.room = Some(self.options.budget.take(object.body_bytes).await?);
            object.body.reserve(object.body_bytes);
        }
        loop {
            let missing_bytes = object.body_bytes - object.body.len();
            // One byte more than is missing: it must not come.
            match self
                .read(&mut object.stream, missing_bytes.clamp(1, READ_BYTES))
                .await?
            {
                Piece::Bytes(_) if missing_bytes == 0 => {
                    return Err(NetError::protocol("an object is longer than announced"));
                }
                Piece::Bytes(piece) => object.body.extend_from_slice(&piece),
                Piece::End if missing_bytes == 0 => return Ok(Progress::Complete),
                Piece::End => {
                    return Err(NetError::protocol("an object is shorter than announced"));
                }
                Piece::TakenBack => return Ok(Progress::TakenBack),
            }
        }
    }

    async fn read(&self, stream: &mut RecvStream, max_bytes: usize) -> Result<Piece, NetError> {
        match stream.read_chunk(max_bytes, true).await {
            Ok(Some(chunk)) => {
                self.counters.received(chunk.bytes.len());
                Ok(Piece::Bytes(chunk.bytes))
            }
            Ok(None) => Ok(Piece::End),
            Err(ReadError::Reset(_)) => Ok(Piece::TakenBack),
            Err(error) => Err(self.explain(of_read(error))),
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
        match (error, self.closed_here.get()) {
            (NetError::ClosedHere { .. }, Some((code, reason))) => NetError::ClosedHere {
                code: *code,
                reason: reason.clone(),
            },
            (error, _) => error,
        }
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

enum Progress {
    Complete,
    TakenBack,
}

enum Piece {
    Bytes(Bytes),
    End,
    TakenBack,
}

impl Arriving {
    fn new(stream: RecvStream) -> Self {
        let (head, body) = (BytesMut::new(), BytesMut::new());
        Self {
            stream,
            head,
            header: None,
            body_bytes: 0,
            room: None,
            body,
        }
    }

    /// The announced lengths of header and body, as soon as they are there.
    fn lengths(&self) -> Option<(u64, u64)> {
        let (header, rest) = self.head.split_first_chunk::<4>()?;
        let (body, _) = rest.split_first_chunk::<8>()?;
        Some((
            u32::from_le_bytes(*header).into(),
            u64::from_le_bytes(*body),
        ))
    }
}

/// A stream that is reset unless it was finished: dropped on its own, quinn would finish it.
struct TakenBackOnDrop(Option<SendStream>);

impl TakenBackOnDrop {
    async fn write(&mut self, piece: Bytes) -> Result<(), NetError> {
        match &mut self.0 {
            Some(stream) => stream.write_chunk(piece).await.map_err(of_write),
            None => Err(lost("the object's stream is over")),
        }
    }

    fn finish(mut self) {
        // Dropping finishes it; a stream that the peer stopped meanwhile needs nothing.
        self.0 = None;
    }
}

impl Drop for TakenBackOnDrop {
    fn drop(&mut self) {
        if let Some(stream) = &mut self.0 {
            // Fails only if the stream is over anyway.
            stream.reset(VarInt::from_u32(code::CANCELLED)).ok();
        }
    }
}

fn lost(detail: &str) -> NetError {
    NetError::Lost {
        detail: detail.into(),
    }
}

fn too_long(bytes: &[u8]) -> NetError {
    NetError::Limit {
        what: "A message",
        limit_bytes: u32::MAX.into(),
        announced_bytes: bytes.len() as u64,
    }
}

fn code_of(code: VarInt) -> u32 {
    u32::try_from(code.into_inner()).unwrap_or(u32::MAX)
}

fn of_read(error: ReadError) -> NetError {
    match error {
        ReadError::ConnectionLost(error) => of_connection(error),
        other => NetError::Lost {
            detail: other.to_string(),
        },
    }
}

fn of_write(error: WriteError) -> NetError {
    match error {
        WriteError::ConnectionLost(error) => of_connection(error),
        WriteError::Stopped(code) => NetError::ObjectStopped {
            code: code_of(code),
        },
        other => NetError::Lost {
            detail: other.to_string(),
        },
    }
}

/// What the end of an established connection means.
pub(super) fn of_connection(error: ConnectionError) -> NetError {
    match error {
        ConnectionError::ApplicationClosed(close) => NetError::Closed {
            code: code_of(close.error_code),
            reason: words_of_a_peer(&close.reason),
        },
        ConnectionError::LocallyClosed => NetError::ClosedHere {
            code: code::DONE,
            reason: String::new(),
        },
        ConnectionError::TimedOut => NetError::TimedOut {
            what: "An answer of the peer",
            limit: tuning::IDLE,
        },
        ConnectionError::TransportError(error) => NetError::protocol(error.to_string()),
        ConnectionError::ConnectionClosed(close) => NetError::Lost {
            detail: words_of_a_peer(close.to_string().as_bytes()),
        },
        other => NetError::Lost {
            detail: other.to_string(),
        },
    }
}
