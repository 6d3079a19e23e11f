//! Knocking at a MySQL or MariaDB server without an account, to learn as whom it sees this
//! machine.
//!
//! A server that doesn't know a client's address says which address that is (1130), and so does
//! one that turns an unknown user away (1045, 1698). Everything else is a failure, a login that
//! works included: then an anonymous account is open, and whatever is there can't be trusted to be
//! told apart from it. Nothing here ever yields "anywhere".
//!
//! The packets are those of the client/server protocol, version 10:
//! <https://mariadb.com/kb/en/connection/>.

use super::lookup;
use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;
use thiserror::Error;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// How long the whole exchange may take.
const LIMIT: Duration = Duration::from_secs(10);
/// LIMIT: no packet before the login is longer.
const PACKET_MAX: usize = 4096;
/// LIMIT: a server may ask so often for another way to log in.
const SWITCHES_MAX: usize = 4;
/// LIMIT: so many addresses of a name are tried.
const ADDRESSES_MAX: usize = 8;
/// Nobody is called so.
const NOBODY: &str = "fanout_knocks_7f3a9c";

/// `CLIENT_LONG_PASSWORD | CLIENT_PROTOCOL_41 | CLIENT_SECURE_CONNECTION | CLIENT_PLUGIN_AUTH`.
const CAPABILITIES: u32 = 0x0000_0001 | 0x0000_0200 | 0x0000_8000 | 0x0008_0000;
/// utf8mb4_general_ci.
const CHARSET: u8 = 45;

/// Why a server didn't say how it sees us.
#[derive(Debug, Error)]
pub enum KnockError {
    /// The name is unknown here.
    #[error("Can't resolve the database's name {host}")]
    Resolve {
        /// The name.
        host: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It can't be reached.
    #[error("The database at {at} can't be reached")]
    Io {
        /// Where.
        at: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It says nothing.
    #[error("The database at {at} said nothing within {} s", LIMIT.as_secs())]
    Silent {
        /// Where.
        at: String,
    },
    /// Whatever listens there isn't one.
    #[error("What listens at {at} is no MySQL or MariaDB server")]
    NotADatabase {
        /// Where.
        at: String,
    },
    /// It let nobody in.
    #[error("The database at {at} lets anybody in without a password")]
    LetsAnybodyIn {
        /// Where.
        at: String,
    },
    /// It turned us away for another reason.
    #[error("The database at {at} doesn't say who we are: {number} {message}")]
    Other {
        /// Where.
        at: String,
        /// The server's error number.
        number: u16,
        /// Its message.
        message: String,
    },
    /// It names us by a name that isn't ours here.
    #[error(
        "The database at {at} calls this machine {name}, which doesn't lead to {local} from here"
    )]
    Named {
        /// Where.
        at: String,
        /// What it calls us.
        name: String,
        /// The address that we came from.
        local: IpAddr,
    },
}

/// How a server sees this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// This machine's address, as the server sees it.
    pub address: IpAddr,
    /// What the server's name means here.
    pub resolved: BTreeSet<IpAddr>,
    /// The address that was connected to.
    pub server: IpAddr,
    /// The number of the refusal.
    pub number: u16,
}

/// Knocks at a server.
///
/// # Errors
/// Anything but a refusal that names an address.
pub async fn knock(host: &str, port: u16) -> Result<Seen, KnockError> {
    let resolved = lookup(host).await.map_err(|source| KnockError::Resolve {
        host: host.to_owned(),
        source,
    })?;
    let mut last = None;
    for server in resolved.iter().take(ADDRESSES_MAX) {
        let at = SocketAddr::new(*server, port);
        let stream = match timeout(LIMIT, TcpStream::connect(at)).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(source)) => {
                last = Some(KnockError::Io {
                    at: at.to_string(),
                    source,
                });
                continue;
            }
            Err(_) => {
                last = Some(KnockError::Silent { at: at.to_string() });
                continue;
            }
        };
        let (address, number) = match timeout(LIMIT, greet(stream, at)).await {
            Ok(answer) => answer?,
            Err(_) => return Err(KnockError::Silent { at: at.to_string() }),
        };
        return Ok(Seen {
            address,
            server: *server,
            number,
            resolved,
        });
    }
    Err(last.unwrap_or_else(|| KnockError::Resolve {
        host: host.to_owned(),
        source: io::ErrorKind::NotFound.into(),
    }))
}

