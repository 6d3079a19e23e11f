//! Between looking and writing: what a commit would change, what speaks against it, and which votes
//! it needs.

use super::{Aim, Run, changes_of};
use crate::codes::{Code, Problem};
use crate::engine::event::{Event, MemberReport, Outcome, Phase};
use crate::engine::hub::brakes;
use crate::engine::hub::preflight::{Reached, Unreached};
use crate::engine::hub::task::{Goal, PlannedChange, tell};
use crate::model::counted;
use sync_proto::commit::Policy;
use sync_proto::wire::{self, Item, ItemKind, Plan};
use tokio::task::JoinSet;

impl Run<'_> {
    /// Compares with every member. Also returns who said no, and why, where that stops the others.
    pub(super) async fn compare(
        &mut self,
        aim: &Aim,
        behind: Vec<Reached>,
    ) -> (Vec<(Reached, Plan)>, Option<String>) {
        let mut comparing = JoinSet::new();
        for one in behind {
            let (offer, events) = (aim.offer.clone(), self.hub.events.clone());
            comparing.spawn(async move {
                let member = one.name.clone();
                events.emit(Event::Phase {
                    member,
                    phase: Phase::Comparing,
                });
                let plan = one.session.compare(&offer, one.opened.entries == 0).await;
                (one, plan)
            });
        }
        let (mut planned, mut said_no) = (Vec::new(), None);
        while let Some(result) = comparing.join_next().await {
            match result {
                Ok((one, Ok(plan))) => {
                    for notice in &plan.notices {
                        tell(&self.hub.events, &one.name, notice);
                    }
                    planned.push((one, plan));
                }
                Ok((one, Err(error))) => {
                    let outcome = match error.is_lost() {
                        true => Outcome::Stale,
                        false => Outcome::Failed,
                    };
                    if outcome == Outcome::Failed && self.is_unanimous() {
                        said_no.get_or_insert_with(|| format!("{} said no: {error}", one.name));
                    }
                    one.session.detach();
                    self.set_ended(&one, outcome, Some(error.problem()));
                }
                Err(error) => tracing::error!(%error, "a member's task was lost"),
            }
        }
        planned.sort_by_key(|(one, _)| one.at);
        (planned, said_no)
    }

    pub(super) fn refusals(&self, planned: &[(Reached, Plan)]) -> Vec<Problem> {
        let mut refusals: Vec<Problem> = planned
            .iter()
            .flat_map(|(one, plan)| brakes::check(&one.name, plan, &self.task.overrides))
            .collect();
        let missing = self.task.targets.len() - self.in_play();
        if self.task.policy == Policy::All && (missing > 0 || !self.task.left_out.is_empty()) {
            refusals.push(Problem::new(
                Code::VotesMissing,
                format!(
                    "The policy `all` needs every member, and {} of {} take no part",
                    missing + self.task.left_out.len(),
                    self.task.targets.len() + self.task.left_out.len()
                ),
            ));
        }
        let healthy = u32::try_from(self.in_play()).unwrap_or(u32::MAX);
        // Votes that can't come in are not worth a transfer.
        if let Policy::Quorum(votes) = self.task.policy
            && healthy < votes
        {
            refusals.push(Problem::new(
                Code::VotesMissing,
                format!(
                    "The policy `quorum:{votes}` needs {}, and {healthy} can vote",
                    counted(votes.into(), "member", "members")
                ),
            ));
        }
        if healthy < self.task.min_healthy {
            refusals.push(Problem::new(
                Code::TooFewHealthy,
                format!(
                    "Only {} can take part, and min_healthy is {}",
                    counted(healthy.into(), "member", "members"),
                    self.task.min_healthy
                ),
            ));
        }
        refusals
    }

    /// A repair is each member's own affair: where a brake stops one, the others go on.
    pub(super) async fn leave_refused(
        &mut self,
        planned: Vec<(Reached, Plan)>,
    ) -> Vec<(Reached, Plan)> {
        let mut left = Vec::new();
        for (one, plan) in planned {
            let refusal = brakes::check(&one.name, &plan, &self.task.overrides)
                .into_iter()
                .next();
            match refusal {
                Some(problem) if !self.task.report_only => {
                    let _goodbye = one.session.leave().await;
                    self.set(one.at, Outcome::Failed, Some(problem.without(&one.name)));
                }
                _ => left.push((one, plan)),
            }
        }
        left
    }

    /// Which votes the members that take part must give, and how many at least. Those that are
    /// there already count as votes; a repair is each member's own affair.
    pub(super) fn votes(&self, goal: &Goal) -> (Policy, u32) {
        let there = self
            .reports
            .iter()
            .flatten()
            .filter(|report| report.outcome.is_good());
        let there = u32::try_from(there.count()).unwrap_or(u32::MAX);
        let least = self.task.min_healthy.saturating_sub(there).max(1);
        match (goal, self.task.policy) {
            (Goal::Desired, _) => (Policy::Each, 1),
            (_, Policy::Quorum(count)) => {
                (Policy::Quorum(count.saturating_sub(there).max(1)), least)
            }
            (_, Policy::Each) => (Policy::Quorum(least), least),
            (_, policy) => (policy, least),
        }
    }

    /// Members that are up to date or still taking part.
    pub(super) fn in_play(&self) -> usize {
        let out = |report: &Option<MemberReport>| {
            report
                .as_ref()
                .is_some_and(|report| !report.outcome.is_good())
        };
        self.reports.iter().filter(|report| !out(report)).count()
    }

    /// Lists what would change; members with the same changes together.
    pub(super) async fn itemise(&mut self, planned: Vec<(Reached, Plan)>, refused: bool) {
        for (one, plan) in planned {
            let items = one.session.items().await.unwrap_or_default();
            let _goodbye = one.session.leave().await;
            let changed = changes_of(&plan);
            let outcome = match (refused, changed) {
                (true, _) => Outcome::Aborted,
                (false, 0) => Outcome::UpToDate,
                (false, _) => Outcome::Stale,
            };
            self.set_done(&one, outcome, changed);
            let same = self.report.planned.iter_mut().find(|group| {
                group.items == items && group.plan.foreign_paths == plan.foreign_paths
            });
            match same {
                Some(group) => group.members.push(one.name),
                None => self.report.planned.push(PlannedChange {
                    members: vec![one.name],
                    plan,
                    items,
                }),
            }
        }
    }

    /// A member that never had the tree would get all of it; a look doesn't bind it. Returns the
    /// others.
    pub(super) fn itemise_unbound(
        &mut self,
        aim: &Aim,
        unreached: Vec<Unreached>,
    ) -> Vec<Unreached> {
        let is_unbound = |one: &Unreached| one.answered && one.problem.code == Code::TreeUnknown;
        let (unbound, rest): (Vec<_>, Vec<_>) = unreached.into_iter().partition(is_unbound);
        if unbound.is_empty() {
            return rest;
        }
        let manifest = &aim.offer.manifest;
        let added = manifest.entries().map(|(directory, entry)| Item {
            path: directory.path_of(&entry.name).as_bytes().to_vec(),
            kind: ItemKind::Added,
            sort: wire::sort_letter(&entry.kind),
            attributes: String::new(),
        });
        let mut items: Vec<_> = added.collect();
        items.sort_by(|a, b| a.path.cmp(&b.path));
        let plan = Plan {
            added: items.len() as u64,
            write_bytes: manifest.content_bytes(),
            free_bytes: u64::MAX,
            free_inodes: u64::MAX,
            ..Plan::default()
        };
        let named = |one: &Unreached| self.task.targets.get(one.at).map(|it| it.name.clone());
        self.report.planned.push(PlannedChange {
            members: unbound.iter().filter_map(named).collect(),
            plan: plan.clone(),
            items,
        });
        for one in unbound {
            self.set(one.at, Outcome::Stale, None);
            if let Some(Some(report)) = self.reports.get_mut(one.at) {
                report.changed_entries = plan.added;
            }
        }
        rest
    }
}
