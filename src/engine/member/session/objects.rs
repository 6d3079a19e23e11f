//! Receiving objects: one after the other from the connection, several at work.

use crate::codes::{Code, Problem};
use crate::engine::member::receive::Receiver;
use crate::net::Connection;
use std::sync::{Arc, Mutex, PoisonError};
use sync_proto::path::escape;
use sync_proto::wire::MAX_OBJECT_BYTES;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

/// LIMIT: objects that are worked on at once.
pub(super) const WORKERS: usize = 4;
/// LIMIT: how many objects may be received before the work on one is done. More than workers, so that one
/// that takes long doesn't keep the others; fewer than the blocks of a large file that may wait for their
/// turn, whatever becomes of the thread that has the next.
const AHEAD: usize = 12;

/// The receiver of the transaction that is being staged, if one is.
pub(super) type Current = Arc<Mutex<Option<Arc<Receiver>>>>;

/// Takes objects as they come, and drops what nobody waits for.
pub(super) async fn receive_objects(
    connection: Connection,
    current: Current,
    workers: Arc<Semaphore>,
) {
    let now = || {
        current
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    };
    let ahead = Arc::new(Semaphore::new(AHEAD));
    let mut before: Option<oneshot::Receiver<()>> = None;
    let mut is_logged = false;
    loop {
        let Ok(place) = ahead.clone().acquire_owned().await else {
            return;
        };
        let Ok(permit) = workers.clone().acquire_owned().await else {
            return;
        };
        match connection.recv_object(MAX_OBJECT_BYTES).await {
            Ok(object) => {
                if let Some(receiver) = now() {
                    let work = tokio::task::spawn_blocking(move || {
                        let _permit: OwnedSemaphorePermit = permit;
                        receiver.receive(object);
                    });
                    let (done, next) = oneshot::channel();
                    let before = before.replace(next);
                    tokio::spawn(async move {
                        let _one_that_panicked_is_done_too = work.await;
                        // ORDER: places are given back in the order of the objects. A thread that
                        // waits for a core would otherwise be overtaken by any number of blocks.
                        if let Some(before) = before {
                            let _session_that_ended = before.await;
                        }
                        drop(place);
                        let _nobody_after_us = done.send(());
                    });
                }
            }
            Err(error) if connection.is_open() => {
                if let Some(receiver) = now() {
                    let problem = Problem::from_error(Code::ProtocolViolation, &error);
                    receiver.staging().fail(problem);
                } else if !std::mem::replace(&mut is_logged, true) {
                    let (peer, error) = (connection.peer(), escape(error.to_string().as_bytes()));
                    tracing::warn!(%peer, %error, "an object was stopped");
                }
            }
            Err(_) => return,
        }
    }
}
