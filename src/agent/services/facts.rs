//! What is installed on this server and how it can be reached, from the server itself.

use super::config::Sets;
use crate::config::AgentConfig;
use crate::fs::space::space;
use crate::fs::{Dir, system};
use crate::model::AbsPath;
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use sync_proto::wire::service::{DiskFacts, ServiceFacts};

/// The facts of this moment.
pub(super) async fn facts(config: &AgentConfig, sets: &Sets) -> ServiceFacts {
    let place = sets.place();
    let prefix = config.prefix.as_ref().map_or("", |it| it.as_str());
    let mut facts = ServiceFacts {
        offers: config.offers.iter().map(ToString::to_string).collect(),
        distribution: distribution(),
        prefix: prefix.as_bytes().to_vec(),
        config_root: place.current().as_os_str().as_bytes().to_vec(),
        data_root: place.data().as_os_str().as_bytes().to_vec(),
        addresses: addresses(),
        live: sets.confirmed(),
        ..ServiceFacts::default()
    };
    facts.disks = disks(config, place.root());
    sets.programs().facts(&mut facts).await;
    facts.warnings = warnings(&facts, place.root());
    facts
}

/// The file systems that matter here, each once.
fn disks(config: &AgentConfig, services: &Path) -> Vec<DiskFacts> {
    let below = config.prefix.as_ref().map(AbsPath::as_path);
    let allowed = config.allow.iter().map(|root| match below {
        Some(prefix) => prefix.join(root.as_path().strip_prefix("/").unwrap_or(root.as_path())),
        None => root.as_path().to_owned(),
    });
    let mut disks: Vec<DiskFacts> = Vec::new();
    let mut seen = BTreeSet::new();
    for path in std::iter::once(services.to_owned()).chain(allowed) {
        // What isn't there yet will be made on the file system of what is.
        let Some(dir) = path.ancestors().find_map(|it| Dir::open_absolute(it).ok()) else {
            continue;
        };
        let (Ok(stat), Ok(space)) = (dir.stat_self(), space(&dir)) else {
            continue;
        };
        if seen.insert(stat.dev) {
            disks.push(DiskFacts {
                path: path.display().to_string(),
                free_bytes: space.free_bytes,
                total_bytes: space.total_bytes,
                free_inodes: space.free_inodes.unwrap_or_default(),
                total_inodes: space.total_inodes,
            });
        }
    }
    disks
}

/// The addresses of this machine's interfaces that others can reach, as text.
fn addresses() -> Vec<String> {
    let read = |path: &str| system::read_text(Path::new(path)).unwrap_or_default();
    let mut addresses: Vec<IpAddr> = v4(&read("/proc/net/fib_trie"));
    addresses.extend(v6(&read("/proc/net/if_inet6")));
    addresses.sort();
    addresses.dedup();
    addresses.iter().map(ToString::to_string).collect()
}

/// Local addresses in the kernel's routing trie: the leaf, then a line that says what it is.
fn v4(trie: &str) -> Vec<IpAddr> {
    let (mut found, mut leaf) = (Vec::new(), None);
    for line in trie.lines().map(str::trim) {
        if let Some(address) = line.strip_prefix("|-- ") {
            leaf = address.parse::<Ipv4Addr>().ok();
        } else if line.contains("host LOCAL")
            && let Some(address) = leaf
            && !address.is_loopback()
        {
            found.push(address.into());
        }
    }
    found
}

/// Global addresses: 32 digits, the index, the prefix, the scope (00 is global).
fn v6(list: &str) -> Vec<IpAddr> {
    let lines = list.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        let digits = words.next()?;
        let is_global = words.nth(2)? == "00";
        let number = u128::from_str_radix(digits, 16).ok()?;
        is_global.then_some(Ipv6Addr::from_bits(number).into())
    });
    lines.collect()
}

/// `debian 12`.
fn distribution() -> String {
    let text = system::read_text(Path::new("/etc/os-release")).unwrap_or_default();
    let value = |key: &str| {
        let mut lines = text.lines();
        let line = lines.find_map(|it| it.strip_prefix(key)?.strip_prefix('='));
        line.unwrap_or_default().trim_matches('"').to_owned()
    };
    format!("{} {}", value("ID"), value("VERSION_ID"))
        .trim()
        .to_owned()
}

fn warnings(facts: &ServiceFacts, root: &Path) -> Vec<String> {
    let mut warnings = Vec::new();
    for php in &facts.php {
        if php.control_timeout_s == 0 {
            warnings.push(format!(
                "PHP-FPM {} drops requests at a reload: set `process_control_timeout = 10s` in the \
                 [global] section of {} (`fanout setup server` does)",
                php.version, php.config
            ));
        }
    }
    let mut closed = root
        .ancestors()
        .filter(|it| system::mode_and_group(it).is_some_and(|(mode, _)| mode & 0o001 == 0));
    if let Some(closed) = closed.next() {
        warnings.push(format!(
            "Workers of the web server can't reach {}: run `chmod o+x {}` or give the agent another \
             directory",
            root.display(),
            closed.display()
        ));
    }
    warnings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_from_what_the_kernel_says() {
        let trie = "Local:\n  +-- 0.0.0.0/0 3 0 5\n     |-- 10.77.0.3\n        /32 host LOCAL\n\
                    |-- 127.0.0.1\n /32 host LOCAL\n |-- 10.77.0.255\n /32 link BROADCAST\n";
        assert_eq!(v4(trie), ["10.77.0.3".parse::<IpAddr>().unwrap()]);
        let list = "fd770000000000000000000000000003 02 40 00 80     eth0\n\
                    fe80000000000000000000000000000a 02 40 20 80     eth0\n\
                    00000000000000000000000000000001 01 80 10 80       lo\n";
        assert_eq!(v6(list), ["fd77::3".parse::<IpAddr>().unwrap()]);
    }
}
