//! Random trees under random rules, with things of the member's own between them: what a push and a
//! rollback leave is what rsync leaves with the same rules.
//!
//! Many trees lie side by side in one platform, each with rules of its own, anchored at its name.

use super::random::{EVERYTHING, one, runner, times};
use crate::support::env::World;
use crate::support::oracle;
use crate::support::random::{apply_all, tree_changes, tree_spec};
use crate::support::run::run;
use crate::support::snapshot::{Compare, Snapshot};
use crate::support::task::in_both_layouts;
use crate::support::tree::set_mtime;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use proptest::test_runner::TestRunner;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

in_both_layouts!(trees_under_random_rules_end_as_rsync_would_have_them);

const TREES: usize = 40;
const ROUNDS: usize = 4;
/// What members add: names that rules are about, and one that is always preserved.
const ADDED: [&str; 7] = ["a", "a.b", "files", "sites", "x.php", "own", "uploads"];

/// A tree's rules, without the anchor at its name.
fn rules() -> impl Strategy<Value = Vec<(&'static str, String, bool)>> {
    let name = select(vec![
        "a",
        "b",
        "a-b",
        "a.b",
        "index.php",
        "files",
        "sites",
        "private",
        "-n",
        "caf\u{e9}",
        "own",
        "*",
        "?",
        "a*",
        "*.php",
        "[ab]",
        "[!a]*",
        "**b",
        "a**",
        "*.*",
    ]);
    let pattern = (vec(name, 1..3), select(vec!["", "", "/", "/***"]))
        .prop_map(|(names, end)| names.join("/") + end);
    let prefix = select(vec![
        "-", "-", "-", "+", "+", "H", "S", "R", "-s", "+r", "-p",
    ]);
    // What protects from deletion alone is about names that no source has: see docs/safety.md.
    let protecting = select(vec!["P", "-r", "P,p"]);
    let own = select(vec!["own", "own/***", "o*", "?wn", "**/own"]).prop_map(str::to_owned);
    let rule = prop_oneof![4 => (prefix, pattern), 1 => (protecting, own)];
    let anchored = (rule, any::<bool>()).prop_map(|((prefix, pattern), it)| (prefix, pattern, it));
    vec(anchored, 0..6)
}

/// The rules of one tree as lines that both understand: where a pattern has no anchor it holds at
/// any depth of its tree.
fn lines(tree: &str, rules: &[(&str, String, bool)]) -> Vec<String> {
    let line = |(prefix, pattern, anchored): &(&str, String, bool)| {
        let below = [
            format!("{prefix} /{tree}/{pattern}"),
            format!("{prefix} /{tree}/**/{pattern}"),
        ];
        below.into_iter().take(if *anchored { 1 } else { 2 })
    };
    rules.iter().flat_map(line).collect()
}

fn toml(lines: &[String]) -> String {
    let quoted: Vec<_> = lines.iter().map(|line| format!("{line:?}")).collect();
    format!("[{}]", quoted.join(", "))
}

struct Forest {
    world: World,
    /// What rsync made: a member of its own.
    mirror: tempfile::TempDir,
    filters: Vec<String>,
    /// Trees that something of the member's own kept rsync from changing.
    conflicts: usize,
}

impl Forest {
    fn start(runner: &mut TestRunner, layout: &str) -> Self {
        let world = World::with_agents(1);
        let mut lines_of_all = Vec::new();
        let source = world.source("site");
        for nth in 0..TREES {
            let tree = tree_name(nth);
            one(runner, tree_spec(25)).write_to(&source.join(&tree));
            let own = lines(&tree, &one(runner, rules()));
            eprintln!("{tree}: {own:?}");
            lines_of_all.extend(own);
        }
        world.add_platform("site", &["--layout", layout]);
        let preserve: Vec<String> = ["/*/uploads", "/*/**/uploads"].map(str::to_owned).to_vec();
        let special = r#"special_files = ["setuid", "devices", "fifos"]"#;
        let exclude = format!("exclude = {}", toml(&lines_of_all));
        let preserved = format!("preserve = {}", toml(&preserve));
        world.configure(
            "platforms.site",
            &[special, &exclude, &preserved, "keep = 3"],
        );
        // What is preserved is, even where a rule says something else.
        let hidden = preserve
            .iter()
            .flat_map(|it| [format!("P {it}"), format!("H {it}")]);
        let filters = hidden.chain(lines_of_all);
        Self {
            world,
            mirror: tempfile::tempdir().unwrap(),
            filters: filters.map(|it| format!("--filter={it}")).collect(),
            conflicts: 0,
        }
    }

    fn source(&self) -> PathBuf {
        self.world.source("site")
    }

    /// What rsync says of a copy with the rules.
    fn rsync(&self, source: &Path, to: &Path) -> String {
        let mut command = Command::new("rsync");
        command
            .args(oracle::EVERYTHING)
            // Changes may keep size and time.
            .arg("--checksum")
            .args(&self.filters)
            .arg("--");
        let output = run(command.arg(source.join("")).arg(to.join("")));
        assert!(matches!(output.code, Some(0 | 23)), "{}", output.describe());
        output.error_text()
    }

    /// Changes the source, except the trees where something of the member's own would be in the way:
    /// both would refuse those, rsync one by one and a push as a whole.
    fn change(&mut self, runner: &mut TestRunner) {
        let before = copied(&self.source());
        for nth in 0..TREES {
            let root = self.source().join(tree_name(nth));
            apply_all(&one(runner, tree_changes(6)), &root);
        }
        let trial = copied(self.mirror.path());
        let said = self.rsync(&self.source(), trial.path());
        for nth in 0..TREES {
            let tree = tree_name(nth);
            let named = format!(" {tree}/");
            let is_in_the_way = |line: &str| line.contains("make way") && line.contains(&named);
            if said.lines().any(is_in_the_way) {
                self.conflicts += 1;
                let root = self.source().join(&tree);
                fs::remove_dir_all(&root).unwrap();
                copy(&before.path().join(&tree), &root);
            }
        }
    }

