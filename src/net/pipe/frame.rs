//! The frames that carry control messages and objects over one byte pipe.
//!
//! A frame is its kind (u8), an object number (u32), the length of its content (u32), all little
//! endian, and the content. Control messages share one window of credit; each object has its own,
//! and there are so many places for objects. The receiver gives all three back as the application
//! takes things, so nothing can make it hold more, unread objects never block control messages, and
//! objects never wait for each other.
//!
//! Refused: unknown kinds, contents above their limit, frames of objects that aren't open, content
//! beyond the credit.

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt as _};

use super::super::{
    connection::Counters,
    error::{NetError, words_of_a_peer},
    limits::{Options, check},
};

/// LIMIT: control messages that were received and not yet read, in [`control_cost`].
pub(super) const CONTROL_WINDOW: usize = 4 * 1024 * 1024;

/// LIMIT: what one object may have received and not yet read.
pub(super) const OBJECT_WINDOW: usize = 2 * 1024 * 1024;

/// An object travels in parts of this size, between which control messages find their way.
pub(super) const PART_MAX_BYTES: usize = 64 * 1024;

const HEAD_BYTES: usize = 9;
const REASON_MAX_BYTES: usize = 1024;

/// What a control message takes from its window: small ones cost memory too.
pub(super) fn control_cost(message_bytes: usize) -> usize {
    message_bytes + 64
}

/// One frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Frame {
    /// A whole control message.
    Control(Bytes),
    /// An object begins.
    Open {
        id: u32,
        body_bytes: u64,
        header: Bytes,
    },
    /// The next part of its body.
    Part { id: u32, part: Bytes },
    /// Its sender takes it back.
    Reset { id: u32 },
    /// Its receiver doesn't want it.
    Stop { id: u32, code: u32 },
    /// So much more of an object's body may come.
    More { id: u32, bytes: u32 },
    /// So much more of control messages may come.
    Credit { cost: u32 },
    /// One more object may be opened.
    Place,
    /// I live.
    Ping,
    /// Goodbye.
    Close { code: u32, reason: Bytes },
}

impl Frame {
    /// A goodbye with words of ours.
    pub(super) fn close(code: u32, reason: &str) -> Self {
        let shown = &reason.as_bytes()[..reason.len().min(REASON_MAX_BYTES)];
        Self::Close {
            code,
            reason: Bytes::copy_from_slice(shown),
        }
    }

    /// Appends the frame's bytes.
    pub(super) fn encode(&self, out: &mut BytesMut) {
        let mut head = |kind: u8, id: u32, content_bytes: usize| {
            out.reserve(HEAD_BYTES + content_bytes);
            out.put_u8(kind);
            out.put_u32_le(id);
            // No content is longer than a control message may be.
            out.put_u32_le(u32::try_from(content_bytes).unwrap_or(u32::MAX));
        };
        match self {
            Self::Control(message) => {
                head(0, 0, message.len());
                out.extend_from_slice(message);
            }
            Self::Open {
                id,
                body_bytes,
                header,
            } => {
                head(1, *id, 8 + header.len());
                out.put_u64_le(*body_bytes);
                out.extend_from_slice(header);
            }
            Self::Part { id, part } => {
                head(2, *id, part.len());
                out.extend_from_slice(part);
            }
            Self::Reset { id } => head(3, *id, 0),
            Self::Stop { id, code } => {
                head(4, *id, 4);
                out.put_u32_le(*code);
            }
            Self::More { id, bytes } => {
                head(5, *id, 4);
                out.put_u32_le(*bytes);
            }
            Self::Credit { cost } => {
                head(8, 0, 4);
                out.put_u32_le(*cost);
            }
            Self::Place => head(9, 0, 0),
            Self::Ping => head(6, 0, 0),
            Self::Close { code, reason } => {
                head(7, 0, 4 + reason.len());
                out.put_u32_le(*code);
                out.extend_from_slice(reason);
            }
        }
    }

    /// Reads one frame; `None` if the pipe ended between frames. Limits are checked before any
    /// memory is set aside.
    pub(super) async fn read(
        pipe: &mut (impl AsyncRead + Unpin),
        options: &Options,
        counters: &Counters,
    ) -> Result<Option<Self>, NetError> {
        let mut head = [0; HEAD_BYTES];
        let first = pipe.read(&mut head).await.map_err(broken)?;
        if first == 0 {
            return Ok(None);
        }
        pipe.read_exact(&mut head[first..]).await.map_err(broken)?;
        let mut fields = &head[..];
        let (kind, id, announced) = (fields.get_u8(), fields.get_u32_le(), fields.get_u32_le());
        let content_bytes = allowed(kind, announced.into(), options)?;
        let mut content = BytesMut::with_capacity(content_bytes);
        let mut limited = pipe.take(content_bytes as u64);
        while content.len() < content_bytes {
            if limited.read_buf(&mut content).await.map_err(broken)? == 0 {
                return Err(NetError::Lost {
                    detail: "the pipe ended within a frame".into(),
                });
            }
        }
        counters.received(HEAD_BYTES + content_bytes);
        Self::decode(kind, id, content.freeze()).map(Some)
    }

