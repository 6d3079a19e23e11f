//! One question to a program on this machine, over its local socket: a line goes in, everything that
//! comes back until the end is the answer.

use std::io;
use std::path::Path;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

/// LIMIT: bytes of an answer.
const ANSWER_BYTES: u64 = 4 << 20;

/// Asks, and waits `limit` for the whole answer.
///
/// # Errors
/// Nobody listens there, the connection breaks, or the answer takes too long.
pub async fn ask(socket: &Path, question: &str, limit: Duration) -> io::Result<String> {
    let conversation = async {
        let mut stream = UnixStream::connect(socket).await?;
        stream.write_all(question.as_bytes()).await?;
        stream.write_all(b"\n").await?;
        let mut answer = Vec::new();
        let mut bounded = stream.take(ANSWER_BYTES);
        bounded.read_to_end(&mut answer).await?;
        Ok(String::from_utf8_lossy(&answer).into_owned())
    };
    match tokio::time::timeout(limit, conversation).await {
        Ok(answer) => answer,
        Err(_) => Err(io::ErrorKind::TimedOut.into()),
    }
}
