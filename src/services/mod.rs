//! What servers' services shall have: rendered on the hub from the inventory and from the facts
//! that each server reported; and what they say, read.
//!
//! Pure: inventory, facts and secrets in, files or statements out. No disk, no network, no clock,
//! so that everything can be shown as a difference before anything is touched.

pub mod app;
pub mod balancer;
pub mod database;
pub mod probe;
pub mod web;
