//! fanout: keeps one web platform identical on many web heads.
//!
//! Layers, imports only ever point down:
//!
//! - L4 [`cli`]: renders; the only place that prints.
//! - L3 [`agent`], [`bootstrap`], [`orchestrate`]: decide and sequence.
//! - L2 [`engine`] (a push), [`services`] (what servers shall have), [`config`] (the inventory).
//! - L1 [`fs`], [`net`], [`store`], [`proc`]: the only doors to the disk, the network, the state
//!   database and other programs; never each other.
//! - L0 [`model`], [`clock`], [`codes`]: plain types; and the crate `sync_proto`, which knows
//!   nothing of fanout.
//!
//! `tests/it/architecture.rs` reads the imports and keeps it so.

pub mod agent;
pub mod bootstrap;
pub mod cli;
pub mod clock;
pub mod codes;
pub mod config;
pub mod engine;
pub mod fs;
pub mod model;
pub mod net;
pub mod orchestrate;
pub mod proc;
pub mod services;
pub mod store;
