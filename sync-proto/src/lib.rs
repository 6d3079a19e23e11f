//! fanout's wire protocol and formats.
//!
//! This crate owns everything a peer can send: names and paths, the manifest, packs, deltas,
//! chunk recipes, filter rules, control messages, and the two-phase commit as a pair of pure
//! state machines. It has no I/O, no clock, no randomness and no async code, so that tests can
//! step it through any history. It knows nothing of fanout's inventory or of web platforms.
//!
//! Invariant: bytes from a peer become a type that can't hold an invalid value at the edge, or an
//! error; no function here panics on input.

pub mod commit;
pub mod delta;
pub mod digest;
pub mod entry;
pub mod filter;
pub mod manifest;
pub mod pack;
pub mod path;
pub mod special;
pub mod wire;
