//! Ending visitors' connections before an nginx that balances reads a new configuration.
//!
//! At a reload nginx closes what is idle without a word, and a form that a visitor sends on such a
//! connection in that moment is lost: nobody may send it a second time. So it first ends each
//! connection with an answer that says so, until none is idle any more.
//!
//! Invariant: the mark is gone when this is dropped, and where the agent died, when it starts again.

use crate::fs::system;
use crate::net::probe;
use crate::services::balancer::{CLOSING_MARK, CONNECTIONS_PAGE, KEEP_OPEN_S};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Requests that began before the mark was there have been answered by then, most of them.
const LEAST: Duration = Duration::from_secs(1);
/// After that time every connection was idle for too long, or has seen the mark.
const MOST: Duration = Duration::from_secs(KEEP_OPEN_S + 1);
const LOOK: Duration = Duration::from_millis(50);

/// Connections are being ended.
pub(super) struct Closing {
    mark: PathBuf,
}

impl Closing {
    /// Begins, and waits until no connection is idle. None where the live configuration doesn't know
    /// how, or nginx doesn't run.
    pub(super) async fn begin(data: &Path, port: u16) -> Option<Self> {
        idle(port).await?;
        let mark = data.join(CLOSING_MARK);
        if let Err(error) = system::replace(&mark, b"Being reloaded by fanout.\n", 0o644) {
            tracing::warn!(%error, "connections are not ended before a reload");
            return None;
        }
        let closing = Self { mark };
        let began = Instant::now();
        while began.elapsed() < MOST {
            tokio::time::sleep(LOOK).await;
            if began.elapsed() >= LEAST && idle(port).await == Some(0) {
                break;
            }
        }
        Some(closing)
    }
}

impl Drop for Closing {
    fn drop(&mut self) {
        if let Err(error) = system::remove(&self.mark) {
            tracing::error!(%error, "a balancer goes on ending every connection");
        }
    }
}

/// Connections that wait for a request.
async fn idle(port: u16) -> Option<u32> {
    let page = probe::page(port, CONNECTIONS_PAGE, Duration::from_secs(1)).await;
    let (_, body) = page.ok().filter(|(status, _)| *status == 200)?;
    let (_, waiting) = body.split_once("Waiting:")?;
    waiting.trim().parse().ok()
}

/// What an agent left that died meanwhile.
pub(super) fn end(data: &Path) {
    if let Err(error) = system::remove(&data.join(CLOSING_MARK)) {
        tracing::error!(%error, "a balancer goes on ending every connection");
    }
}
