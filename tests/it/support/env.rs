//! A world: a hub and agents as real processes, joined and ready to push.
//!
//! Everything lives in one temporary directory: `hub/` (inventory and state), per agent
//! `webN/state/` and `webN/prefix/` (its `--prefix`), `source/NAME/` per platform. The environment
//! of every process is bare: an empty home, no colour, nothing inherited. Agents listen on
//! loopback addresses that belong to this test process alone, or, with [`WorldSpec::on_hosts`],
//! on hosts of their own. What was started is killed on drop.

pub(crate) use super::address::loopback_address;
use super::host::Host;
use super::netns::Lab;
use super::oracle;
use super::run::{self, Output, Running, USUAL_TIME};
use super::snapshot::{Compare, Snapshot};
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// The program under test.
pub(crate) const FANOUT: &str = env!("CARGO_BIN_EXE_fanout");
/// The cluster that all agents are members of.
pub(crate) const CLUSTER: &str = "front";
/// What every process has in its environment besides.
const USUAL_ENV: [(&str, &str); 4] = [
    ("LANG", "C.UTF-8"),
    ("NO_COLOR", "1"),
    ("TERM", "dumb"),
    ("RUST_BACKTRACE", "1"),
];
/// What an agent says when it is ready.
const READY: &str = "ready";

/// What a world shall have.
#[derive(Debug, Default)]
pub(crate) struct WorldSpec {
    agents: usize,
    agent_env: Vec<(usize, String, String)>,
    on_hosts: bool,
}

/// A hub with its agents. Agents are counted from 0; their names are `web1`, `web2` and so on.
#[derive(Debug)]
pub(crate) struct World {
    // Fields drop in this order: processes, then hosts, then the directory.
    agents: Vec<Agent>,
    hub_host: Option<Host>,
    /// Kept for its switch.
    lab: Option<Lab>,
    dir: tempfile::TempDir,
}

#[derive(Debug)]
struct Agent {
    name: String,
    listen: SocketAddr,
    env: Vec<(String, String)>,
    /// Words before the program: what it is run by.
    under: Vec<String>,
    running: Option<Running>,
    host: Option<Host>,
}

impl WorldSpec {
    /// Sets an environment variable of agent `index`, as `FANOUT_FAILPOINTS`.
    pub(crate) fn agent_env(mut self, index: usize, name: &str, value: &str) -> Self {
        self.agent_env
            .push((index, name.to_owned(), value.to_owned()));
        self
    }

    /// Gives the hub and each agent a host of its own in a lab. Needs root.
    pub(crate) fn on_hosts(mut self) -> Self {
        self.on_hosts = true;
        self
    }

    /// Starts everything: an initialised hub, agents that have joined it, and their cluster.
    #[track_caller]
    pub(crate) fn start(self) -> World {
        let dir = tempfile::Builder::new()
            .prefix("fanout-world-")
            .tempdir()
            .expect("a directory");
        let lab = self.on_hosts.then(Lab::new);
        let host = |name: &str| {
            Some(
                lab.as_ref()?
                    .host(name)
                    .sharing(dir.path())
                    .with_fanout()
                    .start(),
            )
        };
        let mut world = World {
            agents: Vec::new(),
            hub_host: host("hub"),
            lab: None,
            dir,
        };
        fs::create_dir_all(world.dir.path().join("home")).expect("create the home");
        world.fanout(&["init"]).success();
        for index in 0..self.agents {
            let name = format!("web{}", index + 1);
            let host = lab.as_ref().map(|lab| {
                lab.host(&name)
                    .sharing(world.dir.path())
                    .with_fanout()
                    .start()
            });
            let listen = match &host {
                Some(host) => SocketAddr::new(host.address(), 4600),
                None => loopback_address(),
            };
            let of_this = self.agent_env.iter().filter(|(agent, ..)| *agent == index);
            let env = of_this
                .map(|(_, name, value)| (name.clone(), value.clone()))
                .collect();
            world.agents.push(Agent {
                name,
                listen,
                env,
                under: Vec::new(),
                running: None,
                host,
            });
            world.init_agent(index);
            world.start_agent(index);
            world.join_agent(index);
        }
        if self.agents > 0 {
            let members: Vec<_> = world
                .agents
                .iter()
                .map(|agent| agent.name.as_str())
                .collect();
            let members = members.join(",");
            world
                .fanout(&["add", "cluster", CLUSTER, "--members", &members])
                .success();
        }
        world.lab = lab;
        world
    }
}

