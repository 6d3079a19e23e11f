//! One run of a program: what to start, with what, within which limits.

use super::output::{self, Tail};
use super::running::Running;
use super::{Output, Piped, RunError};
use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

const DEFAULT_TIMEOUT: Duration = Duration::from_secs(60);
const DEFAULT_OUTPUT_BYTES: usize = 1024 * 1024;
/// How long the pipes may stay open after the program has ended: a background process that it
/// left behind, such as ssh's connection master, may hold them for ever.
const PIPE_GRACE: Duration = Duration::from_millis(500);

/// A program to run.
#[derive(Debug)]
pub struct Program {
    name: OsString,
    arguments: Vec<OsString>,
    variables: Vec<(OsString, Option<OsString>)>,
    clears_variables: bool,
    directory: Option<PathBuf>,
    stdin: Option<Vec<u8>>,
    timeout: Duration,
    output_bytes: usize,
    cuts_output: bool,
    keeps_terminal: bool,
}

impl Program {
    /// A program by its name on the `PATH` or by its path, with a minute to run and 1 MiB to say.
    pub fn new(name: impl Into<OsString>) -> Self {
        Self {
            name: name.into(),
            arguments: Vec::new(),
            variables: Vec::new(),
            clears_variables: false,
            directory: None,
            stdin: None,
            timeout: DEFAULT_TIMEOUT,
            output_bytes: DEFAULT_OUTPUT_BYTES,
            cuts_output: false,
            keeps_terminal: false,
        }
    }

    /// Adds one argument, passed on as it is.
    #[must_use]
    pub fn arg(mut self, argument: impl Into<OsString>) -> Self {
        self.arguments.push(argument.into());
        self
    }

    /// Adds arguments, each passed on as it is.
    #[must_use]
    pub fn args<I: IntoIterator<Item: Into<OsString>>>(mut self, arguments: I) -> Self {
        self.arguments.extend(arguments.into_iter().map(Into::into));
        self
    }

    /// Sets a variable in its environment, which is ours otherwise.
    #[must_use]
    pub fn env(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.variables.push((name.into(), Some(value.into())));
        self
    }

    /// Takes a variable out of its environment.
    #[must_use]
    pub fn env_remove(mut self, name: impl Into<OsString>) -> Self {
        self.variables.push((name.into(), None));
        self
    }

    /// Gives it nothing of our environment, only what [`env`](Self::env) sets.
    #[must_use]
    pub fn env_clear(mut self) -> Self {
        self.clears_variables = true;
        self
    }

    /// Runs it in this directory.
    #[must_use]
    pub fn directory(mut self, directory: impl Into<PathBuf>) -> Self {
        self.directory = Some(directory.into());
        self
    }

    /// Gives it these bytes on standard input, which is empty otherwise.
    #[must_use]
    pub fn stdin(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.stdin = Some(bytes.into());
        self
    }

    /// How long it may run.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// How much it may print on standard output before it is killed.
    #[must_use]
    pub fn output_limit(mut self, bytes: usize) -> Self {
        self.output_bytes = bytes;
        self
    }

    /// Takes only the beginning of a longer standard output, and says so in
    /// [`Output::is_cut`], instead of killing the program.
    #[must_use]
    pub fn cut_output(mut self) -> Self {
        self.cuts_output = true;
        self
    }

    /// Leaves it in our process group, so that it may ask on the terminal, as ssh asks for a
    /// passphrase. What it starts itself may then outlive its limit.
    #[must_use]
    pub fn keep_terminal(mut self) -> Self {
        self.keeps_terminal = true;
        self
    }

    /// Runs it to its end, whatever that is.
    pub async fn run(mut self) -> Result<Output, RunError> {
        let input = self.stdin.take();
        let stdin = match input {
            Some(_) => Stdio::piped(),
            None => Stdio::null(),
        };
        let mut running = self.start(stdin)?;
        let timed = tokio::time::timeout(self.timeout, self.converse(&mut running, input));
        match timed.await {
            Ok(result) => {
                if result.is_ok() {
                    running.disarm();
                }
                result
            }
            Err(_) => Err(RunError::TimedOut {
                program: self.shown(),
                limit: self.timeout,
            }),
        }
    }

