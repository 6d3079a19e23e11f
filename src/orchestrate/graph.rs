//! The graph of resources, and the plan that an inspection makes of it.
//!
//! A node comes after others; nothing else decides about order. What needs no change stays in the
//! graph without a step, so that order passes through it.

use super::applications::is_absence;
use super::databases::is_silent;
use super::resource::{Change, Difference, Resource, Sign};
use crate::codes::{Code, Problem};
use crate::model::ServerName;
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::task::JoinSet;

/// A node's place in its graph.
pub type NodeId = usize;

/// The part of a deployment that a step belongs to. A part begins when the one before it has ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Made, staged and tested beside what visitors meet. A failure leaves everything as it was.
    #[default]
    Prepare,
    /// What visitors meet from now on, up to the proof. A failure takes back what shares its fate.
    Switch,
    /// What comes after the proof. A failure takes nothing back, and what needs it is left out.
    Settle,
}

impl Phase {
    /// All of them, in their order.
    pub const ALL: [Self; 3] = [Self::Prepare, Self::Switch, Self::Settle];
}

/// What goes back with a step of [`Phase::Switch`] that fails.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fate {
    /// Nothing else.
    #[default]
    Own,
    /// Everything of this member, and of no other: each decides for itself.
    Member(ServerName),
    /// Everything of the members that decide together; the number tells such groups apart.
    Together(usize),
}

/// Where a step belongs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// In which part.
    pub phase: Phase,
    /// What goes back with it.
    pub fate: Fate,
    /// A server that can't be reached before anything is switched is left behind, and stops nobody.
    pub may_be_absent: bool,
}

impl Place {
    /// The same in another part.
    #[must_use]
    pub fn within(&self, phase: Phase) -> Self {
        Self {
            phase,
            ..self.clone()
        }
    }
}

/// Resources in their order.
#[derive(Clone, Default)]
pub struct Graph {
    nodes: Vec<Node>,
}

#[derive(Clone)]
struct Node {
    resource: Arc<dyn Resource>,
    after: Vec<NodeId>,
    place: Place,
}

impl Graph {
    /// Adds a resource that comes after those. Only nodes that are in the graph can be named, so
    /// there is no cycle.
    pub fn add(&mut self, place: Place, resource: Arc<dyn Resource>, after: &[NodeId]) -> NodeId {
        let id = self.nodes.len();
        let after = after.iter().copied().filter(|node| *node < id).collect();
        self.nodes.push(Node {
            resource,
            after,
            place,
        });
        id
    }

    /// Every node so far: for what comes after everything else.
    pub fn ids(&self) -> Vec<NodeId> {
        (0..self.nodes.len()).collect()
    }

    /// Asks every resource what is there, all at once.
    pub async fn inspect(self) -> Plan {
        let mut asked = JoinSet::new();
        for (id, node) in self.nodes.iter().enumerate() {
            let resource = node.resource.clone();
            asked.spawn(async move { (id, resource.inspect().await) });
        }
        let mut found: BTreeMap<NodeId, Result<Difference, Problem>> = BTreeMap::new();
        while let Some(answer) = asked.join_next().await {
            if let Ok((id, answer)) = answer {
                found.insert(id, answer);
            }
        }
        let mut steps: Vec<Step> = Vec::new();
        // Something before this node is done, whatever lies between.
        let mut moves: Vec<bool> = Vec::new();
        for (id, node) in self.nodes.into_iter().enumerate() {
            let found = found.remove(&id).unwrap_or_else(|| {
                Err(Problem::new(
                    Code::Bug,
                    "An inspection ended without an answer",
                ))
            });
            let is_moved = node.after.iter().any(|before| moves[*before]);
            let is_needed = changes(&found)
                || found.as_ref().is_ok_and(|found| found.is_pending)
                || (node.resource.follows() && is_moved && found.is_ok());
            moves.push(is_moved || is_needed);
            steps.push(Step {
                resource: node.resource,
                after: node.after,
                place: node.place,
                found,
                is_needed,
            });
        }
        Plan { steps }
    }
}

/// What would be done, in which order.
pub struct Plan {
    /// Every resource of the graph, those without a difference included.
    pub steps: Vec<Step>,
}

/// One resource with what its inspection found.
pub struct Step {
    /// The resource.
    pub resource: Arc<dyn Resource>,
    /// What it comes after.
    pub after: Vec<NodeId>,
    /// Where it belongs.
    pub place: Place,
    /// What would change, or why that isn't known.
    pub found: Result<Difference, Problem>,
    is_needed: bool,
}