async fn greet(mut stream: TcpStream, at: SocketAddr) -> Result<(IpAddr, u16), KnockError> {
    let failed = |source: io::Error| match source.kind() {
        io::ErrorKind::InvalidData => KnockError::NotADatabase { at: at.to_string() },
        _ => KnockError::Io {
            at: at.to_string(),
            source,
        },
    };
    let local = stream.local_addr().map_err(failed)?.ip().to_canonical();
    let (mut sequence, packet) = read(&mut stream).await.map_err(failed)?;
    if let Some(refusal) = Refusal::parse(&packet) {
        return refusal.seen(at, local).await;
    }
    if packet.first() != Some(&10) {
        return Err(KnockError::NotADatabase { at: at.to_string() });
    }
    let plugin = plugin(&packet).unwrap_or_else(|| b"mysql_native_password".to_vec());
    sequence = sequence.wrapping_add(1);
    write(&mut stream, sequence, &response(&plugin))
        .await
        .map_err(failed)?;
    for _ in 0..SWITCHES_MAX {
        let (sequence, packet) = read(&mut stream).await.map_err(failed)?;
        if let Some(refusal) = Refusal::parse(&packet) {
            return refusal.seen(at, local).await;
        }
        match packet.first() {
            Some(0x00) => return Err(KnockError::LetsAnybodyIn { at: at.to_string() }),
            // Another way to log in, or more about this one: still no password.
            Some(0xfe | 0x01) => {
                let sequence = sequence.wrapping_add(1);
                write(&mut stream, sequence, &[]).await.map_err(failed)?;
            }
            _ => break,
        }
    }
    Err(KnockError::NotADatabase { at: at.to_string() })
}

