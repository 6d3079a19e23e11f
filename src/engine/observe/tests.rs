use super::*;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;
use sync_proto::filter::{Preserve, Rules};

fn scope(exclude: &[&str], preserve: &[&str]) -> Scope {
    Scope {
        exclude: Rules::parse(exclude).unwrap(),
        preserve: Preserve::parse(preserve).unwrap(),
    }
}

struct Tree {
    dir: tempfile::TempDir,
    scope: Scope,
}

impl Tree {
    fn new(scope: Scope) -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
            scope,
        }
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    fn write(&self, name: &str, content: &str) {
        let path = self.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }

    fn observe(&self, known: Option<&Index>, time: LeftOutTime, rehash: bool) -> Observed {
        self.observe_meanwhile(known, time, rehash, &|| {})
    }

    /// `meanwhile` is done after a large file was read.
    fn observe_meanwhile(
        &self,
        known: Option<&Index>,
        time: LeftOutTime,
        rehash: bool,
        meanwhile: &(dyn Fn() + Sync),
    ) -> Observed {
        let root = Dir::open_absolute(self.path()).unwrap();
        let clock = FsClock::open(&root).unwrap();
        let look = Look {
            known,
            rehash,
            scope: &self.scope,
            side: Side::Sender,
            pass_over: None,
            principals: &Principals::numeric(),
            xattrs: XattrPolicy::Ordinary,
            left_out_time: time,
            fresh: None,
            progress: &|_, _| meanwhile(),
        };
        observe(&root, &clock, &look).unwrap()
    }

    /// Looks until every stamp is trusted.
    fn settle(&self) -> Index {
        std::thread::sleep(std::time::Duration::from_millis(50));
        self.observe(None, LeftOutTime::Open, false).index
    }
}

fn paths(index: &Index) -> Vec<String> {
    index
        .manifest()
        .entries()
        .map(|(d, e)| d.path_of(&e.name).to_string())
        .collect()
}

#[test]
fn an_unchanged_tree_is_never_read_again() {
    let tree = Tree::new(Scope::default());
    tree.write("a/b", "one");
    tree.write("c", "two");
    let index = tree.settle();
    let again = tree.observe(Some(&index), LeftOutTime::Open, false);
    assert_eq!(again.hashed_files, 0);
    assert_eq!(again.index, index);
    assert_eq!(
        tree.observe(Some(&index), LeftOutTime::Open, true)
            .hashed_files,
        2
    );
}

#[test]
fn what_is_as_it_was_is_shared_with_the_index_and_what_is_not_is_not() {
    let tree = Tree::new(Scope::default());
    tree.write("a/b", "one");
    tree.write("c/d", "two");
    tree.write("c/e", "three");
    let index = tree.settle();
    let shared = |again: &Index| -> Vec<(String, bool)> {
        let directories = again.manifest().directories().iter();
        directories
            .map(|one| {
                let known = index.shared(&one.path).map(|(known, _)| known);
                let is_same = known.is_some_and(|known| Arc::ptr_eq(known, one));
                (one.path.to_string(), is_same)
            })
            .collect()
    };
    let expect = |root, a, c| [("".into(), root), ("a".into(), a), ("c".into(), c)].to_vec();
    let look = || tree.observe(Some(&index), LeftOutTime::Open, false).index;
    let same = look();
    assert_eq!(shared(&same), expect(true, true, true));
    assert!(std::ptr::eq(
        same.manifest().directories(),
        index.manifest().directories()
    ));
    // An edit in place, a name more, a name less, and a mode: each is seen where it is.
    let agrees = |again: &Index| {
        let afresh = tree.observe(None, LeftOutTime::Open, false).index;
        assert_eq!(again.manifest(), afresh.manifest());
        assert_eq!(again.manifest().roots(), afresh.manifest().roots());
    };
    std::fs::write(tree.path().join("a/b"), "ONE").unwrap();
    let again = look();
    assert_eq!(shared(&again), expect(true, false, true));
    agrees(&again);
    tree.write("c/f", "four");
    let again = look();
    assert_eq!(shared(&again), expect(false, false, false));
    agrees(&again);
    std::fs::remove_file(tree.path().join("c/f")).unwrap();
    std::fs::remove_file(tree.path().join("c/d")).unwrap();
    let again = look();
    assert_eq!(shared(&again), expect(false, false, false));
    agrees(&again);
    let c = Dir::open_absolute(&tree.path().join("c")).unwrap();
    let (e, d) = (Name::parse(b"e").unwrap(), Name::parse(b"d").unwrap());
    c.rename_to(&e, &c, &d).unwrap();
    agrees(&look());
}

