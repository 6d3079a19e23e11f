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

use tokio::time::{sleep, timeout};

use super::{error::NetError, tuning};

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
    let socket = tokio::net::UdpSocket::bind(any(address)).await?;
    socket.connect(address).await?;
    socket.send(&[0]).await?;
    let mut answer = [0; 1];
    loop {
        // Data would be from the peer, to a byte that needs no answer.
        socket.recv(&mut answer).await?;
    }
}

fn any(of: SocketAddr) -> SocketAddr {
    match of {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    }
}

/// What is heard of a port that is asked about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Heard {
    /// Nobody has it.
    Closed,
    /// Somebody speaks there.
    Alive,
}

/// Asks every `pause` until something is heard. The question comes from `port`, which a connection
/// to the address has already: a system answers one such packet in a second at most, and whichever
/// it answers, this one or the connection's own signs of life, the answer is heard.
///
/// Meanwhile whatever comes from the address comes here, and is lost to the connection, which takes
/// that for a loss on the way. So this is for a peer that is silent.
pub(super) async fn listen(address: SocketAddr, port: u16, pause: Duration) -> Heard {
    let Ok(socket) = beside(address, port) else {
        // Asked on its own, it is heard where nobody else takes the answers.
        return match is_closed(address, pause).await {
            true => Heard::Closed,
            false => Heard::Alive,
        };
    };
    let mut answer = [0; 1];
    loop {
        // An answer to an earlier packet may come as the error of this one.
        let asked = socket.send(&[0]).await.map(drop);
        let heard = match asked {
            Ok(()) => timeout(pause, socket.recv(&mut answer)).await,
            Err(error) => {
                sleep(pause).await;
                Ok(Err(error))
            }
        };
        match heard {
            Ok(Ok(_)) => return Heard::Alive,
            // An error is told before what came earlier.
            Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => {
                return match socket.try_recv(&mut answer) {
                    Ok(_) => Heard::Alive,
                    Err(_) => Heard::Closed,
                };
            }
            // A router knows no way: cables are plugged in again.
            Ok(Err(_)) => sleep(pause).await,
            Err(_) => {}
        }
    }
}

/// A socket that is connected to `address`, with the port of another one that allows it.
fn beside(address: SocketAddr, port: u16) -> io::Result<tokio::net::UdpSocket> {
    let mut own = any(address);
    own.set_port(port);
    let socket = tuning::second_udp_socket(own)?;
    socket.connect(address)?;
    tokio::net::UdpSocket::from_std(socket)
}