    fn decode(kind: u8, id: u32, mut content: Bytes) -> Result<Self, NetError> {
        let is_of_an_object = (1..=5).contains(&kind);
        if id != 0 && !is_of_an_object {
            let detail = format!("a frame of kind {kind} names an object");
            return Err(NetError::protocol(detail));
        }
        // The minima were checked in `allowed`.
        Ok(match kind {
            0 => Self::Control(content),
            1 => Self::Open {
                id,
                body_bytes: content.get_u64_le(),
                header: content,
            },
            2 => Self::Part { id, part: content },
            3 => Self::Reset { id },
            4 => Self::Stop {
                id,
                code: content.get_u32_le(),
            },
            5 => Self::More {
                id,
                bytes: content.get_u32_le(),
            },
            6 => Self::Ping,
            8 => Self::Credit {
                cost: content.get_u32_le(),
            },
            9 => Self::Place,
            _ => Self::Close {
                code: content.get_u32_le(),
                reason: content,
            },
        })
    }
}

/// How long a frame's content is, if it may be.
fn allowed(kind: u8, announced_bytes: u64, options: &Options) -> Result<usize, NetError> {
    let (least, most) = match kind {
        0 => return options.check_control(announced_bytes),
        1 if announced_bytes >= 8 => {
            return options
                .check_header(announced_bytes - 8)
                .map(|header_bytes| header_bytes + 8);
        }
        1 => (8, 8),
        2 => (1, PART_MAX_BYTES),
        3 | 6 | 9 => (0, 0),
        4 | 5 | 8 => (4, 4),
        7 => (4, 4 + REASON_MAX_BYTES),
        _ => return Err(NetError::protocol(format!("unknown kind of frame, {kind}"))),
    };
    let bytes = check("A frame", announced_bytes, most)?;
    if bytes < least {
        return Err(NetError::protocol(format!(
            "a frame of kind {kind} is too short"
        )));
    }
    Ok(bytes)
}

/// The door of the fuzz target: the frames that a peer's bytes begin with, written again.
#[doc(hidden)]
pub fn read_and_write(mut bytes: &[u8]) -> Vec<u8> {
    let (options, counters) = (Options::default(), Counters::default());
    let mut written = BytesMut::new();
    loop {
        // A slice is always ready.
        let read = std::pin::pin!(Frame::read(&mut bytes, &options, &counters));
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        match read.poll(&mut context) {
            std::task::Poll::Ready(Ok(Some(frame))) => frame.encode(&mut written),
            _ => return written.to_vec(),
        }
    }
}

/// What an error while reading or writing the pipe means.
pub(super) fn broken(error: std::io::Error) -> NetError {
    let detail = words_of_a_peer(error.to_string().as_bytes());
    NetError::Lost { detail }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(bytes: &[u8]) -> Result<Option<Frame>, NetError> {
        let mut pipe = bytes;
        let counters = Counters::default();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        runtime.block_on(Frame::read(&mut pipe, &Options::default(), &counters))
    }

    #[test]
    fn every_frame_survives_the_pipe() {
        let some = Bytes::from_static(b"content");
        let frames = [
            Frame::Control(some.clone()),
            Frame::Open {
                id: 7,
                body_bytes: u64::MAX,
                header: some.clone(),
            },
            Frame::Part { id: 7, part: some },
            Frame::Reset { id: 7 },
            Frame::Stop { id: 7, code: 5 },
            Frame::More { id: 7, bytes: 1 },
            Frame::Credit { cost: 1 },
            Frame::Place,
            Frame::Ping,
            Frame::close(3, "why"),
        ];
        for frame in frames {
            let mut bytes = BytesMut::new();
            frame.encode(&mut bytes);
            assert_eq!(read(&bytes).unwrap(), Some(frame.clone()));
            for cut in 1..bytes.len() {
                assert!(read(&bytes[..cut]).is_err(), "{frame:?} cut at {cut}");
            }
        }
        assert_eq!(read(&[]).unwrap(), None);
    }

    #[test]
    fn what_belongs_to_no_object_names_none() {
        for kind in [0, 6, 7, 8, 9] {
            let content_bytes = if kind < 7 { 0 } else { 4 * u8::from(kind != 9) };
            let with_number = |number: u8| {
                let head = [kind, number, 0, 0, 0, content_bytes, 0, 0, 0];
                [&head[..], &vec![0; content_bytes.into()]].concat()
            };
            assert!(read(&with_number(0)).is_ok(), "kind {kind}");
            let refused = read(&with_number(1)).unwrap_err();
            assert!(
                matches!(refused, NetError::Protocol { .. }),
                "kind {kind}: {refused}"
            );
        }
    }

    #[test]
    fn a_frame_above_its_limit_is_refused_by_its_head() {
        for (kind, bytes) in [
            (0, 2_000_000),
            (1, 70_000),
            (2, 65_537),
            (6, 1),
            (7, 2000),
            (10, 0),
        ] {
            let mut head = BytesMut::new();
            head.put_u8(kind);
            head.put_u32_le(0);
            head.put_u32_le(bytes);
            let refused = read(&head).unwrap_err();
            let expected = matches!(refused, NetError::Limit { .. } | NetError::Protocol { .. });
            assert!(expected, "kind {kind}: {refused}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_of_a_peer_make_it_panic(
            bytes in proptest::collection::vec(any::<u8>(), 0..64),
            kind in 0u8..11,
            length in 0u8..32,
        ) {
            drop(read(&bytes));
            let head = [&[kind, 0, 0, 0, 0, length, 0, 0, 0][..], &bytes].concat();
            drop(read(&head));
        }
    }
}
