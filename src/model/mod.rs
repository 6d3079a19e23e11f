//! Plain domain types, no I/O.
