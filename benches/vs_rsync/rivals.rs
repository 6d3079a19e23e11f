//! The other ways, each as an administrator would type it.

use crate::disk::text;
use crate::ground::{Ground, in_group};
use crate::lab;
use crate::meter::kill_all;
use crate::same::Keeps;
use crate::shell::{output, run};
use anyhow::{Context, Result, anyhow, bail};
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

/// One of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rival {
    /// `rsync -a --delete` over ssh, to all members at once.
    Rsync,
    /// The same with `-z`.
    RsyncCompressed,
    /// `rsync -a --delete` over ssh, one member after the other.
    RsyncInTurn,
    /// `rsync -a --delete` to rsync's own daemon, unencrypted, to all members at once.
    RsyncDaemon,
    /// `tar | zstd -1 | ssh`, unpacked there.
    TarZstd,
    /// `git fetch` from the hub over ssh, and `git checkout`, on all members at once.
    Git,
    /// `rsync -a --delete` from disk to disk on one machine.
    RsyncLocal,
    /// `cp -a` from disk to disk on one machine.
    Copy,
}

/// What came of a transfer.
pub(crate) enum Transferred {
    Done,
    TooSlow,
}

impl Rival {
    /// In the table.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Rsync => "rsync -a, ssh",
            Self::RsyncCompressed => "rsync -az, ssh",
            Self::RsyncInTurn => "rsync -a, ssh, in turn",
            Self::RsyncDaemon => "rsync -a, daemon",
            Self::TarZstd => "tar, zstd -1, ssh",
            Self::Git => "git fetch, checkout",
            Self::RsyncLocal => "rsync -a, local",
            Self::Copy => "cp -a, local",
        }
    }

    /// What the result is held against.
    pub(crate) fn keeps(self) -> Keeps {
        match self {
            Self::TarZstd => Keeps::Seconds,
            Self::Git => Keeps::Content,
            _ => Keeps::All,
        }
    }

    /// Where it puts a member's tree.
    pub(crate) fn place(self, ground: &Ground, number: usize) -> PathBuf {
        ground.member_dir(number).join(self.slug())
    }

    /// Makes what has to be there before a first transfer.
    pub(crate) fn prepare(self, ground: &Ground) -> Result<()> {
        for number in ground.members() {
            let place = self.place(ground, number);
            fs::create_dir_all(&place)?;
            if self == Self::Git {
                let at = text(&place)?;
                run(&["git", "init", "-q", at])?;
                let hub = format!(
                    "ssh://root@{}{}",
                    ground.lab.hub_address(),
                    repository(ground).display()
                );
                run(&["git", "-C", at, "remote", "add", "origin", &hub])?;
            }
        }
        Ok(())
    }

    /// Does what a release has done long before it is rolled out: commits it.
    pub(crate) fn publish(self, ground: &Ground) -> Result<()> {
        if self != Self::Git {
            return Ok(());
        }
        let repository = repository(ground);
        if !repository.exists() {
            run(&[
                "git",
                "init",
                "-q",
                "--bare",
                "-b",
                "main",
                text(&repository)?,
            ])?;
        }
        let source = ground.source();
        let git = |words: &[&str]| {
            let mut command = Command::new("git");
            command
                .env("GIT_DIR", &repository)
                .env("GIT_WORK_TREE", &source);
            command.args(["-c", "user.name=bench", "-c", "user.email=bench@localhost"]);
            output(command.args(["-c", "gc.auto=0"]).args(words))
        };
        git(&["add", "--all", "--force"])?;
        git(&["commit", "-q", "--allow-empty", "-m", "release"])?;
        Ok(())
    }

    /// Transfers the source to all members. With `durably`, the members' file systems are synced
    /// in the same breath.
    pub(crate) fn transfer(
        self,
        ground: &Ground,
        durably: bool,
        limit: Duration,
    ) -> Result<Transferred> {
        let start = Instant::now();
        let scripts: Vec<String> = ground
            .members()
            .map(|number| self.script(ground, number, durably))
            .collect::<Result<_>>()?;
        let at_once = if self == Self::RsyncInTurn {
            1
        } else {
            scripts.len().max(1)
        };
        for some in scripts.chunks(at_once) {
            let left = limit.saturating_sub(start.elapsed());
            if let Transferred::TooSlow = run_all(ground, some, left)? {
                return Ok(Transferred::TooSlow);
            }
        }
        Ok(Transferred::Done)
    }

    fn slug(self) -> &'static str {
        match self {
            Self::Rsync => "rsync",
            Self::RsyncCompressed => "rsync-z",
            Self::RsyncInTurn => "rsync-in-turn",
            Self::RsyncDaemon => "rsync-daemon",
            Self::TarZstd => "tar",
            Self::Git => "git",
            Self::RsyncLocal => "rsync-local",
            Self::Copy => "copy",
        }
    }

    fn script(self, ground: &Ground, number: usize, durably: bool) -> Result<String> {
        let from = ground.source();
        let from = text(&from)?;
        let place = self.place(ground, number);
        let to = text(&place)?;
        let address = lab::address(number);
        let ssh = format!("ssh -F {}", text(&ground.keys.client_config)?);
        let sync = if durably {
            format!(" && sync -f {to}")
        } else {
            String::new()
        };
        // The same connection syncs: a second one would cost more than the sync.
        let server = if durably {
            format!(" --rsync-path='f() {{ rsync \"$@\"{sync}; }}; f'")
        } else {
            String::new()
        };
        let rsync = "exec rsync --delete";
        Ok(match self {
            Self::Rsync | Self::RsyncInTurn => {
                format!(
                    "{rsync} -a --no-whole-file -e '{ssh}'{server} {from}/ root@{address}:{to}/"
                )
            }
            Self::RsyncCompressed => {
                format!(
                    "{rsync} -az --no-whole-file -e '{ssh}'{server} {from}/ root@{address}:{to}/"
                )
            }
            Self::RsyncDaemon => {
                let then = if durably {
                    format!(" && {ssh} root@{address} 'sync -f {to}'")
                } else {
                    String::new()
                };
                let slug = self.slug();
                format!("rsync --delete -a {from}/ rsync://{address}/disk/{slug}/{then}")
            }
            Self::TarZstd => format!(
                "tar -C {from} -cf - . | zstd -1 -q -c | \
                 {ssh} root@{address} 'zstd -dqc | tar -C {to} -xpf -{sync}'"
            ),
            Self::Git => format!(
                "exec {ssh} root@{address} \"cd {to} && GIT_SSH_COMMAND='{ssh}' git -c gc.auto=0 \
                 fetch -q origin main && git checkout -q --force --detach FETCH_HEAD{sync}\""
            ),
            Self::RsyncLocal => format!("rsync -a --delete {from}/ {to}/{sync}"),
            Self::Copy => format!("cp -a {from}/. {to}/{sync}"),
        })
    }
}