    /// Runs it, and takes any end but a good one as an error.
    pub async fn succeed(self) -> Result<Output, RunError> {
        let program = self.shown();
        let output = self.run().await?;
        if output.status.success() {
            return Ok(output);
        }
        Err(RunError::Failed {
            program,
            ending: output.status.to_string(),
            code: output.status.code(),
            complaint: output.complaint(),
        })
    }

    /// Starts it with its standard input and output as a connection, for as long as it lives.
    /// The time and output limits don't apply.
    pub fn pipe(self) -> Result<Piped, RunError> {
        let running = self.start(Stdio::piped())?;
        Piped::new(running, self.shown())
    }

    async fn converse(
        &self,
        running: &mut Running,
        input: Option<Vec<u8>>,
    ) -> Result<Output, RunError> {
        let lost = |source| RunError::Contact {
            program: self.shown(),
            source,
        };
        let child = &mut running.child;
        if let (Some(mut stdin), Some(bytes)) = (child.stdin.take(), input) {
            tokio::spawn(async move {
                // A program that doesn't want its input says so by its exit status.
                let _unread = stdin.write_all(&bytes).await;
            });
        }
        let (Some(stdout), Some(stderr)) = (child.stdout.take(), child.stderr.take()) else {
            return Err(lost(io::Error::other("a pipe is missing")));
        };
        let complaint = Tail::collect(stderr);
        let mut said = output::collect(stdout, self.output_bytes, self.cuts_output);
        let status = tokio::select! {
            status = child.wait() => status.map_err(lost)?,
            () = said.overflowed() => return Err(RunError::TooMuchOutput {
                program: self.shown(),
                limit_bytes: self.output_bytes,
            }),
        };
        let (stdout, is_cut) = said.finish(PIPE_GRACE).await.map_err(lost)?;
        if is_cut && !self.cuts_output {
            return Err(RunError::TooMuchOutput {
                program: self.shown(),
                limit_bytes: self.output_bytes,
            });
        }
        Ok(Output {
            status,
            stdout,
            is_cut,
            stderr: complaint.finish(PIPE_GRACE).await,
        })
    }

