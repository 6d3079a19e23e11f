//! The agent and the hub are killed at every durable step: at each failpoint that a first push, a
//! change or a rollback passes, found by letting one of them write down what it passes, and in
//! `special` at those that only unusual cases pass.
//!
//! Whoever looks at a root meanwhile sees one of the two generations (with `in-place`, an old or a
//! new entry under each name); the restarted side ends where the hub decided, with its indexes gone
//! or damaged too; nothing is published that wasn't decided; what belongs to the member stays as it
//! is; and the next push succeeds.

mod faults;
mod ground;
mod power;
mod special;

use super::crash::FAILPOINTS;
use crate::support::source_code::rust_files;
use fanout::fs::fault::POINTS;
use ground::{A_WHILE, Bench, Task, Who};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// What every one of the three tasks passes, in either layout.
const AGENT: [&str; 27] = [
    "durable.create",
    "durable.overwrite",
    "durable.overwrite.sync",
    "durable.rename",
    "durable.sync",
    "durable.sync_dir",
    "durable.write",
    "fs.create_dir",
    "fs.create_file",
    "fs.rename",
    "fs.sync_dir",
    "fs.syncfs",
    "member.commit.forward",
    "member.commit.record",
    "member.commit.sync",
    "member.index.rename",
    "member.index.write",
    "member.prepare.journal",
    "member.prepare.sync",
    "member.prepare.vote",
    "member.request",
    "member.retire.journal",
    "member.retire.stage",
    "member.retire.vote",
    "member.stage.directories",
    "member.stage.finish",
    "member.stage.seal",
];
const HUB: [&str; 4] = [
    "hub.decision.before",
    "hub.decision.after",
    "hub.depot.sync",
    "hub.store.commit",
];
const HUB_THAT_PUSHES: [&str; 3] = ["hub.depot.put", "hub.depot.rename", "hub.index"];
const SWITCHED: [&str; 3] = ["member.generation", "member.switch", "member.switched"];
const IN_PLACE: [&str; 3] = ["member.put", "member.touch", "member.window.done"];
/// What a change or a rollback passes.
const CHANGED: [&str; 2] = ["member.overwritten", "fs.unlink"];
const CHANGED_SWITCHED: [&str; 5] = [
    "member.aside.link",
    "member.share.link",
    "member.share.exchange",
    "member.collect.record",
    "member.collect.generation",
];
const CHANGED_IN_PLACE: [&str; 8] = [
    "member.aside",
    "member.exchange",
    "member.take",
    "member.rmdir",
    "member.undo.index",
    "member.undo.tree",
    "member.collect.undo",
    "fs.exchange",
];
const FIRST: [&str; 2] = ["member.stage.write", "fs.symlink"];
const FIRST_SWITCHED: [&str; 2] = ["member.seed", "fs.hard_link"];

/// Which names the sweep of this task must meet, at least.
fn must_pass(layout: &str, task: Task, who: Who) -> Vec<&'static str> {
    let is_switched = layout == "switched";
    let mut names: Vec<&'static str> = Vec::new();
    if who == Who::Hub {
        names.extend(HUB);
        if task != Task::Rollback {
            names.extend(HUB_THAT_PUSHES);
        }
        if task == Task::Change {
            names.push("hub.depot.collect");
        }
        return names;
    }
    names.extend(AGENT);
    names.extend(if is_switched { SWITCHED } else { IN_PLACE });
    if task == Task::First {
        names.extend(FIRST);
        if is_switched {
            names.extend(FIRST_SWITCHED);
        }
    } else {
        names.extend(CHANGED);
        names.extend(match is_switched {
            true => &CHANGED_SWITCHED[..],
            false => &CHANGED_IN_PLACE[..],
        });
        names.push("member.prepare.make");
        names.push("fs.remove_dir");
    }
    names
}

/// The names in a log, with how often each was passed, and in the order of the first time.
fn passed(log: &Path) -> Vec<(String, usize)> {
    let text = fs::read_to_string(log).unwrap_or_default();
    let mut counts = BTreeMap::new();
    let mut order = Vec::new();
    for name in text.lines() {
        let count = counts.entry(name).or_insert(0);
        if *count == 0 {
            order.push(name);
        }
        *count += 1;
    }
    order
        .into_iter()
        .map(|name| (name.to_owned(), counts[name]))
        .collect()
}

