//! Sending what a member needs, several objects at a time.

use super::encode::{EncodeError, Encoder, Key};
use super::session::SessionError;
use crate::net::Connection;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use sync_proto::wire::{self, Need};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::JoinSet;

/// Objects under way to one member at once.
const OBJECTS_IN_FLIGHT: usize = 6;

/// What the sender of one member is to send next.
pub(super) enum Order {
    Object(Key),
    Particular(u32, Need),
}

/// What was sent so far.
#[derive(Clone)]
pub(super) struct Sent {
    /// As it travels.
    pub(super) content_bytes: Arc<AtomicU64>,
    /// As it will be on the disk.
    pub(super) raw_bytes: Arc<AtomicU64>,
}

pub(super) async fn send_ordered(
    connection: Connection,
    encoder: Arc<Encoder>,
    mut orders: mpsc::UnboundedReceiver<Order>,
    sent: Sent,
) -> Result<(), SessionError> {
    let in_flight = Arc::new(Semaphore::new(OBJECTS_IN_FLIGHT));
    let mut sending: JoinSet<Result<(), SessionError>> = JoinSet::new();
    let mut before: Option<oneshot::Receiver<()>> = None;
    loop {
        let order = tokio::select! {
            order = orders.recv() => order,
            Some(sent) = sending.join_next(), if !sending.is_empty() => {
                joined(sent)?;
                continue;
            }
        };
        let keys = match order {
            None => break,
            Some(Order::Object(key)) => vec![key],
            Some(Order::Particular(index, need)) => encoder.particular(index, need).await?,
        };
        for key in keys {
            let permit = loop {
                tokio::select! {
                    permit = in_flight.clone().acquire_owned() => break permit,
                    Some(sent) = sending.join_next(), if !sending.is_empty() => joined(sent)?,
                }
            };
            let (connection, encoder) = (connection.clone(), encoder.clone());
            let sent = sent.clone();
            let (done, next) = oneshot::channel();
            let before = before.replace(next);
            sending.spawn(async move {
                let (header, body) = encoder.fetch(&key).await?;
                let raw_bytes = encoder.raw_bytes(&key, body.len());
                sent.content_bytes
                    .fetch_add(body.len() as u64, Ordering::Relaxed);
                connection
                    .send_object(&wire::encode(&header)?, body)
                    .await?;
                sent.raw_bytes.fetch_add(raw_bytes, Ordering::Relaxed);
                // ORDER: a place in flight is given back in the order of the objects. One that has
                // to be made first would otherwise be overtaken by any number that are at hand,
                // and a member holds only a few blocks of a file that come before their turn.
                if let Some(before) = before {
                    let _one_that_failed_ends_all = before.await;
                }
                drop(permit);
                let _nobody_after_us = done.send(());
                Ok(())
            });
        }
    }
    while let Some(sent) = sending.join_next().await {
        joined(sent)?;
    }
    Ok(())
}

fn joined(
    sent: Result<Result<(), SessionError>, tokio::task::JoinError>,
) -> Result<(), SessionError> {
    sent.unwrap_or(Err(SessionError::Encode(EncodeError::Stopped)))
}
