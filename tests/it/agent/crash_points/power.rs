//! Outages for real: the agent or the hub dies at a point, and in this moment the file under its
//! ext4 is copied, without any sync. The copy is mounted, which replays the journal of ext4, and
//! whoever died recovers there.

use super::ground::{Bench, Task, Who};
use crate::support::disk::SmallDisk;
use crate::support::root_or_skip;

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
    bench.world.restart_agent(0);
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
