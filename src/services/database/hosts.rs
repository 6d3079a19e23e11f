//! From where accounts are made: what the inventory declares, or what the database itself saw.
//!
//! Refuses: a member whose address is not known, one that comes from elsewhere than declared, a
//! loopback address that is another machine's, and a name that leads to different addresses on
//! different members. None of these ever widens a grant.

use super::Dialect;
use crate::config::Db;
use crate::model::{IpNet, ServerName};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use sync_proto::wire::service::database::HostPattern;
use thiserror::Error;

/// Where a member's connections come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberAddresses {
    /// The member.
    pub member: ServerName,
    /// What the inventory declares: `addresses`.
    pub declared: Vec<IpAddr>,
    /// It runs on the database's own machine.
    pub is_database_server: bool,
    /// What the probe found; none if the member can't be asked now.
    pub seen: Option<SeenFrom>,
    /// Hosts of accounts that are on record for it: kept while it can't be asked.
    pub recorded: BTreeSet<HostPattern>,
}

/// What a probe found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeenFrom {
    /// The member's address as the database sees it.
    pub address: IpAddr,
    /// What the database's name means on the member.
    pub resolved: Vec<IpAddr>,
}

/// Why no account can be made for a member.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum HostFault {
    /// It wasn't asked, and nothing is declared.
    #[error("{member}: how the database sees it isn't known")]
    Unknown {
        /// Which.
        member: ServerName,
    },
    /// It comes from elsewhere.
    #[error("{member} reaches the database from {seen}, but its `addresses` are {declared}")]
    Undeclared {
        /// Which.
        member: ServerName,
        /// From where.
        seen: IpAddr,
        /// The inventory's word.
        declared: String,
    },
    /// The name leads to the member itself.
    #[error("{member}: the database's name leads to {address} there, which is {member} itself")]
    Loopback {
        /// Which.
        member: ServerName,
        /// Where to.
        address: IpAddr,
    },
    /// The name leads elsewhere.
    #[error("The database's name leads to {here} on {member}, and to {there} on {other}")]
    Ambiguous {
        /// Which.
        member: ServerName,
        /// Where to.
        here: String,
        /// Another one.
        other: ServerName,
        /// Where to.
        there: String,
    },
    /// A network that the server can't compare.
    #[error("{dialect} can't compare the network {network}")]
    Network {
        /// Which server.
        dialect: Dialect,
        /// Which network.
        network: IpNet,
    },
}

impl HostFault {
    /// What to do about it.
    pub const fn hint(&self) -> &'static str {
        match self {
            Self::Unknown { .. } => "reach the member, or declare its `addresses` in fanout.toml",
            Self::Undeclared { .. } => "correct `addresses` in fanout.toml, or take them out",
            Self::Loopback { .. } => {
                "give the database an address that all members can use: db = { host = \"...\" }"
            }
            Self::Ambiguous { .. } => {
                "use an address instead of a name, or make the name mean the same everywhere"
            }
            Self::Network { .. } => "networks are IPv4 only: list the members' `addresses` instead",
        }
    }

    /// The member that it is about.
    pub const fn member(&self) -> Option<&ServerName> {
        match self {
            Self::Unknown { member }
            | Self::Undeclared { member, .. }
            | Self::Loopback { member, .. }
            | Self::Ambiguous { member, .. } => Some(member),
            Self::Network { .. } => None,
        }
    }
}

/// The hosts that accounts are for, each with the members that come from there; and what speaks
/// against the others. Hosts on record of a member with a fault are kept.
pub fn hosts(
    db: &Db,
    dialect: Dialect,
    members: &[MemberAddresses],
) -> (BTreeMap<HostPattern, BTreeSet<ServerName>>, Vec<HostFault>) {
    let mut found: BTreeMap<HostPattern, BTreeSet<ServerName>> = BTreeMap::new();
    let mut faults = ambiguities(members);
    for member in members {
        let addresses = if faults.iter().any(|it| it.member() == Some(&member.member)) {
            None
        } else {
            match addresses(member, members.len() == 1) {
                Ok(addresses) => Some(addresses),
                Err(fault) => {
                    faults.push(fault);
                    None
                }
            }
        };
        let Some(addresses) = addresses else {
            for host in &member.recorded {
                found
                    .entry(host.clone())
                    .or_default()
                    .insert(member.member.clone());
            }
            continue;
        };
        for address in addresses {
            match pattern(db, dialect, address) {
                Ok(host) => {
                    found.entry(host).or_default().insert(member.member.clone());
                }
                Err(fault) if faults.contains(&fault) => {}
                Err(fault) => faults.push(fault),
            }
        }
    }
    (found, faults)
}

