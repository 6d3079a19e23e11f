//! Connecting over QUIC.
//!
//! All addresses of a name are tried, and if nobody answers, *why* is found out.

use std::{
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use tokio::{
    task::JoinSet,
    time::{Instant, sleep, timeout},
};

use super::{
    closed_port,
    connection::{Connection, Counters},
    error::{NetError, code},
    goodbye,
    identity::Identity,
    key::NodeKey,
    limits::Options,
    quic::{Quic, of_connecting, peer_of},
    tls, tuning,
};

/// The next address of a name is tried this long after the one before (RFC 8305, section 5).
const NEXT_ADDRESS: Duration = Duration::from_millis(250);

/// LIMIT: a name may have so many addresses.
const ADDRESSES_MAX: usize = 8;

/// Connects to `host` (a name or an address) over QUIC and accepts nobody but `peer` there.
///
/// Takes `options.handshake` at most.
pub async fn connect(
    host: &str,
    port: u16,
    identity: &Identity,
    peer: NodeKey,
    options: &Options,
) -> Result<Connection, NetError> {
    let start = Instant::now();
    let unresolved = |source: io::Error| NetError::Resolve {
        host: host.to_owned(),
        source: Arc::new(source),
    };
    let found = timeout(options.handshake, tokio::net::lookup_host((host, port))).await;
    let addresses: Vec<SocketAddr> = match found {
        Ok(Ok(addresses)) => addresses.take(ADDRESSES_MAX).collect(),
        Ok(Err(error)) => return Err(unresolved(error)),
        Err(_) => {
            let limit = options.handshake;
            return Err(NetError::TimedOut {
                what: "Looking up the host name",
                limit,
            });
        }
    };
    if addresses.is_empty() {
        return Err(unresolved(io::ErrorKind::NotFound.into()));
    }
    let mut options = options.clone();
    options.handshake = options.handshake.saturating_sub(start.elapsed());
    connect_to(&addresses, identity, peer, &options).await
}

/// Connects to whichever of the addresses answers first with the right key.
pub async fn connect_to(
    addresses: &[SocketAddr],
    identity: &Identity,
    peer: NodeKey,
    options: &Options,
) -> Result<Connection, NetError> {
    let crypto = tls::quic_client(tls::client(identity, peer)?)?;
    let mut config = quinn::ClientConfig::new(Arc::new(crypto));
    let mut transport = tuning::transport();
    transport.max_concurrent_uni_streams(options.objects_open_max.into());
    config.transport_config(Arc::new(transport));
    let mut attempts = JoinSet::new();
    for (nth, address) in (0u32..).zip(addresses.iter().copied()) {
        let (config, options) = (config.clone(), options.clone());
        attempts.spawn(async move {
            let wait = NEXT_ADDRESS * nth;
            sleep(wait).await;
            let within = options.handshake.saturating_sub(wait);
            attempt(address, peer, config, options, within).await
        });
    }
    let mut worst: Option<NetError> = None;
    while let Some(outcome) = attempts.join_next().await {
        match outcome {
            Ok(Ok(connection)) => return Ok(connection),
            Ok(Err(error)) => {
                if worst
                    .as_ref()
                    .is_none_or(|known| telling(&error) > telling(known))
                {
                    worst = Some(error);
                }
            }
            Err(error) => {
                return Err(NetError::Lost {
                    detail: error.to_string(),
                });
            }
        }
    }
    let nowhere = || NetError::Lost {
        detail: "there was no address to connect to".into(),
    };
    Err(worst.unwrap_or_else(nowhere))
}

/// Of several addresses' errors, the one that says most is reported.
fn telling(error: &NetError) -> u8 {
    match error {
        NetError::Refused { .. } | NetError::WrongPeer { .. } => 4,
        NetError::Unreachable { .. } | NetError::Io { .. } => 0,
        NetError::NoAnswer { .. } => 1,
        NetError::NothingListens { .. } => 2,
        _ => 3,
    }
}

async fn attempt(
    address: SocketAddr,
    peer: NodeKey,
    config: quinn::ClientConfig,
    options: Options,
    within: Duration,
) -> Result<Connection, NetError> {
    let unreachable = |error: io::Error| NetError::Unreachable {
        address: address.to_string(),
        source: Arc::new(error),
    };
    let any: SocketAddr = match address {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    // A socket of its own per connection: one member's burst can't crowd out another's packets.
    let socket = tuning::udp_socket(any).map_err(|errno| unreachable(errno.into()))?;
    tuning::share_port(&socket).map_err(|errno| unreachable(errno.into()))?;
    let runtime = Arc::new(quinn::TokioRuntime);
    let quic =
        quinn::Endpoint::new(tuning::endpoint(None), None, socket, runtime).map_err(unreachable)?;
    let connecting = quic
        .connect_with(config, address, tls::SERVER_NAME)
        .map_err(|error| NetError::Lost {
            detail: error.to_string(),
        })?;
    let handshake = async {
        let connection = connecting
            .await
            .map_err(|error| of_connecting(error, peer))?;
        // The verifier lets the pinned key vouch for others.
        let found = peer_of(&connection)?;
        if found != peer {
            goodbye::close(&connection, code::NOT_ACCEPTED, b"another key was expected");
            return Err(NetError::WrongPeer {
                expected: peer,
                detail: format!("key {found}"),
            });
        }
        let counters = Arc::<Counters>::default();
        let joined = Quic::join(connection.clone(), quic, options, Arc::clone(&counters)).await;
        let carrier = joined.map_err(|error| match connection.close_reason() {
            // It was the handshake that failed, only later: see `WELCOME`.
            Some(reason) => of_connecting(reason, peer),
            None => error,
        })?;
        Ok(Connection::over_quic(
            peer,
            address.to_string(),
            carrier,
            counters,
        ))
    };
    tokio::select! {
        done = timeout(within, handshake) => done.unwrap_or_else(|_| {
            Err(NetError::NoAnswer { address: address.to_string(), waited: within })
        }),
        error = closed_port::told(address) => Err(error),
    }
}
