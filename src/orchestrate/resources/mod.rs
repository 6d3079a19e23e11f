//! The resources, one file each.

pub mod code;
pub mod configuration;
