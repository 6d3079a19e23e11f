//! A machine of its own for a test: network, processes, host name and file system.
//!
//! A [`Host`] is one process that holds private namespaces. Its root is an overlay over this
//! machine's: every program that is installed here is installed there, and whatever is written,
//! installed or registered there (`/etc`, `/usr/local`, `/var/lib`) stays there, in memory, until
//! the host is dropped. `/root`, `/home` and `/run` begin empty, and systemd doesn't run. A host
//! ends, with every process on it, daemons included, when its value is dropped or when the test
//! dies however: nothing has a name that could be left behind. Needs root.

use super::run::{self, Output, Running};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// The search path on a host.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Sets up the file system, then waits for the end of standard input while reaping orphans.
/// Arguments: a directory to mount things on, the host's name, pairs of what to bind and where.
const INIT: &str = r#"
set -eu
read -r outer_pid _ </proc/self/stat
at=$1 name=$2
shift 2
cd /
ip link set lo up
mount -t tmpfs -o mode=0755 fanout-host "$at"
mkdir "$at/upper" "$at/work" "$at/root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$at/upper,workdir=$at/work" "$at/root"
cd "$at/root"
mount -t proc proc proc
mount -t sysfs sysfs sys
mount --rbind /dev dev
mount -t tmpfs -o mode=0755 tmpfs run
mount -t tmpfs -o mode=0700 tmpfs root
mount -t tmpfs -o mode=0755 tmpfs home
while [ $# -gt 0 ]; do
    if [ -d "$1" ]; then
        mkdir -p ".$2"
    else
        mkdir -p ".${2%/*}"
        : >".$2"
    fi
    mount --bind "$1" ".$2"
    shift 2
done
mkdir run/outside run/lock
pivot_root . run/outside
umount -l /run/outside
rmdir /run/outside
hostname "$name"
echo "$name" >/etc/hostname
printf '127.0.0.1 localhost\n::1 localhost\n' >/etc/hosts
exec 3<&0
echo "$outer_pid"
cat <&3 >/dev/null &
wait $!
"#;

/// One machine. See the module.
#[derive(Debug)]
pub(crate) struct Host {
    name: String,
    init_pid: u32,
    addresses: Vec<IpAddr>,
    /// Closing its standard input, or killing it, ends the host.
    holder: Child,
    _mount_point: tempfile::TempDir,
}

impl Host {
    /// Starts a host without any network but loopback. `shared` are pairs of a path here and the
    /// path there where the same file or directory, writable, shall be seen.
    #[track_caller]
    pub(crate) fn start(name: &str, shared: &[(&Path, &Path)]) -> Self {
        let mount_point = tempfile::tempdir().expect("a temporary directory");
        let mut command = Command::new("unshare");
        command
            .args(["--mount", "--net", "--uts", "--ipc", "--pid", "--fork"])
            .args(["--kill-child=KILL", "--propagation=private"])
            .args(["sh", "-c", INIT, "fanout-host"])
            .arg(mount_point.path())
            .arg(name);
        for (here, there) in shared {
            command.arg(here).arg(there);
        }
        let (holder, init_pid) = start_holder(command);
        let name = name.to_owned();
        Self {
            name,
            init_pid,
            addresses: Vec::new(),
            holder,
            _mount_point: mount_point,
        }
    }

    /// The host's name, under which the other hosts of its lab know it.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The process that holds the namespaces.
    pub(crate) fn init_pid(&self) -> u32 {
        self.init_pid
    }

    /// The IPv4 address on the segment that the host was attached to first.
    pub(crate) fn address(&self) -> IpAddr {
        *self
            .addresses
            .iter()
            .find(|address| address.is_ipv4())
            .expect("attached to a segment")
    }

    /// The IPv6 address on the segment that the host was attached to first.
    pub(crate) fn address6(&self) -> IpAddr {
        *self
            .addresses
            .iter()
            .find(|address| address.is_ipv6())
            .expect("attached to a segment")
    }

    /// All addresses but loopback's, in the order of attachment.
    pub(crate) fn addresses(&self) -> &[IpAddr] {
        &self.addresses
    }

    pub(super) fn note_address(&mut self, address: IpAddr) {
        self.addresses.push(address);
    }

    /// Where this process finds the absolute path `inside` of the host. Only for paths without
    /// absolute symlinks, which would lead back here.
    pub(crate) fn path(&self, inside: impl AsRef<Path>) -> PathBuf {
        let inside = inside.as_ref();
        let below = inside.strip_prefix("/").expect("an absolute path");
        PathBuf::from(format!("/proc/{}/root", self.init_pid)).join(below)
    }

    /// Writes a file on the host, with its parents.
    #[track_caller]
    pub(crate) fn write(&self, inside: impl AsRef<Path>, content: impl AsRef<[u8]>) {
        let path = self.path(&inside);
        let write = || {
            std::fs::create_dir_all(path.parent().expect("not the root"))?;
            std::fs::write(&path, content)
        };
        write().unwrap_or_else(|error| {
            panic!(
                "write {} on {}: {error}",
                inside.as_ref().display(),
                self.name
            )
        });
    }

    /// A command that will run on the host as root, in `/root`, with a bare environment. It dies
    /// with the process that is started here for it.
    pub(crate) fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command
            .args([
                "--mount",
                "--net",
                "--uts",
                "--ipc",
                "--pid",
                "--wdns=/root",
                "--target",
            ])
            .arg(self.init_pid.to_string())
            .args(["--", "setpriv", "--pdeathsig", "KILL", "--", program])
            .env_clear()
            .envs([
                ("PATH", PATH),
                ("HOME", "/root"),
                ("USER", "root"),
                ("LOGNAME", "root"),
            ])
            .envs([("LANG", "C.UTF-8"), ("TERM", "dumb"), ("NO_COLOR", "1")])
            .env("RUST_BACKTRACE", "1");
        command
    }

    /// Runs a program on the host to its end.
    #[track_caller]
    pub(crate) fn run(&self, words: &[&str]) -> Output {
        run::run(self.command(words[0]).args(&words[1..]))
    }

    /// Runs a shell script on the host to its end.
    #[track_caller]
    pub(crate) fn sh(&self, script: &str) -> Output {
        self.run(&["sh", "-euc", script])
    }

    /// Starts a program on the host.
    #[track_caller]
    pub(crate) fn spawn(&self, words: &[&str]) -> Running {
        run::start(self.command(words[0]).args(&words[1..]), b"")
    }

    /// Runs `act` in the host's network: sockets that it makes stay there wherever they go, so that
    /// a test can be a peer on the host, a wrong one too.
    pub(crate) fn in_network<T: Send>(&self, act: impl FnOnce() -> T + Send) -> T {
        let namespace = File::open(format!("/proc/{}/ns/net", self.init_pid)).expect("open");
        // Only the thread moves, and it ends here.
        std::thread::scope(|scope| {
            let moved = scope.spawn(move || {
                let network = LinkNameSpaceType::Network;
                move_into_link_name_space(namespace.as_fd(), Some(network)).expect("setns");
                act()
            });
            moved.join().expect("what ran in the host's network")
        })
    }

    /// Adds a user who may log in with a key; with `sudo`, one who may become root without a
    /// password.
    #[track_caller]
    pub(crate) fn add_user(&self, user: &str, sudo: bool) {
        // `*` is no password; the default, `!`, would lock the account for sshd.
        self.run(&[
            "useradd",
            "--create-home",
            "--shell",
            "/bin/sh",
            "--password",
            "*",
            user,
        ])
        .success();
        if sudo {
            let rule = format!("{user} ALL=(ALL) NOPASSWD: ALL\n");
            self.write(format!("/etc/sudoers.d/{user}"), rule);
        }
    }

    /// Drops every UDP packet, in both directions, without a word.
    #[track_caller]
    pub(crate) fn drop_udp(&self) {
        self.filter("meta l4proto udp drop", "meta l4proto udp drop");
    }

    /// Drops what arrives by UDP with less than 20 bytes, which no packet of QUIC has.
    #[track_caller]
    pub(crate) fn drop_small_udp(&self) {
        self.filter("udp length < 28 drop", "accept");
    }

    /// Drops everything, as a pulled cable does.
    #[track_caller]
    pub(crate) fn cut(&self) {
        self.filter("iifname != lo drop", "oifname != lo drop");
    }

    /// Drops what arrives; what the host sends still goes out.
    #[track_caller]
    pub(crate) fn cut_arriving(&self) {
        self.filter("iifname != lo drop", "accept");
    }

    /// Drops what the host sends; it still hears everything.
    #[track_caller]
    pub(crate) fn cut_leaving(&self) {
        self.filter("accept", "oifname != lo drop");
    }

    /// Drops this part of what arrives, 0 to 99 %, at random.
    #[track_caller]
    pub(crate) fn lose(&self, percent: u32) {
        let rule = format!("iifname != lo numgen random mod 100 < {percent} drop");
        self.filter(&rule, "accept");
    }

    /// Takes away what `drop_udp`, `cut` or `lose` set up.
    #[track_caller]
    pub(crate) fn mend(&self) {
        self.filter("accept", "accept");
    }

    /// Limits what the host sends on its first link.
    #[track_caller]
    pub(crate) fn limit_rate(&self, megabits_per_second: u32) {
        let rate = format!("{megabits_per_second}mbit");
        let tbf = ["burst", "64kb", "latency", "50ms"];
        let words = [
            "tc", "qdisc", "replace", "dev", "eth0", "root", "tbf", "rate", &rate,
        ];
        self.run(&[&words[..], &tbf].concat()).success();
    }

    fn filter(&self, arriving: &str, leaving: &str) {
        // `add` before `delete`, so that there is something to delete.
        let rules = format!(
            "add table inet fanout_test
             delete table inet fanout_test
             table inet fanout_test {{
                 chain arriving {{ type filter hook input priority 0; {arriving}; }}
                 chain leaving {{ type filter hook output priority 0; {leaving}; }}
             }}\n"
        );
        let mut nft = self.command("nft");
        run::run_within(nft.args(["-f", "-"]), rules.as_bytes(), run::USUAL_TIME).success();
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        end_holder(&mut self.holder);
    }
}

