//! Programs run with a time limit, with what they wrote kept for the message of a failed test.
//!
//! Output goes to files, not pipes: a daemon that keeps its standard output open can't hold up
//! the test, and a running program's output can be watched.

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{Seek, Write};
use std::os::unix::fs::FileExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long an ordinary command may take, generous because tests share few cores.
pub(crate) const USUAL_TIME: Duration = Duration::from_secs(90);

const POLL: Duration = Duration::from_millis(5);

/// What a program did.
#[derive(Clone, Debug)]
pub(crate) struct Output {
    /// The command line, for messages.
    pub(crate) command: String,
    /// The exit code; `None` if a signal ended it.
    pub(crate) code: Option<i32>,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: Vec<u8>,
    pub(crate) took: Duration,
    /// How it ended, in words.
    ended: String,
}

impl Output {
    /// This output, if the exit code is 0; otherwise panics with everything that was said.
    #[track_caller]
    pub(crate) fn success(self) -> Self {
        self.exits(0)
    }

    /// This output, if the exit code is `code`; otherwise panics with everything that was said.
    #[track_caller]
    pub(crate) fn exits(self, code: i32) -> Self {
        assert!(
            self.code == Some(code),
            "expected exit code {code}\n{}",
            self.describe()
        );
        self
    }

    /// Standard output as text.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// Standard error as text.
    pub(crate) fn error_text(&self) -> String {
        String::from_utf8_lossy(&self.stderr).into_owned()
    }

    /// Standard output as JSON lines.
    #[track_caller]
    pub(crate) fn json_lines(&self) -> Vec<Value> {
        let parse = |line: &[u8]| {
            serde_json::from_slice(line).unwrap_or_else(|error| {
                panic!(
                    "not JSON ({error}): {}\n{}",
                    line.escape_ascii(),
                    self.describe()
                )
            })
        };
        let lines = self.stdout.split(|&byte| byte == b'\n');
        lines
            .filter(|line| !line.trim_ascii().is_empty())
            .map(parse)
            .collect()
    }

    /// The last JSON line, which is a command's result.
    #[track_caller]
    pub(crate) fn json_result(&self) -> Value {
        self.json_lines()
            .pop()
            .unwrap_or_else(|| panic!("no JSON on standard output\n{}", self.describe()))
    }

    /// The entry of the member called `name` in the result's `members`.
    #[track_caller]
    pub(crate) fn json_member(&self, name: &str) -> Value {
        let result = self.json_result();
        let members = result["members"].as_array();
        members
            .and_then(|members| members.iter().find(|member| member["name"] == name))
            .unwrap_or_else(|| panic!("no member {name} in {result}\n{}", self.describe()))
            .clone()
    }

    /// Everything about the run, for a failure message.
    pub(crate) fn describe(&self) -> String {
        let Self {
            command,
            ended,
            took,
            ..
        } = self;
        let (out, err) = (self.text(), self.error_text());
        format!("$ {command}\n{ended} after {took:?}\n--- stdout\n{out}\n--- stderr\n{err}")
    }
}

/// A program that is running; killed and reaped when dropped.
#[derive(Debug)]
pub(crate) struct Running {
    command: String,
    /// The child is `nsenter`, which waits for the program as its only child.
    entered_host: bool,
    child: Child,
    stdout: File,
    stderr: File,
    started: Instant,
}

/// Starts `command` with `input` as its standard input.
#[track_caller]
pub(crate) fn start(command: &mut Command, input: &[u8]) -> Running {
    let shown = describe_command(command);
    let capture = || tempfile::tempfile().expect("a temporary file");
    let (stdout, stderr, mut stdin) = (capture(), capture(), capture());
    stdin
        .write_all(input)
        .and_then(|()| stdin.rewind())
        .expect("write the input");
    let again = |file: &File| Stdio::from(file.try_clone().expect("dup"));
    let child = command
        .stdin(Stdio::from(stdin))
        .stdout(again(&stdout))
        .stderr(again(&stderr))
        .spawn()
        .unwrap_or_else(|error| panic!("{shown}: {error}"));
    let entered_host = command.get_program() == "nsenter";
    Running {
        command: shown,
        entered_host,
        child,
        stdout,
        stderr,
        started: Instant::now(),
    }
}

/// Runs `command` to its end, at most `limit`; then it is killed and the test fails.
#[track_caller]
pub(crate) fn run_within(command: &mut Command, input: &[u8], limit: Duration) -> Output {
    start(command, input).finish_within(limit)
}

/// Runs `command` to its end within the usual time.
#[track_caller]
pub(crate) fn run(command: &mut Command) -> Output {
    run_within(command, b"", USUAL_TIME)
}

