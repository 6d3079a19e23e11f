//! Brakes: what stops a push before the first write, with numbers and the one option that
//! releases it.

use super::task::Overrides;
use crate::codes::{Code, Problem};
use crate::model::{count, counted};
use sync_proto::path::escape;
use sync_proto::wire::Plan;

/// Losing up to so many entries is ordinary, in a small tree too.
const ORDINARY_DELETIONS: u64 = 200;
/// Losing up to this share of the entries is ordinary.
const ORDINARY_SHARE_DIVISOR: u64 = 20;
/// Space that is left alone beside what a push needs.
const RESERVE_BYTES: u64 = 16 << 20;

/// Everything that speaks against carrying out `plan` on `member`.
pub fn check(member: &str, plan: &Plan, overrides: &Overrides) -> Vec<Problem> {
    let mut problems = Vec::new();
    for conflict in &plan.conflicts {
        let code = conflict.code.parse().unwrap_or(Code::PreservedConflict);
        let path = escape(&conflict.path);
        problems.push(Problem::new(
            code,
            format!("{member}: `{path}`: {}", conflict.message),
        ));
    }
    if let Some(what) = &plan.root_changed
        && !overrides.kind_change
    {
        problems.push(Problem::new(
            Code::RootKindChanged,
            format!("{member}: the root changed its kind: {what}"),
        ));
    }
    // What was never committed is moved aside, and nobody loses it.
    let lost = plan.deleted.saturating_sub(plan.surplus);
    let allowed = (plan.entries / ORDINARY_SHARE_DIVISOR).max(ORDINARY_DELETIONS);
    let released = overrides.delete_entries.is_some_and(|count| lost <= count);
    if lost > allowed && !released {
        problems.push(
            Problem::new(
                Code::TooManyDeletions,
                format!(
                    "{member} would lose {lost} of {} (more than {allowed}){}",
                    counted(plan.entries, "entry", "entries"),
                    examples(&plan.deleted_examples)
                ),
            )
            .with_hint(format!("if that is meant: --allow-delete {lost}")),
        );
    } else if !plan.vanished_top.is_empty() && !released {
        problems.push(
            Problem::new(
                Code::TopDirectoryVanishes,
                format!(
                    "{member}: {} would vanish{}",
                    match plan.vanished_top.len() {
                        1 => "a top-level directory".to_owned(),
                        more => format!("{more} top-level directories"),
                    },
                    examples(&plan.vanished_top)
                ),
            )
            .with_hint(format!("if that is meant: --allow-delete {lost}")),
        );
    }
    if overrides.skip_space {
        return problems;
    }
    if plan.write_bytes.saturating_add(RESERVE_BYTES) > plan.free_bytes {
        problems.push(Problem::new(
            Code::NoSpace,
            format!(
                "{member} needs {}, and {} are free",
                counted(plan.write_bytes, "byte", "bytes"),
                count(plan.free_bytes)
            ),
        ));
    }
    if plan.write_inodes > plan.free_inodes {
        problems.push(Problem::new(
            Code::NoInodes,
            format!(
                "{member} needs {}, and {} are free",
                counted(plan.write_inodes, "inode", "inodes"),
                count(plan.free_inodes)
            ),
        ));
    }
    problems
}

fn examples(names: &[Vec<u8>]) -> String {
    if names.is_empty() {
        return String::new();
    }
    let shown: Vec<String> = names
        .iter()
        .take(5)
        .map(|name| format!("`{}`", escape(name)))
        .collect();
    let more = if names.len() > 5 { ", ..." } else { "" };
    format!(": {}{more}", shown.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(entries: u64, deleted: u64) -> Plan {
        Plan {
            entries,
            deleted,
            free_bytes: u64::MAX,
            free_inodes: u64::MAX,
            ..Plan::default()
        }
    }

    #[test]
    fn up_to_five_percent_or_two_hundred_may_go() {
        let none = Overrides::default();
        assert!(check("web1", &plan(1_000, 200), &none).is_empty());
        assert_eq!(check("web1", &plan(1_000, 201), &none).len(), 1);
        assert!(check("web1", &plan(20_000, 1_000), &none).is_empty());
        assert_eq!(check("web1", &plan(20_000, 1_001), &none).len(), 1);
    }

    #[test]
    fn the_printed_count_releases_the_brake_and_nothing_more() {
        let problem = check("web1", &plan(1_000, 900), &Overrides::default()).remove(0);
        assert_eq!(problem.hint(), "if that is meant: --allow-delete 900");
        let released = Overrides {
            delete_entries: Some(900),
            ..Overrides::default()
        };
        assert!(check("web1", &plan(1_000, 900), &released).is_empty());
        assert_eq!(check("web1", &plan(1_000, 901), &released).len(), 1);
    }

    #[test]
    fn what_nobody_committed_is_no_loss() {
        let mut plan = plan(1_000, 900);
        plan.surplus = 700;
        assert!(check("web1", &plan, &Overrides::default()).is_empty());
        plan.surplus = 699;
        let problem = check("web1", &plan, &Overrides::default()).remove(0);
        assert_eq!(problem.hint(), "if that is meant: --allow-delete 201");
    }

    #[test]
    fn a_vanishing_top_level_directory_is_a_brake_of_its_own() {
        let mut plan = plan(1_000, 3);
        plan.vanished_top = vec![b"sites".to_vec()];
        let problems = check("web1", &plan, &Overrides::default());
        assert_eq!(problems[0].code, Code::TopDirectoryVanishes);
    }

    #[test]
    fn space_is_checked_against_the_plan() {
        let mut plan = plan(10, 0);
        plan.write_bytes = 100 << 20;
        plan.free_bytes = 100 << 20;
        plan.free_inodes = 5;
        plan.write_inodes = 6;
        let codes: Vec<Code> = check("web1", &plan, &Overrides::default())
            .iter()
            .map(|p| p.code)
            .collect();
        assert_eq!(codes, [Code::NoSpace, Code::NoInodes]);
    }
}