    /// The member gets things of its own, in directories that are there.
    fn live_on(&self, runner: &mut TestRunner, round: usize) {
        let live = self.world.live(0, "site");
        for nth in 0..TREES {
            let mut directories = Vec::new();
            collect(&self.mirror.path().join(tree_name(nth)), &mut directories);
            let added = vec((any::<Index>(), select(&ADDED[..])), 0..5);
            for (at, name) in one(runner, added) {
                let Some(directory) = directories.get(at.index(directories.len().max(1))) else {
                    continue;
                };
                let below = directory.strip_prefix(self.mirror.path()).unwrap();
                for root in [self.mirror.path(), &live] {
                    let (at, path) = (root.join(below), root.join(below).join(name));
                    if at.is_dir() && path.symlink_metadata().is_err() {
                        fs::write(&path, format!("the member's own, {round}")).unwrap();
                        set_mtime(&path, 1_500_000_000, 0);
                    }
                }
            }
        }
    }

    fn assert_is_what_rsync_made(&self, what: &str) {
        let place = tempfile::tempdir().unwrap();
        let seen = place.path().join("seen");
        self.as_visitors_see(&seen);
        let (ours, theirs) = (Snapshot::read(&seen), Snapshot::read(self.mirror.path()));
        // Those of directories that hold a name that takes no part are nobody's.
        let compare = Compare::exact().without_directory_times().without_root();
        let differences = compare.diff(&theirs, &ours);
        assert!(differences.is_empty(), "{what}\n{}", differences.join("\n"));
    }

    /// The live tree with what belongs to the member in its place, and not behind a symlink.
    fn as_visitors_see(&self, to: &Path) {
        let live = fs::canonicalize(self.world.live(0, "site")).unwrap();
        copy(&live, to);
        let state = self
            .world
            .live(0, "site")
            .parent()
            .unwrap()
            .join(".site.fanout");
        let Ok(shared) = fs::canonicalize(state.join("shared")) else {
            return;
        };
        let mut links = Vec::new();
        symlinks(to, &mut links);
        for link in links {
            let below = link.strip_prefix(to).unwrap();
            let target = live
                .join(below)
                .parent()
                .unwrap()
                .join(fs::read_link(&link).unwrap());
            if fs::canonicalize(&target).is_ok_and(|it| it.starts_with(&shared)) {
                fs::remove_file(&link).unwrap();
                copy(&target, &link);
            }
        }
    }
}

fn trees_under_random_rules_end_as_rsync_would_have_them(layout: &str) {
    let mut runner = runner(&format!("rules {layout}"));
    let mut forest = Forest::start(&mut runner, layout);
    let mirror = forest.mirror.path().to_owned();
    let rounds = ROUNDS * times();
    for round in 0..rounds {
        let before = copied(&forest.source());
        if round > 0 {
            forest.live_on(&mut runner, round);
            forest.change(&mut runner);
        }
        forest.world.push("site", &EVERYTHING).success();
        forest.rsync(&forest.source(), &mirror);
        forest.assert_is_what_rsync_made(&format!("round {round}"));
        let again = forest.world.push("site", &EVERYTHING).all("up-to-date");
        assert_eq!(again.content_bytes(), 0);
        if round % 2 == 1 {
            let back = forest.world.rollback("site", &[]).all("committed");
            assert_eq!(back.content_bytes(), 0);
            forest.rsync(before.path(), &mirror);
            forest.assert_is_what_rsync_made(&format!("round {round}, rolled back"));
            forest.world.push("site", &EVERYTHING).all("committed");
            forest.rsync(&forest.source(), &mirror);
            forest.assert_is_what_rsync_made(&format!("round {round}, once more"));
        }
    }
    forest.world.assert_clean("site");
    let cases = rounds * TREES;
    assert!(
        forest.conflicts * 4 < cases,
        "{} conflicts",
        forest.conflicts
    );
    eprintln!("{cases} cases, {} left as they were", forest.conflicts);
}

fn tree_name(nth: usize) -> String {
    format!("t{nth:02}")
}

fn copy(from: &Path, to: &Path) {
    let mut command = Command::new("cp");
    run(command
        .args(["-a", "--no-target-directory", "--"])
        .arg(from)
        .arg(to))
    .success();
}

fn copied(tree: &Path) -> tempfile::TempDir {
    let place = tempfile::tempdir().unwrap();
    let mut command = Command::new("cp");
    run(command.args(["-aT", "--"]).arg(tree).arg(place.path())).success();
    place
}

/// The directories of a tree, in an order that is always the same.
fn collect(at: &Path, into: &mut Vec<PathBuf>) {
    let Ok(stat) = at.symlink_metadata() else {
        return;
    };
    if stat.is_dir() {
        into.push(at.to_owned());
        each(at, |path| collect(path, into));
    }
}

fn symlinks(at: &Path, into: &mut Vec<PathBuf>) {
    each(at, |path| {
        let stat = path.symlink_metadata().unwrap();
        if stat.is_symlink() {
            into.push(path.to_owned());
        } else if stat.is_dir() {
            symlinks(path, into);
        }
    });
}

fn each(at: &Path, mut act: impl FnMut(&Path)) {
    let entries = fs::read_dir(at).unwrap();
    let mut paths: Vec<_> = entries.map(|it| it.unwrap().path()).collect();
    paths.sort_by(|a, b| a.as_os_str().as_bytes().cmp(b.as_os_str().as_bytes()));
    paths.iter().for_each(|path| act(path));
}
