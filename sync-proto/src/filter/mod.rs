//! Which paths of a tree a push manages: rsync's rules for what is excluded, and the patterns of
//! what belongs to the member.
//!
//! Owns the rule language ([`Rules`]), the preserve patterns ([`Preserve`]) and how they combine
//! ([`Scope`]). Refuses, naming rule and reason, whatever the two sides could understand
//! differently: per-directory merge files, absolute paths, patterns that aren't anchored where
//! they have to be.
//!
//! Invariants: a decision depends on the lines and the path alone, so both sides come to the same
//! one; it allocates nothing, and its cost is bounded by path length times pattern length,
//! whatever a peer sent as a pattern.

mod error;
mod glob;
#[cfg(test)]
mod golden;
mod parse;
mod pattern;
mod preserve;
mod rule;
mod rules;
mod scope;
mod subject;

pub use error::{RuleError, RuleFault};
pub use glob::Malformed;
pub use pattern::Pattern;
pub use preserve::Preserve;
pub use rule::{Rule, Side};
pub use rules::{Decision, Rules};
pub use scope::{Scope, Standing};

/// What every tree excludes unless a rule of its own includes it.
pub const DEFAULT_EXCLUDES: [&str; 4] = [".git", ".svn", ".hg", ".bzr"];
/// The most rules, and the most preserve patterns, that a tree may have.
/// LIMIT: against a peer; each of them may be asked about each entry.
pub const MAX_RULES: usize = 1_000;
/// The longest rule in bytes. LIMIT: bounds the states of a match.
pub const MAX_RULE_BYTES: usize = 1_000;
/// All rules of a tree together, in bytes. LIMIT: bounds what a peer can make one decision cost.
pub const MAX_TOTAL_BYTES: usize = 64 * 1024;
