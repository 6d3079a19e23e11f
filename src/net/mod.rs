//! The only door to the network: QUIC, TLS and keys.
