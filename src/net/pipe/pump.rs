//! The two tasks of a pipe: one reads frames and sorts them, one writes them.

use std::{collections::HashMap, sync::Arc};

use bytes::{Bytes, BytesMut};
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, ReadHalf, WriteHalf},
    sync::mpsc,
    time::{sleep, timeout},
};

use super::{
    super::{
        connection::Counters,
        error::{NetError, words_of_a_peer},
        tuning,
    },
    frame::{Frame, PART_MAX_BYTES, broken, control_cost},
    link::{Link, Opened, Place, Queued, Queues},
};

/// The writer puts frames together up to this size: one system call for many small messages.
const BATCH_BYTES: usize = 128 * 1024;

/// Reads until the end. It never waits for the application.
pub(super) struct Reader {
    link: Arc<Link>,
    counters: Arc<Counters>,
    control: mpsc::UnboundedSender<Bytes>,
    opened: mpsc::UnboundedSender<Opened>,
    /// Objects of which parts are still to come.
    open: HashMap<u32, Incoming>,
}

struct Incoming {
    missing_bytes: u64,
    parts: mpsc::UnboundedSender<Bytes>,
    place: Arc<Place>,
}

impl Reader {
    pub(super) fn new(
        link: &Arc<Link>,
        counters: Arc<Counters>,
        control: mpsc::UnboundedSender<Bytes>,
        opened: mpsc::UnboundedSender<Opened>,
    ) -> Self {
        Self {
            link: Arc::clone(link),
            counters,
            control,
            opened,
            open: HashMap::new(),
        }
    }

    pub(super) async fn run<T: AsyncRead>(mut self, mut pipe: ReadHalf<T>) {
        let link = Arc::clone(&self.link);
        let error = loop {
            let next = Frame::read(&mut pipe, &link.options, &self.counters);
            let next = tokio::select! {
                biased;
                // The reason is there already.
                () = link.over() => return,
                next = timeout(tuning::IDLE, next) => next,
            };
            let taken = match next {
                Ok(Ok(Some(frame))) => self.take(frame),
                Ok(Ok(None)) => Err(NetError::Lost {
                    detail: "the pipe was closed".into(),
                }),
                Ok(Err(error)) => Err(error),
                Err(_) => Err(NetError::TimedOut {
                    what: "An answer of the peer",
                    limit: tuning::IDLE,
                }),
            };
            if let Err(error) = taken {
                break error;
            }
        };
        // ORDER: the reason is known before the queues end, whose readers ask for it.
        link.fail(error);
    }

    fn take(&mut self, frame: Frame) -> Result<(), NetError> {
        match frame {
            Frame::Control(message) => {
                self.link.charge_control(control_cost(message.len()))?;
                // Fails only if the connection was dropped; so below.
                self.control.send(message).ok();
            }
            Frame::Open {
                id,
                body_bytes,
                header,
            } => self.open(id, body_bytes, header)?,
            Frame::Part { id, part } => self.part(id, part)?,
            Frame::Reset { id } => drop(self.open.remove(&id)),
            Frame::Stop { id, code } => self.link.stopped(id, code),
            Frame::Credit { .. } | Frame::More { .. } | Frame::Place => {
                self.link.granted(&frame)?;
            }
            Frame::Ping => {}
            Frame::Close { code, reason } => {
                return Err(NetError::Closed {
                    code,
                    reason: words_of_a_peer(&reason),
                });
            }
        }
        Ok(())
    }

    fn open(&mut self, id: u32, body_bytes: u64, header: Bytes) -> Result<(), NetError> {
        if self.open.contains_key(&id) {
            return Err(NetError::protocol("an object was opened twice"));
        }
        let place = self.link.open_place()?;
        let (sender, parts) = mpsc::unbounded_channel();
        if body_bytes > 0 {
            let place = Arc::clone(&place);
            self.open.insert(
                id,
                Incoming {
                    missing_bytes: body_bytes,
                    parts: sender,
                    place,
                },
            );
        }
        self.opened
            .send(Opened {
                id,
                body_bytes,
                header,
                parts,
                place,
            })
            .ok();
        Ok(())
    }

    fn part(&mut self, id: u32, part: Bytes) -> Result<(), NetError> {
        let Some(incoming) = self.open.get_mut(&id) else {
            return Err(NetError::protocol("a part of an object that isn't open"));
        };
        incoming.place.charge(part.len())?;
        // LIMIT: many small parts would cost more memory than they are charged for.
        if part.len() as u64 != incoming.missing_bytes.min(PART_MAX_BYTES as u64) {
            return Err(NetError::protocol("a part has the wrong length"));
        }
        incoming.missing_bytes -= part.len() as u64;
        incoming.parts.send(part).ok();
        if incoming.missing_bytes == 0 {
            self.open.remove(&id);
        }
        Ok(())
    }
}

/// Writes until the connection is over and the goodbye is out.
pub(super) async fn write<T: AsyncWrite>(
    mut pipe: WriteHalf<T>,
    mut queues: Queues,
    link: Arc<Link>,
    counters: Arc<Counters>,
) {
    let mut batch = BytesMut::with_capacity(2 * BATCH_BYTES);
    while let Some(queued) = next_batch(&mut queues, &link, &mut batch).await {
        let out = async {
            pipe.write_all(&batch).await?;
            pipe.flush().await
        };
        let error = tokio::select! {
            // A peer that takes nothing for as long as an idle one may be silent is gone.
            out = timeout(tuning::IDLE, out) => match out {
                Ok(Ok(())) => None,
                Ok(Err(error)) => {
                    // What the peer said before it hung up is still to be read, and its end says
                    // more than this.
                    timeout(tuning::GOODBYE, link.over()).await.ok();
                    Some(broken(error))
                }
                Err(_) => {
                    Some(NetError::TimedOut { what: "Writing to the peer", limit: tuning::IDLE })
                }
            },
            () = goodbye_is_late(&link) => Some(link.ended()),
        };
        if let Some(error) = error {
            link.fail(error);
            break;
        }
        counters.sent(batch.len());
        batch.clear();
        // What was written no longer takes room.
        drop(queued);
    }
    timeout(tuning::GOODBYE, pipe.shutdown())
        .await
        .map(drop)
        .ok();
    link.set_written();
}

/// Fills the batch, control first; `None` when the connection is over and nothing is left to say.
async fn next_batch(queues: &mut Queues, link: &Link, batch: &mut BytesMut) -> Option<Vec<Queued>> {
    let first = tokio::select! {
        biased;
        Some(queued) = queues.control.recv() => queued,
        () = link.over() => return None,
        Some(queued) = queues.objects.recv() => queued,
        () = sleep(tuning::KEEP_ALIVE) => Queued { frame: Frame::Ping, _room: None },
    };
    first.frame.encode(batch);
    let mut queued = vec![first];
    while batch.len() < BATCH_BYTES {
        let next = queues
            .control
            .try_recv()
            .or_else(|_| queues.objects.try_recv());
        let Ok(next) = next else { break };
        next.frame.encode(batch);
        queued.push(next);
    }
    Some(queued)
}

async fn goodbye_is_late(link: &Link) {
    link.over().await;
    sleep(tuning::GOODBYE).await;
}