fn addresses(member: &MemberAddresses, is_only: bool) -> Result<Vec<IpAddr>, HostFault> {
    let name = || member.member.clone();
    let Some(seen) = &member.seen else {
        return match member.declared.is_empty() {
            true => Err(HostFault::Unknown { member: name() }),
            false => Ok(member.declared.clone()),
        };
    };
    // The database's own machine may come from loopback if nobody else uses the same name.
    let may_loop = is_only && member.is_database_server;
    let loops = |address: &&IpAddr| address.is_loopback() || address.is_unspecified();
    if !may_loop && let Some(address) = seen.resolved.iter().chain([&seen.address]).find(loops) {
        return Err(HostFault::Loopback {
            member: name(),
            address: *address,
        });
    }
    if member.declared.is_empty() {
        return Ok(vec![seen.address]);
    }
    if !member.declared.contains(&seen.address) && !seen.address.is_loopback() {
        let declared: Vec<String> = member.declared.iter().map(ToString::to_string).collect();
        return Err(HostFault::Undeclared {
            member: name(),
            seen: seen.address,
            declared: declared.join(", "),
        });
    }
    // Of a family that the database doesn't have nothing can come.
    let reaches = |address: &IpAddr| {
        *address == seen.address
            || seen
                .resolved
                .iter()
                .any(|to| to.is_ipv4() == address.is_ipv4())
    };
    let mut chosen: Vec<IpAddr> = member.declared.iter().copied().filter(reaches).collect();
    if !chosen.contains(&seen.address) {
        chosen.push(seen.address);
    }
    Ok(chosen)
}

fn pattern(db: &Db, dialect: Dialect, address: IpAddr) -> Result<HostPattern, HostFault> {
    let mut within = db.networks.iter().filter(|net| net.contains(&address));
    // The narrowest that is declared.
    let narrowest = within.next().map(|first| {
        within.fold(first, |best, net| {
            if net.prefix_len() > best.prefix_len() {
                net
            } else {
                best
            }
        })
    });
    match narrowest {
        None => Ok(HostPattern::address(address)),
        Some(net) if net.prefix_len() == 0 => Ok(HostPattern::anywhere()),
        Some(net) if net.prefix_len() == net.max_prefix_len() => Ok(HostPattern::address(address)),
        Some(IpNet::V4(net)) if dialect.compares_cidr() => {
            Ok(HostPattern::cidr(net.network(), net.prefix_len()))
        }
        Some(IpNet::V4(net)) => Ok(HostPattern::netmask(net.network(), net.prefix_len())),
        Some(net) => Err(HostFault::Network {
            dialect,
            network: *net,
        }),
    }
}

