//! The member's side of a push: what is there, what is staged, and the switch.
//!
//! [`session`] speaks with the hub; [`look`], [`compare`], [`fill`], [`receive`] and [`stage`] get
//! a tree ready beside the live one; [`prepare`], [`transaction`] and what they use make it live.

mod apply;
pub mod compare;
pub mod fault;
pub mod fill;
pub mod finish;
pub mod foreign;
pub mod generations;
pub mod held;
pub mod host;
mod in_place;
pub mod journal;
pub mod keeper;
pub mod large;
mod lend;
pub mod lists;
pub mod live;
pub mod live_index;
pub mod look;
pub mod overwritten;
pub mod phase;
pub mod place;
mod place_error;
mod plan_summary;
pub mod prepare;
mod put_away;
pub mod reach;
pub mod receive;
pub mod record;
mod recycle;
pub mod refusal;
pub mod removal;
pub mod requests;
pub mod session;
mod shared;
pub mod stage;
pub mod staged;
pub mod step;
mod switch;
mod switched;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
pub mod transaction;
pub mod tree_plan;
pub mod work;
