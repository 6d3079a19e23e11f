//! The resources, one file each.

pub mod configuration;
