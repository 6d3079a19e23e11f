//! What must not grow: round trips, readings of the source, encodings, system calls per file.
//!
//! Numbers that a machine's mood doesn't change, so that a change that costs something is seen in
//! the change itself. `docs/performance.md`, section "Guards", says what to do when one fails.

mod calls;
mod hub;
mod round_trips;
