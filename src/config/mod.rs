//! The inventory: `fanout.toml` to domain types, and edits that keep comments.
