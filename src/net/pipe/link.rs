//! What the calls and the two tasks of a pipe share: the queues, the credit, and the end.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicU32, AtomicUsize, Ordering},
    },
};

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};

use super::{
    super::{error::NetError, limits::Options, tuning::PIPE_OBJECTS_OPEN_MAX},
    frame::{CONTROL_WINDOW, Frame, OBJECT_WINDOW},
};

/// Parts of objects that may wait for the writer.
pub(super) const ROOM_BYTES: usize = 1024 * 1024;

/// See the module.
pub(super) struct Link {
    pub(super) options: Options,
    /// Why the connection is over, once it is.
    end: watch::Sender<Option<NetError>>,
    /// Turns true when the writer is done.
    written: watch::Sender<bool>,
    control_out: mpsc::UnboundedSender<Queued>,
    objects_out: mpsc::UnboundedSender<Queued>,
    /// What the peer lets us send.
    control_credit: Semaphore,
    places: Semaphore,
    outgoing: Mutex<HashMap<u32, Arc<Credit>>>,
    next_id: AtomicU32,
    /// Room in the writer's queue of objects, in bytes.
    room: Arc<Semaphore>,
    /// What we let the peer send: what it may still use, and what was read but not given anew.
    control_left: AtomicUsize,
    control_consumed: AtomicUsize,
    places_left: AtomicUsize,
}

/// A frame on its way to the writer.
pub(super) struct Queued {
    pub(super) frame: Frame,
    /// Given back when the frame is written.
    pub(super) _room: Option<OwnedSemaphorePermit>,
}

/// The writer's ends of the queues.
pub(super) struct Queues {
    pub(super) control: mpsc::UnboundedReceiver<Queued>,
    pub(super) objects: mpsc::UnboundedReceiver<Queued>,
}

/// What an outgoing object may still send, or that it was stopped.
struct Credit {
    bytes: Semaphore,
    stopped: OnceLock<u32>,
}

/// An incoming object as the reader sees it begin.
pub(super) struct Opened {
    pub(super) id: u32,
    pub(super) body_bytes: u64,
    pub(super) header: Bytes,
    pub(super) parts: mpsc::UnboundedReceiver<Bytes>,
    pub(super) place: Arc<Place>,
}

/// An incoming object's place. When both the reader and the application are done with the object,
/// it is dropped, and the peer may open another.
pub(super) struct Place {
    link: Arc<Link>,
    /// What the peer may still send of this object.
    left_bytes: AtomicUsize,
}

impl Link {
    pub(super) fn new(options: Options) -> (Arc<Self>, Queues) {
        let (control_out, control) = mpsc::unbounded_channel();
        let (objects_out, objects) = mpsc::unbounded_channel();
        let places_left = options.objects_open_max.min(PIPE_OBJECTS_OPEN_MAX);
        let link = Self {
            options,
            end: watch::Sender::new(None),
            written: watch::Sender::new(false),
            control_out,
            objects_out,
            control_credit: Semaphore::new(CONTROL_WINDOW),
            places: Semaphore::new(PIPE_OBJECTS_OPEN_MAX as usize),
            outgoing: Mutex::default(),
            next_id: AtomicU32::new(0),
            room: Arc::new(Semaphore::new(ROOM_BYTES)),
            control_left: AtomicUsize::new(CONTROL_WINDOW),
            control_consumed: AtomicUsize::new(0),
            places_left: AtomicUsize::new(places_left as usize),
        };
        (Arc::new(link), Queues { control, objects })
    }

    // --- the end ---

    /// Ends the connection, tells the peer unless it was the peer, and wakes everybody.
    pub(super) fn fail(&self, error: NetError) {
        let goodbye = match &error {
            NetError::ClosedHere { code, reason } => Some(Frame::close(*code, reason)),
            NetError::Limit { .. } | NetError::Protocol { .. } => {
                Some(Frame::close(error.close_code(), &error.to_string()))
            }
            _ => None,
        };
        self.end.send_if_modified(|end| {
            if end.is_some() {
                return false;
            }
            // ORDER: the goodbye is in the queue before the writer learns that it is the last.
            if let Some(frame) = goodbye {
                self.control_out.send(Queued { frame, _room: None }).ok();
            }
            *end = Some(error);
            true
        });
        // ORDER: after the end is set. Whoever begins to wait later asks for the end first.
        for semaphore in [&self.control_credit, &self.places, &*self.room] {
            semaphore.close();
        }
        for credit in self.outgoing().values() {
            credit.bytes.close();
        }
    }

