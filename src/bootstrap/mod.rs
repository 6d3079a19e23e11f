//! First contact: installs fanout on a server over the system's ssh and exchanges keys.
//!
//! Two round trips over ssh, then the session: look (`probe`), install and start
//! (`setup`), join ([`join`]). What can't work is refused after the
//! first, before anything is written. Doing it again is harmless and repairs what was left half
//! done. The invitation that lets this hub in travels inside ssh, never as an argument.
//!
//! Nothing is accepted because of an address: the agent's key comes out of the ssh session, and
//! the session with the agent proves it, over QUIC or, where UDP is blocked, over ssh.

mod binary;
mod elf;
mod join;
mod probe;
mod setup;
mod ssh;
pub mod units;

pub use join::{Joined, connect_over_ssh, join};
pub use setup::Running;
pub use ssh::{SshCommand, SshTarget};

use crate::codes::{Code, Problem};
use crate::model::{AbsPath, Address, Offer, ServerName, Transport};
use crate::net::Identity;
use binary::Binary;
use probe::Facts;
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Where trees may lie unless somebody says otherwise.
const ALLOW: [&str; 2] = ["/srv", "/var/www"];

/// What is to be installed.
#[derive(Clone, Debug)]
pub struct Install {
    /// What the server is called.
    pub name: ServerName,
    /// Where the hub will reach the agent.
    pub address: Address,
    /// Where the agent listens; without it, at every address, on the port of `address`.
    pub listen: Option<SocketAddr>,
    /// Directories that trees may lie in; `/srv` and `/var/www`, or an ordinary user's home.
    pub allow: Vec<AbsPath>,
    /// Services that the agent offers, added to those that it offers already.
    pub offers: BTreeSet<Offer>,
    /// Everything that the agent manages lies below this.
    pub prefix: Option<AbsPath>,
    /// The agent's directory; without it, the system's, or one in an ordinary user's home.
    pub dir: Option<AbsPath>,
    /// How the hub is to reach the agent.
    pub transport: Transport,
}

/// What is going on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Logging in and looking around.
    Probing,
    /// The same executable is there already.
    ProgramKept,
    /// Sending this executable, and starting the agent.
    Copying {
        /// How large it is.
        bytes: u64,
    },
    /// Starting the agent.
    Starting,
    /// Exchanging keys.
    Joining,
}

/// A server with an agent that accepts this hub.
#[derive(Clone, Debug)]
pub struct Installed {
    /// The exchange of keys.
    pub joined: Joined,
    /// How the agent runs.
    pub running: Running,
    /// Where the executable is.
    pub binary: String,
    /// The agent's directory, where it isn't the system's.
    pub agent_dir: Option<String>,
    /// What a person should know, that of the exchange included.
    pub notices: Vec<Problem>,
}

impl Install {
    /// An agent of that name, with nothing but defaults beside it.
    pub fn new(name: ServerName, address: Address) -> Self {
        Self {
            name,
            address,
            listen: None,
            allow: Vec::new(),
            offers: BTreeSet::new(),
            prefix: None,
            dir: None,
            transport: Transport::Auto,
        }
    }

    fn agent_dir<'a>(&'a self, facts: &'a Facts) -> Option<&'a str> {
        let wanted = self.dir.as_ref().map(AbsPath::as_str);
        wanted.or(facts.agent_dir.as_deref())
    }

    fn allow(&self, facts: &Facts) -> Vec<AbsPath> {
        if !self.allow.is_empty() {
            return self.allow.clone();
        }
        let home = (!facts.is_root).then(|| home_of(&facts.binary)).flatten();
        let usual = match &home {
            Some(home) => vec![home.as_str()],
            None => ALLOW.to_vec(),
        };
        usual.iter().filter_map(|path| path.parse().ok()).collect()
    }

    /// What the agent offers, separated by commas.
    fn offered(&self) -> Option<String> {
        let words: Vec<&str> = self.offers.iter().map(|offer| offer.as_str()).collect();
        (!words.is_empty()).then(|| words.join(","))
    }

    /// What `fanout agent init` is told.
    fn init_words(&self, facts: &Facts) -> Vec<String> {
        let everywhere = if facts.has_ipv6 {
            IpAddr::V6(Ipv6Addr::UNSPECIFIED)
        } else {
            IpAddr::V4(Ipv4Addr::UNSPECIFIED)
        };
        let port = self.address.port();
        let listen = self.listen.unwrap_or(SocketAddr::new(everywhere, port));
        let mut words = vec!["--name".to_owned(), self.name.to_string()];
        words.extend(["--listen".to_owned(), listen.to_string()]);
        for path in self.allow(facts) {
            words.extend(["--allow".to_owned(), path.to_string()]);
        }
        if let Some(prefix) = &self.prefix {
            words.extend(["--prefix".to_owned(), prefix.to_string()]);
        }
        words
    }
}

