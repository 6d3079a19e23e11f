//! A program as a connection: its standard input and output carry a session, as ssh does.

use super::RunError;
use super::output::Tail;
use super::running::Running;
use std::io;
use std::pin::Pin;
use std::process::ExitStatus;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::process::{ChildStdin, ChildStdout};

/// How long standard error may stay open after the program has ended.
const STDERR_GRACE: Duration = Duration::from_millis(500);

/// A running program whose pipes are read and written. Dropping it kills the program.
pub struct Piped {
    io: PipedIo,
    life: Life,
}

/// The two pipes as one stream: reads what the program prints, writes what it reads.
pub struct PipedIo {
    stdin: ChildStdin,
    stdout: ChildStdout,
}

/// The program behind the pipes. Dropping it kills the program.
pub struct Life {
    running: Running,
    complaint: Tail,
    program: String,
}

impl Piped {
    pub(super) fn new(mut running: Running, program: String) -> Result<Self, RunError> {
        let child = &mut running.child;
        let pipes = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let (Some(stdin), Some(stdout), Some(stderr)) = pipes else {
            return Err(RunError::Contact {
                program,
                source: io::Error::other("a pipe is missing"),
            });
        };
        Ok(Self {
            io: PipedIo { stdin, stdout },
            life: Life {
                running,
                complaint: Tail::collect(stderr),
                program,
            },
        })
    }

    /// The stream and the program behind it, to be held by different owners. The stream ends when
    /// the [`Life`] is dropped.
    pub fn split(self) -> (PipedIo, Life) {
        (self.io, self.life)
    }
}

impl Life {
    /// What the program has said on standard error so far, at most the last 16 KiB.
    pub fn complaint(&self) -> String {
        String::from_utf8_lossy(&self.complaint.so_far())
            .trim()
            .to_owned()
    }

    /// Waits until it ends by itself. Once the stream is dropped, programs that read their input
    /// to its end do.
    pub async fn wait(mut self) -> Result<(ExitStatus, String), RunError> {
        let status = self.running.child.wait().await;
        let status = status.map_err(|source| RunError::Contact {
            program: self.program.clone(),
            source,
        })?;
        self.running.disarm();
        let complaint = self.complaint.finish(STDERR_GRACE).await;
        let complaint = String::from_utf8_lossy(&complaint).trim().to_owned();
        Ok((status, complaint))
    }

    /// Kills it, and waits until it is gone.
    pub async fn kill(mut self) -> Result<(), RunError> {
        let killed = self.running.kill().await;
        killed.map_err(|source| RunError::Contact {
            program: self.program.clone(),
            source,
        })
    }
}

impl AsyncRead for PipedIo {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stdout).poll_read(context, buffer)
    }
}

impl AsyncWrite for PipedIo {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stdin).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stdin).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stdin).poll_shutdown(context)
    }
}
