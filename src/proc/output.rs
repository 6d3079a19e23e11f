//! What programs print, collected within bounds.

use std::io;
use std::process::ExitStatus;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

/// The most of standard error that is kept: the end, where the reason is.
const STDERR_BYTES: usize = 16 * 1024;

/// What a program that ended has left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// How it ended.
    pub status: ExitStatus,
    /// What it printed on standard output.
    pub stdout: Vec<u8>,
    /// True if there was more than that.
    pub is_cut: bool,
    /// The last 16 KiB of what it printed on standard error.
    pub stderr: Vec<u8>,
}

impl Output {
    /// Standard output as text, without white space around it.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).trim().to_owned()
    }

    /// Standard error as text, without white space around it.
    pub fn complaint(&self) -> String {
        String::from_utf8_lossy(&self.stderr).trim().to_owned()
    }
}

/// Standard output on its way in.
pub(super) struct Collecting {
    shared: Arc<Shared>,
    task: JoinHandle<io::Result<()>>,
}

#[derive(Default)]
struct Shared {
    taken: Mutex<Taken>,
    overflow: Notify,
}

#[derive(Default)]
struct Taken {
    bytes: Vec<u8>,
    is_cut: bool,
}

/// Collects at most `limit` bytes. Past them it goes on reading if `drains`, so that the program
/// can end; otherwise it reports the overflow and stops.
pub(super) fn collect(
    mut from: impl AsyncRead + Unpin + Send + 'static,
    limit: usize,
    drains: bool,
) -> Collecting {
    let shared = Arc::new(Shared::default());
    let writer = Arc::clone(&shared);
    let task = tokio::spawn(async move {
        let mut buffer = vec![0; 16 * 1024];
        loop {
            let count = from.read(&mut buffer).await?;
            if count == 0 {
                return Ok(());
            }
            let is_cut = writer.take(&buffer[..count], limit);
            if is_cut && !drains {
                writer.overflow.notify_one();
                return Ok(());
            }
        }
    });
    Collecting { shared, task }
}

impl Shared {
    fn take(&self, bytes: &[u8], limit: usize) -> bool {
        let mut taken = self.lock();
        let room = limit.saturating_sub(taken.bytes.len()).min(bytes.len());
        taken.bytes.extend_from_slice(&bytes[..room]);
        taken.is_cut |= room < bytes.len();
        taken.is_cut
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Collecting {
    /// Resolves once there is more than the limit and nobody drains it.
    pub(super) async fn overflowed(&mut self) {
        self.shared.overflow.notified().await;
    }

    /// What came until the end of the pipe, or until `grace` after the program's end.
    pub(super) async fn finish(mut self, grace: Duration) -> io::Result<(Vec<u8>, bool)> {
        match tokio::time::timeout(grace, &mut self.task).await {
            Ok(Ok(result)) => result?,
            Ok(Err(failure)) => return Err(io::Error::other(failure)),
            Err(_) => self.task.abort(),
        }
        let mut taken = self.shared.lock();
        Ok((std::mem::take(&mut taken.bytes), taken.is_cut))
    }
}

/// The last bytes of a stream that may go on for ever.
pub(super) struct Tail {
    bytes: Arc<Mutex<Vec<u8>>>,
    task: JoinHandle<()>,
}

impl Tail {
    /// Keeps the last 16 KiB.
    pub(super) fn collect(mut from: impl AsyncRead + Unpin + Send + 'static) -> Self {
        let bytes = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&bytes);
        let task = tokio::spawn(async move {
            let mut buffer = vec![0; 4096];
            while let Ok(count @ 1..) = from.read(&mut buffer).await {
                let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
                kept.extend_from_slice(&buffer[..count]);
                let surplus = kept.len().saturating_sub(STDERR_BYTES);
                kept.drain(..surplus);
            }
        });
        Self { bytes, task }
    }

    /// What there is so far.
    pub(super) fn so_far(&self) -> Vec<u8> {
        self.bytes
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// What came until the end of the pipe, or until `grace` after the program's end.
    pub(super) async fn finish(mut self, grace: Duration) -> Vec<u8> {
        // Broken or still open: what has come is what there is to show.
        let _ended = tokio::time::timeout(grace, &mut self.task).await;
        self.task.abort();
        self.so_far()
    }
}
