//! Plans and results as people and scripts read them.
//!
//! Items are data and go to standard output, one entry a line, as rsync's `-i` does it: `+` new,
//! `~` other content, `m` metadata only, `-` gone. Members with the same changes are shown once.

use super::Context;
use super::human::{bytes, count, counted};
use super::json::{MemberLine, ResultLine, TaskLine};
use super::plan::level_word;
use super::table;
use super::work::Outcome;
use crate::clock::Clock;
use crate::config::Platform;
use crate::engine::event::{MemberName, MemberReport, Stays};
use crate::engine::hub::task::{PlannedChange, TaskReport};
use crate::model::ServerName;
use serde_json::{Value, json};
use sync_proto::filter::Preserve;
use sync_proto::path::{RelPath, escape};
use sync_proto::wire::{Item, ItemKind, Plan};

/// Differences that somebody allowed for a while.
pub(crate) struct Ignored(Vec<(ServerName, Preserve)>);

impl Ignored {
    /// Those of a platform that are not over yet.
    pub(crate) fn of(platform: &Platform, clock: &Clock) -> Self {
        let today = clock.today();
        let current = platform
            .drift_ignore
            .iter()
            .filter(|ignore| ignore.until >= today);
        Self(
            current
                .filter_map(|ignore| {
                    // A rule that the inventory let pass and the engine doesn't hides nothing.
                    let rule = Preserve::parse(&[&ignore.path]).ok()?;
                    Some((ignore.member.clone(), rule))
                })
                .collect(),
        )
    }

    /// The items that are worth a word on this member.
    pub(crate) fn rest(&self, member: &str, items: &[Item]) -> Vec<Item> {
        let covered = |item: &Item| {
            let Ok(path) = RelPath::parse(&item.path) else {
                return false;
            };
            let mut rules = self.0.iter().filter(|(name, _)| name.as_str() == member);
            rules.any(|(_, rule)| rule.covers(&path).is_some())
        };
        let (ignored, rest): (Vec<&Item>, Vec<&Item>) = items.iter().partition(|it| covered(it));
        // Putting an entry into a directory changes the directory's time, and nothing else.
        let holds_ignored = |item: &Item| {
            item.sort == b'd'
                && item.attributes == "t"
                && ignored.iter().any(|inner| parent(&inner.path) == item.path)
        };
        rest.into_iter()
            .filter(|item| !holds_ignored(item))
            .cloned()
            .collect()
    }

    /// True if something may differ on this member.
    pub(crate) fn is_about(&self, member: &str) -> bool {
        self.0.iter().any(|(name, _)| name.as_str() == member)
    }

    /// The same for what is planned, members with the same rest together.
    pub(crate) fn filter(&self, planned: &mut Vec<PlannedChange>) {
        if self.0.is_empty() {
            return;
        }
        let mut groups: Vec<PlannedChange> = Vec::new();
        for change in planned.drain(..) {
            for member in &change.members {
                let items = self.rest(member, &change.items);
                match groups.iter_mut().find(|group| group.items == items) {
                    Some(group) => group.members.push(member.clone()),
                    None => groups.push(PlannedChange {
                        members: vec![member.clone()],
                        plan: change.plan.clone(),
                        items,
                    }),
                }
            }
        }
        groups.retain(|group| !group.items.is_empty());
        *planned = groups;
    }
}

fn parent(path: &[u8]) -> &[u8] {
    let slash = path.iter().rposition(|&byte| byte == b'/');
    &path[..slash.unwrap_or(0)]
}

/// What a task would change, entry by entry.
pub(crate) fn planned(context: &Context, platform: &Platform, outcome: &Outcome, what: &str) {
    let report = &outcome.report;
    if context.ui.is_json() {
        plan_lines(context, platform, report);
        return;
    }
    let live = outcome
        .before
        .map_or("nothing was pushed yet".into(), |s| format!("now at {s}"));
    context.ui.status(format!(
        "What {what} of {} to {} would change ({}, {live}):",
        platform.name, platform.on, platform.layout
    ));
    context
        .ui
        .status(format!("  excluded: {}", outcome.task.exclude.join("  ")));
    if !outcome.task.preserve.is_empty() {
        context
            .ui
            .status(format!("  preserved: {}", outcome.task.preserve.join("  ")));
    }
    for change in &report.planned {
        context.ui.out(format!("{}:", names(&change.members)));
        items(context, &change.items);
        context.ui.out(format!("  {}", numbers(&change.plan)));
        for line in staying(&Stays::of(&change.plan)) {
            context.ui.out(format!("  {line}"));
        }
    }
    let unchanged: Vec<MemberName> = report
        .members
        .iter()
        .filter(|m| m.problem.is_none() && m.outcome.is_good())
        .map(|m| m.name.clone())
        .collect();
    if !unchanged.is_empty() {
        context.ui.out(format!("{}: nothing", names(&unchanged)));
    }
    if let Some(window) = mixture(platform, report) {
        context.ui.hint(window);
    }
    for member in &report.members {
        if let Some(problem) = &member.problem
            && !report.refusals.contains(problem)
        {
            context.ui.warn(problem.of(&member.name));
        }
    }
    context.ui.status("Nothing was changed.");
}

