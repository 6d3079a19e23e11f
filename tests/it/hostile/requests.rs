//! Control messages: their form, their order, the lists that they carry, and what they ask for.

use super::peer::{
    Comes, Row, Sends, TREE, TXN, Until, content, generation, hello, open, play, request, row, tree,
};
use super::victim::{SMALL_GROWTH_KIB, Victim};
use std::io::Write as _;
use sync_proto::digest::Digest;
use sync_proto::manifest::{Directory, encode_directories};
use sync_proto::path::RelPath;
use sync_proto::wire::{Decision, Layout, MAX_LEND_BYTES, MAX_MESSAGE_BYTES, Request as R};

const BROKEN: Comes = Comes::Ended("FX0311");

fn compressed(raw: &[u8]) -> Vec<u8> {
    zstd::bulk::compress(raw, 1).unwrap()
}

/// A gigabyte of zeroes in some 30 KiB.
fn bomb() -> Vec<u8> {
    let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
    let zeroes = vec![0; 1 << 20];
    for _ in 0..1000 {
        encoder.write_all(&zeroes).unwrap();
    }
    encoder.finish().unwrap()
}

fn message(bytes: &[u8]) -> Vec<Sends> {
    vec![Sends::Message(bytes.to_vec())]
}

fn table_of(paths: &[&[u8]]) -> Vec<Sends> {
    let mut raw = Vec::new();
    for path in paths {
        raw.push(u8::try_from(path.len()).unwrap());
        raw.extend_from_slice(path);
        raw.extend_from_slice(&[0; 16]);
    }
    table(compressed(&raw))
}

fn table(part: Vec<u8>) -> Vec<Sends> {
    request(&R::Table { part, last: true })
}

fn listings(part: Vec<u8>) -> Vec<Sends> {
    request(&R::Listings { part, last: true })
}

/// The peer's tree with its one entry as the bytes of a content row and a metadata row.
fn listing_of(content: &[u8], count: u8) -> Vec<Sends> {
    let meta = [0xA4, 0x03, 0, 0, 0, 0, 0, 0].repeat(count.into());
    let mut raw = vec![0];
    for part in [content, &meta[..]] {
        if part.len() >= 128 {
            raw.push(0x80 | (part.len() % 128) as u8);
        }
        raw.push(if part.len() < 128 {
            part.len()
        } else {
            part.len() / 128
        } as u8);
        raw.extend_from_slice(part);
    }
    if count >= 128 {
        raw.extend([count, 1]);
    } else {
        raw.push(count);
    }
    listings(compressed(&raw))
}

fn bind(root: &[u8]) -> Vec<Sends> {
    request(&R::Bind {
        tree: [0xEE; 16],
        root: root.to_vec(),
        layout: Layout::InPlace,
        adopt: false,
    })
}

fn open_with(change: impl FnOnce(&mut sync_proto::wire::Open)) -> Vec<Sends> {
    let mut open = open(0);
    change(&mut open);
    request(&R::Open(open))
}