async fn read(stream: &mut TcpStream) -> io::Result<(u8, Vec<u8>)> {
    let mut header = [0; 4];
    stream.read_exact(&mut header).await?;
    let [low, middle, high, sequence] = header;
    let length = usize::from(low) | usize::from(middle) << 8 | usize::from(high) << 16;
    if length == 0 || length > PACKET_MAX {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut packet = vec![0; length];
    stream.read_exact(&mut packet).await?;
    Ok((sequence, packet))
}

async fn write(stream: &mut TcpStream, sequence: u8, packet: &[u8]) -> io::Result<()> {
    // Ours are shorter than 256 bytes.
    let length = u8::try_from(packet.len()).map_err(|_| io::ErrorKind::InvalidData)?;
    let mut bytes = vec![length, 0, 0, sequence];
    bytes.extend_from_slice(packet);
    stream.write_all(&bytes).await
}

/// The way to log in that the server prefers: the last string of its greeting.
fn plugin(greeting: &[u8]) -> Option<Vec<u8>> {
    let text = greeting.strip_suffix(&[0])?;
    let start = text.iter().rposition(|byte| *byte == 0)? + 1;
    let name = &text[start..];
    let is_name = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
    let fits = (1..=64).contains(&name.len()) && name.iter().all(is_name);
    fits.then(|| name.to_vec())
}

fn response(plugin: &[u8]) -> Vec<u8> {
    let mut packet = CAPABILITIES.to_le_bytes().to_vec();
    packet.extend_from_slice(&(1u32 << 24).to_le_bytes());
    packet.push(CHARSET);
    packet.extend_from_slice(&[0; 23]);
    packet.extend_from_slice(NOBODY.as_bytes());
    // The end of the name, and a password of no bytes.
    packet.extend_from_slice(&[0, 0]);
    packet.extend_from_slice(plugin);
    packet.push(0);
    packet
}

/// An error packet.
struct Refusal {
    number: u16,
    message: String,
}

impl Refusal {
    fn parse(packet: &[u8]) -> Option<Self> {
        let [0xff, low, high, rest @ ..] = packet else {
            return None;
        };
        // The SQL state, where the server knows that we could read it.
        let text = match rest {
            [b'#', _, _, _, _, _, text @ ..] => text,
            text => text,
        };
        let message = sync_proto::path::escape(text);
        Some(Self {
            number: u16::from_le_bytes([*low, *high]),
            message: message.chars().take(500).collect(),
        })
    }

    /// Who we are, according to this refusal.
    async fn seen(self, at: SocketAddr, local: IpAddr) -> Result<(IpAddr, u16), KnockError> {
        let Some(host) = self.host() else {
            return Err(KnockError::Other {
                at: at.to_string(),
                number: self.number,
                message: self.message,
            });
        };
        if let Ok(address) = host.parse::<IpAddr>() {
            return Ok((address.to_canonical(), self.number));
        }
        // It looked our name up, and compares addresses, too. It only tells names that lead back
        // to the address; if that is the one we came from, nothing in between has changed it.
        let leads_here = match lookup(&host).await {
            Ok(addresses) => addresses.contains(&local),
            Err(_) => false,
        };
        match leads_here {
            true => Ok((local, self.number)),
            false => Err(KnockError::Named {
                at: at.to_string(),
                name: host,
                local,
            }),
        }
    }

    /// `Host 'H' is not allowed ...` and `Access denied for user 'U'@'H' ...`, whatever words the
    /// server's language has around the quotes.
    fn host(&self) -> Option<String> {
        let start = match self.number {
            1130 => self.message.find('\'')? + 1,
            1045 | 1698 => self.message.find("'@'")? + 3,
            _ => return None,
        };
        let rest = self.message.get(start..)?;
        let host = rest.split('\'').next()?;
        let is_host = |c: char| c.is_ascii_alphanumeric() || "._-:%".contains(c);
        let fits = !host.is_empty() && host != "%" && host.chars().all(is_host);
        fits.then(|| host.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    fn error(number: u16, text: &str) -> Vec<u8> {
        let mut packet = vec![0xff];
        packet.extend_from_slice(&number.to_le_bytes());
        packet.extend_from_slice(text.as_bytes());
        packet
    }

    fn framed(sequence: u8, packet: &[u8]) -> Vec<u8> {
        let length = u8::try_from(packet.len()).unwrap();
        [&[length, 0, 0, sequence], packet].concat()
    }

    /// A server that says these packets, each but the first after it heard something.
    async fn knock_at(packets: Vec<Vec<u8>>) -> Result<Seen, KnockError> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let served = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            for (nth, packet) in packets.iter().enumerate() {
                if nth > 0 {
                    let _heard = read(&mut stream).await;
                }
                let sequence = u8::try_from(nth * 2).unwrap();
                stream.write_all(&framed(sequence, packet)).await.unwrap();
            }
            // Until the other side has left.
            let _end = stream.read(&mut [0; 64]).await;
        });
        let seen = knock("127.0.0.1", port).await;
        served.await.unwrap();
        seen
    }

    fn greeting() -> Vec<u8> {
        let mut packet = vec![10];
        packet.extend_from_slice(b"10.11.6-MariaDB\0");
        packet.extend_from_slice(&[1, 0, 0, 0]);
        packet.extend_from_slice(b"12345678\0\xff\xf7\x2d\x02\0\xff\x81\x15");
        packet.extend_from_slice(&[0; 10]);
        packet.extend_from_slice(b"123456789012\0mysql_native_password\0");
        packet
    }

    #[tokio::test]
    async fn a_refusal_tells_the_address() {
        let text = "Host '10.77.0.40' is not allowed to connect to this MariaDB server";
        let seen = knock_at(vec![error(1130, text)]).await.unwrap();
        assert_eq!(seen.address.to_string(), "10.77.0.40");
        let text = "#28000Access denied for user 'x'@'fd77::3' (using password: NO)";
        let seen = knock_at(vec![greeting(), error(1045, text)]).await.unwrap();
        assert_eq!(
            (seen.address.to_string().as_str(), seen.number),
            ("fd77::3", 1045)
        );
        let switch = b"\xfemysql_native_password\0aaaaaaaaaaaaaaaaaaaa\0".to_vec();
        let seen = knock_at(vec![greeting(), switch, error(1698, text)])
            .await
            .unwrap();
        assert_eq!(seen.number, 1698);
    }

    #[tokio::test]
    async fn a_name_counts_only_if_it_leads_to_the_address_that_we_came_from() {
        let denied = |host: &str| format!("#28000Access denied for user 'x'@'{host}' (using no)");
        let seen = knock_at(vec![greeting(), error(1045, &denied("localhost"))])
            .await
            .unwrap();
        assert_eq!(seen.address.to_string(), "127.0.0.1");
        let other = knock_at(vec![greeting(), error(1045, &denied("other.invalid"))]).await;
        assert!(matches!(other, Err(KnockError::Named { .. })), "{other:?}");
    }

    #[tokio::test]
    async fn anything_else_is_a_failure_and_never_anywhere() {
        let anybody = knock_at(vec![greeting(), vec![0, 0, 0, 2, 0, 0, 0]]).await;
        assert!(
            matches!(anybody, Err(KnockError::LetsAnybodyIn { .. })),
            "{anybody:?}"
        );
        for (number, text) in [
            (1040, "Too many connections"),
            (
                1129,
                "Host '10.77.0.40' is blocked because of many connection errors",
            ),
            (4151, "#HY000Access denied, this account is locked"),
            (1130, "Host '%' is not allowed"),
            (1130, "Host is not allowed"),
            (3159, "Connections using insecure transport are prohibited"),
        ] {
            let failed = knock_at(vec![error(number, text)]).await;
            assert!(
                matches!(failed, Err(KnockError::Other { .. })),
                "{failed:?}"
            );
        }
        for junk in [&b"SSH-2.0-OpenSSH_9.2"[..], b"HTTP/1.1 400 Bad Request"] {
            let failed = knock_at(vec![junk.to_vec()]).await;
            assert!(
                matches!(failed, Err(KnockError::NotADatabase { .. })),
                "{failed:?}"
            );
        }
    }
}
