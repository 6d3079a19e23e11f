//! What a session asks of the agent around it: who may do what, and where trees lie.

use super::lists::Lists;
use super::place::Place;
use crate::codes::Problem;
use crate::fs::Dir;
use crate::net::{Connection, NodeKey};
use std::any::Any;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use sync_proto::filter::Preserve;
use sync_proto::special::SpecialFiles;
use sync_proto::wire::{Doubt, Facts, Layout, Notice, ServiceAnswer, ServiceRequest, TreeKey};

/// An answer about services that is being worked on.
pub type Serving = Pin<Box<dyn Future<Output = Result<ServiceAnswer, Problem>> + Send>>;

/// The agent, as its sessions see it.
pub trait Host: Send + Sync + 'static {
    /// What the agent says about itself.
    fn facts(&self) -> Facts;

    /// Transactions of this hub that it must have settled.
    fn doubts(&self, hub: NodeKey) -> Vec<Doubt>;

    /// Accepts the key of a certificate as a hub, in place of the one-time key `token`.
    ///
    /// # Errors
    /// The token is spent, or the certificate isn't one.
    fn join(&self, token: NodeKey, certificate: &[u8]) -> Result<(), Problem>;

    /// Binds a tree to a root.
    ///
    /// # Errors
    /// The root isn't allowed, isn't free, or belongs to somebody else.
    fn bind(&self, hub: NodeKey, proposal: &Proposal<'_>) -> Result<Bound, Problem>;

    /// Takes a tree for one session alone.
    ///
    /// # Errors
    /// It isn't bound, it belongs to another hub, or another session has it.
    fn claim(&self, hub: NodeKey, tree: TreeKey) -> Result<Claim, Problem>;

    /// Notes that this session may change a tree that it has claimed.
    fn note_holder(&self, tree: TreeKey, connection: &Connection);

    /// Ends another session of the same hub that may change the tree: under a new fence it was
    /// left behind.
    fn take_over(&self, hub: NodeKey, tree: TreeKey);

    /// Lets go of a tree that the session has claimed.
    ///
    /// # Errors
    /// The note about it can't be removed.
    fn forget(&self, tree: TreeKey) -> Result<(), Problem>;

    /// A tree was committed: programs that remember where its root led are told before the hub is.
    /// Nothing that fails there undoes a commit.
    fn committed(self: Arc<Self>) -> Pin<Box<dyn Future<Output = ()> + Send>>;

    /// Answers a request about this server's services.
    ///
    /// # Errors
    /// Its administrator doesn't let the agent offer that service, or it failed.
    fn service(self: Arc<Self>, hub: NodeKey, request: ServiceRequest) -> Serving;
}

/// What a hub proposes.
#[derive(Clone, Copy, Debug)]
pub struct Proposal<'a> {
    /// The tree.
    pub tree: TreeKey,
    /// Where.
    pub root: &'a [u8],
    /// How.
    pub layout: Layout,
    /// With what is there.
    pub adopt: bool,
}

/// A tree that was bound.
#[derive(Clone, Debug)]
pub struct Bound {
    /// Names that were in the root.
    pub found_entries: u64,
    /// Where its state lies.
    pub state_beside_root: bool,
    /// Things worth saying.
    pub notices: Vec<Notice>,
}

/// A tree in the hands of one session.
pub struct Claim {
    /// Where it lies.
    pub place: Arc<Place>,
    /// What the administrator preserves, whatever a hub says.
    pub preserve: Preserve,
    /// Which special files the administrator lets a hub make.
    pub special_files: SpecialFiles,
    /// The root as messages show it.
    pub shown: String,
    /// The root as the hub knows it.
    pub root: Vec<u8>,
    /// Room for what hubs say about their trees.
    pub lists: Lists,
    /// Where what a commit moves aside is kept, if that is possible.
    pub overwritten: Option<Dir>,
    /// Ends the claim when it is dropped.
    pub guard: Box<dyn Any + Send + Sync>,
}