    /// Why the connection is over.
    pub(super) fn ended(&self) -> NetError {
        let lost = || NetError::Lost {
            detail: "its tasks are gone".into(),
        };
        self.end.borrow().clone().unwrap_or_else(lost)
    }

    pub(super) fn check_open(&self) -> Result<(), NetError> {
        match &*self.end.borrow() {
            Some(error) => Err(error.clone()),
            None => Ok(()),
        }
    }

    /// Waits for the end.
    pub(super) async fn over(&self) {
        // The sender lives in `self`, so this ends with a reason only.
        self.end
            .subscribe()
            .wait_for(Option::is_some)
            .await
            .map(drop)
            .ok();
    }

    /// Waits until the writer is done.
    pub(super) async fn written(&self) {
        self.written
            .subscribe()
            .wait_for(|done| *done)
            .await
            .map(drop)
            .ok();
    }

    pub(super) fn set_written(&self) {
        self.written.send_replace(true);
    }

    // --- going out ---

    /// Queues a frame ahead of all objects.
    pub(super) fn control(&self, frame: Frame) -> Result<(), NetError> {
        self.check_open()?;
        self.control_out
            .send(Queued { frame, _room: None })
            .map_err(|_| self.ended())
    }

    fn object(&self, frame: Frame, room: Option<OwnedSemaphorePermit>) -> Result<(), NetError> {
        self.check_open()?;
        self.objects_out
            .send(Queued { frame, _room: room })
            .map_err(|_| self.ended())
    }

    /// Waits until the peer lets us send a control message of this cost.
    pub(super) async fn take_control_credit(&self, cost: usize) -> Result<(), NetError> {
        let cost = u32::try_from(cost).unwrap_or(u32::MAX);
        self.control_credit
            .acquire_many(cost)
            .await
            .map_err(|_| self.ended())?
            .forget();
        Ok(())
    }

    /// Waits until the peer lets us open an object.
    pub(super) async fn take_place(&self) -> Result<(), NetError> {
        self.places
            .acquire()
            .await
            .map_err(|_| self.ended())?
            .forget();
        Ok(())
    }

    /// The peer lets us send more.
    pub(super) fn granted(&self, frame: &Frame) -> Result<(), NetError> {
        match *frame {
            Frame::Credit { cost } => extend(&self.control_credit, cost, CONTROL_WINDOW),
            Frame::Place => extend(&self.places, 1, PIPE_OBJECTS_OPEN_MAX as usize),
            Frame::More { id, bytes } => match self.outgoing().get(&id) {
                Some(credit) => extend(&credit.bytes, bytes, OBJECT_WINDOW),
                // It was sent, or taken back, meanwhile.
                None => Ok(()),
            },
            _ => Ok(()),
        }
    }

    /// The peer doesn't want an object of ours.
    pub(super) fn stopped(&self, id: u32, code: u32) {
        if let Some(credit) = self.outgoing().get(&id) {
            // ORDER: whoever is woken by the closing finds the code.
            credit.stopped.set(code).ok();
            credit.bytes.close();
        }
    }

    fn outgoing(&self) -> std::sync::MutexGuard<'_, HashMap<u32, Arc<Credit>>> {
        self.outgoing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    // --- coming in ---

    /// LIMIT: the peer can't use more credit than it was given.
    pub(super) fn charge_control(&self, cost: usize) -> Result<(), NetError> {
        charge(&self.control_left, cost)
    }

    /// LIMIT: nor open more objects than there are places.
    pub(super) fn open_place(self: &Arc<Self>) -> Result<Arc<Place>, NetError> {
        charge(&self.places_left, 1)?;
        let (link, left_bytes) = (Arc::clone(self), AtomicUsize::new(OBJECT_WINDOW));
        Ok(Arc::new(Place { link, left_bytes }))
    }

