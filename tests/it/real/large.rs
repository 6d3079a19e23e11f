//! Files larger than what is held in memory or kept in the depot.

use crate::support::awkward::pattern;
use crate::support::env::World;
use crate::support::run::wait_until;
use crate::support::snapshot::allocated_bytes;
use crate::support::task::site;
use crate::support::tree::{Tree, set_mtime};
use std::fs;
use std::io::{Seek, SeekFrom, Write};
use std::path::Path;
use std::time::Duration;

const GIB: u64 = 1 << 30;
const A_WHILE: Duration = Duration::from_secs(200);

#[test]
fn a_file_of_2_gib_arrives_and_a_change_in_it_travels_alone() {
    let chunk = pattern(50, 1_000_000);
    let source = Tree::new().file("index.php", "x").sparse(
        "backup.img",
        2 * GIB + 12_345,
        &[(0, &chunk), (GIB - 500_000, &chunk), (2 * GIB, b"the end")],
    );
    let world = World::with_site(1, &source, &[]);
    let first = run_long(&world);
    assert!(first < 40_000_000, "{first} bytes for a file of holes");
    let live = world.live(0, "site").join("backup.img");
    assert!(is_same(&world.source("site").join("backup.img"), &live));
    assert!(allocated_bytes(&live) < 64 << 20, "the holes were filled");
    let path = world.source("site").join("backup.img");
    let mut file = fs::OpenOptions::new().write(true).open(&path).unwrap();
    file.seek(SeekFrom::Start(GIB + 77)).unwrap();
    file.write_all(b"a change").unwrap();
    drop(file);
    set_mtime(&path, 1_700_000_001, 1);
    let second = run_long(&world);
    assert!(second < 2_000_000, "{second} bytes for a change of eight");
    assert!(is_same(&path, &world.live(0, "site").join("backup.img")));
}

/// Pushes, which takes longer than usual, and returns the bytes of content.
#[track_caller]
fn run_long(world: &World) -> u64 {
    let push = world.start_fanout(&["push", "platform", "site", "--json"], &[]);
    let output = push.finish_within(A_WHILE).all("committed");
    eprintln!("{:?} and {} bytes", output.took, output.content_bytes());
    output.content_bytes()
}

fn is_same(a: &Path, b: &Path) -> bool {
    let mut compare = std::process::Command::new("cmp");
    crate::support::run::run(compare.arg("--").arg(a).arg(b)).code == Some(0)
}

#[test]
fn a_large_file_resumes_where_it_was_interrupted() {
    const SIZE: usize = 96 << 20;
    let world = World::with_site(1, &site(), &[]);
    world.push("site", &[]).all("committed");
    let content = pattern(60, SIZE);
    crate::support::task::put(&world.source("site").join("video.mp4"), &content);
    let mut push = world.start_fanout(&["push", "platform", "site", "--json"], &[]);
    let prefix = world.agent_prefix(0);
    let half_there = wait_until(A_WHILE, || staged_bytes(&prefix) > 24 << 20);
    push.kill();
    assert!(
        half_there,
        "nothing was staged\n{}",
        push.output().describe()
    );
    let staged = staged_bytes(&prefix);
    let output = world.push("site", &[]).all("committed");
    let rest = output.content_bytes();
    let size = u64::try_from(SIZE).unwrap();
    assert!(
        rest < size - staged / 2,
        "{rest} of {size} bytes after {staged} were staged"
    );
    world.assert_delivered("site");
}

fn staged_bytes(prefix: &Path) -> u64 {
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
        .filter_map(|entry| Some(allocated(&entry.metadata().ok()?)))
        .max()
        .unwrap_or(0)
}

fn allocated(metadata: &fs::Metadata) -> u64 {
    use std::os::unix::fs::MetadataExt;
    metadata.blocks() * 512
}

#[test]
fn a_file_too_large_for_the_depot_is_repaired_from_the_source_while_it_is_unchanged() {
    const SIZE: u64 = 70 << 20;
    let chunk = pattern(70, 200_000);
    let source = Tree::new().file("index.php", "x").sparse(
        "video.mp4",
        SIZE,
        &[(0, &chunk), (SIZE / 2, &chunk)],
    );
    let world = World::with_site(1, &source, &[]);
    run_long(&world);
    let live = world.live(0, "site").join("video.mp4");
    fs::remove_file(&live).unwrap();
    world.resync(&[]).success();
    let path = world.source("site").join("video.mp4");
    assert!(is_same(&path, &live));
    // A changed source is no source: nothing of it is published by a repair.
    fs::remove_file(&live).unwrap();
    fs::write(&path, "something else").unwrap();
    let output = world.resync(&[]);
    assert_ne!(output.code, Some(0), "{}", output.describe());
    assert_eq!(output.json_member("web1")["error"]["code"], "FX0601");
}