#[test]
fn what_is_no_message_or_is_not_due_ends_the_session_with_one_line() {
    let mut victim = Victim::start(&[], SMALL_GROWTH_KIB);
    let decide = |decision| request(&R::Decide { txn: TXN, decision });
    let prepare = || request(&R::Prepare { txn: TXN });
    let stage = || {
        request(&R::Stage {
            txn: TXN,
            generation: generation(tree().roots()),
            delete_foreign: false,
        })
    };
    let mut left_over = sync_proto::wire::encode(&hello((1, 1))).unwrap();
    left_over.push(0);
    let join = || {
        request(&R::Join {
            certificate: vec![1; 300],
        })
    };
    let compare = || {
        request(&R::Compare {
            roots: tree().roots(),
            root_meta: Vec::new(),
        })
    };
    let rows: Vec<Row> = vec![
        row("an empty message", Until::Connected, message(&[]), BROKEN),
        row("noise", Until::Connected, message(&[0xFF; 64]), BROKEN),
        row(
            "an unknown variant",
            Until::Connected,
            message(&[99]),
            BROKEN,
        ),
        row(
            "bytes behind a message",
            Until::Connected,
            message(&left_over),
            BROKEN,
        ),
        row(
            "a message above 1 MiB",
            Until::Greeted,
            message(&vec![0; MAX_MESSAGE_BYTES + 1]),
            BROKEN,
        ),
        row("no Hello", Until::Connected, request(&R::Ping), BROKEN),
        row("Join by a hub", Until::Connected, join(), BROKEN),
        row(
            "no version in common",
            Until::Connected,
            request(&hello((2, 9))),
            Comes::Refused("FX0304"),
        ),
        row(
            "a second Hello",
            Until::Greeted,
            request(&hello((1, 1))),
            BROKEN,
        ),
        row("Join later", Until::Greeted, join(), BROKEN),
        row("Prepare in idle", Until::Greeted, prepare(), BROKEN),
        row(
            "commit in idle",
            Until::Greeted,
            decide(Decision::Commit),
            BROKEN,
        ),
        row("Stage in idle", Until::Greeted, stage(), BROKEN),
        row(
            "Itemise in idle",
            Until::Greeted,
            request(&R::Itemise),
            BROKEN,
        ),
        row("Compare in idle", Until::Greeted, compare(), BROKEN),
        row("Table in idle", Until::Greeted, table_of(&[b""]), BROKEN),
        row(
            "Hello when opened",
            Until::Opened,
            request(&hello((1, 1))),
            BROKEN,
        ),
        row("a second Open", Until::Opened, open_with(|_| {}), BROKEN),
        row("Bind when opened", Until::Opened, bind(b"/srv/x"), BROKEN),
        row(
            "Table before Compare",
            Until::Opened,
            table_of(&[b""]),
            BROKEN,
        ),
        row(
            "Listings before Table",
            Until::Opened,
            listings(Vec::new()),
            BROKEN,
        ),
        row("Stage before a plan", Until::Opened, stage(), BROKEN),
        row(
            "commit when opened",
            Until::Opened,
            decide(Decision::Commit),
            BROKEN,
        ),
        row(
            "Ping among the table",
            Until::Compared,
            request(&R::Ping),
            BROKEN,
        ),
        row(
            "Leave among the table",
            Until::Compared,
            request(&R::Leave),
            BROKEN,
        ),
        row(
            "abort among the table",
            Until::Compared,
            decide(Decision::Abort),
            BROKEN,
        ),
        row(
            "Table for Listings",
            Until::Tabled,
            table_of(&[b""]),
            BROKEN,
        ),
        row(
            "Ping for Listings",
            Until::Tabled,
            request(&R::Ping),
            BROKEN,
        ),
        row("Prepare when planned", Until::Planned, prepare(), BROKEN),
        row(
            "commit when planned",
            Until::Planned,
            decide(Decision::Commit),
            BROKEN,
        ),
        row(
            "Lend when planned",
            Until::Planned,
            lend(content(), 0, 1),
            BROKEN,
        ),
        row("Prepare while staging", Until::Staging, prepare(), BROKEN),
        row(
            "commit while staging",
            Until::Staging,
            decide(Decision::Commit),
            BROKEN,
        ),
        row("Stage while staging", Until::Staging, stage(), BROKEN),
        row("Compare while staging", Until::Staging, compare(), BROKEN),
        row(
            "Bind while staging",
            Until::Staging,
            bind(b"/srv/x"),
            BROKEN,
        ),
    ];
    play(&mut victim, rows);
}

fn lend(content: Digest, offset: u64, length: u32) -> Vec<Sends> {
    request(&R::Lend {
        content,
        offset,
        length,
    })
}

#[test]
fn lists_that_lie_grow_or_never_end_are_refused_within_the_agents_limits() {
    let mut victim = Victim::start(&[("entries", 20_000)], SMALL_GROWTH_KIB);
    let full = Comes::Ended("FX0311");
    let too_large = Comes::Refused("FX0324");
    let file = |name: &[u8]| [&[name.len() as u8], name, &[1, 0], &[7; 32]].concat();
    let endless = || {
        let part = |last| R::Table {
            part: vec![7; 700 * 1024],
            last,
        };
        (0..8).flat_map(|_| request(&part(false))).collect()
    };
    let deep: Vec<u8> = vec![b'd'; 250];
    let other = Directory {
        path: RelPath::parse(b"elsewhere").unwrap(),
        entries: Vec::new(),
    };
    let rows = vec![
        row(
            "a table that is no zstd",
            Until::Compared,
            table(vec![7; 100]),
            full,
        ),
        row(
            "a table that is a bomb",
            Until::Compared,
            table(bomb()),
            too_large,
        ),
        row(
            "a table without an end",
            Until::Compared,
            endless(),
            too_large,
        ),
        row(
            "a table in no order",
            Until::Compared,
            table_of(&[b"", b"b", b"a"]),
            full,
        ),
        row(
            "a path twice",
            Until::Compared,
            table_of(&[b"", b"a", b"a"]),
            full,
        ),
        row(
            "a path upwards",
            Until::Compared,
            table_of(&[b"", b"a/../.."]),
            full,
        ),
        row(
            "an absolute path",
            Until::Compared,
            table_of(&[b"", b"/etc"]),
            full,
        ),
        row(
            "a path with NUL",
            Until::Compared,
            table_of(&[b"", b"a\0b"]),
            full,
        ),
        row(
            "a cut row",
            Until::Compared,
            table(compressed(&[5, b'a'])),
            full,
        ),
        row(
            "listings that are a bomb",
            Until::Tabled,
            listings(bomb()),
            too_large,
        ),
        row(
            "no listings",
            Until::Tabled,
            listings(compressed(&[])),
            full,
        ),
        row(
            "listings of something else",
            Until::Tabled,
            listings(compressed(&encode_directories([&other]))),
            full,
        ),
        row(
            "entries in no order",
            Until::Tabled,
            listing_of(&[file(b"b"), file(b"a")].concat(), 2),
            full,
        ),
        row(
            "an entry twice",
            Until::Tabled,
            listing_of(&[file(b"a"), file(b"a")].concat(), 2),
            full,
        ),
        row(
            "a name upwards",
            Until::Tabled,
            listing_of(&file(b".."), 1),
            full,
        ),
        row(
            "a name with a slash",
            Until::Tabled,
            listing_of(&file(b"a/b"), 1),
            full,
        ),
        row(
            "the reserved name",
            Until::Tabled,
            listing_of(&file(b".fanout"), 1),
            full,
        ),
        row(
            "a directory without its own listing",
            Until::Tabled,
            listing_of(&[1, b'd', 0], 1),
            full,
        ),
        row(
            "a hard link to nothing",
            Until::Tabled,
            listing_of(&[1, b'h', 2, 1, b'z'], 1),
            full,
        ),
        row(
            "a symlink to nowhere",
            Until::Tabled,
            listing_of(&[1, b's', 3, 0], 1),
            full,
        ),
        row(
            "an unknown kind",
            Until::Tabled,
            listing_of(&[1, b'k', 9], 1),
            full,
        ),
        row(
            "a count beyond the rows",
            Until::Tabled,
            listing_of(&file(b"a"), 200),
            too_large,
        ),
        row(
            "another tree than announced",
            Until::Tabled,
            listing_of(&file(&deep[..40]), 1),
            full,
        ),
    ];
    play(&mut victim, rows);
}

