//! A peer whose process is gone, and one that is merely silent.

use super::*;
use std::time::Instant;
use tokio::net::UdpSocket;

/// Carries packets between a hub and an agent; `hub` is where the hub finds the agent. It can fall
/// silent, and it can be gone, as a process is that was killed.
struct Middle {
    carrying: tokio::task::JoinHandle<()>,
    socket: std::sync::Arc<UdpSocket>,
}

impl Middle {
    async fn start(agent: SocketAddr) -> (Self, SocketAddr) {
        let socket = std::sync::Arc::new(UdpSocket::bind("127.0.0.1:0").await.unwrap());
        let address = socket.local_addr().unwrap();
        let near = std::sync::Arc::clone(&socket);
        let carrying = tokio::spawn(async move {
            let mut hub = None;
            let mut packet = vec![0; 65_536];
            loop {
                let (bytes, from) = near.recv_from(&mut packet).await.unwrap();
                let to = match (from == agent, hub) {
                    (true, Some(hub)) => hub,
                    (true, None) => continue,
                    // A question about the port is one byte, and comes from elsewhere.
                    (false, None) if bytes > 1 => {
                        hub = Some(from);
                        agent
                    }
                    (false, Some(hub)) if hub == from => agent,
                    (false, _) => continue,
                };
                near.send_to(&packet[..bytes], to).await.unwrap();
            }
        });
        (Self { carrying, socket }, address)
    }

    /// Nothing comes through any more; the socket stays.
    async fn falls_silent(&mut self) {
        self.carrying.abort();
        (&mut self.carrying).await.unwrap_err();
    }

    /// Nobody has the port any more.
    async fn goes(mut self) {
        self.falls_silent().await;
        drop(self.socket);
    }
}

async fn through_a_middle() -> (Middle, Connection, Connection, Endpoint) {
    let (hub, agent, trust) = (node(), node(), TrustStore::new());
    trust.accept(hub.key(), Role::Hub);
    let key = agent.key();
    let endpoint =
        Endpoint::server(loopback(Carrier::Quic4), agent, trust, Options::default()).unwrap();
    let (middle, address) = Middle::start(endpoint.address()).await;
    let hub = soon(connect_to(&[address], &hub, key, &Options::default()))
        .await
        .unwrap();
    let agent = soon(endpoint.accept()).await.unwrap();
    hub.send(b"hello").await.unwrap();
    soon(agent.recv()).await.unwrap();
    (middle, hub, agent, endpoint)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_whose_port_is_closed_is_gone_within_seconds() {
    let (middle, hub, _agent, _endpoint) = through_a_middle().await;
    middle.goes().await;
    let start = Instant::now();
    let error = soon(hub.recv()).await.unwrap_err();
    assert!(matches!(error, NetError::PeerEnded { .. }), "{error}");
    println!("noticed after {:?}", start.elapsed());
    // Every call says the same afterwards.
    let error = hub.send(b"more").await.unwrap_err();
    assert!(matches!(error, NetError::PeerEnded { .. }), "{error}");
    let error = soon(hub.closed()).await;
    assert!(matches!(error, NetError::PeerEnded { .. }), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_is_silent_and_has_its_port_is_not_gone() {
    let (mut middle, hub, _agent, _endpoint) = through_a_middle().await;
    middle.falls_silent().await;
    // Several times as long as one whose port is closed would have.
    let waited = tokio::time::timeout(4 * tuning::SILENCE, hub.recv()).await;
    assert!(waited.is_err(), "{waited:?}");
    assert!(hub.is_open());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_that_was_closed_for_a_moment_only_ends_nothing() {
    let (middle, hub, agent, _endpoint) = through_a_middle().await;
    let address: SocketAddr = hub.remote().parse().unwrap();
    assert!(!closed_port::is_closed(address, tuning::CLOSED_PORT).await);
    middle.goes().await;
    assert!(closed_port::is_closed(address, tuning::CLOSED_PORT).await);
    // The port was closed for less than the silence takes: the next process has it, and the
    // connection, as far as both sides know, was never interrupted.
    let again = UdpSocket::bind(address).await.unwrap();
    tokio::time::sleep(tuning::SILENCE * 2).await;
    assert!(hub.is_open() && agent.is_open());
    drop(again);
}
