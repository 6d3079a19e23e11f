//! Who runs a site's periodic work, and when.
//!
//! One member runs it at a time, by a lease that the hub's store holds. The runner stays the same
//! for as long as it answers, so that its caches stay warm; when it doesn't, the next one takes
//! over. What was missed is run once, not as often as it was missed.

use crate::model::ServerName;

/// How often it is due, in milliseconds.
pub const INTERVAL_MS: i64 = 5 * 60 * 1000;
/// How long one run may take, in milliseconds; for so long a lease holds.
pub const LONGEST_MS: i64 = 10 * 60 * 1000;

/// What is recorded of a site's runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CronRecord {
    /// Who ran it last, or runs it.
    pub runner: Option<ServerName>,
    /// A run was begun and holds until then, Unix milliseconds.
    pub lease_until_ms: Option<i64>,
    /// When the last run that ended well began.
    pub last_ms: Option<i64>,
}

/// What to do now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CronStep {
    /// It isn't due yet.
    NotYet,
    /// A run is under way.
    Running(ServerName),
    /// Run it: on the first of these that answers. Runs were missed, so many.
    Run {
        /// Whom to ask, in this order.
        candidates: Vec<ServerName>,
        /// Runs that were due since the last one, beyond this.
        missed: i64,
    },
}

/// Decides about one site. `members` are those that may run it, in the order of the inventory.
pub fn step(record: &CronRecord, members: &[ServerName], now_ms: i64, forced: bool) -> CronStep {
    if let (Some(until), Some(runner)) = (record.lease_until_ms, &record.runner)
        && until > now_ms
    {
        return CronStep::Running(runner.clone());
    }
    // A clock that was set back must not stop it for ever.
    let since = record.last_ms.map(|last| now_ms.saturating_sub(last));
    let since = since.filter(|since| *since >= 0);
    if !forced && since.is_some_and(|since| since < INTERVAL_MS) {
        return CronStep::NotYet;
    }
    let is_last = |name: &&ServerName| record.runner.as_ref() == Some(*name);
    let (last, others): (Vec<_>, Vec<_>) = members.iter().partition(is_last);
    CronStep::Run {
        candidates: last.into_iter().chain(others).cloned().collect(),
        missed: since.map_or(0, |since| (since / INTERVAL_MS - 1).max(0)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Vec<ServerName> {
        names.iter().map(|name| name.parse().unwrap()).collect()
    }

    fn record(runner: &str, lease: Option<i64>, last: Option<i64>) -> CronRecord {
        CronRecord {
            runner: Some(runner.parse().unwrap()),
            lease_until_ms: lease,
            last_ms: last,
        }
    }

    #[test]
    fn the_runner_stays_and_another_follows_where_it_is_gone() {
        let members = names(&["web1", "web2", "web3"]);
        let run = |record: &CronRecord, members: &[ServerName]| match step(
            record,
            members,
            INTERVAL_MS * 4,
            false,
        ) {
            CronStep::Run { candidates, missed } => (candidates, missed),
            other => panic!("{other:?}"),
        };
        let (candidates, missed) = run(&record("web2", None, Some(0)), &members);
        assert_eq!(candidates, names(&["web2", "web1", "web3"]));
        assert_eq!(missed, 3);
        let (candidates, _) = run(&record("web2", None, Some(0)), &names(&["web1", "web3"]));
        assert_eq!(candidates, names(&["web1", "web3"]));
        assert_eq!(run(&CronRecord::default(), &members), (members, 0));
    }

    #[test]
    fn nothing_runs_twice_and_a_dead_run_ends_with_its_lease() {
        let members = names(&["web1", "web2"]);
        let running = record("web1", Some(1_000), None);
        assert_eq!(
            step(&running, &members, 999, true),
            CronStep::Running(names(&["web1"])[0].clone())
        );
        assert!(matches!(
            step(&running, &members, 1_001, false),
            CronStep::Run { .. }
        ));
    }

    #[test]
    fn it_is_due_by_the_clock_unless_somebody_asks() {
        let members = names(&["web1"]);
        let done = record("web1", None, Some(1_000));
        assert_eq!(step(&done, &members, 2_000, false), CronStep::NotYet);
        assert!(matches!(
            step(&done, &members, 2_000, true),
            CronStep::Run { .. }
        ));
        // The clock was set back by an hour.
        assert!(matches!(
            step(&done, &members, -3_600_000, false),
            CronStep::Run { .. }
        ));
    }
}
