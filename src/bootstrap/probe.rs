//! The first look at a server: everything that decides how fanout gets there, in one round trip.

use super::ssh::{Answer, SshTarget, quoted};
use crate::codes::{Code, Problem};
use crate::model::AbsPath;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// LIMIT: how long a login and a look around may take, a passphrase included.
const TIME: Duration = Duration::from_secs(120);

/// The oldest kernel with `openat2`, without which the agent refuses to start.
const OLDEST_KERNEL: (u32, u32) = (5, 6);

/// A version of the C library. Compares as versions do: 2.9 is older than 2.31.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct LibcVersion(u32, u32);

/// Which C library a server has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Libc {
    Glibc(LibcVersion),
    /// Another one, in its own words.
    Other(String),
    Unknown,
}

/// What a server is like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Facts {
    pub(super) system: String,
    pub(super) machine: String,
    pub(super) libc: Libc,
    pub(super) kernel: String,
    /// Whom we are there.
    pub(super) user: String,
    pub(super) is_root: bool,
    pub(super) has_systemd: bool,
    pub(super) has_ipv6: bool,
    /// Another program has the UDP port.
    pub(super) port_taken: bool,
    /// Where the executable goes.
    pub(super) binary: String,
    /// SHA-256 of what is there already.
    pub(super) checksum: Option<String>,
    /// What that calls itself.
    pub(super) version: Option<String>,
    /// The agent's directory, if it isn't the system's.
    pub(super) agent_dir: Option<String>,
    /// An agent was prepared here before.
    pub(super) has_agent: bool,
    /// The directories that we must write to and can't.
    pub(super) unwritable: Option<String>,
}

/// Finds out what a server is like. `agent_dir` is where the agent is to be, if that was said.
pub(super) async fn probe(
    target: &SshTarget,
    agent_dir: Option<&AbsPath>,
    port: u16,
) -> Result<Facts, Problem> {
    let script = script(agent_dir.map(AbsPath::as_str), port);
    let answer = target.script(&script, b"", TIME).await?;
    let facts = Facts::read(&answer)?;
    facts.allow_an_agent(target.destination.as_str())?;
    Ok(facts)
}

fn script(agent_dir: Option<&str>, port: u16) -> String {
    let agent_dir = quoted(agent_dir.unwrap_or_default());
    format!("dir={agent_dir}\nport={port:04X}\n{SCRIPT}")
}

/// Plain POSIX shell. `dir` is the agent's directory or empty, `port` the port in hexadecimal.
const SCRIPT: &str = r#"
set -u
say system "$(uname -s)"
say machine "$(uname -m)"
say kernel "$(uname -r)"
say uid "$(id -u)"
say user "$(id -un)"
libc=$(getconf GNU_LIBC_VERSION 2>/dev/null) || libc=$(ldd --version 2>&1 | head -n 1)
say libc "$libc"
[ -d /run/systemd/system ] && say systemd yes
[ -e /proc/net/if_inet6 ] && say ipv6 yes
if [ "$(id -u)" = 0 ]; then
    binary=/usr/local/bin/fanout
else
    binary=${HOME:-/}/.local/bin/fanout
    dir=${dir:-${HOME:-/}/.local/share/fanout/agent}
fi
say binary "$binary"
say agent_dir "$dir"
if [ -x "$binary" ]; then
    say version "$("$binary" --version 2>/dev/null </dev/null | head -n 1)"
    sum=$(sha256sum "$binary" 2>/dev/null)
    say checksum "${sum%% *}"
fi
[ -e "${dir:-/etc/fanout}/agent.toml" ] && say agent yes
for table in /proc/net/udp /proc/net/udp6; do
    [ -r "$table" ] && while read -r _ local _; do
        case $local in *:"$port") say port taken ;; esac
    done <"$table"
