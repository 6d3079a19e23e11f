//! Our side: a hub and one agent for each member, the release binary, through the public commands.

use crate::disk::text;
use crate::ground::{Ground, in_group};
use crate::lab;
use crate::meter::{Values, kill_all};
use crate::no_sync;
use crate::shell::{Daemon, output, wait_until};
use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

const ROOT: &str = "/srv/bench";

/// How our side is set up.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Setup {
    /// `switched` or `in-place`.
    pub(crate) layout: &'static str,
    /// The program.
    pub(crate) fanout: &'static Path,
    /// Generations to keep.
    pub(crate) keep: u32,
    pub(crate) without_sync: bool,
}

/// A joined hub and its running agents.
pub(crate) struct Fanout {
    agents: Vec<Daemon>,
    setup: Setup,
    hub: PathBuf,
}

/// What came of a push.
pub(crate) enum Pushed {
    Done(Values),
    TooSlow,
}

impl Fanout {
    /// Sets everything up anew; what was there before is removed.
    pub(crate) fn start(ground: &Ground, setup: Setup) -> Result<Self> {
        let hub = ground.hub_dir().join("fanout");
        if hub.exists() {
            fs::remove_dir_all(&hub).context("remove the former hub")?;
        }
        let mut side = Self {
            agents: Vec::new(),
            setup,
            hub,
        };
        side.hub_command(ground, &["init", "--name", "bench"], b"")?;
        let mut names = Vec::new();
        for number in ground.members() {
            side.add_member(ground, number)?;
            names.push(name(number));
        }
        let names = names.join(",");
        side.hub_command(ground, &["add", "cluster", "all", "--members", &names], b"")?;
        let source = ground.source();
        let keep = setup.keep.to_string();
        let words = [
            "add",
            "platform",
            "bench",
            "--path",
            text(&source)?,
            "--root",
            ROOT,
        ];
        let more = ["--on", "all", "--layout", setup.layout, "--keep", &keep];
        side.hub_command(ground, &[&words[..], &more].concat(), b"")?;
        Ok(side)
    }

    /// Where a member's tree is.
    pub(crate) fn live(ground: &Ground, number: usize) -> PathBuf {
        prefix(ground, number).join(&ROOT[1..])
    }

    /// Pushes once and returns what fanout itself says about it.
    pub(crate) fn push(&self, ground: &Ground, level: &str, limit: Duration) -> Result<Pushed> {
        let words = ["push", "platform", "bench", "--level", level, "--json"];
        let brakes = ["--allow-delete", "1000000", "--yes"];
        let errors = ground.hub_dir().join("fanout-errors");
        let mut command = self.command(&ground.ours.hub, &self.hub);
        command.args(words).args(brakes).stdin(Stdio::null());
        command
            .stdout(Stdio::piped())
            .stderr(File::create(&errors)?);
        let mut child = command.spawn().context("start fanout")?;
        let stdout = child.stdout.take().context("piped")?;
        let (ended, end) = mpsc::channel::<()>();
        let group = ground.ours.hub.clone();
        let watchdog = thread::spawn(move || {
            let is_late = end.recv_timeout(limit) == Err(mpsc::RecvTimeoutError::Timeout);
            if is_late {
                kill_all(&group);
            }
            is_late
        });
        let mut scanned = None;
        let mut last = String::new();
        for line in BufReader::new(stdout).lines() {
            last = line?;
            if last.contains("\"scan-finished\"") {
                scanned = Some(Instant::now());
            }
        }
        let at_end = Instant::now();
        let status = child.wait()?;
        drop(ended);
        if watchdog.join().unwrap_or(true) {
            return Ok(Pushed::TooSlow);
        }
        let result: Value = serde_json::from_str(&last).unwrap_or_default();
        let said = fs::read_to_string(errors).unwrap_or_default();
        ensure!(status.success(), "fanout push failed: {last} {said}");
        let past_scan = scanned.map(|scanned| at_end.duration_since(scanned));
        figures(&result, past_scan.unwrap_or_default())
    }

