//! Where a server is: an address for the hub, a destination for the system's ssh.

use super::serde_as_text;
use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;
use sync_proto::path::escape;
use thiserror::Error;

/// The port that agents listen on unless told otherwise.
pub const DEFAULT_PORT: u16 = 4600;

/// The longest host name that DNS allows, in bytes.
const MAX_HOST_BYTES: usize = 253;

/// Why some text is not an address.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum AddressError {
    /// Neither a host name nor an IP address.
    #[error(
        "`{0}` is not an address: use `HOST`, `HOST:PORT`, `1.2.3.4:PORT` or `[2001:db8::1]:PORT`"
    )]
    Address(String),
    /// Not a port.
    #[error("`{0}` is not a port: use a number from 1 to 65535")]
    Port(String),
    /// Not something that ssh takes.
    #[error(
        "`{0}` is not an ssh destination: use `HOST`, `USER@HOST` or a host of your ssh configuration"
    )]
    Ssh(String),
    /// A password where a user name was expected. The text isn't shown.
    #[error("An ssh destination never holds a password")]
    SshPassword,
}

/// How the hub reaches an agent: a host name or an IP address, and a port.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Address {
    host: Box<str>,
    port: u16,
}

impl Address {
    /// A host name or an IP address, without brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The UDP port of the agent.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The IP address, if the host is one.
    pub fn ip(&self) -> Option<IpAddr> {
        self.host.parse().ok()
    }
}

impl FromStr for Address {
    type Err = AddressError;
    fn from_str(text: &str) -> Result<Self, AddressError> {
        let error = || AddressError::Address(escape(text.as_bytes()));
        if text.parse::<Ipv6Addr>().is_ok() {
            return Ok(Self {
                host: text.into(),
                port: DEFAULT_PORT,
            });
        }
        if let Some(rest) = text.strip_prefix('[') {
            let (host, after) = rest.split_once(']').ok_or_else(error)?;
            host.parse::<Ipv6Addr>().map_err(|_| error())?;
            let port = match after.strip_prefix(':') {
                Some(port) => parse_port(port)?,
                None if after.is_empty() => DEFAULT_PORT,
                None => return Err(error()),
            };
            return Ok(Self {
                host: host.into(),
                port,
            });
        }
        let (host, port) = match text.split_once(':') {
            Some((_, port)) if port.contains(':') => return Err(error()),
            Some((host, port)) => (host, parse_port(port)?),
            None => (text, DEFAULT_PORT),
        };
        if !is_host(host) {
            return Err(error());
        }
        Ok(Self {
            host: host.into(),
            port,
        })
    }
}

fn parse_port(text: &str) -> Result<u16, AddressError> {
    match text.parse() {
        Ok(port @ 1..) if text.bytes().all(|b| b.is_ascii_digit()) => Ok(port),
        _ => Err(AddressError::Port(escape(text.as_bytes()))),
    }
}

/// Letters, digits, `-` and `_` in dot-separated parts. What looks like an IPv4 address must be
/// one: `10.0.0.300` is a typing mistake, not a name.
fn is_host(text: &str) -> bool {
    let part_ok = |part: &str| {
        (1..=63).contains(&part.len())
            && !part.starts_with('-')
            && part
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
    };
    let numeric = text.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    text.len() <= MAX_HOST_BYTES
        && text.split('.').all(part_ok)
        && (!numeric || text.parse::<IpAddr>().is_ok())
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.ip() {
            Some(IpAddr::V6(ip)) => write!(f, "[{ip}]:{}", self.port),
            _ => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

serde_as_text!(Address, "minLength": 1);

/// What the system's ssh is given as its destination: `admin@web1.example.com`, a host of the
/// user's ssh configuration, or `ssh://admin@web1:2222`. Never an option and never a password.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SshDestination(Box<str>);

impl SshDestination {
    /// The text for ssh's command line.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for SshDestination {
    type Err = AddressError;
    fn from_str(text: &str) -> Result<Self, AddressError> {
        let rest = text.strip_prefix("ssh://").unwrap_or(text);
        if let Some((user, _)) = rest.rsplit_once('@')
            && user.contains(':')
        {
            return Err(AddressError::SshPassword);
        }
        let allowed = |b: u8| b.is_ascii_alphanumeric() || b"-_.@:[]%+\\".contains(&b);
        let fits = (1..=MAX_HOST_BYTES + 256).contains(&rest.len());
        if !fits
            || rest.starts_with(['-', '@'])
            || rest.ends_with('@')
            || !rest.bytes().all(allowed)
        {
            return Err(AddressError::Ssh(escape(text.as_bytes())));
        }
        Ok(Self(text.into()))
    }
}

impl fmt::Display for SshDestination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

serde_as_text!(SshDestination, "minLength": 1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_have_a_default_port_and_brackets_for_ipv6() {
        for (text, shown) in [
            ("web1.example.com", "web1.example.com:4600"),
            ("web1:4601", "web1:4601"),
            ("127.0.0.1:4601", "127.0.0.1:4601"),
            ("[::1]:4601", "[::1]:4601"),
            ("[2001:db8::1]", "[2001:db8::1]:4600"),
            ("::1", "[::1]:4600"),
        ] {
            let address: Address = text.parse().unwrap();
            assert_eq!(address.to_string(), shown);
            assert_eq!(shown.parse::<Address>().unwrap(), address);
        }
        assert_eq!("[::1]:4601".parse::<Address>().unwrap().host(), "::1");
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for bad in [
            "",
            ":4600",
            "web1:",
            "web1:0",
            "web1:65536",
            "web1:+1",
            "10.0.0.300",
            "[::1",
            "[::1]x",
            "[web1]:1",
            "::1:4601:x",
            "a b",
            "a/b",
            "-web",
            "a..b",
            "1:2:3",
        ] {
            assert!(bad.parse::<Address>().is_err(), "{bad}");
        }
    }

    #[test]
    fn an_ssh_destination_is_never_an_option_and_never_a_password() {
        for good in [
            "web1",
            "admin@web1",
            "ssh://admin@web1:2222",
            "a@[::1]",
            "EX\\joe@web1",
        ] {
            assert!(good.parse::<SshDestination>().is_ok(), "{good}");
        }
        for bad in [
            "",
            "-oProxyCommand=x",
            "ssh://-x",
            "a b",
            "@web1",
            "a@",
            "a;b",
            "$(x)@b",
        ] {
            assert!(bad.parse::<SshDestination>().is_err(), "{bad}");
        }
        let error = "admin:hunter2@web1".parse::<SshDestination>().unwrap_err();
        assert!(!error.to_string().contains("hunter2"));
    }
}