impl World {
    /// What a world with this many agents shall have besides.
    pub(crate) fn with(agents: usize) -> WorldSpec {
        WorldSpec {
            agents,
            ..WorldSpec::default()
        }
    }

    /// A started world with this many agents.
    #[track_caller]
    pub(crate) fn with_agents(agents: usize) -> Self {
        Self::with(agents).start()
    }

    /// The temporary directory that everything lives in.
    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The hub's directory, `FANOUT_DIR`.
    pub(crate) fn hub_dir(&self) -> PathBuf {
        self.dir().join("hub")
    }

    /// The hub's host, if there are hosts.
    pub(crate) fn hub_host(&self) -> &Host {
        self.hub_host.as_ref().expect("a world on hosts")
    }

    /// The host of agent `index`, if there are hosts.
    pub(crate) fn agent_host(&self, index: usize) -> &Host {
        self.agents[index].host.as_ref().expect("a world on hosts")
    }

    /// How many agents there are.
    pub(crate) fn agent_count(&self) -> usize {
        self.agents.len()
    }

    /// The name of agent `index`.
    pub(crate) fn agent_name(&self, index: usize) -> &str {
        &self.agents[index].name
    }

    /// The address of agent `index`.
    pub(crate) fn agent_address(&self, index: usize) -> SocketAddr {
        self.agents[index].listen
    }

    /// The state directory of agent `index`.
    pub(crate) fn agent_dir(&self, index: usize) -> PathBuf {
        self.dir().join(&self.agents[index].name).join("state")
    }

    /// Where agent `index` keeps configuration sets and the data of services.
    pub(crate) fn agent_services(&self, index: usize) -> PathBuf {
        self.agent_dir(index).join("services")
    }

    /// The directory that stands for `/` to agent `index`.
    pub(crate) fn agent_prefix(&self, index: usize) -> PathBuf {
        self.dir().join(&self.agents[index].name).join("prefix")
    }

    /// A command on the hub, not yet run.
    pub(crate) fn command(&self, words: &[&str]) -> Command {
        let mut command = self.bare_command(self.hub_host.as_ref());
        command.env("FANOUT_DIR", self.hub_dir()).args(words);
        command
    }

    /// Runs a command on the hub to its end.
    #[track_caller]
    pub(crate) fn fanout(&self, words: &[&str]) -> Output {
        run::run(&mut self.command(words))
    }

    /// Runs a command on the hub with more environment.
    #[track_caller]
    pub(crate) fn fanout_with_env(&self, words: &[&str], env: &[(&str, &str)]) -> Output {
        run::run(self.command(words).envs(env.iter().copied()))
    }

    /// Starts a command on the hub, to be watched, killed or waited for.
    #[track_caller]
    pub(crate) fn start_fanout(&self, words: &[&str], env: &[(&str, &str)]) -> Running {
        run::start(self.command(words).envs(env.iter().copied()), b"")
    }

    /// Where the source of the platform `name` is; the directory is made.
    pub(crate) fn source(&self, name: &str) -> PathBuf {
        let source = self.dir().join("source").join(name);
        fs::create_dir_all(&source).expect("create the source");
        source
    }

    /// Adds a platform whose source is [`source`](Self::source), on all agents.
    #[track_caller]
    pub(crate) fn add_platform(&self, name: &str, options: &[&str]) -> Output {
        let source = self.source(name);
        let source = source.to_str().expect("a readable path");
        let root = platform_root(name);
        let words = [
            "add", "platform", name, "--path", source, "--root", &root, "--on", CLUSTER,
        ];
        self.fanout(&[&words[..], options].concat()).success()
    }