    fn add_member(&mut self, ground: &Ground, number: usize) -> Result<()> {
        let dir = agent_dir(ground, number);
        let prefix = prefix(ground, number);
        fs::create_dir_all(prefix.join("srv"))?;
        let listen = format!("{}:4600", lab::address(number));
        let agent = |words: &[&str]| -> Result<Command> {
            let mut command = ground.member_command(number, &ground.ours.members);
            if self.setup.without_sync {
                command.arg(std::env::current_exe()?).arg(no_sync::WORD);
            }
            command
                .arg(self.setup.fanout)
                .args(words)
                .arg("--dir")
                .arg(&dir);
            Ok(command)
        };
        let name = name(number);
        let words = ["agent", "init", "--name", &name, "--listen", &listen];
        let more = ["--allow", "/srv", "--prefix", text(&prefix)?];
        output(&mut agent(&[&words[..], &more].concat())?)?;
        let log_path = ground.member_dir(number).join("agent.log");
        let log = File::create(&log_path)?;
        let mut run = agent(&["agent", "run"])?;
        run.stdout(log.try_clone()?).stderr(log);
        let mut running = Daemon::start(&mut run)?;
        let said = || fs::read_to_string(&log_path).unwrap_or_default();
        let ready = || said().contains("ready") || !running.is_running();
        let is_ready = wait_until(Duration::from_secs(30), ready);
        ensure!(
            is_ready && running.is_running(),
            "the agent isn't ready: {}",
            said()
        );
        self.agents.push(running);
        let token = output(&mut agent(&["agent", "invite"])?)?;
        let words = [
            "add",
            "server",
            &name,
            "--address",
            &listen,
            "--token-file",
            "-",
        ];
        self.hub_command(ground, &words, token.as_bytes())
    }

    fn hub_command(&self, ground: &Ground, words: &[&str], stdin: &[u8]) -> Result<()> {
        let mut command = self.command(&ground.ours.hub, &self.hub);
        command.args(words).stdin(Stdio::piped());
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        child.stdin.take().context("piped")?.write_all(stdin)?;
        let output = child.wait_with_output()?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            bail!("`fanout {}` failed: {said}", words.join(" "));
        }
        Ok(())
    }

    fn command(&self, group: &Path, dir: &Path) -> Command {
        let mut command = in_group(group);
        if self.setup.without_sync {
            // Only a program that is gone has no path of its own.
            if let Ok(own) = std::env::current_exe() {
                command.arg(own).arg(no_sync::WORD);
            }
        }
        command.arg(self.setup.fanout).env("FANOUT_DIR", dir);
        command
    }
}

/// What the result line says; fails unless every member is where it should be.
fn figures(result: &Value, past_scan: Duration) -> Result<Pushed> {
    let members = result["members"]
        .as_array()
        .context("no members in the result")?;
    for member in members {
        let outcome = member["outcome"].as_str().unwrap_or_default();
        ensure!(
            matches!(outcome, "committed" | "up-to-date"),
            "a member failed: {member}"
        );
    }
    let sum = |field: &str| -> f64 {
        let values = members.iter().filter_map(|member| member[field].as_f64());
        values.sum()
    };
    let count = members.len().max(1) as f64;
    let mut values = Values::from([
        ("past_scan_ms", past_scan.as_secs_f64() * 1e3),
        (
            "stream_bytes_per_member",
            (sum("sent_bytes") + sum("received_bytes")) / count,
        ),
        ("changed_entries", sum("changed_entries") / count),
    ]);
    if let Some(window) = result["commit_window_us"].as_f64() {
        values.insert("commit_window_us", window);
        let cores = thread::available_parallelism()?.get() as f64;
        // The goal for a tree that is changed in place.
        let allowed = 10_000.0 + 25.0 * sum("changed_entries") / cores;
        values.insert("in_place_window_share", window / allowed);
    }
    Ok(Pushed::Done(values))
}

fn name(number: usize) -> String {
    format!("web{number}")
}

fn agent_dir(ground: &Ground, number: usize) -> PathBuf {
    ground.member_dir(number).join("agent")
}

fn prefix(ground: &Ground, number: usize) -> PathBuf {
    ground.member_dir(number).join("files")
}