    fn start(&self, stdin: Stdio) -> Result<Running, RunError> {
        #[expect(clippy::disallowed_methods, reason = "this is the door")]
        let mut command = Command::new(&self.name);
        command
            .args(&self.arguments)
            .stdin(stdin)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        if self.clears_variables {
            command.env_clear();
        }
        for (name, value) in &self.variables {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        if let Some(directory) = &self.directory {
            command.current_dir(directory);
        }
        if !self.keeps_terminal {
            command.process_group(0);
        }
        let child = command.spawn().map_err(|error| self.not_started(error))?;
        Ok(Running::new(child, !self.keeps_terminal))
    }

    /// The same error from the kernel means a missing program or a missing directory.
    fn not_started(&self, source: io::Error) -> RunError {
        let program = self.shown();
        match (&self.directory, source.kind()) {
            (Some(directory), _) if !directory.is_dir() => RunError::Directory {
                program,
                directory: directory.clone(),
                source,
            },
            (_, io::ErrorKind::NotFound) => RunError::NotFound { program },
            _ => RunError::Start { program, source },
        }
    }

    fn shown(&self) -> String {
        let name: &OsStr = Path::new(&self.name).file_name().unwrap_or(&self.name);
        name.to_string_lossy().into_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;
    use tokio::io::AsyncReadExt;

    fn shell(script: &str) -> Program {
        Program::new("sh").args(["-c", script])
    }

    #[tokio::test]
    async fn arguments_stay_as_they_are() {
        let output = Program::new("printf")
            .args(["%s|", "a b", "$(id)", "; ls", "*"])
            .succeed()
            .await
            .unwrap();
        assert_eq!(output.text(), "a b|$(id)|; ls|*|");
    }

    #[tokio::test]
    async fn a_bad_end_is_an_error_with_the_last_complaint() {
        let error = shell("echo first >&2; echo no such host >&2; exit 255")
            .succeed()
            .await
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            "`sh` ended with exit status: 255: no such host"
        );
        assert!(matches!(
            error,
            RunError::Failed {
                code: Some(255),
                ..
            }
        ));
        let output = shell("echo out; exit 3").run().await.unwrap();
        assert_eq!(
            (output.status.code(), output.text()),
            (Some(3), "out".into())
        );
    }

    #[tokio::test]
    async fn a_missing_program_is_told_from_a_missing_directory() {
        let error = Program::new("no-such-program-here")
            .run()
            .await
            .unwrap_err();
        assert!(matches!(error, RunError::NotFound { .. }), "{error}");
        let error = Program::new("true")
            .directory("/no/such/directory")
            .run()
            .await
            .unwrap_err();
        assert!(matches!(error, RunError::Directory { .. }), "{error}");
    }

    #[tokio::test]
    async fn what_outlives_its_limit_is_killed_with_what_it_started() {
        let directory = tempfile::tempdir().unwrap();
        let proof = directory.path().join("proof");
        let script = format!("(sleep 1; touch {}) & sleep 60", proof.display());
        let started = Instant::now();
        let error = shell(&script)
            .timeout(Duration::from_millis(200))
            .run()
            .await
            .unwrap_err();
        assert!(matches!(error, RunError::TimedOut { .. }), "{error}");
        assert!(started.elapsed() < Duration::from_secs(30));
        tokio::time::sleep(Duration::from_millis(1_500)).await;
        assert!(!proof.exists());
    }

    #[tokio::test]
    async fn a_background_process_that_holds_the_pipes_holds_up_nobody() {
        let started = Instant::now();
        let output = shell("sleep 20 & echo done").run().await.unwrap();
        assert_eq!(output.text(), "done");
        assert!(started.elapsed() < Duration::from_secs(15));
    }

    #[tokio::test]
    async fn too_much_output_is_an_error_or_cut() {
        let endless = "while :; do echo 0123456789012345678901234567890123456789; done";
        let error = shell(endless).output_limit(1_000).run().await.unwrap_err();
        assert!(matches!(
            error,
            RunError::TooMuchOutput {
                limit_bytes: 1_000,
                ..
            }
        ));
        let output = shell("head -c 100000 /dev/zero")
            .output_limit(1_000)
            .cut_output()
            .run()
            .await
            .unwrap();
        assert_eq!((output.stdout.len(), output.is_cut), (1_000, true));
        let error = shell("head -c 1001 /dev/zero")
            .output_limit(1_000)
            .run()
            .await;
        assert!(matches!(error, Err(RunError::TooMuchOutput { .. })));
        let output = shell("head -c 100000 /dev/zero >&2; echo end >&2")
            .run()
            .await;
        assert!(output.unwrap().complaint().ends_with("end"));
    }

    #[tokio::test]
    async fn input_and_environment_arrive() {
        let output = shell("cat; echo $WORD; echo ${HOME-unset}")
            .stdin("secret\n")
            .env("WORD", "a word")
            .env_remove("HOME")
            .succeed()
            .await
            .unwrap();
        assert_eq!(output.text(), "secret\na word\nunset");
        let output = shell("echo ${HOME-unset} ${WORD-unset}")
            .env_clear()
            .env("WORD", "alone")
            .succeed()
            .await
            .unwrap();
        assert_eq!(output.text(), "unset alone");
        let large = vec![b'x'; 300_000];
        let output = Program::new("wc")
            .arg("-c")
            .stdin(large)
            .run()
            .await
            .unwrap();
        assert_eq!(output.text(), "300000");
        let ignored = Program::new("true").stdin(vec![0; 300_000]).succeed().await;
        assert!(ignored.is_ok());
    }

    #[tokio::test]
    async fn a_piped_program_is_a_connection() {
        let (mut io, life) = shell("echo ready >&2; cat").pipe().unwrap().split();
        io.write_all(b"ping").await.unwrap();
        io.flush().await.unwrap();
        let mut answer = [0; 4];
        io.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"ping");
        assert_eq!(life.complaint(), "ready");
        drop(io);
        let (status, complaint) = life.wait().await.unwrap();
        assert!(status.success());
        assert_eq!(complaint, "ready");
    }

    #[tokio::test]
    async fn dropping_the_life_ends_the_connection() {
        let (mut io, life) = shell("sleep 60").pipe().unwrap().split();
        drop(life);
        let mut rest = Vec::new();
        io.read_to_end(&mut rest).await.unwrap();
        assert!(rest.is_empty());
    }
}
