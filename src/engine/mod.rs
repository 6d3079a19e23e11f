//! A push: one scan and one encode on the hub, staged and committed on every member.
//!
//! [`observe`] looks at a tree and [`index`] remembers it, on both sides. [`hub`] scans, encodes
//! once, drives all members at once and decides; [`depot`] keeps what the hub decided; [`member`]
//! stages, votes and switches.

pub mod depot;
pub mod event;
pub mod fresh;
pub mod hub;
pub mod index;
pub mod member;
pub mod observe;
