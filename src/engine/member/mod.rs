//! The member's side of a push: what is there, what is staged, and the switch.

mod apply;
pub mod fault;
pub mod foreign;
pub mod generations;
pub mod held;
mod in_place;
pub mod journal;
pub mod keeper;
pub mod live;
pub mod live_index;
pub mod overwritten;
pub mod place;
mod place_error;
mod plan_summary;
pub mod prepare;
mod put_away;
pub mod record;
pub mod removal;
mod shared;
pub mod step;
mod switch;
mod switched;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
pub mod transaction;
pub mod tree_plan;
