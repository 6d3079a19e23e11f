//! The hub and the members: processes of this very program, in one directory, on loopback
//! addresses that belong to this demo alone. Everything goes through the public commands.

use crate::cli::error::CommandError;
use crate::codes::{Code, error_chain};
use crate::proc::{Life, Program, RunError};
use serde_json::Value;
use std::ffi::OsString;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};

/// The platform's name in the demo's inventory.
pub(super) const PLATFORM: &str = "demo";
/// Where it goes, below each member's prefix.
const ROOT: &str = "/srv/platforms/demo";
/// LIMIT: how long any one command may take.
const TIME: Duration = Duration::from_secs(1_800);
/// LIMIT: how long an agent may take to be ready.
const READY: Duration = Duration::from_secs(30);
const LOOK_AGAIN: Duration = Duration::from_millis(10);
const OUTPUT_BYTES: usize = 64 * 1024 * 1024;

/// All machines of the demo. Dropping it ends the agents.
pub(super) struct Machines {
    program: PathBuf,
    dir: PathBuf,
    members: Vec<Member>,
}

struct Member {
    name: String,
    listen: SocketAddr,
    agent: Option<Agent>,
}

/// A running agent.
struct Agent {
    life: Life,
    said: Arc<Mutex<Said>>,
}

#[derive(Default)]
struct Said {
    text: Vec<u8>,
    ended: bool,
}

impl Machines {
    /// Starts a hub and its members in `dir`, joined, with the platform in `source` added.
    pub(super) async fn start(
        dir: &Path,
        members: u16,
        source: &Path,
    ) -> Result<Self, CommandError> {
        let program =
            std::env::current_exe().map_err(|error| CommandError::from_error(Code::Bug, &error))?;
        let named = |number: u16| Member {
            name: format!("web{number}"),
            listen: loopback_address(number),
            agent: None,
        };
        let mut machines = Self {
            program,
            dir: dir.to_owned(),
            members: (1..=members).map(named).collect(),
        };
        machines.hub(&["init", "--name", "demo"]).await?;
        for number in 0..machines.members.len() {
            machines.add_member(number).await?;
        }
        let names = machines.names().join(",");
        machines
            .hub(&["add", "cluster", "front", "--members", &names])
            .await?;
        let path = source.display().to_string();
        let words = ["--path", &path, "--root", ROOT, "--on", "front"];
        machines
            .hub(&[&["add", "platform", PLATFORM][..], &words].concat())
            .await?;
        Ok(machines)
    }

    /// Names of all members.
    pub(super) fn names(&self) -> Vec<String> {
        self.members.iter().map(|one| one.name.clone()).collect()
    }

    /// Where each member's platform really is.
    pub(super) fn roots(&self) -> impl Iterator<Item = (&str, PathBuf)> {
        self.members.iter().map(|member| {
            let root = self.prefix(&member.name).join(&ROOT[1..]);
            (member.name.as_str(), root)
        })
    }

    /// Runs a command on the hub, and returns its result: the last line that it prints.
    pub(super) async fn hub(&self, words: &[&str]) -> Result<Value, CommandError> {
        self.finish(self.hub_command(words), words).await
    }

    /// The same, ending with any of these exit codes.
    pub(super) async fn hub_exits(
        &self,
        words: &[&str],
        exits: &[i32],
    ) -> Result<Value, CommandError> {
        let output = self.hub_command(words).run().await;
        let output = output.map_err(|error| not_run(words, &error))?;
        let result = last_line(&output.stdout);
        match output.status.code() {
            Some(code) if exits.contains(&code) => Ok(result),
            _ => Err(failed(words, &result, &output.complaint())),
        }
    }

