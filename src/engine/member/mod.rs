//! The member's side of a push: what is there, what is staged, and the switch.

pub mod apply;
pub mod fault;
pub mod foreign;
pub mod generations;
pub mod held;
pub mod in_place;
pub mod journal;
pub mod keeper;
pub mod live;
pub mod live_index;
pub mod overwritten;
pub mod place;
pub mod record;
pub mod removal;
pub mod step;
pub mod switched;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
pub mod transaction;
pub mod tree_plan;
