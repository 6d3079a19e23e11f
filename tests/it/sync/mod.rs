//! What a push, a resync, a verify and a rollback promise, through the real program and real
//! processes: one hub and its members on loopback addresses.

mod awkward;
mod brakes;
mod budget;
mod donors;
mod policies;
mod push;
mod racy;
mod random;
mod random_rules;
mod recycle;
mod results;
mod rollback;
mod rules;
mod selection;
mod verify;
