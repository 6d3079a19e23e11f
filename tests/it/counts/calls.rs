//! System calls per file, on a member and on the hub: the part of a push that grows with the tree.
//!
//! Two platforms that differ in nothing but the number of files go through the same pushes, on the
//! same agent; what the larger one takes more, by the number of files that it has more, is what a
//! file costs. What a push or a directory costs falls out. Counted are the calls that name
//! something of the platform, which are the same on every machine.

use crate::support::env::World;
use crate::support::root_or_skip;
use crate::support::run::wait_until;
use crate::support::task::put;
use crate::support::trace::{self, Trace};
use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

/// The most calls that one file may take, at one end and in one layout: a new file; one that is
/// unchanged where nothing changed; one that is unchanged in a release that changes three files of
/// one directory in five; and the same where an old generation is used again (`switched` only). Lower
/// them when the cost gets lower; to raise one needs a reason.
///
/// A new file on a member: create, write, a look, times, close, and a look before the vote and one
/// for the index, which it is spared in the layout `switched` if its times were settled by then. On
/// the hub it is looked at, read once with its attributes, and looked at again before the decision.
///
/// An unchanged file in a release of that layout takes 5 calls, or 6 if its times weren't settled by the
/// vote. Counted is the slope between two platforms, so where only the larger one was that late, it is 7.
const BOUNDS: [(&str, &str, [f64; 4]); 4] = [
    ("member", "switched", [7.0, 1.0, 7.0, 2.0]),
    ("member", "in-place", [7.0, 1.0, 1.2, 1.2]),
    ("hub", "switched", [7.0, 1.0, 2.0, 2.0]),
    ("hub", "in-place", [7.0, 1.0, 2.0, 2.0]),
];
/// For what comes once in so many files.
const MARGIN: f64 = 0.2;

const PUSHES: [&str; 4] = [
    "a new file",
    "an unchanged file",
    "an unchanged file in a release",
    "an unchanged file in a later release",
];
/// With one generation kept, the third release from the first push on uses the first one again.
const RELEASES_BEFORE: usize = 2;
const PLATFORMS: [(&str, usize); 2] = [("fewer-files", 250), ("further-files", 500)];
const DIRECTORIES: usize = 5;

#[test]
fn a_file_takes_no_more_system_calls_than_before_switched() {
    calls_stay_within_bounds("switched");
}

#[test]
fn a_file_takes_no_more_system_calls_than_before_in_place() {
    calls_stay_within_bounds("in-place");
}

fn calls_stay_within_bounds(layout: &str) {
    if !root_or_skip("tracing an agent") {
        return;
    }
    let mut traced = Traced::start(layout);
    let costs = PUSHES.map(|push| {
        let releases = match push {
            "an unchanged file in a release" => 1,
            "an unchanged file in a later release" => RELEASES_BEFORE,
            _ => 0,
        };
        for release in 1..=releases {
            for (name, _) in PLATFORMS {
                traced.change(name);
                if release < releases {
                    traced.push(name);
                }
            }
        }
        PLATFORMS.map(|(name, _)| traced.push(name))
    });
    let (mut table, mut problems) = (String::new(), Vec::new());
    for (end, _, bounds) in BOUNDS.iter().filter(|(_, of, _)| *of == layout) {
        for ((push, bound), [fewer, further]) in PUSHES.iter().zip(bounds).zip(&costs) {
            let (fewer, further) = match *end {
                "hub" => (&fewer.hub, &further.hub),
                _ => (&fewer.member, &further.member),
            };
            let slopes = slopes(fewer, further);
            let all: f64 = slopes.values().sum();
            table += &format!("{end}, {layout}, {push}: {all:.2} calls ({bound}): {slopes:.2?}\n");
            if all > bound + MARGIN {
                problems.push(format!(
                    "{push} takes {end} {all:.2} calls instead of {bound}"
                ));
            }
        }
    }
    eprintln!("{table}");
    assert!(problems.is_empty(), "{problems:#?}\n{table}");
}

/// Calls per file, by name; those that don't depend on the number of files are left out.
fn slopes(fewer: &Counts, further: &Counts) -> BTreeMap<String, f64> {
    let files = (PLATFORMS[1].1 - PLATFORMS[0].1) as f64;
    let of = |counts: &Counts, name: &String| counts.get(name).copied().unwrap_or_default();
    let names = fewer.keys().chain(further.keys());
    names
        .map(|name| {
            let more = f64::from(of(further, name)) - f64::from(of(fewer, name));
            (name.clone(), more / files)
        })
        .filter(|(_, slope)| *slope != 0.0)
        .collect()
}

type Counts = BTreeMap<String, u32>;

/// What one push has taken.
#[derive(Debug)]
struct Cost {
    hub: Counts,
    member: Counts,
}

/// A world whose agent is traced all the time, as it runs: without a restart between pushes.
struct Traced {
    world: World,
    agent_trace: PathBuf,
    pushes: usize,
}

impl Traced {
    fn start(layout: &str) -> Self {
        let mut world = World::with_agents(1);
        for (name, files) in PLATFORMS {
            let source = world.source(name);
            for file in 0..files {
                let path = format!("d{}/f{file:03}.php", file % DIRECTORIES);
                put(&source.join(path), format!("<?php // {name} {file}\n"));
            }
            world.add_platform(name, &["--layout", layout, "--keep", "1"]);
        }
        let agent_trace = world.dir().join("agent-trace");
        world.restart_agent_under(0, &trace::words(&agent_trace, true));
        world.restart_agent_with_env(0, &[("FANOUT_LOG", "fanout=debug")]);
        Self {
            world,
            agent_trace,
            pushes: 0,
        }
    }

    /// The same for both platforms: what it costs falls out of the difference.
    fn change(&self, name: &str) {
        let source = self.world.source(name);
        let number = self.pushes;
        put(
            &source.join("d0/f000.php"),
            format!("<?php // edited {number}\n"),
        );
        put(
            &source.join(format!("d0/added{number}.php")),
            "<?php // added\n",
        );
        // The first time there is one to remove.
        let _gone_before = fs::remove_file(source.join("d0/f005.php"));
    }

    fn push(&mut self, name: &str) -> Cost {
        let world = &self.world;
        let hub_trace = world.dir().join(format!("hub-trace-{}", self.pushes));
        let before = fs::metadata(&self.agent_trace).expect("the trace").len();
        trace::push(world, name, &hub_trace).success();
        self.pushes += 1;
        // All that was done for this push stands in the trace before the agent says so.
        let limit = Duration::from_secs(60);
        let ended = wait_until(limit, || {
            self.world.agent_log(0).matches("a session ended").count() >= self.pushes
        });
        assert!(ended, "{}", self.world.agent_log(0));
        let counts = |trace: &Trace, part: &str| {
            let counts = trace.about(part).into_iter();
            counts
                .map(|(name, count)| (name.to_owned(), count))
                .collect()
        };
        let before = usize::try_from(before).expect("small");
        let source = self.world.source(name);
        Cost {
            hub: counts(&Trace::read(&hub_trace, 0), &source.display().to_string()),
            member: counts(&Trace::read(&self.agent_trace, before), name),
        }
    }
}
