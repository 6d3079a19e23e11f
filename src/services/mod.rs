//! What a server's services should be like: rendered and decided here, carried out elsewhere.
//!
//! Pure: inventory, facts and secrets in, files or operations out. Refuses to look at a disk, a
//! network or a clock.

pub mod database;
