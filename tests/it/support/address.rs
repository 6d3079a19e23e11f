//! Loopback addresses that tests which run at the same time don't take from each other.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU16, Ordering};

/// An address that no other process uses: each process id has a loopback address of its own.
pub(crate) fn loopback_address() -> SocketAddr {
    static NEXT_PORT: AtomicU16 = AtomicU16::new(4601);
    let [high, middle, low] = {
        let bytes = std::process::id().to_be_bytes();
        [bytes[1] & 0x3f, bytes[2], bytes[3]]
    };
    let address = Ipv4Addr::new(127, 64 + high, middle, low);
    SocketAddr::new(
        IpAddr::V4(address),
        NEXT_PORT.fetch_add(1, Ordering::Relaxed),
    )
}

/// A UDP port on `::1` that was free a moment ago.
pub(crate) fn loopback_address6() -> SocketAddr {
    let socket = std::net::UdpSocket::bind("[::1]:0").expect("bind");
    socket.local_addr().expect("an address")
}