done
for wanted in "${binary%/*}" "${dir:-/var/lib/fanout/agent}"; do
    existing=$wanted
    while [ ! -d "$existing" ]; do
        existing=${existing%/*}
        existing=${existing:-/}
    done
    [ -w "$existing" ] || say unwritable "$existing"
done
:"#;

impl Facts {
    fn read(answer: &Answer) -> Result<Self, Problem> {
        let text = |name: &str| {
            answer
                .value(name)
                .map(str::to_owned)
                .filter(|v| !v.is_empty())
        };
        let needed = |name: &str| {
            text(name).ok_or_else(|| {
                Problem::new(
                    Code::InstallFailed,
                    format!("The server did not say its {name}"),
                )
                .with_hint("fanout needs an ordinary Linux with sh, uname, id and dd")
            })
        };
        Ok(Self {
            system: needed("system")?,
            machine: needed("machine")?,
            libc: Libc::read(answer.value("libc").unwrap_or_default()),
            kernel: needed("kernel")?,
            user: needed("user")?,
            is_root: needed("uid")? == "0",
            has_systemd: answer.value("systemd").is_some(),
            has_ipv6: answer.value("ipv6").is_some(),
            port_taken: answer.value("port").is_some(),
            binary: needed("binary")?,
            checksum: text("checksum"),
            version: text("version"),
            agent_dir: text("agent_dir"),
            has_agent: answer.value("agent").is_some(),
            unwritable: text("unwritable"),
        })
    }

    /// What no binary could change.
    fn allow_an_agent(&self, server: &str) -> Result<(), Problem> {
        if let Some(kernel) = two_numbers(&self.kernel)
            && kernel < OLDEST_KERNEL
        {
            return Err(Problem::new(
                Code::Openat2Missing,
                format!(
                    "{server} runs Linux {}, fanout needs 5.6 or newer",
                    self.kernel
                ),
            ));
        }
        if let Some(directory) = &self.unwritable {
            return Err(Problem::new(
                Code::InstallFailed,
                format!("{} can't write to {directory} on {server}", self.user),
            )
            .with_hint(if self.is_root {
                "Mount it writable, or install fanout there by hand and add the server by token"
            } else {
                "Use --sudo, or log in as a user who may write there"
            }));
        }
        Ok(())
    }

    #[cfg(test)]
    pub(super) fn example() -> Self {
        Self {
            system: "Linux".into(),
            machine: "x86_64".into(),
            libc: Libc::Unknown,
            kernel: "6.1.0-18-amd64".into(),
            user: "root".into(),
            is_root: true,
            has_systemd: true,
            has_ipv6: true,
            port_taken: false,
            binary: "/usr/local/bin/fanout".into(),
            checksum: None,
            version: None,
            agent_dir: None,
            has_agent: false,
            unwritable: None,
        }
    }
}

impl Libc {
    /// Reads what `getconf GNU_LIBC_VERSION` or the first line of `ldd --version` says:
    /// `glibc 2.36`, `ldd (Debian GLIBC 2.36-9) 2.36`, `musl libc (x86_64)`.
    fn read(said: &str) -> Self {
        if said.contains("musl") {
            return Self::Other("musl libc".into());
        }
        let is_glibc = ["glibc", "GLIBC", "GNU libc", "ldd ("]
            .iter()
            .any(|word| said.contains(word));
        let version = said.split_whitespace().last().map(str::parse);
        match version {
            Some(Ok(version)) if is_glibc => Self::Glibc(version),
            _ => Self::Unknown,
        }
    }
}

impl FromStr for LibcVersion {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        two_numbers(text)
            .map(|(major, minor)| Self(major, minor))
            .ok_or(())
    }
}

impl fmt::Display for LibcVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.0, self.1)
    }
}

/// The first two numbers of a version, whatever follows: `6.1.0-18-amd64` is 6 and 1.
fn two_numbers(version: &str) -> Option<(u32, u32)> {
    let (major, rest) = version.split_once('.')?;
    let end = rest.find(|character: char| !character.is_ascii_digit());
    let minor = &rest[..end.unwrap_or(rest.len())];
    Some((major.parse().ok()?, minor.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_c_library_is_known_by_any_of_its_words() {
        let glibc = |text: &str| Libc::Glibc(text.parse().unwrap());
        for (said, libc) in [
            ("glibc 2.36", glibc("2.36")),
            ("ldd (Debian GLIBC 2.36-9+deb12u9) 2.36", glibc("2.36")),
            ("ldd (GNU libc) 2.17", glibc("2.17")),
            ("musl libc (x86_64)", Libc::Other("musl libc".into())),
            ("sh: ldd: not found", Libc::Unknown),
            ("", Libc::Unknown),
        ] {
            assert_eq!(Libc::read(said), libc, "{said}");
        }
    }

    #[test]
    fn versions_compare_as_numbers() {
        let version = |text: &str| text.parse::<LibcVersion>().unwrap();
        assert!(version("2.9") < version("2.31"));
        assert!(version("2.2.5") < version("2.3"));
        assert_eq!(version("2.36").to_string(), "2.36");
        assert!("PRIVATE".parse::<LibcVersion>().is_err());
    }

    #[test]
    fn a_kernel_without_openat2_is_refused_before_anything_is_copied() {
        let facts = |kernel: &str| Facts {
            kernel: kernel.into(),
            ..Facts::example()
        };
        for kernel in ["6.18.44", "5.6.0", "5.10.0-28-amd64", "unknown"] {
            assert_eq!(facts(kernel).allow_an_agent("web1"), Ok(()), "{kernel}");
        }
        let problem = facts("4.19.0-26-amd64").allow_an_agent("web1").unwrap_err();
        assert_eq!(problem.code, Code::Openat2Missing);
    }

    #[test]
    fn what_cannot_be_written_is_named() {
        let facts = Facts {
            unwritable: Some("/usr/local/bin".into()),
            ..Facts::example()
        };
        assert_eq!(
            facts.allow_an_agent("web1").unwrap_err().to_string(),
            "root can't write to /usr/local/bin on web1 [FX0323]"
        );
    }
}
