//! Both carriers, held to the same claims, on loopback.

#![allow(
    clippy::print_stdout,
    reason = "measurements are printed, and shown on request"
)]

mod admission;
mod bridge;
mod failures;
mod flow;
mod gone;
mod throughput;

use std::{net::SocketAddr, time::Duration};

use bytes::Bytes;

use super::*;

/// Nothing on loopback takes longer than this.
const SOON: Duration = Duration::from_secs(10);

#[derive(Debug, Clone, Copy, PartialEq)]
enum Carrier {
    Quic4,
    Quic6,
    Pipe,
}

const CARRIERS: [Carrier; 3] = [Carrier::Quic4, Carrier::Quic6, Carrier::Pipe];

/// A hub connected to an agent.
struct Pair {
    hub: Connection,
    agent: Connection,
    trust: TrustStore,
    hub_key: NodeKey,
    agent_key: NodeKey,
    _endpoint: Option<Endpoint>,
}

fn node() -> Identity {
    Identity::generate().unwrap()
}

fn loopback(carrier: Carrier) -> SocketAddr {
    match carrier {
        Carrier::Quic6 => "[::1]:0".parse().unwrap(),
        _ => "127.0.0.1:0".parse().unwrap(),
    }
}

fn quick(handshake_ms: u64) -> Options {
    Options {
        handshake: Duration::from_millis(handshake_ms),
        ..Options::default()
    }
}

async fn pair(carrier: Carrier) -> Pair {
    pair_with(carrier, Options::default(), Options::default()).await
}

async fn pair_with(carrier: Carrier, for_hub: Options, for_agent: Options) -> Pair {
    let (hub, agent, trust) = (node(), node(), TrustStore::new());
    let (hub_key, agent_key) = (hub.key(), agent.key());
    trust.accept(hub_key, Role::Hub);
    let (hub, agent, _endpoint) = if carrier == Carrier::Pipe {
        let (near, far) = tokio::net::UnixStream::pair().unwrap();
        let server = Side::Server(&trust);
        let (hub, agent) = tokio::join!(
            Connection::over_pipe(near, "near", &hub, Side::Client(agent_key), &for_hub),
            Connection::over_pipe(far, "far", &agent, server, &for_agent),
        );
        (hub.unwrap(), agent.unwrap(), None)
    } else {
        let endpoint =
            Endpoint::server(loopback(carrier), agent, trust.clone(), for_agent).unwrap();
        let hub = connect_to(&[endpoint.address()], &hub, agent_key, &for_hub)
            .await
            .unwrap();
        (hub, endpoint.accept().await.unwrap(), Some(endpoint))
    };
    Pair {
        hub,
        agent,
        trust,
        hub_key,
        agent_key,
        _endpoint,
    }
}

async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(SOON, what).await.expect("this hangs")
}

/// Bytes that differ from place to place.
fn pattern(bytes: usize) -> Bytes {
    (0..bytes)
        .map(|at| (at.wrapping_mul(2_654_435_761) >> 13) as u8)
        .collect::<Vec<_>>()
        .into()
}