fn sweep(layout: &str, task: Task, who: Who) {
    let mut bench = Bench::start(layout, 1);
    if task != Task::First {
        bench.push();
        // Rolled back is to what was a change, and so much is collected from here on.
        for _ in 0..2 {
            bench.prepare(Task::Change);
            bench.push();
        }
    }
    let log = bench.world.dir().join("passed");
    // What the start of the agent alone passes doesn't count.
    let since = match who {
        Who::Agent => "since=member.request,",
        Who::Hub => "",
    };
    let armed = format!("{since}*=log:{}", log.display());
    if who == Who::Agent {
        let env = [(FAILPOINTS, armed.as_str())];
        bench.world.restart_agent_with_env(0, &env);
    }
    bench.prepare(task);
    let words = bench.words(task);
    let words: Vec<_> = words.iter().map(String::as_str).collect();
    let env: &[(&str, &str)] = match who {
        Who::Hub => &[(FAILPOINTS, &armed)],
        Who::Agent => &[],
    };
    bench
        .world
        .start_fanout(&words, env)
        .finish_within(A_WHILE)
        .success();
    let passed = passed(&log);
    bench.world.restart_agent(0);
    bench.push();
    let names: BTreeSet<_> = passed.iter().map(|(name, _)| name.as_str()).collect();
    let missed: Vec<_> = must_pass(layout, task, who)
        .into_iter()
        .filter(|name| !names.contains(name))
        .collect();
    assert!(missed.is_empty(), "never passed: {missed:?} of {names:?}");
    let mut cases = 0;
    for (name, count) in &passed {
        let mut times = BTreeSet::from([1]);
        if is_repeated(name) {
            times.insert(count.div_ceil(2));
            times.insert(count.saturating_sub(1).max(1));
        }
        for time in times {
            bench.run(task, who, &format!("{since}{name}=kill@{time}"));
            cases += 1;
        }
    }
    eprintln!("{layout} {task:?} {who:?}: killed {cases} times, at {names:?}");
}

/// Steps of which one may be done and the next not, with a difference that a reader sees.
fn is_repeated(name: &str) -> bool {
    let many = [
        "member.put",
        "member.exchange",
        "member.take",
        "durable.rename",
    ];
    many.contains(&name) || name == "hub.store.commit"
}

macro_rules! sweeps {
    ($($name:ident: $layout:literal $task:ident $who:ident;)+) => {$(
        #[test]
        fn $name() {
            sweep($layout, Task::$task, Who::$who);
        }
    )+
    const SWEEPS: &[(&str, Task, Who)] = &[$(($layout, Task::$task, Who::$who)),+];
    };
}

sweeps! {
    an_agent_killed_anywhere_in_a_first_push_switched: "switched" First Agent;
    an_agent_killed_anywhere_in_a_change_switched: "switched" Change Agent;
    an_agent_killed_anywhere_in_a_rollback_switched: "switched" Rollback Agent;
    an_agent_killed_anywhere_in_a_first_push_in_place: "in-place" First Agent;
    an_agent_killed_anywhere_in_a_change_in_place: "in-place" Change Agent;
    an_agent_killed_anywhere_in_a_rollback_in_place: "in-place" Rollback Agent;
    a_hub_killed_anywhere_in_a_first_push_switched: "switched" First Hub;
    a_hub_killed_anywhere_in_a_change_switched: "switched" Change Hub;
    a_hub_killed_anywhere_in_a_rollback_switched: "switched" Rollback Hub;
    a_hub_killed_anywhere_in_a_first_push_in_place: "in-place" First Hub;
    a_hub_killed_anywhere_in_a_change_in_place: "in-place" Change Hub;
    a_hub_killed_anywhere_in_a_rollback_in_place: "in-place" Rollback Hub;
}

#[test]
fn the_list_of_failpoints_is_the_code_and_each_is_killed_at() {
    let mut in_code = BTreeSet::new();
    for file in rust_files("src") {
        let text =
            fs::read_to_string(crate::support::source_code::root().join(&file.name)).unwrap();
        let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
        for call in ["point(\"", "errno(\"", "=> \"fs."] {
            for (at, _) in text.match_indices(call) {
                let start = at + call.find('"').unwrap() + 1;
                let name = text[start..].split('"').next().unwrap();
                in_code.insert(name.to_owned());
            }
        }
    }
    let listed: BTreeSet<String> = POINTS.iter().map(|&name| name.to_owned()).collect();
    assert_eq!(listed.len(), POINTS.len(), "a name is listed twice");
    assert_eq!(in_code, listed, "the code, and POINTS in src/fs/fault.rs");
    let sweeps = SWEEPS
        .iter()
        .flat_map(|&(layout, task, who)| must_pass(layout, task, who));
    let killed: BTreeSet<String> = sweeps
        .chain(special::KILLED_AT.iter().copied())
        .map(str::to_owned)
        .collect();
    let forgotten: Vec<_> = listed.difference(&killed).collect();
    assert!(forgotten.is_empty(), "nobody is killed at {forgotten:?}");
}
