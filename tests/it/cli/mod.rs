//! Every command of the hub as a person or a script runs it.

mod inventory;
mod members;
mod terminal;
mod ways;
