//! What should be true on every server, what is, and the difference closed in the right order.
//!
//! Owns the order of a deployment and the way back. Refuses to act on what it could not inspect.
//! Never touches a disk or a socket itself: it asks agents over sessions of the engine, and
//! database servers through the services. Invariant: every step is on record before it begins.

pub mod applications;
pub mod databases;
pub mod desired;
pub mod fates;
pub mod graph;
pub mod resource;
pub mod resources;
pub mod rotation;
pub mod run;
pub mod servers;
pub mod uploads;

pub use graph::{Counts, Fate, Graph, Group, NodeId, Phase, Place, Plan, Step};
pub use resource::{Applied, Change, Difference, Resource, Sign, Work};
pub use run::{Ended, OnFailure, Outcome, Record, StepEvent, run};

#[cfg(test)]
mod tests;