    /// The application took a control message.
    pub(super) fn consumed_control(&self, cost: usize) {
        let consumed = self.control_consumed.fetch_add(cost, Ordering::AcqRel) + cost;
        if consumed < CONTROL_WINDOW / 4 {
            return;
        }
        let cost = self.control_consumed.swap(0, Ordering::AcqRel);
        // ORDER: it counts as given before the peer hears of it.
        self.control_left.fetch_add(cost, Ordering::AcqRel);
        let cost = u32::try_from(cost).unwrap_or(u32::MAX);
        // Fails only if the connection is over.
        self.control(Frame::Credit { cost }).ok();
    }

    /// The application took so much of an object.
    pub(super) fn give_more(&self, opened: &Opened, bytes: usize) {
        opened.place.left_bytes.fetch_add(bytes, Ordering::AcqRel);
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        self.control(Frame::More {
            id: opened.id,
            bytes,
        })
        .ok();
    }
}

impl Place {
    /// LIMIT: no object holds more than its window.
    pub(super) fn charge(&self, bytes: usize) -> Result<(), NetError> {
        charge(&self.left_bytes, bytes)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.link.places_left.fetch_add(1, Ordering::AcqRel);
        self.link.control(Frame::Place).ok();
    }
}

fn charge(left: &AtomicUsize, cost: usize) -> Result<(), NetError> {
    left.fetch_update(Ordering::AcqRel, Ordering::Acquire, |left| {
        left.checked_sub(cost)
    })
    .map(drop)
    .map_err(|_| NetError::protocol("it sent more than its credit"))
}

/// LIMIT: nobody gives more credit than the window, or the semaphore would overflow.
fn extend(credit: &Semaphore, more: u32, window: usize) -> Result<(), NetError> {
    if credit.available_permits() + more as usize > window {
        return Err(NetError::protocol("it gave more credit than there is"));
    }
    credit.add_permits(more as usize);
    Ok(())
}

/// An object on its way out. Dropped before its end, it is taken back.
pub(super) struct Outgoing<'a> {
    link: &'a Link,
    id: u32,
    credit: Arc<Credit>,
    complete: bool,
}

impl<'a> Outgoing<'a> {
    /// Opens an object in a place that was taken.
    pub(super) fn open(link: &'a Link, header: &[u8], body_bytes: u64) -> Result<Self, NetError> {
        let id = link.next_id.fetch_add(1, Ordering::Relaxed);
        let credit = Arc::new(Credit {
            bytes: Semaphore::new(OBJECT_WINDOW),
            stopped: OnceLock::new(),
        });
        link.outgoing().insert(id, Arc::clone(&credit));
        let outgoing = Self {
            link,
            id,
            credit,
            complete: false,
        };
        let header = Bytes::copy_from_slice(header);
        link.object(
            Frame::Open {
                id,
                body_bytes,
                header,
            },
            None,
        )?;
        Ok(outgoing)
    }

    /// Queues a part as soon as the peer and the writer have room for it.
    pub(super) async fn send(&mut self, part: Bytes) -> Result<(), NetError> {
        let bytes = u32::try_from(part.len()).unwrap_or(u32::MAX);
        match self.credit.bytes.acquire_many(bytes).await {
            Ok(credit) => credit.forget(),
            Err(_) => {
                return Err(match self.credit.stopped.get() {
                    Some(code) => NetError::ObjectStopped { code: *code },
                    None => self.link.ended(),
                });
            }
        }
        let room = Arc::clone(&self.link.room).acquire_many_owned(bytes).await;
        let room = room.map_err(|_| self.link.ended())?;
        self.link
            .object(Frame::Part { id: self.id, part }, Some(room))
    }

    /// All parts are queued.
    pub(super) fn finish(mut self) {
        self.complete = true;
    }
}

impl Drop for Outgoing<'_> {
    fn drop(&mut self) {
        self.link.outgoing().remove(&self.id);
        if !self.complete {
            // Behind the parts that are queued already. Fails only if the connection is over.
            self.link.object(Frame::Reset { id: self.id }, None).ok();
        }
    }
}
