//! Asking the other side's system whether anybody has a UDP port.
//!
//! A system answers a packet to a port that nobody has with an ICMP message. QUIC's own socket is
//! never told: such answers come to connected sockets only. So one is made for the question, and
//! the kernel passes on only what quotes a packet of that socket. The one byte sent is no QUIC
//! packet, and ignored.

use std::{
    convert::Infallible,
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use tokio::time::timeout;

use super::error::NetError;

/// Waits for the system's word that nothing can be reached there; forever, if there is none.
pub(super) async fn told(address: SocketAddr) -> NetError {
    let Err(error) = ask(address).await;
    if error.kind() == io::ErrorKind::ConnectionRefused {
        NetError::NothingListens {
            address: address.to_string(),
        }
    } else {
        NetError::Unreachable {
            address: address.to_string(),
            source: Arc::new(error),
        }
    }
}

/// Whether the system there says within this time that nobody has the port. No answer is a no, and
/// so is a router that knows no way: cables are plugged in again.
pub(super) async fn is_closed(address: SocketAddr, within: Duration) -> bool {
    match timeout(within, ask(address)).await {
        Ok(Err(error)) => error.kind() == io::ErrorKind::ConnectionRefused,
        Err(_) => false,
    }
}

async fn ask(address: SocketAddr) -> io::Result<Infallible> {
    let any: SocketAddr = match address {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = tokio::net::UdpSocket::bind(any).await?;
    socket.connect(address).await?;
    socket.send(&[0]).await?;
    let mut answer = [0; 1];
    loop {
        // Data would be from the peer, to a byte that needs no answer.
        socket.recv(&mut answer).await?;
    }
}