/// Starts a process that holds namespaces; its script prints its process id as seen from here,
/// once all is set up, and ends when its standard input does.
#[track_caller]
pub(super) fn start_holder(mut command: Command) -> (Child, u32) {
    let errors = tempfile::NamedTempFile::new().expect("a temporary file");
    let stderr = errors.reopen().expect("reopen");
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::from(stderr))
        .spawn()
        .expect("start unshare (package util-linux)");
    let stdout = child.stdout.take().expect("piped");
    let mut line = String::new();
    BufReader::new(stdout)
        .read_line(&mut line)
        .expect("read the process id");
    let Ok(init_pid) = line.trim().parse() else {
        end_holder(&mut child);
        let said = std::io::read_to_string(File::open(errors.path()).expect("open")).expect("read");
        panic!("no namespaces of its own for a test host: {said}");
    };
    (child, init_pid)
}

/// Ends a process that holds namespaces, and with it whatever runs in them: when this returns,
/// nothing does.
pub(super) fn end_holder(holder: &mut Child) {
    drop(holder.stdin.take());
    // The first process sees the end of its input and ends; the kernel then ends all others
    // before the holder learns of it. Killing the holder would not wait for that.
    let ended = || !matches!(holder.try_wait(), Ok(None));
    if !run::wait_until(Duration::from_secs(5), ended) {
        let _already_gone = holder.kill();
        let _reaped = holder.wait();
    }
}
