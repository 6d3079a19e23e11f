//! A lab: hosts joined by network segments, all of it in namespaces that the test made.
//!
//! The switch is a namespace of its own, so that nothing of this machine's network is touched.
//! Segment number S has the addresses `10.77.S.0/24` and `fd77:S::/64`; hosts don't forward, so
//! one that is on the segment `inner` only can be reached from `outer` through a host on both,
//! and only by logging in there.

use super::host::{Host, end_holder, start_holder};
use super::run::{Output, run};
use std::cell::RefCell;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

const SWITCH: &str = r#"
set -eu
read -r outer_pid _ </proc/self/stat
ip link set lo up
exec 3<&0
echo "$outer_pid"
cat <&3 >/dev/null &
wait $!
"#;

/// A switch and what is plugged into it. Drop the hosts' values to end them; the lab's own drop
/// ends the switch.
#[derive(Debug)]
pub(crate) struct Lab {
    switch: Child,
    switch_pid: u32,
    state: RefCell<State>,
}

#[derive(Debug, Default)]
struct State {
    segments: Vec<String>,
    links: usize,
    /// Lines of every host's `/etc/hosts`, and the files to keep up to date.
    known_hosts: Vec<String>,
    host_files: Vec<PathBuf>,
}

/// What a host of a lab shall be like.
#[derive(Debug)]
pub(crate) struct HostSpec<'lab> {
    lab: &'lab Lab,
    name: String,
    segments: Vec<String>,
    shared: Vec<(PathBuf, PathBuf)>,
}

impl Lab {
    /// A switch without anything plugged in.
    #[track_caller]
    pub(crate) fn new() -> Self {
        let mut command = Command::new("unshare");
        command.args(["--net", "--pid", "--fork", "--kill-child=KILL"]);
        command.args(["sh", "-c", SWITCH, "fanout-switch"]);
        let (switch, switch_pid) = start_holder(command);
        Self {
            switch,
            switch_pid,
            state: RefCell::default(),
        }
    }

    /// A host to be; unless it is told otherwise, it is on the segment `outer`.
    pub(crate) fn host(&self, name: &str) -> HostSpec<'_> {
        HostSpec {
            lab: self,
            name: name.to_owned(),
            segments: Vec::new(),
            shared: Vec::new(),
        }
    }

    /// A host on the segment `outer`, started.
    #[track_caller]
    pub(crate) fn plain_host(&self, name: &str) -> Host {
        self.host(name).start()
    }

    #[track_caller]
    fn attach(&self, host: &mut Host, segment: &str, interface: &str) {
        let number = self.segment(segment);
        let mut state = self.state.borrow_mut();
        state.links += 1;
        let (link, host_number) = (format!("link{}", state.links), state.links);
        let pid = host.init_pid().to_string();
        let peer = ["peer", "name", interface, "netns", &pid];
        self.ip(&[&["link", "add", &link, "type", "veth"][..], &peer].concat());
        self.ip(&["link", "set", &link, "master", &bridge(number), "up"]);
        let id = u8::try_from(host_number).expect("few hosts");
        let v4 = Ipv4Addr::new(10, 77, number, id);
        let v6 = Ipv6Addr::new(0xfd77, number.into(), 0, 0, 0, 0, 0, id.into());
        host.run(&[
            "ip",
            "address",
            "add",
            &format!("{v4}/24"),
            "dev",
            interface,
        ])
        .success();
        // Without duplicate detection the address works at once.
        host.run(&[
            "ip",
            "address",
            "add",
            &format!("{v6}/64"),
            "dev",
            interface,
            "nodad",
        ])
        .success();
        host.run(&["ip", "link", "set", interface, "up"]).success();
        host.note_address(IpAddr::V4(v4));
        host.note_address(IpAddr::V6(v6));
        state.known_hosts.push(format!("{v4} {}", host.name()));
        state.known_hosts.push(format!("{v6} {}", host.name()));
    }

    fn segment(&self, name: &str) -> u8 {
        let mut state = self.state.borrow_mut();
        let known = state.segments.iter().position(|segment| segment == name);
        let number = known.unwrap_or(state.segments.len());
        let number_u8 = u8::try_from(number).expect("few segments");
        if known.is_none() {
            state.segments.push(name.to_owned());
            self.ip(&["link", "add", &bridge(number_u8), "type", "bridge"]);
            self.ip(&["link", "set", &bridge(number_u8), "up"]);
        }
        number_u8
    }

    /// Runs `ip` in the switch.
    #[track_caller]
    fn ip(&self, words: &[&str]) -> Output {
        let mut command = Command::new("nsenter");
        command
            .arg("--net")
            .arg("--target")
            .arg(self.switch_pid.to_string())
            .arg("--")
            .arg("ip");
        run(command.args(words)).success()
    }

    fn tell_names(&self, host: &Host) {
        let mut state = self.state.borrow_mut();
        state.host_files.push(host.path("/etc/hosts"));
        let text = state.known_hosts.join("\n");
        let text = format!("127.0.0.1 localhost\n::1 localhost\n{text}\n");
        for file in &state.host_files {
            // A host that was dropped has no file any more.
            let _gone = std::fs::write(file, &text);
        }
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        end_holder(&mut self.switch);
    }
}

impl HostSpec<'_> {
    /// Puts the host on one more segment, which is made if it is new.
    pub(crate) fn on(mut self, segment: &str) -> Self {
        self.segments.push(segment.to_owned());
        self
    }

    /// Shows a file or directory of this machine on the host under the same path, writable.
    pub(crate) fn sharing(self, path: impl AsRef<Path>) -> Self {
        let path = path.as_ref().to_owned();
        self.sharing_as(path.clone(), path)
    }

    /// Shows a file or directory of this machine on the host, under another path.
    pub(crate) fn sharing_as(
        mut self,
        here: impl Into<PathBuf>,
        there: impl Into<PathBuf>,
    ) -> Self {
        self.shared.push((here.into(), there.into()));
        self
    }

    /// Installs the `fanout` that is under test as `/usr/local/bin/fanout`.
    pub(crate) fn with_fanout(self) -> Self {
        self.sharing_as(env!("CARGO_BIN_EXE_fanout"), "/usr/local/bin/fanout")
    }

    /// Starts the host and plugs it in.
    #[track_caller]
    pub(crate) fn start(mut self) -> Host {
        if self.segments.is_empty() {
            self.segments.push("outer".to_owned());
        }
        let shared = self
            .shared
            .iter()
            .map(|(here, there)| (here.as_path(), there.as_path()));
        let mut host = Host::start(&self.name, &shared.collect::<Vec<_>>());
        for (number, segment) in self.segments.iter().enumerate() {
            self.lab.attach(&mut host, segment, &format!("eth{number}"));
        }
        self.lab.tell_names(&host);
        host
    }
}

fn bridge(segment: u8) -> String {
    format!("segment{segment}")
}