/// What is left alone, one a line.
fn staying(stays: &Stays) -> impl Iterator<Item = String> {
    let foreign = stays.foreign.iter();
    let kept = stays.kept.iter();
    foreign
        .map(|path| format!("foreign, stays: {path}"))
        .chain(kept.map(|path| format!("kept, for it holds what may not go: {path}")))
}

/// What was left alone on each member, members with the same together.
fn stayed(reports: &[MemberReport]) -> Vec<String> {
    let mut groups: Vec<(&Stays, Vec<MemberName>)> = Vec::new();
    for report in reports {
        match groups.iter_mut().find(|(stays, _)| **stays == report.stays) {
            Some((_, members)) => members.push(report.name.clone()),
            None => groups.push((&report.stays, vec![report.name.clone()])),
        }
    }
    let lines = |(stays, members): (&Stays, Vec<MemberName>)| {
        let members = names(&members);
        staying(stays)
            .map(|line| format!("{members}: {line}"))
            .collect::<Vec<_>>()
    };
    groups.into_iter().flat_map(lines).collect()
}

/// What would change, as JSON lines.
pub(crate) fn plan_lines(context: &Context, platform: &Platform, report: &TaskReport) {
    for change in &report.planned {
        context.ui.json(&plan_line(platform, change));
    }
}

/// In place, visitors may see old and new files together while the commit runs.
fn mixture(platform: &Platform, report: &TaskReport) -> Option<String> {
    use crate::model::Layout;
    let most = report
        .planned
        .iter()
        .map(|change| change.items.len())
        .max()?;
    // Measured: 17 to 20 ms for 1,000 replaced entries.
    let millis = (most as u64 / 50).max(1);
    (platform.layout == Layout::InPlace && most > 1).then(|| {
        format!(
            "in-place: for about {millis} ms per member visitors may see old and new files \
             together; the layout `switched` avoids it"
        )
    })
}

/// One entry a line.
pub(crate) fn items(context: &Context, items: &[Item]) {
    for item in items {
        if context.ui.is_closed() {
            return;
        }
        context.ui.out(format!("  {}", item_line(item)));
    }
}

fn item_line(item: &Item) -> String {
    let sign = match item.kind {
        ItemKind::Added => '+',
        ItemKind::Removed => '-',
        ItemKind::Content => '~',
        ItemKind::Meta => 'm',
    };
    format!("{sign} {}", named(item))
}

/// An entry's path as it is shown, with which attributes differ; the root is `./`.
pub(crate) fn named(item: &Item) -> String {
    let dot = if item.path.is_empty() { "." } else { "" };
    let slash = if item.sort == b'd' { "/" } else { "" };
    let attributes = match item.attributes.as_str() {
        "" => String::new(),
        attributes => format!("  ({})", escape(attributes.as_bytes())),
    };
    format!("{dot}{}{slash}{attributes}", escape(&item.path))
}

/// A plan in numbers.
pub(crate) fn numbers(plan: &Plan) -> String {
    let mut parts = vec![
        format!("{} new", count(plan.added)),
        format!("{} replaced", count(plan.replaced)),
        format!("{} metadata only", count(plan.touched)),
        format!("{} deleted", count(plan.deleted)),
    ];
    if plan.drifted > 0 {
        parts.push(format!(
            "{} changed on the member and kept aside",
            count(plan.drifted)
        ));
    }
    if plan.foreign > 0 {
        parts.push(format!(
            "{} foreign and left alone",
            counted(plan.foreign, "entry is", "entries are")
        ));
    }
    format!("{}; {} to write", parts.join(", "), bytes(plan.write_bytes))
}

/// Names with commas.
pub(crate) fn names(members: &[MemberName]) -> String {
    members
        .iter()
        .map(AsRef::as_ref)
        .collect::<Vec<&str>>()
        .join(", ")
}

fn plan_line(platform: &Platform, change: &PlannedChange) -> ResultLine<Value> {
    let plan = &change.plan;
    let paths = |paths: &[Vec<u8>]| paths.iter().map(|path| escape(path)).collect::<Vec<_>>();
    let members: Vec<&str> = change.members.iter().map(AsRef::as_ref).collect();
    ResultLine::of_type(
        "plan",
        json!({
            "platform": platform.name.as_str(),
            "members": members,
            "added": plan.added,
            "replaced": plan.replaced,
            "touched": plan.touched,
            "deleted": plan.deleted,
            "drifted": plan.drifted,
            "foreign": plan.foreign,
            "write_bytes": plan.write_bytes,
            "kept": paths(&plan.kept),
            "foreign_paths": paths(&plan.foreign_paths),
            "items": change.items.iter().map(item_shape).collect::<Vec<_>>(),
        }),
    )
}

