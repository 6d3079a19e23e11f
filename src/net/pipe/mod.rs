//! The pipe carrier: the same traffic as over QUIC, over TLS on any byte pipe.
//!
//! One task reads, one writes ([`pump`]); calls talk to them through queues ([`link`]). What waits
//! in a queue is bounded: going out by [`link::ROOM_BYTES`] and the peer's credit, coming in by the
//! credit that we gave. The reader never waits for the application, so credit and goodbyes always
//! get through.

mod frame;
mod link;
mod pump;

use std::{fmt, sync::Arc};

use bytes::{Bytes, BytesMut};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::{Mutex, mpsc},
    time::timeout,
};

use super::{
    connection::Counters,
    error::{NetError, code},
    limits::{Object, Options, Room, check},
    tuning,
};
pub use frame::read_and_write;
use frame::{Frame, OBJECT_WINDOW, PART_MAX_BYTES, control_cost};
use link::{Link, Opened, Outgoing};

/// A connection over a pipe.
pub(super) struct Pipe {
    link: Arc<Link>,
    control_in: Mutex<mpsc::UnboundedReceiver<Bytes>>,
    objects_in: Mutex<ObjectsIn>,
}

struct ObjectsIn {
    opened: mpsc::UnboundedReceiver<Opened>,
    /// Outlives a `recv_object` that was given up.
    arriving: Option<Arriving>,
}

struct Arriving {
    opened: Opened,
    room: Option<Room>,
    body: BytesMut,
    /// Read since the sender last got more credit.
    consumed_bytes: usize,
}

impl Pipe {
    /// Takes over an authenticated pipe.
    pub(super) fn start<T>(pipe: T, options: Options, counters: Arc<Counters>) -> Self
    where
        T: AsyncRead + AsyncWrite + Send + 'static,
    {
        let (control_sender, control_in) = mpsc::unbounded_channel();
        let (opened_sender, opened) = mpsc::unbounded_channel();
        let (link, queues) = Link::new(options);
        let (read_half, write_half) = tokio::io::split(pipe);
        let reader = pump::Reader::new(&link, Arc::clone(&counters), control_sender, opened_sender);
        tokio::spawn(reader.run(read_half));
        tokio::spawn(pump::write(write_half, queues, Arc::clone(&link), counters));
        let objects_in = ObjectsIn {
            opened,
            arriving: None,
        };
        Self {
            link,
            control_in: Mutex::new(control_in),
            objects_in: Mutex::new(objects_in),
        }
    }

    pub(super) async fn send(&self, message: &[u8]) -> Result<(), NetError> {
        self.link
            .take_control_credit(control_cost(message.len()))
            .await?;
        self.link
            .control(Frame::Control(Bytes::copy_from_slice(message)))
    }

    pub(super) async fn recv(&self) -> Result<Bytes, NetError> {
        match self.control_in.lock().await.recv().await {
            Some(message) => {
                self.link.consumed_control(control_cost(message.len()));
                Ok(message)
            }
            None => Err(self.link.ended()),
        }
    }

    pub(super) async fn send_object(&self, header: &[u8], body: Bytes) -> Result<(), NetError> {
        let link = &*self.link;
        link.take_place().await?;
        let mut outgoing = Outgoing::open(link, header, body.len() as u64)?;
        let mut rest = body;
        while !rest.is_empty() {
            let part = rest.split_to(rest.len().min(PART_MAX_BYTES));
            outgoing.send(part).await?;
        }
        outgoing.finish();
        Ok(())
    }

    pub(super) async fn recv_object(&self, body_max_bytes: usize) -> Result<Object, NetError> {
        let link = &*self.link;
        let mut objects = self.objects_in.lock().await;
        loop {
            if objects.arriving.is_none() {
                let opened = objects.opened.recv().await.ok_or_else(|| link.ended())?;
                objects.arriving = Some(Arriving::new(opened));
            }
            let Some(arriving) = &mut objects.arriving else {
                continue;
            };
            let result = arriving.receive(link, body_max_bytes).await;
            // From here on nothing waits, so an object can't get lost between slot and caller.
            let Some(arrived) = objects.arriving.take() else {
                continue;
            };
            match (result, arrived.room) {
                (Ok(Progress::Complete), Some(room)) => {
                    let header = arrived.opened.header;
                    return Ok(Object {
                        header,
                        body: arrived.body.freeze(),
                        room,
                    });
                }
                // The sender took it back: as if it had never been there. Or the pipe is gone.
                (Ok(_), _) => link.check_open()?,
                (Err(error), _) => {
                    link.control(Frame::Stop {
                        id: arrived.opened.id,
                        code: error.close_code(),
                    })?;
                    return Err(error);
                }
            }
        }
    }

    pub(super) fn close(&self, code: u32, reason: &str) {
        self.link.fail(NetError::ClosedHere {
            code,
            reason: reason.to_owned(),
        });
    }

    pub(super) async fn finish(&self, code: u32, reason: &str) {
        self.close(code, reason);
        // The writer has limits of its own; this one is for a writer that is gone.
        timeout(2 * tuning::GOODBYE, self.link.written()).await.ok();
    }

    pub(super) async fn closed(&self) -> NetError {
        self.link.over().await;
        self.link.ended()
    }

    pub(super) fn is_open(&self) -> bool {
        self.link.check_open().is_ok()
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        self.close(code::DONE, "");
    }
}

impl fmt::Debug for Pipe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pipe")
            .field("end", &self.link.check_open().err())
            .finish_non_exhaustive()
    }
}

enum Progress {
    Complete,
    /// No more parts will come.
    Cut,
}

impl Arriving {
    fn new(opened: Opened) -> Self {
        Self {
            opened,
            room: None,
            body: BytesMut::new(),
            consumed_bytes: 0,
        }
    }

    /// Reads on from wherever an earlier call was given up.
    async fn receive(&mut self, link: &Link, body_max_bytes: usize) -> Result<Progress, NetError> {
        let body_bytes = check("An object", self.opened.body_bytes, body_max_bytes)?;
        if self.room.is_none() {
            self.room = Some(link.options.budget.take(body_bytes).await?);
            self.body.reserve(body_bytes);
        }
        while self.body.len() < body_bytes {
            let Some(part) = self.opened.parts.recv().await else {
                return Ok(Progress::Cut);
            };
            self.body.extend_from_slice(&part);
            self.consumed_bytes += part.len();
            if self.consumed_bytes >= OBJECT_WINDOW / 4 && self.body.len() < body_bytes {
                let bytes = std::mem::take(&mut self.consumed_bytes);
                link.give_more(&self.opened, bytes);
            }
        }
        Ok(Progress::Complete)
    }
}