/// The home that an ordinary user's executable lies in.
fn home_of(binary: &str) -> Option<String> {
    binary.strip_suffix("/.local/bin/fanout").map(str::to_owned)
}

/// Installs fanout on a server, starts the agent and becomes its hub.
///
/// # Errors
/// [`Code::SshFailed`] without a login, [`Code::ArchitectureMismatch`] and [`Code::GlibcTooOld`]
/// where this executable couldn't start, [`Code::InstallFailed`] with the step that failed, and
/// those of [`join()`].
pub async fn install(
    target: &SshTarget,
    hub: &Identity,
    install: &Install,
    say: &(dyn Fn(Step) + Sync),
) -> Result<Installed, Problem> {
    say(Step::Probing);
    let port = install
        .listen
        .map_or(install.address.port(), |at| at.port());
    let facts = probe::probe(target, install.dir.as_ref(), port).await?;
    let server = install.name.as_str();
    let binary = Binary::own()?;
    let is_there = facts.checksum.as_ref() == Some(&binary.checksum);
    if !is_there {
        binary.fits(server, &facts)?;
    }
    if facts.port_taken && !facts.has_agent {
        return Err(Problem::new(
            Code::ListenFailed,
            format!("Another program on {server} uses UDP port {port}"),
        )
        .with_hint("Choose another port in --address, or stop that program"));
    }
    say(if is_there {
        Step::ProgramKept
    } else {
        Step::Copying {
            bytes: binary.content.len() as u64,
        }
    });
    let sent = (!is_there).then_some(&binary);
    let prepared = setup::set_up(target, &facts, sent, install).await?;
    say(Step::Joining);
    let agent_dir = install.agent_dir(&facts);
    let joined = join(
        &prepared.token,
        hub,
        &install.address,
        install.transport,
        Some((target, agent_dir)),
    )
    .await?;
    let mut notices = joined.notices.clone();
    notices.extend(remarks(server, &facts, &prepared.running));
    Ok(Installed {
        notices,
        joined,
        running: prepared.running,
        agent_dir: agent_dir.map(str::to_owned),
        binary: facts.binary,
    })
}

/// What is not as good as it could be.
fn remarks(server: &str, facts: &Facts, running: &Running) -> Vec<Problem> {
    let mut remarks = Vec::new();
    if let Running::Detached { log } = running {
        let why = if facts.has_systemd {
            format!("{} may not install services", facts.user)
        } else {
            "there is no systemd".to_owned()
        };
        remarks.push(
            Problem::new(
                Code::InstallFailed,
                format!(
                    "The agent on {server} is not a service, because {why}: it runs until the \
                     server is restarted, and writes to {log}"
                ),
            )
            .with_hint(format!(
                "Let the server's own init start `{} agent run`, or run this command again after \
                 a restart",
                facts.binary
            )),
        );
    }
    if !facts.is_root {
        remarks.push(
            Problem::new(
                Code::CannotKeep,
                format!(
                    "The agent on {server} runs as {}: all files will belong to that user",
                    facts.user
                ),
            )
            .with_hint("Use --sudo to install it as root"),
        );
    }
    remarks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ordinary_user_may_use_the_home_only() {
        let install = Install::new("web1".parse().unwrap(), "web1".parse().unwrap());
        let facts = Facts {
            is_root: false,
            binary: "/home/ann/.local/bin/fanout".into(),
            agent_dir: Some("/home/ann/.local/share/fanout/agent".into()),
            ..Facts::example()
        };
        let allow = install.allow(&facts);
        assert_eq!(allow, ["/home/ann".parse().unwrap()]);
        assert_eq!(
            install.agent_dir(&facts),
            Some("/home/ann/.local/share/fanout/agent")
        );
        let allow = install.allow(&Facts::example());
        assert_eq!(allow.len(), 2);
    }

    #[test]
    fn an_agent_that_a_restart_would_end_is_said_to_be_one() {
        let log = "/var/lib/fanout/agent/agent.log".to_owned();
        let facts = Facts {
            has_systemd: false,
            ..Facts::example()
        };
        let remarks = remarks("web1", &facts, &Running::Detached { log });
        assert_eq!(remarks.len(), 1);
        assert!(remarks[0].message.contains("until the server is restarted"));
        assert!(super::remarks("web1", &Facts::example(), &Running::Service).is_empty());
    }
}
