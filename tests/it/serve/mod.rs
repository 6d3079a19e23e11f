//! Services: what is served, by whom, and from which database.

mod database;
mod setup_db;
