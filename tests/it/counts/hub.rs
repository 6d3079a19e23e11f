//! What eight members cost the hub that one doesn't: no further reading of the source, no further
//! encoding.

use crate::support::awkward::pattern;
use crate::support::env::World;
use crate::support::run::Output;
use crate::support::task::{put, site};
use crate::support::trace::{self, Trace};
use std::collections::BTreeMap;

/// A new small file is read to hash it, and once more to pack it. Lower this when it isn't.
const READS_OF_A_NEW_FILE: u32 = 1;

/// What one push costs the hub.
#[derive(Debug, PartialEq, Eq)]
struct Cost {
    /// How often each file of the source was opened and read.
    reads: BTreeMap<String, (u32, u32)>,
    encoded_objects: u64,
    encoded_bytes: u64,
}

/// Pushes under strace.
#[track_caller]
fn traced_push(world: &World) -> (Cost, Output) {
    let file = world.dir().join("hub-trace");
    let output = trace::push(world, "site", &file).success();
    let result = output.json_result();
    let number = |key: &str| result[key].as_u64().unwrap_or_else(|| panic!("{result}"));
    let cost = Cost {
        reads: Trace::read(&file, 0).content_reads(&world.source("site")),
        encoded_objects: number("encoded_objects"),
        encoded_bytes: number("encoded_bytes"),
    };
    (cost, output)
}

/// A first push, a release and a push without a change, to so many members.
fn costs(agents: usize) -> [Cost; 3] {
    // Packs, contents in packs of their own, and one in segments.
    let content = pattern(11, 3_000_000);
    let source = site()
        .file("data/large.bin", &content)
        .file("data/middle.bin", pattern(12, 300_000));
    let world = World::with_site(agents, &source, &[]);
    let (first, output) = traced_push(&world);
    // All that was encoded went to each.
    for index in 0..agents {
        let sent_bytes = output.member_number(world.agent_name(index), "content_bytes");
        assert_eq!(sent_bytes, first.encoded_bytes, "{}", output.describe());
    }
    output.all("committed");
    let source = world.source("site");
    let changed = [
        &content[..1_000_000],
        b"in the middle",
        &content[1_000_000..],
    ]
    .concat();
    put(&source.join("data/large.bin"), changed);
    put(&source.join("core/boot.php"), "<?php boot_faster();\n");
    put(&source.join("new.php"), "<?php // new\n");
    let (release, output) = traced_push(&world);
    output.all("committed");
    let (nothing, output) = traced_push(&world);
    output.all("up-to-date");
    world.assert_delivered("site");
    [first, release, nothing]
}

#[test]
fn eight_members_cost_the_hub_no_more_reading_and_encoding_than_one() {
    let [first, release, nothing] = costs(1);
    let files = |cost: &Cost| cost.reads.len();
    // Otherwise the trace says nothing: each file is read in the first push, and of the release
    // what changed.
    assert_eq!(
        (files(&first), files(&release), files(&nothing)),
        (37, 3, 0)
    );
    for (path, (opened, read)) in &first.reads {
        assert!(*opened >= 1 && *read >= 1, "{path} was never read");
        // Others are read in pieces.
        let is_small = path.ends_with(".php") || path.ends_with(".module");
        assert!(
            !is_small || *read <= READS_OF_A_NEW_FILE,
            "{path} was read {read} times"
        );
    }
    // One pack of what is small, three files by themselves, one segment.
    assert_eq!(first.encoded_objects, 5, "{first:?}");
    // One pack of the two small files, one delta; one segment, for the depot alone.
    assert_eq!(release.encoded_objects, 3, "{release:?}");
    assert_eq!((nothing.encoded_objects, nothing.encoded_bytes), (0, 0));

    let eight = costs(8);
    let one = [first, release, nothing];
    for ((one, eight), what) in one.iter().zip(&eight).zip(["first", "release", "nothing"]) {
        assert_eq!(
            one.reads, eight.reads,
            "{what}: the source was read more often"
        );
        assert_eq!(
            one.encoded_objects, eight.encoded_objects,
            "{what}: more was encoded"
        );
        // Under a trace a member's answers may come as late as those of one that is far away, for which
        // packs are compressed harder.
        let apart = one.encoded_bytes.abs_diff(eight.encoded_bytes);
        assert!(
            apart <= one.encoded_bytes / 100,
            "{what}: {} bytes, {} for eight",
            one.encoded_bytes,
            eight.encoded_bytes
        );
    }
}
