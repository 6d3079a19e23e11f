//! The hub's side of a push: scan, encode once, drive all members at once, decide.

pub mod brakes;
pub mod dial;
pub mod encode;
pub mod kept;
pub mod ownership;
pub mod preflight;
pub mod push;
pub mod session;
pub mod source;
pub mod supply;
pub mod task;
pub mod transact;
pub mod verify;
