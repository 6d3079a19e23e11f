//! An agent with a tree of its own hub, and what must be true of it whatever a peer does.

use crate::support::env::World;
use crate::support::run::wait_until;
use crate::support::task::site;
use fanout::net::{Identity, NodeKey};
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

/// What a victim may grow by, over what it took when it had served one push: its configured budget
/// for objects, and what an allocator and threads add in a debug build.
pub(super) const GROWTH_KIB: u64 = 300 * 1024;
/// Where nothing large is received.
pub(super) const SMALL_GROWTH_KIB: u64 = 96 * 1024;

pub(super) struct Victim {
    pub(super) world: World,
    /// The hub's own key: stolen, or the hub is hostile itself.
    pub(super) hub: Identity,
    pub(super) agent: (SocketAddr, NodeKey),
    most_kib: u64,
    warned: usize,
    pushes: u32,
}

impl Victim {
    /// With `limits` as they stand in the agent's configuration.
    #[track_caller]
    pub(super) fn start(limits: &[(&str, u64)], growth_kib: u64) -> Self {
        Self::offering("", limits, growth_kib)
    }

    /// One that offers these services, as a list of `agent.toml`, beside a site that preserves
    /// `/uploads`.
    #[track_caller]
    pub(super) fn offering(offers: &str, limits: &[(&str, u64)], growth_kib: u64) -> Self {
        let mut world = World::with_site(1, &site(), &["--preserve", "/uploads/"]);
        world.push("site", &[]).all("committed");
        let file = world.agent_dir(0).join("agent.toml");
        let mut config = fs::read_to_string(&file).unwrap();
        if !offers.is_empty() {
            config = format!("offers = [{offers}]\n{config}");
        }
        for (limit, value) in limits {
            let mut lines: Vec<String> = config.lines().map(str::to_owned).collect();
            let at = lines
                .iter()
                .position(|line| line.starts_with(&format!("{limit} =")));
            lines[at.unwrap_or_else(|| panic!("no {limit} in\n{config}"))] =
                format!("{limit} = {value}");
            config = lines.join("\n") + "\n";
        }
        fs::write(&file, config).unwrap();
        world.restart_agent(0);
        let hub = identity(&world.hub_dir().join("state/identity"));
        let agent_key = identity(&world.agent_dir(0).join("identity")).key();
        let mut victim = Self {
            agent: (world.agent_address(0), agent_key),
            hub,
            world,
            most_kib: u64::MAX,
            warned: 0,
            pushes: 0,
        };
        victim.serves_its_own_hub();
        victim.most_kib = victim.memory_kib() + growth_kib;
        victim
    }

    /// The most that it ever took.
    pub(super) fn memory_kib(&self) -> u64 {
        high_water_kib(self.world.agent_pid(0)).expect("a running agent")
    }

    /// It runs, within its limits.
    #[track_caller]
    pub(super) fn is_well(&mut self, what: &str) {
        assert!(
            self.world.agent_is_running(0),
            "{what}: {}",
            self.world.agent_log(0)
        );
        let (now, most) = (self.memory_kib(), self.most_kib);
        assert!(now <= most, "{what}: {now} KiB, {most} at most");
    }

    /// It has logged one line since it was asked last, with this code, and nothing raw in it.
    #[track_caller]
    pub(super) fn has_said_once(&mut self, what: &str, code: &str) {
        let before = self.warned;
        let found = wait_until(Duration::from_secs(20), || self.warnings().len() > before);
        let lines = self.warnings();
        assert!(found, "{what}: nothing was logged");
        let new = &lines[before..];
        assert_eq!(new.len(), 1, "{what}: {new:#?}");
        let is_plain = !new[0].contains(|c: char| c.is_control() && c != '\u{1b}');
        assert!(is_plain, "{what}: {:?}", new[0]);
        assert!(new[0].contains(code), "{what}: no {code} in {:?}", new[0]);
        self.warned = lines.len();
    }

    pub(super) fn warnings(&mut self) -> Vec<String> {
        let log = self.world.agent_log(0);
        // That the row before still ends is no peer's fault.
        let is_one = |line: &&str| {
            (line.contains("WARN") || line.contains("ERROR")) && !line.contains("FX0210")
        };
        let lines = log.lines().filter(is_one);
        lines.map(str::to_owned).collect()
    }

    /// Everything said so far was expected.
    pub(super) fn overhear(&mut self) {
        self.warned = self.warnings().len();
    }

    /// A push of a changed source gets through.
    #[track_caller]
    pub(super) fn serves_its_own_hub(&mut self) {
        self.pushes += 1;
        let file = self.world.source("site").join("pushed.txt");
        fs::write(file, self.pushes.to_string()).unwrap();
        self.world.push("site", &[]).all("committed");
        let live = self.world.live(0, "site").join("pushed.txt");
        assert_eq!(fs::read_to_string(live).unwrap(), self.pushes.to_string());
        self.overhear();
    }
}

#[track_caller]
pub(super) fn identity(dir: &Path) -> Identity {
    Identity::load(dir).unwrap()
}

/// `VmHWM` of a process; `None` once it is gone.
pub(super) fn high_water_kib(process: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}
