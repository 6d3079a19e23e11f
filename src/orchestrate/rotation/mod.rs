//! The rotation: members leave it before they are changed, and come back when they are proved.
//!
//! Owns the order of leaving and coming back over every balancer in front of a cluster. Refuses to
//! take out more members than `min_healthy` allows, whatever the reason. A member is out only when
//! every balancer says so, and in only when every one finds it up. Invariant: who is out is on
//! record before the first balancer is told, and off it only after the last one has it back.

mod balancers;
mod prove;

pub use prove::{Sites, as_expected};

use crate::clock::Clock;
use crate::codes::{Code, Problem};
use crate::config::{Balancer, Inventory, On, Platform};
use crate::engine::event::MemberName;
use crate::engine::hub::task;
use crate::model::ServerName;
use crate::orchestrate::servers::Servers;
use crate::store::{Cause, OutOfRotation, Store, StoreError};
use balancers::Front;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

/// How long a balancer may take to find a member up that answers its checks.
const UP: Duration = Duration::from_secs(30);

/// The rotation of one cluster.
pub struct Rotation {
    front: Front,
    sites: Sites,
    store: Arc<Store>,
    clock: Clock,
    members: Vec<ServerName>,
    min_healthy: u32,
    author: String,
}

/// Where one member is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Every balancer sends it visitors.
    pub serves: bool,
    /// What the balancers say, one for each that says something else than the others.
    pub status: Vec<String>,
    /// Sessions that it has now, over all balancers.
    pub sessions: u32,
    /// On record as being out.
    pub out: Option<OutOfRotation>,
}

/// What [`Rotation::reconcile`] did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reconciled {
    /// Members that left the rotation.
    pub left: Vec<ServerName>,
    /// Members that came back.
    pub back: Vec<ServerName>,
    /// What went against it, member by member.
    pub problems: Vec<(ServerName, Problem)>,
}

impl Rotation {
    /// The rotation that a platform's members are in. None if it lives on one server alone.
    pub fn of(
        inventory: &Inventory,
        platform: &Platform,
        servers: Arc<Servers>,
        store: Arc<Store>,
        clock: Clock,
        author: &str,
    ) -> Option<Self> {
        let On::Cluster(name) = &platform.on else {
            return None;
        };
        let cluster = inventory.clusters.get(name)?;
        let balancer = inventory.balancer_of(platform);
        Some(Self {
            front: Front::new(servers.clone(), balancer.cloned()),
            sites: Sites::of(inventory, &[platform], servers),
            store,
            clock,
            members: cluster.members.clone(),
            min_healthy: cluster.min_healthy,
            author: author.to_owned(),
        })
    }

    /// The rotations that a server is in, one for each balancer in front of it: with all members
    /// that it shares that balancer with in one cluster, and all the sites it serves.
    pub fn of_server(
        inventory: &Inventory,
        server: &ServerName,
        servers: &Arc<Servers>,
        store: &Arc<Store>,
        clock: &Clock,
        author: &str,
    ) -> Vec<Self> {
        let mut all = Vec::new();
        for cluster in inventory.clusters.values() {
            let is_in = cluster.members.contains(server);
            let Some(name) = cluster.balancer.as_ref().filter(|_| is_in) else {
                continue;
            };
            let platforms: Vec<&Platform> = inventory
                .platforms
                .values()
                .filter(|platform| platform.on == On::Cluster(cluster.name.clone()))
                .collect();
            all.push(Self {
                front: Front::new(servers.clone(), inventory.balancers.get(name).cloned()),
                sites: Sites::of(inventory, &platforms, servers.clone()),
                store: store.clone(),
                clock: clock.clone(),
                members: cluster.members.clone(),
                min_healthy: cluster.min_healthy,
                author: author.to_owned(),
            });
        }
        all
    }

    /// The balancer in front, if fanout knows it.
    pub fn balancer(&self) -> Option<&Balancer> {
        self.front.balancer.as_ref()
    }

    /// Where each member is.
    ///
    /// # Errors
    /// A balancer doesn't answer.
    pub async fn standing(&self) -> Result<BTreeMap<ServerName, Standing>, Problem> {
        let out = self.out().await?;
        let mut said = self.front.standing(&self.members, &out).await?;
        for (name, standing) in &mut said {
            standing.out = out.get(name).cloned();
        }
        Ok(said)
    }

    /// Takes members out until they are idle. `cause` says who may put them back.
    ///
    /// # Errors
    /// [`Code::TooFewHealthy`], [`Code::MemberBusy`], or a balancer doesn't answer. Then they are in
    /// again, unless they are stale or a person wants them out.
    pub async fn take_out(
        &self,
        members: &[ServerName],
        cause: Cause,
        reason: &str,
        cut_off: bool,
    ) -> Result<(), Problem> {
        let before = self.out().await?;
        let is_new = |name: &&ServerName| !before.contains_key(*name);
        let new: Vec<ServerName> = members.iter().filter(is_new).cloned().collect();
        for server in members {
            let out = OutOfRotation {
                server: server.clone(),
                cause,
                reason: reason.to_owned(),
                author: self.author.clone(),
                since: self.clock.now(),
            };
            self.store.take_out(&out).await.map_err(of_store)?;
        }
        // ORDER: the record first. Of two commands that take out different members at once, each
        // counts the other's as gone, and none leaves fewer than may be left.
        if let Err(problem) = self.check_health(members, &new).await {
            for server in members {
                self.store.put_back(server).await.map_err(of_store)?;
                if let Some(out) = before.get(server) {
                    self.store.take_out(out).await.map_err(of_store)?;
                }
            }
            return Err(problem);
        }
        // Those on record as being out are told again: a balancer may have been restarted since.
        let left = match self.front.drain(members).await {
            Ok(()) => self.front.idle(members, cut_off).await,
            Err(problem) => Err(problem),
        };
        let Err(problem) = left else {
            return Ok(());
        };
        if cause == Cause::Push {
            match self.front.ready(&new).await {
                Ok(()) => {
                    for server in &new {
                        self.store.put_back(server).await.map_err(of_store)?;
                    }
                }
                // Where it could be told they are in again; the next resync tells the rest.
                Err(other) => tracing::warn!(%other, "members stay on record as out of rotation"),
            }
        }
        Err(problem)
    }

