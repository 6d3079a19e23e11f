//! The agent as a peer: what it survives, and whom it lets in.

mod crash;
mod crash_points;
mod lost;
mod network;
mod privileges;
mod resume;
mod rolling;
mod trust;
