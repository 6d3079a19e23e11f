//! Outages for real: the agent or the hub dies at a point, and in this moment the file under its
//! ext4 is copied, without any sync. The copy is mounted, which replays the journal of ext4, and
//! whoever died recovers there.

use super::super::crash::FAILPOINTS;
use super::ground::{Bench, Boots, Task, Who};
use crate::support::awkward::pattern;
use crate::support::disk::SmallDisk;
use crate::support::env::World;
use crate::support::root_or_skip;
use crate::support::task::put;
use crate::support::tree::set_mtime;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Nothing is written back by time alone, and renames don't force content out.
const LAZY: &str = "commit=300,noauto_da_alloc,data=writeback";
const DISK_BYTES: u64 = 48 << 20;

const BOTH: [&str; 9] = [
    "durable.rename",
    "member.prepare.journal",
    "member.prepare.vote",
    "member.commit.forward",
    "member.commit.sync",
    "member.commit.record",
    "member.retire.stage",
    "member.retire.journal",
    "member.index.rename",
];
const SWITCHED: [&str; 4] = [
    "member.generation",
    "member.switch",
    "member.switched",
    "member.share.exchange",
];
const IN_PLACE: [&str; 6] = [
    "member.put",
    "member.exchange",
    "member.take",
    "member.touch",
    "member.window.done",
    "member.undo.tree",
];
const HUB: [&str; 6] = [
    "hub.depot.put",
    "hub.depot.sync",
    "hub.decision.before",
    "hub.decision.after",
    "hub.store.commit",
    "hub.depot.collect",
];

fn outages(layout: &str, who: Who, points: &[&str]) {
    if !root_or_skip("mounting a small disk") {
        return;
    }
    let mut bench = Bench::start(layout, 1);
    let under = match who {
        Who::Agent => bench.world.dir().join("web1"),
        Who::Hub => bench.world.hub_dir(),
    };
    bench.world.kill_agent(0);
    bench.disk = Some(SmallDisk::under(&under, DISK_BYTES, LAZY));
    bench.boots = Some(Boots::of(&mut bench.world, 0));
    bench.push();
    for _ in 0..2 {
        bench.prepare(Task::Change);
        bench.push();
    }
    for task in [Task::Change, Task::Rollback] {
        for point in points {
            if task == Task::Rollback
                && !["hub.decision", "member."]
                    .iter()
                    .any(|it| point.starts_with(it))
            {
                continue;
            }
            let since = if who == Who::Agent {
                "since=member.request,"
            } else {
                ""
            };
            bench.run(task, who, &format!("{since}{point}=kill@1"));
        }
    }
    // No process may hold the disk when it goes.
    bench.world.kill_agent(0);
}

#[test]
fn an_agent_whose_power_goes_recovers_on_what_ext4_kept_switched() {
    outages("switched", Who::Agent, &[&BOTH[..], &SWITCHED].concat());
}

#[test]
fn an_agent_whose_power_goes_recovers_on_what_ext4_kept_in_place() {
    outages("in-place", Who::Agent, &[&BOTH[..], &IN_PLACE].concat());
}

#[test]
fn a_hub_whose_power_goes_recovers_on_what_ext4_kept() {
    outages("switched", Who::Hub, &HUB);
}

const STAGED: usize = 40;

/// What an earlier boot staged may have the right size and time and none of its bytes. Under the same
/// boot a push goes on with it; after another one it isn't even looked at.
#[test]
fn what_was_staged_before_another_boot_is_not_gone_on_with() {
    if !root_or_skip("another boot") {
        return;
    }
    let mut world = World::with_agents(1);
    let source = world.source("site");
    let write = |generation: usize| {
        for nth in 0..STAGED {
            // Nothing that one object could hold of them all.
            let content = pattern((generation * STAGED + nth) as u64, 200_000);
            put(&source.join(format!("f{nth:02}")), content);
        }
    };
    write(0);
    world.add_platform("site", &[]);
    let mut boots = Boots::of(&mut world, 0);
    world.push("site", &[]).success();
    let mut sent_bytes = Vec::new();
    for (generation, is_another_boot) in [(1, false), (2, true)] {
        write(generation);
        let armed = format!("since=member.request,fs.create_file=kill@{}", STAGED / 2);
        world.restart_agent_with_env(0, &[(FAILPOINTS, &armed)]);
        let words = ["push", "platform", "site", "--json"];
        let push = world.start_fanout(&words, &[]);
        world.wait_for_agent_to_end(0, Duration::from_secs(60));
        let _lost = push.finish_within(Duration::from_secs(120));
        let staged = staged_files(&world);
        assert!(!staged.is_empty(), "nothing was staged");
        if is_another_boot {
            boots.next();
            for file in &staged {
                let stat = file.metadata().unwrap();
                fs::write(file, vec![0; usize::try_from(stat.len()).unwrap()]).unwrap();
                set_mtime(file, stat.mtime(), stat.mtime_nsec());
            }
        }
        world.restart_agent(0);
        sent_bytes.push(world.push("site", &[]).success().content_bytes());
        world.assert_delivered("site");
    }
    eprintln!("sent to go on, and after another boot: {sent_bytes:?} bytes");
    assert!(2 * sent_bytes[1] > 3 * sent_bytes[0], "{sent_bytes:?}");
}

/// Files with content in the staging area.
fn staged_files(world: &World) -> Vec<PathBuf> {
    fn walk(at: &Path, into: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(at).unwrap() {
            let path = entry.unwrap().path();
            let stat = path.symlink_metadata().unwrap();
            if stat.is_dir() {
                walk(&path, into);
            } else if stat.is_file() && stat.len() > 10_000 {
                into.push(path);
            }
        }
    }
    let mut files = Vec::new();
    let live = world.live(0, "site");
    walk(
        &live.parent().unwrap().join(".site.fanout/stage"),
        &mut files,
    );
    files
}
