//! The hub's state database.
