//! Names of hosts, as this machine understands them.

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;
use std::time::Duration;

/// How long the system's resolver may take.
const LIMIT: Duration = Duration::from_secs(10);

/// The addresses of a host, sorted; IPv4 addresses in IPv6's clothes are shown as what they are.
///
/// # Errors
/// The name is unknown, or the resolver doesn't answer.
pub async fn lookup(host: &str) -> io::Result<BTreeSet<IpAddr>> {
    let found = tokio::time::timeout(LIMIT, tokio::net::lookup_host((host, 0))).await;
    let found = found.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
    Ok(found.map(|address| address.ip().to_canonical()).collect())
}
