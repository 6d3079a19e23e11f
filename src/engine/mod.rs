//! A push: one scan and one encode on the hub, staged and committed on every member.

pub mod event;
pub mod index;
pub mod member;
