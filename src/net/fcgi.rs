//! A FastCGI request to a local pool, as a web server would send it.
//!
//! One `GET` of one script over the pool's Unix socket, bounded in time and size. The format is that
//! of the FastCGI specification, version 1.0, sections 3 and 5.

use std::io;
use std::path::Path;
use std::time::Duration;
use thiserror::Error;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

const VERSION: u8 = 1;
const BEGIN_REQUEST: u8 = 1;
const END_REQUEST: u8 = 3;
const PARAMS: u8 = 4;
const STDIN: u8 = 5;
const STDOUT: u8 = 6;
const RESPONDER: u8 = 1;
const REQUEST_ID: [u8; 2] = [0, 1];
/// LIMIT: bytes of an answer.
const MAX_ANSWER_BYTES: usize = 64 * 1024;

/// Why a pool didn't answer.
#[derive(Debug, Error)]
pub enum FcgiError {
    /// Its socket can't be used.
    #[error("The pool at {socket} can't be asked")]
    Io {
        /// Which.
        socket: String,
        /// Why.
        source: io::Error,
    },
    /// It took too long.
    #[error("The pool at {socket} did not answer within {} s", .limit.as_secs())]
    Silent {
        /// Which.
        socket: String,
        /// How long it had.
        limit: Duration,
    },
    /// It answered something else, or too much.
    #[error("The pool at {socket} answered something that is no FastCGI")]
    Malformed {
        /// Which.
        socket: String,
    },
}

/// Asks the pool at `socket` for the script at `script`, and returns the body of its answer.
///
/// # Errors
/// It can't be reached, is silent, or answers nonsense.
pub async fn get(socket: &Path, script: &str, limit: Duration) -> Result<Vec<u8>, FcgiError> {
    let shown = || socket.display().to_string();
    match tokio::time::timeout(limit, exchange(socket, script)).await {
        Ok(Ok(Some(answer))) => Ok(body(&answer).to_vec()),
        Ok(Ok(None)) => Err(FcgiError::Malformed { socket: shown() }),
        Ok(Err(source)) => Err(FcgiError::Io {
            socket: shown(),
            source,
        }),
        Err(_) => Err(FcgiError::Silent {
            socket: shown(),
            limit,
        }),
    }
}

async fn exchange(socket: &Path, script: &str) -> io::Result<Option<Vec<u8>>> {
    let mut stream = UnixStream::connect(socket).await?;
    stream.write_all(&request(script)).await?;
    let mut answer = Vec::new();
    loop {
        let mut header = [0; 8];
        stream.read_exact(&mut header).await?;
        let [version, kind, _, _, high, low, padding, _] = header;
        if version != VERSION {
            return Ok(None);
        }
        let mut content = vec![0; usize::from(u16::from_be_bytes([high, low]))];
        stream.read_exact(&mut content).await?;
        let mut rest = vec![0; usize::from(padding)];
        stream.read_exact(&mut rest).await?;
        match kind {
            STDOUT => answer.extend_from_slice(&content),
            END_REQUEST => return Ok(Some(answer)),
            // Standard error, and what later versions may send.
            _ => {}
        }
        if answer.len() > MAX_ANSWER_BYTES {
            return Ok(None);
        }
    }
}

fn request(script: &str) -> Vec<u8> {
    let mut bytes = record(BEGIN_REQUEST, &[0, RESPONDER, 0, 0, 0, 0, 0, 0]);
    let mut params = Vec::new();
    for (name, value) in [
        ("SCRIPT_FILENAME", script),
        ("SCRIPT_NAME", "/"),
        ("REQUEST_URI", "/"),
        ("REQUEST_METHOD", "GET"),
        ("QUERY_STRING", ""),
        ("SERVER_PROTOCOL", "HTTP/1.1"),
        ("GATEWAY_INTERFACE", "CGI/1.1"),
        ("SERVER_SOFTWARE", "fanout"),
        ("REMOTE_ADDR", "127.0.0.1"),
    ] {
        length(&mut params, name.len());
        length(&mut params, value.len());
        params.extend_from_slice(name.as_bytes());
        params.extend_from_slice(value.as_bytes());
    }
    bytes.extend(record(PARAMS, &params));
    bytes.extend(record(PARAMS, &[]));
    bytes.extend(record(STDIN, &[]));
    bytes
}

fn record(kind: u8, content: &[u8]) -> Vec<u8> {
    // A script's path is far below what one record holds.
    let content = content.get(..usize::from(u16::MAX)).unwrap_or(content);
    let [high, low] = u16::try_from(content.len())
        .unwrap_or(u16::MAX)
        .to_be_bytes();
    let mut bytes = vec![VERSION, kind, REQUEST_ID[0], REQUEST_ID[1], high, low, 0, 0];
    bytes.extend_from_slice(content);
    bytes
}

fn length(bytes: &mut Vec<u8>, length: usize) {
    match u8::try_from(length) {
        Ok(short) if short < 0x80 => bytes.push(short),
        _ => {
            let long = u32::try_from(length).unwrap_or(u32::MAX) | 0x8000_0000;
            bytes.extend_from_slice(&long.to_be_bytes());
        }
    }
}

/// What follows the header lines.
fn body(answer: &[u8]) -> &[u8] {
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n");
    end.and_then(|end| answer.get(end + 4..))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_written_as_the_format_wants_them() {
        let of = |number| {
            let mut bytes = Vec::new();
            length(&mut bytes, number);
            bytes
        };
        assert_eq!(of(127), [127]);
        assert_eq!(of(128), [0x80, 0, 0, 128]);
        assert_eq!(of(70_000), [0x80, 1, 0x11, 0x70]);
    }

    #[tokio::test]
    async fn a_pool_that_speaks_something_else_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("pool.sock");
        let listener = tokio::net::UnixListener::bind(&socket).unwrap();
        let served = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
        });
        let limit = Duration::from_secs(5);
        let answer = get(&socket, "/x.php", limit).await;
        assert!(
            matches!(answer, Err(FcgiError::Malformed { .. })),
            "{answer:?}"
        );
        served.await.unwrap();
        let nobody = get(&dir.path().join("none"), "/x.php", limit).await;
        assert!(matches!(nobody, Err(FcgiError::Io { .. })), "{nobody:?}");
    }
}
