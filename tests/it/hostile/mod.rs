//! Peers that break the rules of `docs/wire-protocol.md`, against the real agent and the real hub
//! over real QUIC: after each of them the victim runs, has kept its limits, has said so in one line
//! that shows every byte of a peer escaped, and serves the others.
//!
//! What a peer says is a table: how far it behaves, what it sends then, and what must come of it.
//! `docs/safety.md` says which rule has which row.

mod members;
mod objects;
mod peer;
mod pipe;
mod places;
mod raw;
mod requests;
mod service_members;
mod services;
mod sites;
mod victim;
