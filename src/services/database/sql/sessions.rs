//! Ending the sessions of an account.
//!
//! One by one from the list of sessions, since `KILL USER` compares what the list shows: it finds
//! nobody who is listed by a host name, and nobody who came through a network's account.

use super::admin::run;
use crate::services::database::Dialect;
use sqlx::Row;
use sqlx::mysql::MySqlConnection;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;
use sync_proto::wire::service::database::{Account, HostPattern};
use tokio::time::Instant;

/// How long sessions have to end: each looks up between two rows or at the next wait.
const LIMIT: Duration = Duration::from_secs(15);
const POLL: Duration = Duration::from_millis(50);
/// There is no such session any more.
const GONE: u16 = 1094;

/// What [`end`] does, for people.
pub(super) fn described(account: &Account) -> String {
    format!("-- KILL each session of {account} in the process list")
}

/// Ends every session of the account, and returns when none is left.
pub(super) async fn end(
    connection: &mut MySqlConnection,
    dialect: Dialect,
    account: &Account,
) -> Result<(), sqlx::Error> {
    let started = Instant::now();
    loop {
        let listed = of(connection, dialect, account).await?;
        if listed.is_empty() {
            return Ok(());
        }
        if started.elapsed() > LIMIT {
            return Err(sqlx::Error::Protocol(format!(
                "{} sessions of {account} don't end",
                listed.len()
            )));
        }
        for id in listed {
            match run(connection, &format!("KILL {id}")).await {
                Err(error) if super::admin::failure(&error).number == GONE => {}
                done => done?,
            }
        }
        tokio::time::sleep(POLL).await;
    }
}

/// The ids of the account's sessions.
async fn of(
    connection: &mut MySqlConnection,
    dialect: Dialect,
    account: &Account,
) -> Result<Vec<u64>, sqlx::Error> {
    let rows = sqlx::query(match dialect {
        Dialect::MariaDb(..) | Dialect::MySql(8, 0, ..22) => {
            "SELECT CAST(ID AS UNSIGNED), CONVERT(COALESCE(HOST, '') USING utf8mb4) \
             FROM information_schema.processlist WHERE USER = ?"
        }
        Dialect::MySql(..) => {
            "SELECT CAST(ID AS UNSIGNED), CONVERT(COALESCE(HOST, '') USING utf8mb4) \
             FROM performance_schema.processlist WHERE USER = ?"
        }
    })
    .bind(account.user.as_str())
    .fetch_all(connection)
    .await?;
    let mut found = Vec::new();
    for row in &rows {
        let (id, host): (u64, String) = (row.try_get(0)?, row.try_get(1)?);
        if comes_from(&host, &account.host).await {
            found.push(id);
        }
    }
    Ok(found)
}

/// Is this session one of that host's? One that is listed by a name which leads nowhere is: a
/// session too many reconnects, one too few stays in.
async fn comes_from(listed: &str, pattern: &HostPattern) -> bool {
    let host = listed.rsplit_once(':').map_or(listed, |(host, _port)| host);
    if pattern.as_str() == "%" || host == pattern.as_str() {
        return true;
    }
    if let Ok(address) = host.parse::<IpAddr>() {
        return matches(address.to_canonical(), pattern);
    }
    match crate::net::lookup(host).await {
        Ok(addresses) if !addresses.is_empty() => {
            addresses.iter().any(|address| matches(*address, pattern))
        }
        _ => true,
    }
}

fn matches(address: IpAddr, pattern: &HostPattern) -> bool {
    if pattern.as_address() == Some(address) {
        return true;
    }
    let Some((network, width)) = pattern.as_str().split_once('/') else {
        return false;
    };
    let mask = match (width.parse::<Ipv4Addr>(), width.parse::<u32>()) {
        (Ok(mask), _) => mask.to_bits(),
        (_, Ok(bits @ 0..=32)) => u32::MAX.checked_shl(32 - bits).unwrap_or(0),
        _ => return false,
    };
    match (address, network.parse::<Ipv4Addr>()) {
        (IpAddr::V4(address), Ok(network)) => address.to_bits() & mask == network.to_bits() & mask,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn sessions_are_told_apart_by_where_they_come_from() {
        let from =
            async |listed: &str, pattern: &str| comes_from(listed, &pattern.parse().unwrap()).await;
        assert!(from("10.77.0.3:51234", "10.77.0.3").await);
        assert!(!from("10.77.0.30:51234", "10.77.0.3").await);
        assert!(from("10.77.0.3:51234", "10.77.0.0/255.255.255.0").await);
        assert!(from("10.77.0.3:51234", "10.77.0.0/24").await);
        assert!(!from("10.78.0.3:51234", "10.77.0.0/24").await);
        assert!(from("10.78.0.3:51234", "%").await);
        assert!(from("localhost", "localhost").await);
        assert!(from("localhost:51234", "127.0.0.1").await);
    }
}