    /// Pushes the platform with `--json`, whatever comes of it.
    #[track_caller]
    pub(crate) fn push(&self, name: &str, options: &[&str]) -> Output {
        self.fanout(&[&["push", "platform", name, "--json"][..], options].concat())
    }

    /// The platform's root on agent `index`: what a web server would serve.
    pub(crate) fn live(&self, index: usize, name: &str) -> PathBuf {
        self.agent_prefix(index)
            .join(platform_root(name).trim_start_matches('/'))
    }

    /// The live tree on agent `index`.
    #[track_caller]
    pub(crate) fn snapshot(&self, index: usize, name: &str) -> Snapshot {
        Snapshot::read(&self.live(index, name))
    }

    /// Checks that every agent has, in every attribute, what rsync makes of the source.
    #[track_caller]
    pub(crate) fn assert_delivered(&self, name: &str) {
        self.assert_delivered_but(name, &Compare::exact());
    }

    /// As [`assert_delivered`](Self::assert_delivered), overlooking what `compare` says.
    #[track_caller]
    pub(crate) fn assert_delivered_but(&self, name: &str, compare: &Compare) {
        let expected = oracle::expected(&self.source(name));
        for index in 0..self.agents.len() {
            compare.assert_same(&expected, &self.snapshot(index, name));
        }
    }

    /// Kills agent `index` by SIGKILL, as a crash would.
    pub(crate) fn kill_agent(&mut self, index: usize) {
        if let Some(mut running) = self.agents[index].running.take() {
            running.kill();
        }
    }

    /// Stops agent `index` by SIGSTOP: it says nothing, and nothing of it is gone.
    pub(crate) fn stop_agent(&mut self, index: usize) {
        if let Some(running) = &mut self.agents[index].running {
            running.stop();
        }
    }

    /// Lets a stopped agent `index` go on.
    pub(crate) fn go_on_with_agent(&mut self, index: usize) {
        if let Some(running) = &mut self.agents[index].running {
            running.go_on();
        }
    }

    /// True while agent `index` runs; an agent that a failpoint ended doesn't.
    pub(crate) fn agent_is_running(&mut self, index: usize) -> bool {
        self.agents[index]
            .running
            .as_mut()
            .is_some_and(Running::is_running)
    }

    /// The process id of agent `index`, which runs.
    pub(crate) fn agent_pid(&self, index: usize) -> u32 {
        let running = self.agents[index].running.as_ref();
        running.expect("the agent runs").program_id()
    }

    /// Waits until agent `index` has ended by itself, as at a failpoint.
    #[track_caller]
    pub(crate) fn wait_for_agent_to_end(&mut self, index: usize, limit: Duration) {
        let ended = run::wait_until(limit, || !self.agent_is_running(index));
        assert!(
            ended,
            "the agent still runs after {limit:?}\n{}",
            self.agent_log(index)
        );
    }

    /// Kills agent `index` if it still runs, and starts it with `env` instead of what it had.
    #[track_caller]
    pub(crate) fn restart_agent_with_env(&mut self, index: usize, env: &[(&str, &str)]) {
        let owned = |&(name, value): &(&str, &str)| (name.to_owned(), value.to_owned());
        self.agents[index].env = env.iter().map(owned).collect();
        self.kill_agent(index);
        self.start_agent(index);
    }

    /// Kills agent `index` if it still runs, and starts it without failpoints.
    #[track_caller]
    pub(crate) fn restart_agent(&mut self, index: usize) {
        self.restart_agent_with_env(index, &[]);
    }

    /// Kills agent `index` if it still runs, and starts it with `env`, at which it ends by itself.
    #[track_caller]
    pub(crate) fn agent_dies_at_start(&mut self, index: usize, env: &[(&str, &str)]) {
        self.kill_agent(index);
        let agent = &self.agents[index];
        let mut command = self.bare_command(agent.host.as_ref());
        command
            .args(["agent", "run", "--dir"])
            .arg(self.agent_dir(index))
            .envs(env.iter().copied());
        let output = run::start(&mut command, b"").finish_within(USUAL_TIME);
        assert_eq!(output.code, None, "{}", output.describe());
    }