impl Running {
    /// The process id.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// The process id of the program itself, also where it was started on a host.
    pub(crate) fn program_id(&self) -> u32 {
        let child = Pid::from_child(&self.child);
        let program = self.entered_host.then(|| only_child_of(child)).flatten();
        program
            .unwrap_or(child)
            .as_raw_nonzero()
            .get()
            .unsigned_abs()
    }

    /// True until the program has ended.
    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("wait").is_none()
    }

    /// Waits for the end, at most `limit`; then the program is killed and the test fails.
    #[track_caller]
    pub(crate) fn finish_within(mut self, limit: Duration) -> Output {
        if !wait_until(limit, || !self.is_running()) {
            self.kill();
            panic!("not done after {limit:?}\n{}", self.output().describe());
        }
        self.output()
    }

    /// Waits until standard output or standard error has `text`, at most `limit`.
    #[track_caller]
    pub(crate) fn wait_for(&mut self, text: &str, limit: Duration) {
        let has_text = |running: &Self| {
            let said = [contents(&running.stdout), contents(&running.stderr)].concat();
            String::from_utf8_lossy(&said).contains(text)
        };
        let found = wait_until(limit, || has_text(self) || !self.is_running());
        if !found || !has_text(self) {
            self.kill();
            panic!("never said {text:?}\n{}", self.output().describe());
        }
    }

    /// Ends the program by SIGKILL, as a crash would, and reaps it.
    pub(crate) fn kill(&mut self) {
        self.signal(Signal::KILL);
        if self.entered_host && !wait_until(Duration::from_secs(5), || !self.is_running()) {
            let _already_gone = self.child.kill();
        }
        self.child.wait().expect("reap");
    }

    /// Asks the program to end, by SIGTERM.
    pub(crate) fn terminate(&mut self) {
        self.signal(Signal::TERM);
    }

    /// Stops the program where it is, until [`Self::go_on`].
    pub(crate) fn stop(&mut self) {
        self.signal(Signal::STOP);
    }

    /// Lets a stopped program go on.
    pub(crate) fn go_on(&mut self) {
        self.signal(Signal::CONT);
    }

    fn signal(&mut self, signal: Signal) {
        // Until it is reaped, the process id is the child's own.
        if !self.is_running() {
            return;
        }
        let child = Pid::from_child(&self.child);
        let program = if self.entered_host {
            only_child_of(child)
        } else {
            None
        };
        let _already_gone = kill_process(program.unwrap_or(child), signal);
    }

    /// Everything said so far, or until the end.
    pub(crate) fn output(&mut self) -> Output {
        let status = self.child.try_wait().expect("wait");
        Output {
            command: self.command.clone(),
            code: status.and_then(|status| status.code()),
            stdout: contents(&self.stdout),
            stderr: contents(&self.stderr),
            took: self.started.elapsed(),
            ended: status.map_or("still running".to_owned(), |status| status.to_string()),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Polls `condition` until it holds, at most `limit`; returns whether it did.
pub(crate) fn wait_until(limit: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let end = Instant::now() + limit;
    loop {
        if condition() {
            return true;
        }
        if Instant::now() >= end {
            return false;
        }
        std::thread::sleep(POLL);
    }
}

/// True if `program` is on the search path or where Debian keeps administrators' programs.
pub(crate) fn is_installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/sbin".into()])
        .any(|directory| directory.join(program).is_file())
}

fn only_child_of(parent: Pid) -> Option<Pid> {
    let pids = std::fs::read_dir("/proc").ok()?.filter_map(|entry| {
        entry.ok()?.file_name().to_str()?.parse().ok() // Other entries are no processes.
    });
    pids.filter_map(Pid::from_raw)
        .find(|pid| parent_of(*pid) == Some(parent))
}

/// The second field after the program's name, which may hold anything, even parentheses.
fn parent_of(pid: Pid) -> Option<Pid> {
    let stat = std::fs::read(format!("/proc/{}/stat", pid.as_raw_nonzero())).ok()?;
    let stat = String::from_utf8_lossy(&stat);
    let (_, after_name) = stat.rsplit_once(") ")?;
    Pid::from_raw(after_name.split(' ').nth(1)?.parse().ok()?)
}

fn contents(file: &File) -> Vec<u8> {
    // The program writes through the same file description: its position must stay as it is.
    let mut bytes = vec![0; usize::try_from(file.metadata().expect("stat").len()).expect("small")];
    file.read_exact_at(&mut bytes, 0).expect("read the output");
    bytes
}

fn describe_command(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words
        .map(OsStr::to_string_lossy)
        .collect::<Vec<_>>()
        .join(" ")
}