/// Does an inspection say that anything would be done?
fn changes(found: &Result<Difference, Problem>) -> bool {
    let acts = |change: &Change| change.sign != Sign::Unlisted;
    found
        .as_ref()
        .is_ok_and(|difference| difference.changes.iter().any(acts))
}

impl Step {
    /// Would anything be done?
    pub fn is_needed(&self) -> bool {
        self.is_needed
    }

    /// Has it nothing of its own to change, and is done because of what comes before it?
    pub fn is_follower(&self) -> bool {
        let is_own = self.found.as_ref().is_ok_and(|found| found.is_pending);
        self.resource.follows() && !is_own && !changes(&self.found)
    }

    /// Does this problem with it leave its server behind, instead of stopping everybody?
    pub fn is_excused(&self, problem: &Problem) -> bool {
        let is_early = self.found.is_err() || self.place.phase == Phase::Prepare;
        self.place.may_be_absent && is_early && (is_absence(problem) || is_silent(problem))
    }
}

/// How many changes of each kind a plan has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Things that would be made.
    pub added: usize,
    /// Things that would be changed.
    pub changed: usize,
    /// Things that would be removed.
    pub removed: usize,
    /// Things that are not listed any more and stay.
    pub unlisted: usize,
}

/// Servers with the same changes to the same kind of thing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// What it is.
    pub title: String,
    /// Which servers; empty for what is about none.
    pub members: Vec<ServerName>,
    /// What would change there.
    pub changes: Vec<Change>,
    /// What can't be taken back.
    pub irreversible: Option<String>,
}

impl Plan {
    /// Every change by kind.
    pub fn counts(&self) -> Counts {
        let mut counts = Counts::default();
        for change in self.differences().flat_map(|found| &found.changes) {
            match change.sign {
                Sign::Add => counts.added += 1,
                Sign::Change => counts.changed += 1,
                Sign::Remove => counts.removed += 1,
                Sign::Unlisted => counts.unlisted += 1,
            }
        }
        counts
    }

    /// Is there nothing to do?
    pub fn is_empty(&self) -> bool {
        !self.steps.iter().any(Step::is_needed)
    }

    /// Resources whose state isn't known, each with its reason.
    pub fn unknown(&self) -> impl Iterator<Item = (&Step, &Problem)> {
        let reason = |step| Some((step, Self::reason(step)?));
        self.steps.iter().filter_map(reason)
    }

    fn reason(step: &Step) -> Option<&Problem> {
        step.found.as_ref().err()
    }

    /// What the inspections said beside their differences.
    pub fn warnings(&self) -> impl Iterator<Item = &Problem> {
        self.differences().flat_map(|found| &found.warnings)
    }

    fn differences(&self) -> impl Iterator<Item = &Difference> {
        self.steps
            .iter()
            .filter_map(|step| step.found.as_ref().ok())
    }

    /// The changes for a person: servers with the same ones together.
    pub fn groups(&self) -> Vec<Group> {
        let mut groups: Vec<Group> = Vec::new();
        for step in &self.steps {
            let Ok(found) = &step.found else { continue };
            if found.changes.is_empty() {
                continue;
            }
            let title = step.resource.describe();
            let same = groups.iter_mut().find(|group| {
                group.title == title
                    && group.changes == found.changes
                    && group.irreversible == found.irreversible
            });
            let member = step.resource.member().cloned();
            match same {
                Some(group) => group.members.extend(member),
                None => groups.push(Group {
                    title,
                    members: member.into_iter().collect(),
                    changes: found.changes.clone(),
                    irreversible: found.irreversible.clone(),
                }),
            }
        }
        groups
    }

    /// A digest of what is there and of what would be done: two plans with the same one do the
    /// same to the same.
    pub fn fingerprint(&self) -> String {
        let mut hasher = blake3::Hasher::new();
        for step in &self.steps {
            let mut feed = |text: &str| {
                hasher.update(&(text.len() as u64).to_le_bytes());
                hasher.update(text.as_bytes());
            };
            feed(&step.resource.describe());
            feed(step.resource.member().map_or("", ServerName::as_str));
            match &step.found {
                Ok(found) => {
                    feed(&found.seen);
                    for change in &found.changes {
                        feed(&change.to_string());
                        feed(&change.detail);
                    }
                }
                Err(problem) => feed(&problem.code.id()),
            }
        }
        hasher.finalize().to_hex().to_string()
    }
}
