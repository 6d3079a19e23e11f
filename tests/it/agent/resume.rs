//! What was transferred before a break is not transferred again.

use crate::support::awkward::pattern;
use crate::support::env::World;
use crate::support::run::wait_until;
use crate::support::task::{put, site};
use std::path::Path;
use std::time::Duration;

const A_WHILE: Duration = Duration::from_secs(120);
const FILES: u64 = 60;
const FILE_BYTES: u64 = 500_000;

/// A platform that takes a while: 30 MB that don't compress.
fn large_world() -> World {
    let world = World::with_site(2, &site(), &[]);
    world.push("site", &[]).all("committed");
    for n in 0..FILES {
        let content = pattern(100 + n, usize::try_from(FILE_BYTES).unwrap());
        put(
            &world.source("site").join(format!("media/f{n:02}.jpg")),
            content,
        );
    }
    world
}

fn files_in_staging(prefix: &Path) -> usize {
    let entries = walkdir::WalkDir::new(prefix)
        .into_iter()
        .filter_map(Result::ok);
    entries
        .filter(|entry| {
            entry
                .path()
                .components()
                .any(|part| part.as_os_str() == "stage")
        })
        .filter(|entry| {
            entry
                .metadata()
                .is_ok_and(|metadata| metadata.len() == FILE_BYTES)
        })
        .count()
}

#[test]
fn an_agent_killed_in_the_middle_of_staging_needs_only_the_rest_later() {
    let mut world = large_world();
    let armed = [("FANOUT_FAILPOINTS", "fs.create_file=kill@40")];
    world.restart_agent_with_env(1, &armed);
    let push = world.start_fanout(&["push", "platform", "site", "--json"], &[]);
    world.wait_for_agent_to_end(1, A_WHILE);
    let staged = u64::try_from(files_in_staging(&world.agent_prefix(1))).unwrap();
    push.finish_within(A_WHILE).exits(3);
    assert!(staged > 5, "only {staged} files were staged");
    world.restart_agent(1);
    let output = world.resync(&[]).success();
    assert_eq!(output.json_member("web2")["outcome"], "committed");
    let (whole, rest) = (
        FILES * FILE_BYTES,
        output.member_number("web2", "content_bytes"),
    );
    assert!(
        rest < whole - (staged - 5) * FILE_BYTES,
        "{rest} bytes of {whole} were sent again, {staged} files had been staged"
    );
    world.assert_delivered("site");
    world.assert_clean("site");
}

#[test]
fn a_push_killed_in_the_middle_needs_only_the_rest_later() {
    let mut world = large_world();
    for index in 0..2 {
        let slow = [("FANOUT_FAILPOINTS", "fs.create_file=pause:120")];
        world.restart_agent_with_env(index, &slow);
    }
    let mut push = world.start_fanout(&["push", "platform", "site", "--json"], &[]);
    let prefix = world.agent_prefix(0);
    let is_half_way = wait_until(A_WHILE, || files_in_staging(&prefix) > 20);
    push.kill();
    assert!(is_half_way, "nothing was staged");
    (0..2).for_each(|index| world.restart_agent(index));
    let output = world.push("site", &[]).all("committed");
    let whole = FILES * FILE_BYTES;
    let rest = output.member_number("web1", "content_bytes");
    assert!(
        rest < whole * 8 / 10,
        "{rest} bytes of {whole} were sent again"
    );
    world.assert_delivered("site");
}
