//! The hub's side of a push.

pub mod encode;
pub mod supply;