#[test]
fn rules_that_leave_out_more_are_seen_in_a_tree_that_is_as_it_was() {
    let mut tree = Tree::new(Scope::default());
    tree.write("a/b/x", "one");
    tree.write("a/b/x.log", "noise");
    let all = tree.settle();
    tree.scope = scope(&["*.log"], &[]);
    let less = tree.observe(Some(&all), LeftOutTime::Open, false).index;
    let afresh = tree.observe(None, LeftOutTime::Open, false).index;
    assert_eq!(less.manifest(), afresh.manifest());
    let b = RelPath::parse(b"a/b").unwrap();
    assert_eq!(less.entry(&b).unwrap().0.meta.mtime, None);
    // And back, where the directory above has nothing new either.
    tree.scope = Scope::default();
    let more = tree.observe(Some(&less), LeftOutTime::Open, false).index;
    assert_eq!(more.manifest(), all.manifest());
    assert!(more.entry(&b).unwrap().0.meta.mtime.is_some());
}

#[test]
fn small_contents_that_were_read_are_kept_for_the_next_who_needs_them() {
    let tree = Tree::new(Scope::default());
    tree.write("a", "one");
    let fresh = Fresh::default();
    let root = Dir::open_absolute(tree.path()).unwrap();
    let look = Look {
        known: None,
        rehash: false,
        scope: &tree.scope,
        side: Side::Sender,
        pass_over: None,
        principals: &Principals::numeric(),
        xattrs: XattrPolicy::Ordinary,
        left_out_time: LeftOutTime::Open,
        fresh: Some(&fresh),
        progress: &|_, _| {},
    };
    observe(&root, &FsClock::open(&root).unwrap(), &look).unwrap();
    assert_eq!(fresh.take(&Digest::of(b"one")), Some(b"one".to_vec()));
}

#[test]
fn a_change_of_the_same_size_with_its_time_put_back_is_found() {
    let tree = Tree::new(Scope::default());
    tree.write("a", "one");
    let index = tree.settle();
    let path = tree.path().join("a");
    let time = std::fs::metadata(&path).unwrap().modified().unwrap();
    std::fs::write(&path, "two").unwrap();
    std::fs::File::options()
        .append(true)
        .open(&path)
        .unwrap()
        .set_modified(time)
        .unwrap();
    let again = tree.observe(Some(&index), LeftOutTime::Open, false);
    assert_eq!(again.hashed_files, 1);
    assert_ne!(
        again.index.manifest().roots().content,
        index.manifest().roots().content
    );
    assert_eq!(
        again.index.manifest().roots().meta,
        index.manifest().roots().meta
    );
}

#[test]
fn what_was_written_within_the_tick_of_the_look_is_not_trusted() {
    let tree = Tree::new(Scope::default());
    tree.write("a", "one");
    let index = tree.observe(None, LeftOutTime::Open, false).index;
    assert_eq!(
        tree.observe(Some(&index), LeftOutTime::Open, false)
            .hashed_files,
        1
    );
}

#[test]
fn hard_links_have_one_leader_and_are_hashed_once() {
    let tree = Tree::new(Scope::default());
    tree.write("b", "one");
    std::fs::create_dir(tree.path().join("a")).unwrap();
    std::fs::hard_link(tree.path().join("b"), tree.path().join("a/x")).unwrap();
    std::fs::hard_link(tree.path().join("b"), tree.path().join("c")).unwrap();
    let seen = tree.observe(None, LeftOutTime::Open, false);
    assert_eq!(seen.hashed_files, 1);
    let leaders: Vec<_> = seen
        .index
        .manifest()
        .entries()
        .filter_map(|(_, entry)| match &entry.kind {
            Kind::HardLink { leader } => Some(leader.to_string()),
            _ => None,
        })
        .collect();
    assert_eq!(leaders, ["b", "b"]);
    // The leader goes: the next name takes its place.
    let index = tree.settle();
    std::fs::remove_file(tree.path().join("b")).unwrap();
    let again = tree.observe(Some(&index), LeftOutTime::Open, false);
    assert!(again.problems.is_empty());
    let kinds: Vec<_> = again
        .index
        .manifest()
        .entries()
        .map(|(_, e)| e.kind.clone())
        .collect();
    assert!(matches!(kinds[1], Kind::File { .. }), "{kinds:?}");
}