    /// Kills agent `index` if it still runs, and starts it by another program, which must replace
    /// itself by it.
    #[track_caller]
    pub(crate) fn restart_agent_under(&mut self, index: usize, words: &[&str]) {
        self.agents[index].under = words.iter().map(|&word| word.to_owned()).collect();
        self.restart_agent(index);
    }

    /// What agent `index` has said since it was started last.
    pub(crate) fn agent_log(&mut self, index: usize) -> String {
        let running = self.agents[index].running.as_mut();
        running.map_or("(not started)".to_owned(), |running| {
            running.output().describe()
        })
    }

    /// Sets agent `index` up anew, as on a machine that was reinstalled: nothing of it is left.
    #[track_caller]
    pub(crate) fn reinstall_agent(&mut self, index: usize) {
        self.kill_agent(index);
        for gone in [self.agent_dir(index), self.agent_prefix(index)] {
            fs::remove_dir_all(gone).expect("remove the agent");
        }
        self.init_agent(index);
        self.start_agent(index);
    }

    /// A new token of agent `index`.
    #[track_caller]
    pub(crate) fn invite(&self, index: usize) -> Vec<u8> {
        let mut invite = self.bare_command(self.agents[index].host.as_ref());
        invite
            .args(["agent", "invite", "--dir"])
            .arg(self.agent_dir(index));
        run::run(&mut invite).success().stdout
    }

    fn init_agent(&self, index: usize) {
        let agent = &self.agents[index];
        // The directory that administrators allow exists on a real server, too.
        fs::create_dir_all(self.agent_prefix(index).join("srv")).expect("create the prefix");
        let listen = agent.listen.to_string();
        let mut command = self.bare_command(agent.host.as_ref());
        command.args(["agent", "init", "--name", &agent.name, "--listen", &listen]);
        command.args(["--allow", "/srv"]);
        command.arg("--dir").arg(self.agent_dir(index));
        command.arg("--prefix").arg(self.agent_prefix(index));
        run::run(&mut command).success();
    }

    fn start_agent(&mut self, index: usize) {
        let agent = &self.agents[index];
        let mut command = match agent.under.first() {
            None => self.bare_command(agent.host.as_ref()),
            Some(program) => {
                let mut command = self.bare_command_of(program);
                command.args(&agent.under[1..]).arg(FANOUT);
                command
            }
        };
        command
            .args(["agent", "run", "--dir"])
            .arg(self.agent_dir(index));
        command.envs(agent.env.iter().map(|(name, value)| (name, value)));
        let mut running = run::start(&mut command, b"");
        running.wait_for(READY, USUAL_TIME);
        self.agents[index].running = Some(running);
    }

    fn join_agent(&self, index: usize) {
        let agent = &self.agents[index];
        let token = self.invite(index);
        let address = agent.listen.to_string();
        let words = [
            "add",
            "server",
            &agent.name,
            "--address",
            &address,
            "--token-file",
            "-",
        ];
        run::run_within(&mut self.command(&words), &token, USUAL_TIME).success();
    }

    fn bare_command(&self, host: Option<&Host>) -> Command {
        match host {
            Some(host) => {
                let mut command = host.command("fanout");
                command.envs(USUAL_ENV);
                command
            }
            None => self.bare_command_of(FANOUT),
        }
    }

    /// The same of another program, on this machine.
    pub(crate) fn bare_command_of(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        let path = std::env::var_os("PATH").unwrap_or_default();
        command
            .env_clear()
            .env("PATH", path)
            .env("HOME", self.dir().join("home"));
        command.current_dir(self.dir());
        command.envs(USUAL_ENV);
        command
    }
}

/// The root of the platform `name` as the agents are told it.
pub(crate) fn platform_root(name: &str) -> String {
    format!("/srv/platforms/{name}")
}
