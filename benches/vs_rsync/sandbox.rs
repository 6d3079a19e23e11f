//! Namespaces of this program's own: mounts, network, processes. Inside, this process is the hub's
//! machine: its network namespace is the hub's.
//!
//! The process starts itself again under `unshare`. Whatever is mounted, started or named in there
//! goes with its first process, and that one with the process that was started: after SIGKILL an
//! empty directory and empty control groups are left, and nothing else.

use anyhow::{Context, Result, bail, ensure};
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use crate::options::Options;
use crate::shell::run;

const MARKER: &str = "FANOUT_BENCH_PLACE";

/// True in the second life.
pub(crate) fn is_inside() -> bool {
    std::env::var_os(MARKER).is_some()
}

/// Starts this program again in namespaces, and ends as it ends.
pub(crate) fn enter() -> Result<ExitCode> {
    ensure!(
        rustix::process::geteuid().is_root(),
        "needs root, for namespaces, file systems and owners of files"
    );
    let place = tempfile::Builder::new()
        .prefix("fanout-bench-")
        .tempdir()
        .context("a directory to mount on")?;
    // `unshare` would go on without us.
    let status = Command::new("setpriv")
        .args(["--pdeathsig", "KILL", "--", "unshare"])
        .args(["--mount", "--net", "--pid", "--ipc", "--uts", "--fork"])
        .args(["--kill-child=KILL", "--mount-proc", "--propagation=private"])
        .arg("--")
        .arg(std::env::current_exe().context("this program")?)
        .args(std::env::args_os().skip(1))
        .env(MARKER, place.path())
        .status()
        .context("start setpriv and unshare (package util-linux)")?;
    let code = status.code().unwrap_or(128 + status.signal().unwrap_or(0));
    Ok(ExitCode::from(u8::try_from(code).unwrap_or(1)))
}

/// The place, inside.
pub(crate) struct Sandbox {
    /// A tmpfs.
    pub(crate) place: PathBuf,
    /// Where images of disks are made.
    pub(crate) images: PathBuf,
    /// A cgroup v2 directory that groups for measuring are made in.
    cgroup: PathBuf,
}

impl Sandbox {
    /// Mounts what is needed.
    pub(crate) fn set_up(options: &Options) -> Result<Self> {
        let place = PathBuf::from(std::env::var_os(MARKER).context("not inside")?);
        let at = place.to_str().context("a readable path")?;
        run(&[
            "mount",
            "-t",
            "tmpfs",
            "-o",
            "mode=0755,size=85%",
            "bench",
            at,
        ])?;
        // For the names of network namespaces and sshd's empty directory.
        run(&[
            "mount",
            "-t",
            "tmpfs",
            "-o",
            "mode=0755",
            "bench-run",
            "/run",
        ])?;
        fs::create_dir_all("/run/sshd")?;
        fs::create_dir_all("/run/lock")?;
        allow_root_login(&place)?;
        run(&["ip", "link", "set", "lo", "up"])?;
        let cgroup = cgroup2_mount()?.join(format!("fanout-bench-{}", outer_pid()?));
        fs::create_dir_all(&cgroup).with_context(|| format!("make {}", cgroup.display()))?;
        let images = options.on.clone().unwrap_or_else(|| place.clone());
        Ok(Self {
            place,
            images,
            cgroup,
        })
    }

    /// A group of processes whose CPU time is counted.
    pub(crate) fn group(&self, name: &str) -> Result<PathBuf> {
        let group = self.cgroup.join(name);
        fs::create_dir_all(&group).with_context(|| format!("make {}", group.display()))?;
        Ok(group)
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        // Groups have no processes any more when the last ground is gone; what can't be removed
        // is an empty name.
        let inner = fs::read_dir(&self.cgroup).into_iter().flatten().flatten();
        for entry in inner.filter(|entry| entry.path().is_dir()) {
            let _still_used = fs::remove_dir(entry.path());
        }
        let _still_used = fs::remove_dir(&self.cgroup);
    }
}

/// sshd refuses accounts whose password field begins with `!`.
fn allow_root_login(place: &Path) -> Result<()> {
    let shadow = fs::read_to_string("/etc/shadow")?;
    let lines = shadow.lines().map(|line| match line.split_once(':') {
        Some(("root", rest)) => {
            let rest = rest.split_once(':').map_or("", |(_, rest)| rest);
            format!("root:*:{rest}\n")
        }
        _ => format!("{line}\n"),
    });
    let copy = place.join("shadow");
    fs::write(&copy, lines.collect::<String>())?;
    run(&[
        "mount",
        "--bind",
        copy.to_str().context("a path")?,
        "/etc/shadow",
    ])
}

/// Version 2 counts CPU time in every group without any controller, in hybrid setups too.
fn cgroup2_mount() -> Result<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts")?;
    let mut fields = mounts.lines().map(|line| line.split(' '));
    let found = fields.find_map(|mut words| {
        let at = words.nth(1)?;
        (words.next()? == "cgroup2").then(|| PathBuf::from(at))
    });
    match found {
        Some(mount) if fs::metadata(mount.join("cgroup.procs")).is_ok() => Ok(mount),
        _ => bail!("no cgroup v2 mount, which CPU time is counted with"),
    }
}

/// A number that no other run has at this time: our first process's outside.
fn outer_pid() -> Result<String> {
    let place = std::env::var(MARKER)?;
    let name = place.rsplit("fanout-bench-").next().unwrap_or("0");
    Ok(name.to_owned())
}