    /// Runs a command on the hub and hands each line that it prints to `look`, which says when
    /// the agent `victim` is to be killed. Returns the result, and whether that happened.
    pub(super) async fn hub_killing(
        &mut self,
        words: &[&str],
        victim: usize,
        look: impl Fn(&Value) -> bool,
    ) -> Result<(Value, bool), CommandError> {
        let piped = self.hub_command(words).pipe();
        let (io, life) = piped.map_err(|error| not_run(words, &error))?.split();
        let mut lines = BufReader::new(io).lines();
        let mut result = Value::Null;
        let mut killed = false;
        let following = async {
            while let Some(line) = lines.next_line().await? {
                let line: Value = serde_json::from_str(&line).unwrap_or_default();
                if !killed && look(&line) {
                    killed = true;
                    self.kill(victim).await;
                }
                result = line;
            }
            Ok::<(), std::io::Error>(())
        };
        match tokio::time::timeout(TIME, following).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return Err(failed(words, &result, &error.to_string())),
            Err(_) => return Err(failed(words, &result, "It took too long")),
        }
        let ended = life.wait().await.map_err(|error| not_run(words, &error))?;
        if result["type"] != "result" {
            return Err(failed(words, &result, &ended.1));
        }
        Ok((result, killed))
    }

    /// Ends a member's agent as a crash would, and returns when it is gone.
    pub(super) async fn kill(&mut self, number: usize) {
        if let Some(agent) = self.members[number].agent.take() {
            // It may have ended by itself, which is what we want.
            let _gone = agent.life.kill().await;
        }
    }

    /// Ends everything.
    pub(super) async fn stop(&mut self) {
        for number in 0..self.members.len() {
            self.kill(number).await;
        }
    }

    /// Starts a member's agent, and returns when it says that it is ready.
    pub(super) async fn run_agent(&mut self, number: usize) -> Result<(), CommandError> {
        let name = self.members[number].name.clone();
        let words = ["agent", "run"];
        let program = self.command(&self.agent_dir(&name), &words);
        let piped = program.pipe().map_err(|error| not_run(&words, &error))?;
        let (mut io, life) = piped.split();
        let said = Arc::<Mutex<Said>>::default();
        let heard = Arc::clone(&said);
        tokio::spawn(async move {
            let mut buffer = [0; 4096];
            // Its standard input stays open for as long as it speaks.
            while let Ok(count @ 1..) = io.read(&mut buffer).await {
                lock(&heard).text.extend_from_slice(&buffer[..count]);
            }
            lock(&heard).ended = true;
        });
        let agent = Agent { life, said };
        let ready = async {
            while !agent.is_ready() {
                if lock(&agent.said).ended {
                    return false;
                }
                tokio::time::sleep(LOOK_AGAIN).await;
            }
            true
        };
        if tokio::time::timeout(READY, ready).await != Ok(true) {
            let complaint = agent.life.complaint();
            return Err(failed(&words, &Value::Null, &complaint));
        }
        self.members[number].agent = Some(agent);
        Ok(())
    }

    async fn add_member(&mut self, number: usize) -> Result<(), CommandError> {
        let Member { name, listen, .. } = &self.members[number];
        let (name, listen) = (name.clone(), listen.to_string());
        let dir = self.agent_dir(&name);
        let prefix = self.prefix(&name).display().to_string();
        let words = ["agent", "init", "--name", &name, "--listen", &listen];
        let words = [&words[..], &["--allow", "/srv", "--prefix", &prefix]].concat();
        self.finish(self.command(&dir, &words), &words).await?;
        self.run_agent(number).await?;
        let words = ["agent", "invite"];
        let invited = self.command(&dir, &words).succeed().await;
        let token = invited.map_err(|error| not_run(&words, &error))?.stdout;
        let words = [
            "add",
            "server",
            &name,
            "--address",
            &listen,
            "--token-file",
            "-",
        ];
        let add = self.hub_command(&words).stdin(token);
        self.finish(add, &words).await?;
        Ok(())
    }

    async fn finish(&self, program: Program, words: &[&str]) -> Result<Value, CommandError> {
        let output = program
            .run()
            .await
            .map_err(|error| not_run(words, &error))?;
        let result = last_line(&output.stdout);
        if output.status.success() {
            return Ok(result);
        }
        Err(failed(words, &result, &output.complaint()))
    }

    fn hub_command(&self, words: &[&str]) -> Program {
        self.command(&self.dir.join("hub"), words).arg("--json")
    }

    fn command(&self, dir: &Path, words: &[&str]) -> Program {
        let mut arguments: Vec<OsString> = words.iter().map(OsString::from).collect();
        arguments.extend(["--dir".into(), dir.as_os_str().to_owned()]);
        Program::new(&self.program)
            .args(arguments)
            .env_remove("FANOUT_DIR")
            .env_remove("FANOUT_LOG")
            .timeout(TIME)
            .output_limit(OUTPUT_BYTES)
    }

    fn agent_dir(&self, name: &str) -> PathBuf {
        self.dir.join(name).join("agent")
    }

    fn prefix(&self, name: &str) -> PathBuf {
        self.dir.join(name).join("files")
    }
}

impl Agent {
    fn is_ready(&self) -> bool {
        let printed = String::from_utf8_lossy(&lock(&self.said).text).to_lowercase();
        printed.contains("ready") || self.life.complaint().to_lowercase().contains("ready")
    }
}

/// All of 127.0.0.0/8 is this machine. An address made of our process id is nobody else's, and so
/// is every port of it: the demo needs none that might be taken.
fn loopback_address(number: u16) -> SocketAddr {
    let [_, a, b, c] = std::process::id().to_be_bytes();
    SocketAddr::from((Ipv4Addr::new(127, 64 | (a & 0x3f), b, c), 4600 + number))
}

fn last_line(output: &[u8]) -> Value {
    let lines = output.split(|&byte| byte == b'\n');
    let last = lines.rev().find(|line| !line.trim_ascii().is_empty());
    serde_json::from_slice(last.unwrap_or_default()).unwrap_or_default()
}

/// What a command of the demo itself complained about, passed on.
fn failed(words: &[&str], result: &Value, complaint: &str) -> CommandError {
    let error = &result["error"];
    let code = error["code"].as_str().and_then(|code| code.parse().ok());
    let message = error["message"].as_str().unwrap_or(complaint);
    let command = words.iter().take(3).copied().collect::<Vec<_>>().join(" ");
    let failed = CommandError::new(
        code.unwrap_or(Code::Bug),
        format!("`fanout {command}` failed: {message}"),
    );
    match error["hint"].as_str() {
        Some(hint) => failed.hint(hint),
        None => failed,
    }
}

fn not_run(words: &[&str], error: &RunError) -> CommandError {
    failed(words, &Value::Null, &error_chain(error))
}

fn lock(said: &Mutex<Said>) -> std::sync::MutexGuard<'_, Said> {
    said.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_member_has_an_address_of_its_own_on_loopback() {
        let (one, two) = (loopback_address(1), loopback_address(2));
        assert!(one.ip().is_loopback() && two.ip().is_loopback());
        assert_ne!(one, two);
    }

    #[test]
    fn what_a_command_complained_about_is_passed_on() {
        let output = b"{\"type\":\"event\"}\n{\"type\":\"result\",\"error\":{\"code\":\"FX0209\",\
            \"message\":\"drupal is locked\",\"hint\":\"Unlock it\"}}\n\n";
        let error = failed(&["push", "platform", "drupal"], &last_line(output), "");
        assert_eq!(error.code(), Code::PlatformLocked);
        assert_eq!(
            error.to_string(),
            "`fanout push platform drupal` failed: drupal is locked [FX0209]"
        );
        let error = failed(&["init"], &Value::Null, "no space");
        assert_eq!(error.to_string(), "`fanout init` failed: no space [FX0901]");
    }
}