fn item_shape(item: &Item) -> Value {
    let kind = match item.kind {
        ItemKind::Added => "added",
        ItemKind::Removed => "deleted",
        ItemKind::Content => "content",
        ItemKind::Meta => "metadata",
    };
    json!({
        "path": escape(&item.path),
        "kind": kind,
        "sort": char::from(item.sort).to_string(),
        "attributes": item.attributes,
    })
}

/// The JSON result of a task.
pub(crate) fn task_line(report: &TaskReport) -> TaskLine {
    let mut line = TaskLine::new(
        report.task,
        report.platform.as_str(),
        level_word(report.level),
    );
    line.generation = report.generation;
    line.members = report.members.iter().map(MemberLine::from).collect();
    line.commit_window_us = report.commit_window_us;
    line.commit_window_error_us = report.commit_window_error_us;
    line.encoded_objects = report.encoded_objects;
    line.encoded_bytes = report.encoded_bytes;
    line.error = report.refusals.first().map(Into::into);
    line
}

/// Warnings and refusals of a task, then its table or its JSON line.
pub(crate) fn closing(context: &Context, report: &TaskReport, with_table: bool) {
    for warning in &report.warnings {
        context.ui.warning(warning);
    }
    if context.ui.is_json() {
        context.ui.json(&task_line(report));
    } else if with_table && report.refusals.is_empty() {
        context.ui.out(table::members(&report.members));
        for member in &report.members {
            if let Some(at) = &member.kept_aside {
                let name = &member.name;
                context.ui.out(format!(
                    "{name}: what nobody had committed is kept in `{at}`"
                ));
            }
        }
        for line in stayed(&report.members) {
            context.ui.out(line);
        }
        // A hint for each kind of trouble, once.
        let mut told = Vec::new();
        for problem in report
            .members
            .iter()
            .filter_map(|member| member.problem.as_ref())
        {
            if !told.contains(&problem.hint()) {
                told.push(problem.hint());
                context.ui.hint(problem.hint());
            }
        }
    }
    for refusal in &report.refusals {
        context.ui.failure(refusal);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(path: &str, kind: ItemKind, sort: u8, attributes: &str) -> Item {
        Item {
            path: path.into(),
            kind,
            sort,
            attributes: attributes.into(),
        }
    }

    #[test]
    fn an_entry_is_one_line_whatever_its_name() {
        let lines: Vec<String> = [
            item("web", ItemKind::Added, b'd', ""),
            item("web/index.php", ItemKind::Content, b'f', "st"),
            item("a\nb", ItemKind::Meta, b'f', "p"),
            item("old", ItemKind::Removed, b'l', ""),
            item("", ItemKind::Meta, b'd', "t"),
        ]
        .iter()
        .map(item_line)
        .collect();
        assert_eq!(
            lines,
            [
                "+ web/",
                "~ web/index.php  (st)",
                "m a\\x0Ab  (p)",
                "- old",
                "m ./  (t)"
            ]
        );
    }

    #[test]
    fn a_known_difference_is_not_reported_until_its_last_day_is_over() {
        let text = "[servers.web1]\naddress = \"a\"\n[servers.web2]\naddress = \"b\"\n\
            [clusters.front]\nmembers = [\"web1\", \"web2\"]\n\
            [platforms.drupal]\non = \"front\"\npath = \"/src\"\nroot = \"/srv/x\"\n\
            [[platforms.drupal.drift_ignore]]\npath = \"/robots.txt\"\nmember = \"web1\"\n\
            reason = \"tried out\"\nuntil = 2026-12-31\n";
        let inventory = crate::config::Inventory::parse(text, "fanout.toml").unwrap();
        let platform = inventory.platform("drupal").unwrap();
        let at = |millis| Clock::fixed(crate::clock::UnixMillis(millis));
        let change = || PlannedChange {
            members: vec!["web1".into(), "web2".into()],
            plan: Plan::default(),
            items: vec![item("robots.txt", ItemKind::Content, b'f', "s")],
        };
        let mut planned = vec![change()];
        // 2026-12-01
        Ignored::of(platform, &at(1_796_083_200_000)).filter(&mut planned);
        assert_eq!(names(&planned[0].members), "web2");
        let mut planned = vec![change()];
        // 2027-01-03
        Ignored::of(platform, &at(1_798_934_400_000)).filter(&mut planned);
        assert_eq!(names(&planned[0].members), "web1, web2");
    }
}
