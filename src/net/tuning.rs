//! Every number of the transport that was measured or read in source, in one place.
//!
//! None of them is taken from a peer. Those that bound what a peer can make us hold are tagged
//! `LIMIT`.

use std::{
    net::{SocketAddr, UdpSocket},
    os::fd::OwnedFd,
    sync::Arc,
    time::Duration,
};

use quinn::{
    EndpointConfig, IdleTimeout, MtuDiscoveryConfig, TransportConfig, VarInt,
    congestion::CubicConfig,
};
use quinn_proto::HashedConnectionIdGenerator;
use rustix::{
    io::Errno,
    net::{AddressFamily, SocketFlags, SocketType, bind, ipproto, socket_with, sockopt},
};

use super::{
    congestion::ByRoundTrip, identity::Identity, long_way::LongWayConfig, reset::ResetKey,
};

/// LIMIT: how long a handshake may take, on either side.
pub const HANDSHAKE: Duration = Duration::from_secs(5);

/// LIMIT: how long a peer may say nothing at all. Silence alone is a poor sign: a process that is
/// stopped, or a host that swaps, is silent and comes back. So this is longer than the 60 s without
/// progress after which the hub detaches a member (`engine/hub/session.rs`), and what is known to be
/// gone doesn't wait for it: a closed port ([`SILENCE`]), a restarted peer ([`KEEP_ALIVE`]).
pub const IDLE: Duration = Duration::from_secs(75);

/// How often an idle side says that it lives. It is also how soon a peer that was restarted is
/// noticed: its answer is a stateless reset (`reset.rs`).
pub const KEEP_ALIVE: Duration = Duration::from_secs(1);

/// After so much silence, more than a sign of life may take, the peer's system is asked whether
/// anybody still has the port (`quic/watch.rs`).
pub const SILENCE: Duration = Duration::from_secs(2);

/// How long one such question waits for an answer, and how long until the next.
pub const CLOSED_PORT: Duration = Duration::from_millis(500);

/// LIMIT: how long a goodbye may take.
pub const GOODBYE: Duration = Duration::from_secs(5);

/// LIMIT: handshakes under way at one listener. From [`HALF_OPEN_RETRY`] on, a peer must first
/// prove that it receives what is sent to its address.
pub const HALF_OPEN_MAX: usize = 64;

/// See [`HALF_OPEN_MAX`].
pub const HALF_OPEN_RETRY: usize = 16;

/// LIMIT: objects that one peer may have open towards us. One that lost a packet holds its place for
/// another round trip, and an object is about 280 kB as it travels: with 8 places a way of 100
/// Mbit/s, 100 ms and 0.5 % loss carried 27 MB in 3.5 s, with 16 or 32 in 2.7 s.
pub const OBJECTS_OPEN_MAX: u32 = 32;

/// The same over a byte pipe, where both sides must know it: part of the protocol. The pipe's own
/// transport sends again what was lost.
pub const PIPE_OBJECTS_OPEN_MAX: u32 = 8;

/// The largest UDP payload. With GSO, quinn sends batches of 10 segments and ignores the kernel's
/// EMSGSIZE, so 10 segments must stay below 65,507 bytes: above 6,550 whole batches vanish and the
/// transfer falls to 4 MB/s (quinn-rs/quinn#2199). Both sides must allow it, the default is 1,472.
pub const UDP_PAYLOAD_MAX_BYTES: u16 = 6_500;

/// Socket buffers: the default of 208 KiB holds fewer than 100 full packets, and a burst that
/// doesn't fit is lost before quinn sees it.
pub const SOCKET_BUFFER_BYTES: usize = 8 * 1024 * 1024;

/// LIMIT: what one stream may have in flight. 1 Gbit/s over 100 ms is 12.5 MB, in several streams.
pub const STREAM_WINDOW_BYTES: u32 = 2 * 1024 * 1024;

/// LIMIT: what one connection may have in flight towards us; quinn's default is unbounded. All
/// streams fill their windows at once without blocking each other: objects are read one after the
/// other, so the unread ones must never use up what the one being read needs.
pub const CONNECTION_WINDOW_BYTES: u32 = (OBJECTS_OPEN_MAX + 1) * STREAM_WINDOW_BYTES;

/// What one connection may hold that the peer hasn't acknowledged. Object bodies are shared
/// between connections, so this is not multiplied by the number of members.
pub const SEND_WINDOW_BYTES: u64 = 32 * 1024 * 1024;