/// Members on which the database's name means something else than on the first of them.
fn ambiguities(members: &[MemberAddresses]) -> Vec<HostFault> {
    let set = |seen: &SeenFrom| seen.resolved.iter().copied().collect::<BTreeSet<IpAddr>>();
    let asked = members
        .iter()
        .filter_map(|it| Some((&it.member, set(it.seen.as_ref()?))));
    // Loopback has its own message.
    let asked: Vec<_> = asked
        .filter(|(_, to)| !to.iter().any(IpAddr::is_loopback))
        .collect();
    let Some((first, there)) = asked.first() else {
        return Vec::new();
    };
    let shown = |set: &BTreeSet<IpAddr>| {
        let list: Vec<String> = set.iter().map(ToString::to_string).collect();
        list.join(", ")
    };
    // A member without IPv6 may leave addresses out; one address in common is enough.
    let differs = |here: &BTreeSet<IpAddr>| here.is_disjoint(there);
    let others = asked.iter().skip(1).filter(|(_, here)| differs(here));
    others
        .map(|(member, here)| HostFault::Ambiguous {
            member: (*member).clone(),
            here: shown(here),
            other: (*first).clone(),
            there: shown(there),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{DbKind, DbVia};

    const MARIADB: Dialect = Dialect::MariaDb(10, 11, 6);
    const MYSQL: Dialect = Dialect::MySql(8, 0, 36);

    fn db(networks: &[&str]) -> Db {
        Db {
            kind: DbKind::Mysql,
            port: 3306,
            via: DbVia::Agent,
            admin_user: "fanout".into(),
            admin: None,
            networks: networks.iter().map(|it| it.parse().unwrap()).collect(),
            host: None,
        }
    }

    fn member(name: &str, seen: Option<(&str, &[&str])>, declared: &[&str]) -> MemberAddresses {
        let ip = |text: &&str| text.parse().unwrap();
        MemberAddresses {
            member: name.parse().unwrap(),
            declared: declared.iter().map(ip).collect(),
            is_database_server: name == "db1",
            seen: seen.map(|(address, resolved)| SeenFrom {
                address: ip(&address),
                resolved: resolved.iter().map(ip).collect(),
            }),
            recorded: BTreeSet::new(),
        }
    }

    fn found(db: &Db, dialect: Dialect, members: &[MemberAddresses]) -> (Vec<String>, Vec<String>) {
        let (found, faults) = hosts(db, dialect, members);
        let faults = faults.iter().map(ToString::to_string).collect();
        (found.keys().map(ToString::to_string).collect(), faults)
    }

    const DB: &[&str] = &["10.0.0.21"];

    #[test]
    fn a_member_has_an_account_for_where_the_database_sees_it() {
        let members = [
            member("web1", Some(("10.0.0.11", DB)), &[]),
            member("web2", Some(("10.9.9.9", DB)), &[]),
        ];
        let (hosts, faults) = found(&db(&[]), MARIADB, &members);
        assert_eq!(
            (hosts, faults.len()),
            (vec!["10.0.0.11".into(), "10.9.9.9".into()], 0)
        );
    }

    #[test]
    fn declared_addresses_count_where_they_can_reach_the_database() {
        let declared = &["10.0.0.11", "10.0.0.12", "2001:db8::11"];
        let (hosts, _) = found(
            &db(&[]),
            MARIADB,
            &[member("web1", Some(("10.0.0.11", DB)), declared)],
        );
        assert_eq!(hosts, ["10.0.0.11", "10.0.0.12"]);
        // Unasked, all of them do.
        let (hosts, faults) = found(&db(&[]), MARIADB, &[member("web1", None, declared)]);
        assert_eq!((hosts.len(), faults.len()), (3, 0));
        let elsewhere = member("web1", Some(("10.0.0.99", DB)), declared);
        let (hosts, faults) = found(&db(&[]), MARIADB, &[elsewhere]);
        assert!(hosts.is_empty());
        assert!(
            faults[0].contains("reaches the database from 10.0.0.99"),
            "{faults:?}"
        );
    }

    #[test]
    fn a_member_that_can_not_be_asked_keeps_what_it_has_and_gets_nothing() {
        let mut lost = member("web1", None, &[]);
        lost.recorded.insert("10.0.0.11".parse().unwrap());
        let (hosts, faults) = found(&db(&["0.0.0.0/0"]), MARIADB, &[lost]);
        assert_eq!(hosts, ["10.0.0.11"]);
        assert_eq!(faults, ["web1: how the database sees it isn't known"]);
    }

    #[test]
    fn networks_are_written_as_the_server_compares_them() {
        let members = [
            member("web1", Some(("10.0.0.11", DB)), &[]),
            member("web2", Some(("10.0.0.12", DB)), &[]),
            member("web3", Some(("192.168.7.1", DB)), &[]),
        ];
        let narrow = db(&["10.0.0.0/8", "10.0.0.0/24"]);
        let hosts = |dialect| found(&narrow, dialect, &members).0;
        assert_eq!(hosts(MARIADB), ["10.0.0.0/255.255.255.0", "192.168.7.1"]);
        assert_eq!(hosts(MYSQL), ["10.0.0.0/24", "192.168.7.1"]);
        assert_eq!(
            hosts(Dialect::MySql(8, 0, 22)),
            ["10.0.0.0/255.255.255.0", "192.168.7.1"]
        );
        let six = [member("web1", Some(("fd77::11", &["fd77::21"])), &[])];
        let (hosts, faults) = found(&db(&["fd77::/64"]), MARIADB, &six);
        assert!(
            hosts.is_empty() && faults[0].contains("can't compare"),
            "{faults:?}"
        );
        assert_eq!(found(&db(&["fd77::11/128"]), MARIADB, &six).0, ["fd77::11"]);
    }

    #[test]
    fn everybody_may_come_only_if_the_inventory_says_so() {
        let members = [member("web1", Some(("10.0.0.11", DB)), &[])];
        assert_eq!(found(&db(&["0.0.0.0/0"]), MARIADB, &members).0, ["%"]);
        for networks in [&[][..], &["10.0.0.0/8"], &["0.0.0.0/1"]] {
            let (hosts, _) = found(&db(networks), MARIADB, &members);
            assert!(!hosts.contains(&"%".into()), "{hosts:?}");
        }
    }

    #[test]
    fn a_name_that_leads_to_the_member_itself_or_elsewhere_is_refused() {
        let good = member("web1", Some(("10.0.0.11", DB)), &[]);
        let loops = member("db1", Some(("127.0.0.1", &["127.0.1.1"])), &[]);
        let (hosts, faults) = found(&db(&[]), MARIADB, &[good.clone(), loops.clone()]);
        assert_eq!(hosts, ["10.0.0.11"]);
        assert!(faults[0].contains("which is db1 itself"), "{faults:?}");
        // Alone, and on the database's own machine, it is what is meant.
        let (hosts, faults) = found(&db(&[]), MARIADB, &[loops]);
        assert_eq!((hosts, faults.len()), (vec!["127.0.0.1".into()], 0));
        let other = member("web2", Some(("10.0.0.12", &["10.0.0.22"])), &[]);
        let (hosts, faults) = found(&db(&[]), MARIADB, &[good, other]);
        assert_eq!(hosts, ["10.0.0.11"]);
        assert!(faults[0].contains("10.0.0.22 on web2"), "{faults:?}");
    }
}