#[test]
fn further_names_of_a_file_that_could_not_be_seen_are_left_out_with_it() {
    let tree = Tree::new(Scope::default());
    tree.write("a", &"large".repeat(1 << 20));
    tree.write("b", "one");
    tree.write("e", "two");
    std::fs::create_dir(tree.path().join("d")).unwrap();
    for (first, further) in [("b", "c"), ("b", "d/x"), ("e", "d/y")] {
        let path = |name: &str| tree.path().join(name);
        std::fs::hard_link(path(first), path(further)).unwrap();
    }
    let gone = tree.path().join("b");
    let seen = tree.observe_meanwhile(None, LeftOutTime::Open, false, &|| {
        std::fs::remove_file(&gone).unwrap_or_default();
    });
    let problems: Vec<_> = seen.problems.iter().map(ToString::to_string).collect();
    assert_eq!(problems, [format!("`{}` vanished", gone.display())]);
    assert_eq!(paths(&seen.index), ["a", "d", "e", "d/y"]);
    // The next look sees them, although their directories are what they were.
    let again = tree.observe(Some(&seen.index), LeftOutTime::Open, false);
    assert!(again.problems.is_empty());
    assert_eq!(paths(&again.index), ["a", "c", "d", "e", "d/x", "d/y"]);
}

#[test]
fn left_out_names_leave_the_time_of_their_directory_open() {
    let tree = Tree::new(scope(&["*.log"], &["/files"]));
    tree.write("kept/a", "one");
    tree.write("logs/x.log", "noise");
    tree.write("files/upload", "precious");
    let seen = tree.observe(None, LeftOutTime::Open, false).index;
    assert_eq!(paths(&seen), ["kept", "logs", "kept/a"]);
    let time = |name: &str| {
        seen.manifest()
            .entry(&RelPath::parse(name.as_bytes()).unwrap())
            .unwrap()
            .meta
            .mtime
    };
    assert!(time("kept").is_some());
    assert_eq!(time("logs"), None);
    assert_eq!(seen.manifest().root_meta().mtime, None);
}

#[test]
fn what_a_member_could_not_keep_stands_for_what_was_wanted() {
    let tree = Tree::new(Scope::default());
    tree.write("a", "one");
    let seen = tree.settle();
    // As if somebody had wanted another owner than the agent may set.
    let mut directories = seen.manifest().directories().to_vec();
    let changed = Arc::make_mut(&mut directories[0]);
    changed.entries[0].meta.user = sync_proto::entry::Principal::Name("drupal".into());
    let wanted = Manifest::new(seen.manifest().root_meta().clone(), directories).unwrap();
    let stamps = seen
        .directories()
        .flat_map(|(_, stamps)| stamps.to_vec())
        .collect();
    let index = Index::new(wanted, *seen.root_stamp(), stamps).unwrap();
    std::fs::write(tree.path().join("a"), "two").unwrap();
    let again = tree
        .observe(Some(&index), LeftOutTime::AsWanted, false)
        .index;
    let user = |index: &Index| {
        index.manifest().directories()[0].entries[0]
            .meta
            .user
            .clone()
    };
    assert_eq!(user(&again), user(&index));
    // A mode that somebody changed is a change all the same.
    let path = tree.path().join("a");
    let mode = std::fs::metadata(&path).unwrap().mode();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode ^ 0o022)).unwrap();
    let again = tree
        .observe(Some(&index), LeftOutTime::AsWanted, false)
        .index;
    assert_ne!(user(&again), user(&index));
}

#[test]
fn the_reserved_name_is_never_part_of_a_tree() {
    let tree = Tree::new(Scope::default());
    tree.write(".fanout/journal/x", "state");
    tree.write("a", "one");
    assert_eq!(
        paths(&tree.observe(None, LeftOutTime::Open, false).index),
        ["a"]
    );
}

#[test]
fn only_a_directory_that_is_what_it_was_and_was_whole_needs_no_listing() {
    let mut tree = Tree::new(Scope::default());
    tree.write("a/b", "one");
    tree.write("c/d.log", "two");
    let names = |tree: &Tree, index: &Index, path: &str| {
        let root = Dir::open_absolute(tree.path()).unwrap();
        assert!(root.dates_its_names());
        let path = RelPath::parse(path.as_bytes()).unwrap();
        let stat = root.open_dir_at(&path).unwrap().stat_self().unwrap();
        let names = index.names(&path, &stat)?;
        let text = |it: Listed| String::from_utf8(it.name.as_bytes().to_vec()).unwrap();
        Some(names.into_iter().map(text).collect::<Vec<_>>())
    };
    // Made within the tick in which it was listed: it may have got a name since.
    let hasty = tree.observe(None, LeftOutTime::Open, false).index;
    assert_eq!(names(&tree, &hasty, "a"), None);
    let index = tree.settle();
    assert_eq!(names(&tree, &index, ""), Some(vec!["a".into(), "c".into()]));
    assert_eq!(names(&tree, &index, "a"), Some(vec!["b".into()]));
    let mut kept = Vec::new();
    index.write(&mut kept).unwrap();
    let kept = Index::read(kept.as_slice()).unwrap();
    assert_eq!(names(&tree, &kept, "a"), Some(vec!["b".into()]));
    // A file that is written to leaves its directory as it was; its stamp tells.
    tree.write("a/b", "other");
    assert_eq!(names(&tree, &index, "a"), Some(vec!["b".into()]));
    let seen = tree.observe(Some(&index), LeftOutTime::Open, false);
    assert_eq!(seen.hashed_files, 1);
    // A name that comes, goes, or becomes another entry's.
    tree.write("a/new", "");
    assert_eq!(names(&tree, &index, "a"), None);
    std::fs::remove_file(tree.path().join("a/new")).unwrap();
    assert_eq!(names(&tree, &index, "a"), None);
    // What rules left out is unknown, under other rules too.
    tree.scope = scope(&["*.log"], &[]);
    let without = tree.observe(Some(&index), LeftOutTime::Open, false).index;
    assert_eq!(names(&tree, &without, "c"), None);
    assert_eq!(paths(&without), ["a", "c", "a/b"]);
    tree.scope = Scope::default();
    let with = tree.observe(Some(&without), LeftOutTime::Open, false).index;
    assert_eq!(paths(&with), ["a", "c", "a/b", "c/d.log"]);
}

