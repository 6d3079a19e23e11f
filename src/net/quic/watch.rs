//! The connecting side notices a peer whose process has ended, long before silence would tell.
//!
//! A killed process says no goodbye, and what it leaves is silence, as a process leaves that is
//! stopped or starved and comes back. The difference is its socket: a living process has it, and
//! the kernel keeps packets for it; nobody has that of a dead one, and its system says so. The rule
//! is that a peer is gone if nothing came from it for [`tuning::SILENCE`], and its system says that
//! the port is closed, and still nothing came. Neither of the two alone ends anything.
//!
//! Where no such answer comes (the whole machine is gone, a firewall drops it) it takes the idle
//! limit, as before. The listening side doesn't ask: towards a hub, a firewall may refuse what the
//! hub didn't begin.

use std::{
    net::SocketAddr,
    sync::{Arc, OnceLock},
};

use quinn::Connection;
use tokio::time::{Instant, sleep};

use super::super::{
    closed_port::{self, Heard},
    error::{NetError, code},
    goodbye, tuning,
};

/// Watches over a connection until it ends; where the peer is gone, says so in `found` and ends it.
/// `port` is its own end's.
pub(super) async fn watch(connection: Connection, port: u16, found: Arc<OnceLock<NetError>>) {
    tokio::select! {
        _over = connection.closed() => {}
        address = gone(&connection, port) => {
            let address = address.to_string();
            tracing::debug!(%address, "the peer's port is closed");
            found.get_or_init(|| NetError::PeerEnded { address });
            goodbye::close(&connection, code::CANCELLED, b"nothing listens there any more");
        }
    }
}

/// Returns when the peer is gone.
async fn gone(connection: &Connection, port: u16) -> SocketAddr {
    let received = || connection.stats().udp_rx.datagrams;
    let (mut heard, mut since) = (received(), Instant::now());
    loop {
        sleep(tuning::CLOSED_PORT).await;
        let now = received();
        if now == heard && since.elapsed() < tuning::SILENCE {
            continue;
        }
        if now == heard {
            let address = connection.remote_address();
            let said = closed_port::listen(address, port, tuning::CLOSED_PORT).await;
            if said == Heard::Closed && received() == heard {
                return address;
            }
        }
        // What was said in answer to the question was not said to the connection: once more.
        (heard, since) = (received(), Instant::now());
    }
}
