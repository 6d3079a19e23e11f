//! What services need: rendered files, statements and decisions, from the inventory's words, facts
//! and secrets.
//!
//! Pure: nothing here touches a disk, a socket or another program. The agent acts on its machine,
//! and `orchestrate` brings the two together.

pub mod app;