    /// Puts members back, and waits until every balancer finds them up. Those that a person took out
    /// stay out unless `by_person`.
    ///
    /// # Errors
    /// A balancer doesn't answer, or doesn't find one up: that one stays out.
    pub async fn put_back(&self, members: &[ServerName], by_person: bool) -> Result<(), Problem> {
        let out = self.out().await?;
        let is_free = |name: &&ServerName| {
            let cause = out.get(*name).map(|out| out.cause);
            by_person || cause != Some(Cause::Person)
        };
        let moving: Vec<ServerName> = members.iter().filter(is_free).cloned().collect();
        self.return_to(&moving).await
    }

    /// Asks members for their sites, directly, until each answers as it should.
    ///
    /// # Errors
    /// [`Code::MemberUnproved`], with the site and the answer.
    pub async fn prove(&self, members: &[ServerName]) -> Result<(), Problem> {
        self.sites.prove(members).await
    }

    /// After members were found good or not, as by a resync: those that aren't leave the rotation as
    /// far as `min_healthy` lets them, those that are and were not taken out by a person prove
    /// themselves and come back.
    ///
    /// # Errors
    /// The state of the rotation can't be read.
    pub async fn reconcile(
        &self,
        good: &[ServerName],
        bad: &[(ServerName, String)],
    ) -> Result<Reconciled, Problem> {
        let out = self.out().await?;
        let mut done = Reconciled::default();
        for name in good {
            if out.get(name).is_none_or(|out| out.cause == Cause::Person) {
                continue;
            }
            let one = std::slice::from_ref(name);
            let back = match self.prove(one).await {
                Ok(()) => self.put_back(one, false).await,
                Err(problem) => Err(problem),
            };
            match back {
                Ok(()) => done.back.push(name.clone()),
                Err(problem) => done.problems.push((name.clone(), problem)),
            }
        }
        for (name, why) in bad {
            if out.contains_key(name) {
                continue;
            }
            let one = std::slice::from_ref(name);
            match self.take_out(one, Cause::Stale, why, false).await {
                Ok(()) => done.left.push(name.clone()),
                Err(problem) => done.problems.push((name.clone(), problem)),
            }
        }
        Ok(done)
    }

    async fn return_to(&self, members: &[ServerName]) -> Result<(), Problem> {
        if members.is_empty() {
            return Ok(());
        }
        // ORDER: nginx reads from the record who is out, so it changes first there; for the others
        // the record is the last to change.
        // One that can't be told doesn't keep the others from sending visitors to whoever is proved.
        self.front.ready(members).await?;
        if let Err(problem) = self.front.up(members, UP).await {
            if let Err(error) = self.front.drain(members).await {
                tracing::warn!(%error, "a member that isn't up is not drained either");
            }
            return Err(problem);
        }
        for server in members {
            self.store.put_back(server).await.map_err(of_store)?;
        }
        Ok(())
    }

    /// The others must suffice.
    async fn check_health(
        &self,
        leaving: &[ServerName],
        new: &[ServerName],
    ) -> Result<(), Problem> {
        let leaving: BTreeSet<&ServerName> = leaving.iter().collect();
        let mut out = self.out().await?;
        out.retain(|name, _| !new.contains(name));
        let standing = self.front.standing(&self.members, &out).await?;
        let healthy = standing
            .iter()
            .filter(|(name, standing)| standing.serves && !leaving.contains(name))
            .count();
        let least = usize::try_from(self.min_healthy.max(1)).unwrap_or(usize::MAX);
        // Who doesn't serve takes nothing away by leaving.
        let takes = standing
            .iter()
            .any(|(name, standing)| standing.serves && leaving.contains(name));
        if healthy >= least || !takes {
            return Ok(());
        }
        let names: Vec<&str> = leaving.iter().map(|name| name.as_str()).collect();
        Err(Problem::new(
            Code::TooFewHealthy,
            format!(
                "Without {} only {healthy} members would serve, and min_healthy is {least}",
                names.join(" and ")
            ),
        ))
    }

    async fn out(&self) -> Result<BTreeMap<ServerName, OutOfRotation>, Problem> {
        let out = self.store.out_of_rotation().await.map_err(of_store)?;
        Ok(out
            .into_iter()
            .map(|out| (out.server.clone(), out))
            .collect())
    }
}

impl task::Rotation for Rotation {
    fn leave<'a>(&'a self, members: &'a [MemberName]) -> task::Asked<'a> {
        Box::pin(async move {
            let members = parsed(members);
            self.sites.remember(&members).await;
            self.take_out(&members, Cause::Push, "it is being changed", false)
                .await
        })
    }

    fn prove<'a>(&'a self, members: &'a [MemberName]) -> task::Asked<'a> {
        Box::pin(async move {
            let members = parsed(members);
            self.sites.forget(&members).await?;
            self.prove(&members).await
        })
    }

    fn back<'a>(&'a self, members: &'a [MemberName]) -> task::Asked<'a> {
        Box::pin(async move { self.put_back(&parsed(members), false).await })
    }
}

fn parsed(members: &[MemberName]) -> Vec<ServerName> {
    members
        .iter()
        .filter_map(|name| name.parse().ok())
        .collect()
}

fn of_store(error: StoreError) -> Problem {
    error.problem()
}
