//! The machines of one case: a hub with the source on a disk of its own, and members with theirs.

use crate::corpus::Corpus;
use crate::disk::{Disk, DiskSpec, text};
use crate::keys::Keys;
use crate::lab::{self, Lab};
use crate::link::Wide;
use crate::meter::Groups;
use crate::sandbox::Sandbox;
use crate::shell::{Daemon, wait_until};
use anyhow::{Result, ensure};
use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// What is needed.
#[derive(Clone, Debug)]
pub(crate) struct GroundSpec {
    pub(crate) members: usize,
    pub(crate) corpus: Corpus,
    pub(crate) hub_disk: DiskSpec,
    pub(crate) member_disk: DiskSpec,
    /// All members on one disk, in directories of their own.
    pub(crate) shared_disk: bool,
    pub(crate) wide: Option<Wide>,
    /// The kernel's congestion control on all machines, for what uses TCP.
    pub(crate) congestion: &'static str,
    /// sshd and rsync's daemon on each member.
    pub(crate) servers: bool,
}

/// Machines that stand until they are dropped.
pub(crate) struct Ground {
    // Fields drop in this order: processes, disks, network.
    servers: Vec<Daemon>,
    disks: Vec<Disk>,
    hub_disk: Disk,
    pub(crate) lab: Lab,
    pub(crate) keys: Keys,
    pub(crate) spec: GroundSpec,
    pub(crate) ours: Groups,
    pub(crate) theirs: Groups,
    place: PathBuf,
    images: PathBuf,
}

impl Ground {
    /// Starts all machines, with the source written and nothing on the members.
    pub(crate) fn new(sandbox: &Sandbox, spec: GroundSpec) -> Result<Self> {
        // Its few small files stay in memory until the end.
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let place = sandbox.place.join(format!("ground{count}"));
        fs::create_dir(&place)?;
        let groups = |side: &str| {
            let group = |end: &str| sandbox.group(&format!("{side}-{end}"));
            anyhow::Ok(Groups {
                hub: group("hub")?,
                members: group("members")?,
            })
        };
        let mut ground = Self {
            servers: Vec::new(),
            disks: Vec::new(),
            hub_disk: Disk::make(&sandbox.images, &place.join("hub"), spec.hub_disk)?,
            lab: Lab::new(spec.members, spec.wide, spec.congestion)?,
            keys: Keys::make(&place.join("keys"))?,
            ours: groups("ours")?,
            theirs: groups("theirs")?,
            place,
            images: sandbox.images.clone(),
            spec,
        };
        ground.renew_disks()?;
        ground.spec.corpus.write(&ground.source())?;
        if ground.spec.servers {
            ground.start_servers()?;
        }
        Ok(ground)
    }

    /// The tree to transfer.
    pub(crate) fn source(&self) -> PathBuf {
        self.hub_dir().join("source")
    }

    /// The hub's disk.
    pub(crate) fn hub_dir(&self) -> &Path {
        self.hub_disk.at()
    }

    /// A member's disk, or its part of one.
    pub(crate) fn member_dir(&self, number: usize) -> PathBuf {
        self.place.join(format!("web{number}"))
    }

    /// Numbers of all members, from 1.
    pub(crate) fn members(&self) -> std::ops::RangeInclusive<usize> {
        1..=self.spec.members
    }

    /// Gives every member an empty disk. Nothing may run there but servers.
    pub(crate) fn renew_disks(&mut self) -> Result<()> {
        self.disks.clear();
        let spec = self.spec.member_disk;
        if self.spec.shared_disk {
            self.disks
                .push(Disk::make(&self.images, &self.place.join("all"), spec)?);
        }
        for number in self.members() {
            let at = self.member_dir(number);
            if self.spec.shared_disk {
                let own = self.place.join(format!("all/web{number}"));
                fs::create_dir(&own)?;
                if !at.exists() {
                    std::os::unix::fs::symlink(own, at)?;
                }
            } else {
                self.disks.push(Disk::make(&self.images, &at, spec)?);
            }
        }
        Ok(())
    }

    /// Writes back everything that is dirty on any disk.
    pub(crate) fn settle(&self) -> Result<()> {
        self.hub_disk.settle()?;
        self.disks.iter().try_for_each(Disk::settle)
    }

    /// A command on a member, in a control group.
    pub(crate) fn member_command(&self, number: usize, group: &Path) -> Command {
        let mut command = in_group(group);
        command.args(lab::enter(number));
        command
    }

    fn start_servers(&mut self) -> Result<()> {
        for number in self.members() {
            let mut sshd = self.member_command(number, &self.theirs.members);
            sshd.args(["/usr/sbin/sshd", "-D", "-e", "-f"]);
            sshd.stderr(Stdio::null());
            self.servers
                .push(Daemon::start(sshd.arg(&self.keys.server_config))?);
            let config = self.place.join(format!("rsyncd{number}.conf"));
            let dir = self.member_dir(number);
            let lines = format!(
                "use chroot = yes\nuid = 0\ngid = 0\nread only = no\nmunge symlinks = no\n\
                 lock file = {0}.lock\n[disk]\npath = {1}\n",
                text(&config)?,
                text(&dir)?,
            );
            fs::write(&config, lines)?;
            let mut rsyncd = self.member_command(number, &self.theirs.members);
            rsyncd.args(["rsync", "--daemon", "--no-detach", "--config"]);
            self.servers.push(Daemon::start(rsyncd.arg(config))?);
        }
        // For members that fetch; what it does is theirs, at the hub's end.
        let mut sshd = in_group(&self.theirs.hub);
        sshd.args(["/usr/sbin/sshd", "-D", "-e", "-f"]);
        self.servers
            .push(Daemon::start(sshd.arg(&self.keys.server_config))?);
        for number in self.members() {
            for port in [22, 873] {
                let address = SocketAddr::from((lab::address(number), port));
                let answers = || TcpStream::connect(address).is_ok();
                ensure!(
                    wait_until(Duration::from_secs(20), answers),
                    "no server at {address}"
                );
            }
        }
        Ok(())
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        self.servers.clear();
        self.disks.clear();
        for group in [&self.ours, &self.theirs] {
            crate::meter::kill_all(&group.hub);
            crate::meter::kill_all(&group.members);
        }
    }
}

/// A command that puts itself into a control group before it becomes what its further words say.
pub(crate) fn in_group(group: &Path) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", "echo 0 >\"$0/cgroup.procs\" && exec \"$@\""]);
    command.arg(group);
    command.env_clear();
    command.envs([
        (
            "PATH",
            "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        ),
        ("HOME", "/run"),
        ("LANG", "C.UTF-8"),
        ("NO_COLOR", "1"),
        ("TERM", "dumb"),
    ]);
    command
}
