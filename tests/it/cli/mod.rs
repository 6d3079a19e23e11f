//! Every command of the hub as a person or a script runs it.

mod backup;
mod import;
mod inventory;
mod members;
mod services;
mod terminal;
mod ways;