/// What happens to a tree between two looks.
#[derive(Clone, Debug)]
enum Event {
    Write(u8, u8),
    Remove(u8, u8),
    Rename((u8, u8), (u8, u8)),
    Move(u8, u8),
    Link((u8, u8), (u8, u8)),
    Rules(bool),
    Wait,
    Look,
}

fn event() -> impl proptest::strategy::Strategy<Value = Event> {
    use proptest::prelude::*;
    let at = || (0_u8..4, 0_u8..5);
    prop_oneof![
        3 => at().prop_map(|(d, f)| Event::Write(d, f)),
        2 => at().prop_map(|(d, f)| Event::Remove(d, f)),
        2 => (at(), at()).prop_map(|(a, b)| Event::Rename(a, b)),
        1 => (0_u8..4, 0_u8..4).prop_map(|(a, b)| Event::Move(a, b)),
        1 => (at(), at()).prop_map(|(a, b)| Event::Link(a, b)),
        1 => any::<bool>().prop_map(Event::Rules),
        2 => Just(Event::Wait),
        4 => Just(Event::Look),
    ]
}

proptest::proptest! {
    #![proptest_config(proptest::test_runner::Config::with_cases(60))]

    /// Whatever is done to names, and however quickly, a look by the index sees what a look without
    /// one does.
    #[test]
    #[allow(clippy::disallowed_methods, reason = "the test plays whoever works on the tree")]
    fn a_look_that_lists_only_what_moved_sees_what_one_that_lists_all_sees(
        events in proptest::collection::vec(event(), 1..40)
    ) {
        let mut tree = Tree::new(Scope::default());
        // A directory may be at the top or in another one.
        let directory = |d: u8| if d == 3 { "d0/d3".to_owned() } else { format!("d{d}") };
        let file = |(d, f): (u8, u8)| {
            format!("{}/f{f}{}", directory(d), if f == 4 { ".log" } else { "" })
        };
        for d in 0..4 {
            std::fs::create_dir_all(tree.path().join(directory(d))).unwrap();
        }
        let mut known: Option<Index> = None;
        let mut serial = 0;
        for event in events.into_iter().chain([Event::Look, Event::Wait, Event::Look, Event::Look]) {
            let at = |name: &str| tree.path().join(name);
            // What isn't there can't be moved; that is no matter here.
            let _impossible = match event {
                Event::Write(d, f) => {
                    serial += 1;
                    std::fs::write(at(&file((d, f))), format!("content {serial}"))
                }
                Event::Remove(d, f) => std::fs::remove_file(at(&file((d, f)))),
                Event::Rename(a, b) => std::fs::rename(at(&file(a)), at(&file(b))),
                Event::Move(a, b) => {
                    let (a, b) = (at(&directory(a)), at(&directory(b)));
                    let swap = at("swap");
                    std::fs::rename(&a, &swap)
                        .and_then(|()| std::fs::rename(&b, &a))
                        .and_then(|()| std::fs::rename(&swap, &b))
                        .or_else(|_| std::fs::rename(&swap, &a))
                }
                Event::Link(a, b) => std::fs::hard_link(at(&file(a)), at(&file(b))),
                Event::Rules(excludes) => {
                    tree.scope = scope(if excludes { &["*.log"] } else { &[] }, &[]);
                    Ok(())
                }
                Event::Wait => {
                    std::thread::sleep(std::time::Duration::from_millis(25));
                    Ok(())
                }
                Event::Look => {
                    let by_index = tree.observe(known.as_ref(), LeftOutTime::Open, false).index;
                    let anew = tree.observe(None, LeftOutTime::Open, false).index;
                    proptest::prop_assert_eq!(by_index.manifest(), anew.manifest());
                    known = Some(by_index);
                    Ok(())
                }
            };
        }
    }
}
