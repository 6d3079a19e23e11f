//! The resources, one file each.

pub mod activation;
pub mod application;
pub mod code;
pub mod configuration;
pub mod database;
pub mod former_database;
pub mod proved;
pub mod share;
pub mod unknown;
