//! The only door to the network: QUIC, TLS and keys.
//!
//! It moves bytes and knows who sent them; what they mean is `sync_proto`'s business.
//!
//! - Who: [`identity`] (our key), [`key`] (a peer's), [`trust`] (which peers, in which role),
//!   [`token`] (how two nodes meet), `tls` (the one handshake of both carriers).
//! - How: [`endpoint`] and [`mod@connect`] (QUIC), [`stdio`] (the same session over any byte
//!   pipe), [`tuning`] (every number that was measured).
//! - What: [`connection`]: control messages in order, objects side by side, each bounded by limits
//!   that the receiver sets.
//!
//! Invariants: nothing but TLS is read from a peer whose key isn't accepted; no size, count or
//! time-out is taken from a peer; a secret never appears in `Debug` output or in an error.

pub mod certificate;
mod closed_port;
mod congestion;
pub mod connect;
pub mod connection;
pub mod endpoint;
pub mod error;
pub mod fcgi;
mod goodbye;
pub mod http;
pub mod identity;
pub mod key;
pub mod limits;
pub mod local;
mod long_way;
mod lookup;
pub mod mysql;
mod pipe;
pub mod probe;
mod quic;
mod reset;
pub mod stdio;
mod tls;
pub mod token;
pub mod trust;
pub mod tuning;

#[cfg(test)]
mod tests;

pub use connect::{connect, connect_to};
pub use connection::{Connection, Stats};
pub use endpoint::Endpoint;
pub use error::NetError;
pub use goodbye::let_goodbyes_out;
pub use identity::{Identity, IdentityError};
pub use key::NodeKey;
pub use limits::{Budget, Object, Options};
pub use lookup::lookup;
#[doc(hidden)]
pub use pipe::read_and_write;
pub use stdio::{PipeListener, Side, bridge, connect_socket};
pub use token::{Invitation, JoinGrant, Token, TokenError};
pub use trust::{JoinError, Role, TrustStore};