fn repository(ground: &Ground) -> PathBuf {
    ground.hub_dir().join("repository.git")
}

/// Runs shell scripts on the hub side by side to their end.
fn run_all(ground: &Ground, scripts: &[String], limit: Duration) -> Result<Transferred> {
    let (report, reports) = channel();
    let mut children = Vec::new();
    for script in scripts {
        let mut command = in_group(&ground.theirs.hub);
        command.args(["sh", "-c", script]).stdin(Stdio::null());
        command.stdout(Stdio::null()).stderr(Stdio::piped());
        let child = command.spawn().context("start a shell")?;
        let (report, script) = (report.clone(), script.clone());
        children.push(thread::spawn(move || {
            let output = child.wait_with_output();
            // Nobody listens any more when it was too slow.
            let _told = report.send(output.map(|output| (script, output)));
        }));
    }
    drop(report);
    let start = Instant::now();
    loop {
        match reports.recv_timeout(limit.saturating_sub(start.elapsed())) {
            Ok(ended) => {
                let (script, output) = ended?;
                if !output.status.success() {
                    let said = String::from_utf8_lossy(&output.stderr);
                    bail!("`{script}` failed ({}): {}", output.status, said.trim());
                }
            }
            Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) => {
                kill_sessions(ground);
                return Ok(Transferred::TooSlow);
            }
        }
    }
    for child in children {
        child.join().map_err(|_| anyhow!("a thread panicked"))?;
    }
    Ok(Transferred::Done)
}

/// Ends the commands on the hub, and with their connections what they started on members. The
/// hub's sshd is among them; nothing that can be too slow needs it again.
fn kill_sessions(ground: &Ground) {
    kill_all(&ground.theirs.hub);
}