/// The transport of one connection.
pub(super) fn transport() -> TransportConfig {
    let mut config = TransportConfig::default();
    let mut mtu = MtuDiscoveryConfig::default();
    mtu.upper_bound(UDP_PAYLOAD_MAX_BYTES);
    let idle = VarInt::from_u32(u32::try_from(IDLE.as_millis()).unwrap_or(u32::MAX));
    config
        .mtu_discovery_config(Some(mtu))
        // Without GSO a transfer is three times slower.
        .enable_segmentation_offload(true)
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW_BYTES))
        .receive_window(VarInt::from_u32(CONNECTION_WINDOW_BYTES))
        .send_window(SEND_WINDOW_BYTES)
        // One object after the other: fewer fragments, and the first is done sooner.
        .send_fairness(false)
        // The listening side opens the one control stream.
        .max_concurrent_bidi_streams(VarInt::from_u32(1))
        .max_concurrent_uni_streams(VarInt::from_u32(OBJECTS_OPEN_MAX))
        .datagram_receive_buffer_size(None)
        .max_idle_timeout(Some(IdleTimeout::from(idle)))
        .keep_alive_interval(Some(KEEP_ALIVE));
    // The default of 333 ms makes one lost handshake packet cost a second.
    config
        .initial_rtt(Duration::from_millis(20))
        .congestion_controller_factory(Arc::new(ByRoundTrip {
            short: Arc::new(cubic()),
            long: Arc::new(LongWayConfig),
        }));
    config
}

/// Ten packets to begin with (RFC 9002, section 7.2), of the size that a clean network carries:
/// quinn's 12,000 bytes would be one packet and an MTU probe.
fn cubic() -> CubicConfig {
    let mut config = CubicConfig::default();
    config.initial_window(10 * u64::from(UDP_PAYLOAD_MAX_BYTES));
    config
}

/// What all connections of a socket share. A node that listens is known again after a restart.
pub(super) fn endpoint(listening: Option<&Identity>) -> EndpointConfig {
    let mut config = match listening {
        Some(identity) => {
            let mut config = EndpointConfig::new(Arc::new(ResetKey::of(identity)));
            // A packet whose connection id isn't one of ours is dropped without a word.
            let key = ResetKey::for_connection_ids(identity);
            config.cid_generator(move || Box::new(HashedConnectionIdGenerator::from_key(key)));
            config
        }
        None => EndpointConfig::default(),
    };
    // The value is a constant between 1,200 and 65,527, which is all that is checked.
    if let Err(error) = config.max_udp_payload_size(UDP_PAYLOAD_MAX_BYTES) {
        tracing::error!(%error, "the UDP payload size was refused");
    }
    config
}

/// A UDP socket with large buffers. On `[::]` it serves IPv4 as well.
pub(super) fn udp_socket(address: SocketAddr) -> Result<UdpSocket, Errno> {
    let socket = unbound(address)?;
    // The kernel caps the plain request at rmem_max and wmem_max; only root may go above.
    let forced = sockopt::set_socket_recv_buffer_size_force(&socket, SOCKET_BUFFER_BYTES)
        .and_then(|()| sockopt::set_socket_send_buffer_size_force(&socket, SOCKET_BUFFER_BYTES));
    if forced.is_err() {
        sockopt::set_socket_recv_buffer_size(&socket, SOCKET_BUFFER_BYTES)?;
        sockopt::set_socket_send_buffer_size(&socket, SOCKET_BUFFER_BYTES)?;
    }
    let received_bytes = sockopt::socket_recv_buffer_size(&socket)?;
    if received_bytes < SOCKET_BUFFER_BYTES {
        tracing::debug!(received_bytes, "small UDP buffers: raise net.core.rmem_max");
    }
    bind(&socket, &address)?;
    Ok(UdpSocket::from(socket))
}

/// Allows this process's user a second socket with the port of this one: see [`second_udp_socket`].
pub(super) fn share_port(socket: &UdpSocket) -> Result<(), Errno> {
    // ORDER: it has its port already. Before, the system might have given it one that another such
    // socket has.
    sockopt::set_socket_reuseport(socket, true)
}

/// A second socket with a port that another one shares. It is to be connected at once, so that it
/// gets nothing but what comes from one address.
pub(super) fn second_udp_socket(address: SocketAddr) -> Result<UdpSocket, Errno> {
    let socket = unbound(address)?;
    sockopt::set_socket_reuseport(&socket, true)?;
    bind(&socket, &address)?;
    Ok(UdpSocket::from(socket))
}

fn unbound(address: SocketAddr) -> Result<OwnedFd, Errno> {
    let family = if address.is_ipv6() {
        AddressFamily::INET6
    } else {
        AddressFamily::INET
    };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(family, SocketType::DGRAM, flags, Some(ipproto::UDP))?;
    if address.is_ipv6() {
        sockopt::set_ipv6_v6only(&socket, false)?;
    }
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_batch_of_segments_fits_into_one_datagram_of_the_kernel() {
        assert!(10 * usize::from(UDP_PAYLOAD_MAX_BYTES) <= 65_507);
        assert_eq!(
            endpoint(None).get_max_udp_payload_size(),
            u64::from(UDP_PAYLOAD_MAX_BYTES)
        );
    }
}
