//! The hub's side of a push: scan, encode once, drive all members at once, decide.

pub mod brakes;
pub mod dial;
pub mod donors;
pub mod encode;
pub mod kept;
pub mod offer;
pub mod ownership;
pub mod preflight;
pub mod problem;
pub mod push;
mod sending;
pub mod session;
pub mod source;
pub mod supply;
pub mod task;
pub mod transact;
pub mod verify;
