//! Objects over QUIC: a unidirectional stream each.
//!
//! The format: the length of the header (u32, little endian), that of the body (u64), header, body,
//! end of stream. A body is read only after the budget has room for all of it.

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use quinn::{ReadError, RecvStream, SendStream, VarInt};

use super::{
    super::{
        error::{NetError, code},
        limits::{Object, Room, check},
    },
    Quic, READ_BYTES,
    errors::{lost, of_connection, of_read, of_write, too_long},
};

/// Length of an object's two length fields.
const OBJECT_HEAD_BYTES: usize = 12;

/// An object of which some is still to come.
pub(super) struct Arriving {
    stream: RecvStream,
    head: BytesMut,
    header: Option<Bytes>,
    body_bytes: usize,
    room: Option<Room>,
    body: BytesMut,
}

impl Quic {
    pub(in super::super) async fn send_object(
        &self,
        header: &[u8],
        body: Bytes,
    ) -> Result<(), NetError> {
        let opened = self.connection.open_uni().await;
        let stream = opened.map_err(|error| self.explain(of_connection(error)))?;
        // Fails only if the stream is over, which writing to it says.
        stream.set_priority(self.take_priority()).ok();
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

    pub(in super::super) async fn recv_object(
        &self,
        body_max_bytes: usize,
    ) -> Result<Object, NetError> {
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
