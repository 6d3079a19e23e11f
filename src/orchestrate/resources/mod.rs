//! The resources, one file each.

pub mod code;
pub mod configuration;
pub mod database;
pub mod former_database;
pub mod prepared;
pub mod proved;