#[test]
fn what_a_hub_may_not_ask_for_is_refused_and_nothing_else_happens() {
    let mut victim = Victim::start(&[], SMALL_GROWTH_KIB);
    let root = Comes::Refused("FX0312");
    let rule = Comes::Refused("FX0010");
    let long = "x".repeat(1001);
    let unknown = || [0xAA; 16];
    let wrong_roots = || {
        let mut other = generation(tree().roots());
        other.roots.content = Digest::of(b"another");
        request(&R::Stage {
            txn: TXN,
            generation: other,
            delete_foreign: false,
        })
    };
    let rows = vec![
        // The first of them binds the tree.
        row(
            "a loan of what isn't there",
            Until::Opened,
            lend(content(), 0, 1),
            Comes::Refused("FX0601"),
        ),
        row("a root elsewhere", Until::Greeted, bind(b"/etc/evil"), root),
        row(
            "the allowed directory itself",
            Until::Greeted,
            bind(b"/srv"),
            root,
        ),
        row("a root upwards", Until::Greeted, bind(b"/srv/../etc"), root),
        row("a relative root", Until::Greeted, bind(b"srv/x"), root),
        row(
            "a root with control characters",
            Until::Greeted,
            bind(b"/srv/a\n\x1b[2Jb\0"),
            root,
        ),
        row(
            "a root that is no text",
            Until::Greeted,
            bind(b"/srv/\xFF"),
            root,
        ),
        row(
            "the root of another tree",
            Until::Greeted,
            bind(b"/srv/platforms/site"),
            Comes::Refused("FX0206"),
        ),
        row(
            "a tree that there isn't",
            Until::Greeted,
            open_with(|open| open.tree = unknown()),
            Comes::Refused("FX0322"),
        ),
        row(
            "a fence of before",
            Until::Greeted,
            open_with(|open| open.fence = 1),
            Comes::Refused("FX0314"),
        ),
        row(
            "too many rules",
            Until::Greeted,
            open_with(|open| open.exclude = vec!["*.bak".into(); 1001]),
            rule,
        ),
        row(
            "a rule that is too long",
            Until::Greeted,
            open_with(|open| open.exclude = vec![long]),
            rule,
        ),
        row(
            "a preserve rule without an anchor",
            Until::Greeted,
            open_with(|open| open.preserve = vec!["uploads".into()]),
            rule,
        ),
        row(
            "a commit that nobody voted for",
            Until::Greeted,
            request(&R::Settle {
                tree: TREE,
                txn: TXN,
                decision: Decision::Commit,
            }),
            Comes::Refused("FX0506"),
        ),
        row(
            "the removal of another root",
            Until::Greeted,
            request(&R::Delete {
                tree: TREE,
                root: b"/srv/platforms/site".to_vec(),
            }),
            Comes::Refused("FX0313"),
        ),
        row(
            "the release of a rule that there isn't",
            Until::Greeted,
            request(&R::Release {
                tree: TREE,
                rule: "/no\n\x1b[31mrule".into(),
                dry_run: false,
            }),
            rule,
        ),
        row(
            "a loan of nothing",
            Until::Opened,
            lend(content(), 0, 0),
            BROKEN,
        ),
        row(
            "a loan above 64 MiB",
            Until::Opened,
            lend(content(), 0, MAX_LEND_BYTES + 1),
            BROKEN,
        ),
        row(
            "another tree than was compared",
            Until::Planned,
            wrong_roots(),
            BROKEN,
        ),
    ];
    play(&mut victim, rows);
    let srv = victim.world.agent_prefix(0).join("srv/platforms");
    let names: Vec<_> = std::fs::read_dir(srv)
        .unwrap()
        .map(|it| it.unwrap().file_name())
        .collect();
    let known = |name: &std::ffi::OsString| {
        let name = name.to_string_lossy();
        name.contains("site") || name.contains("hostile")
    };
    assert!(names.iter().all(known), "{names:?}");
}
