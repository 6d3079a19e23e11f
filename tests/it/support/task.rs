//! The words in which tests speak about tasks: what a result says of its members, what of a world
//! must not have changed, and edits of the inventory that have no option.

use super::awkward::pattern;
use super::env::World;
use super::oracle;
use super::run::Output;
use super::snapshot::{Compare, Snapshot};
use super::tree::Tree;
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};

/// Makes a test for each layout out of a function that takes the layout's name.
macro_rules! in_both_layouts {
    ($($name:ident),+ $(,)?) => {$(
        mod $name {
            #[test]
            fn switched() {
                super::$name("switched");
            }
            #[test]
            fn in_place() {
                super::$name("in-place");
            }
        }
    )+};
}
pub(crate) use in_both_layouts;

/// A small platform with a bit of everything ordinary, its root's own attributes included.
pub(crate) fn site() -> Tree {
    let mut tree = Tree::new()
        .dir("")
        .mode(0o751)
        .mtime(1_650_000_000, 123_456_789)
        .xattr("user.site", "the root itself")
        .file("index.php", "<?php require 'core/boot.php';\n")
        .mode(0o640)
        .file("core/boot.php", "<?php boot();\n")
        .file("core/large.bin", pattern(9, 400_000))
        .file("core/text.inc", "the same line, many times\n".repeat(4_000))
        .dir("core/empty")
        .mode(0o700)
        .symlink("latest", "core")
        .symlink("core/dangling", "../nowhere")
        .hard_link("core/boot-again.php", "core/boot.php")
        .file("sites/default/settings.php", "<?php $db = [];\n")
        .mode(0o440)
        .xattr("user.note", "careful");
    for module in 0..30 {
        let content = format!("<?php // module {module}\n").repeat(module + 1);
        tree = tree.file(
            format!("modules/m{module:02}/m{module:02}.module"),
            &content,
        );
    }
    tree
}

/// Writes a file with its parents, whatever is there.
#[track_caller]
pub(crate) fn put(path: &Path, content: impl AsRef<[u8]>) {
    let parent = path.parent().expect("not the root");
    fs::create_dir_all(parent).expect("create the parents");
    fs::write(path, content).unwrap_or_else(|error| panic!("write {}: {error}", path.display()));
}

/// All files below `directory` whose content is `content`.
pub(crate) fn files_with(directory: &Path, content: &[u8]) -> Vec<PathBuf> {
    let entries = walkdir::WalkDir::new(directory).into_iter();
    entries
        .filter_map(Result::ok)
        .filter(|entry| entry.file_type().is_file())
        .map(walkdir::DirEntry::into_path)
        .filter(|path| fs::read(path).is_ok_and(|bytes| bytes == content))
        .collect()
}

impl Output {
    /// Every member with its outcome, as `web1 committed, web2 stale`.
    #[track_caller]
    pub(crate) fn outcomes(&self) -> String {
        let result = self.json_result();
        let members = result["members"].as_array();
        let members =
            members.unwrap_or_else(|| panic!("no members in the result\n{}", self.describe()));
        let word = |member: &Value, key: &str| member[key].as_str().unwrap_or("?").to_owned();
        members
            .iter()
            .map(|member| format!("{} {}", word(member, "name"), word(member, "outcome")))
            .collect::<Vec<_>>()
            .join(", ")
    }

    /// This output, if it exited with 0 and all members say `outcome`.
    #[track_caller]
    pub(crate) fn all(self, outcome: &str) -> Self {
        let output = self.success();
        let result = output.json_result();
        let members = result["members"].as_array().cloned().unwrap_or_default();
        let fits = |member: &Value| member["outcome"] == outcome;
        assert!(
            !members.is_empty() && members.iter().all(fits),
            "expected all members to be {outcome}\n{}",
            output.describe()
        );
        output
    }

    /// This output, if a brake with this code refused.
    #[track_caller]
    pub(crate) fn refused(self, code: &str) -> Self {
        let output = self.exits(5);
        let said = &output.json_result()["error"]["code"];
        assert!(
            said == code,
            "expected a refusal with {code}, not {said}\n{}",
            output.describe()
        );
        output
    }

    /// The number that the member called `name` has under `key`.
    #[track_caller]
    pub(crate) fn member_number(&self, name: &str, key: &str) -> u64 {
        let member = self.json_member(name);
        member[key]
            .as_u64()
            .unwrap_or_else(|| panic!("no {key} in {member}\n{}", self.describe()))
    }

    /// Bytes of content that were sent to all members together.
    #[track_caller]
    pub(crate) fn content_bytes(&self) -> u64 {
        let result = self.json_result();
        let members = result["members"].as_array().expect("members");
        members
            .iter()
            .map(|member| member["content_bytes"].as_u64().expect("a number"))
            .sum()
    }

    /// The generation that the result names.
    #[track_caller]
    pub(crate) fn generation(&self) -> u64 {
        self.json_result()["generation"]
            .as_u64()
            .unwrap_or_else(|| panic!("no generation\n{}", self.describe()))
    }

    /// The drift of one member, sorted, as `core/boot.php content`.
    #[track_caller]
    pub(crate) fn drift(&self, name: &str) -> Vec<String> {
        let member = self.json_member(name);
        let entries = member["drift"].as_array().expect("a list of drift");
        let word = |entry: &Value, key: &str| entry[key].as_str().unwrap_or("?").to_owned();
        let mut lines: Vec<_> = entries
            .iter()
            .map(|entry| format!("{} {}", word(entry, "path"), word(entry, "kind")))
            .collect();
        lines.sort();
        lines
    }

    /// Both streams, as a person sees them.
    pub(crate) fn everything_said(&self) -> String {
        self.text() + &self.error_text()
    }
}

impl World {
    /// A world with a platform called `site` that has `source` as its source.
    #[track_caller]
    pub(crate) fn with_site(agents: usize, source: &Tree, options: &[&str]) -> Self {
        let world = Self::with_agents(agents);
        source.write_to(&world.source("site"));
        world.add_platform("site", options);
        world
    }

    /// What is live on each agent; `None` where nothing is.
    pub(crate) fn states(&self, name: &str) -> Vec<Option<Snapshot>> {
        (0..self.agent_count())
            .map(|index| {
                let live = self.live(index, name);
                live.exists().then(|| Snapshot::read(&live))
            })
            .collect()
    }

    /// Checks that nothing on any agent differs from `before`.
    #[track_caller]
    pub(crate) fn assert_untouched(&self, name: &str, before: &[Option<Snapshot>]) {
        for (index, (before, now)) in before.iter().zip(self.states(name)).enumerate() {
            match (before, &now) {
                (Some(before), Some(now)) => Compare::exact().assert_same(before, now),
                (None, None) => {}
                _ => panic!("{} came or went on {}", name, self.agent_name(index)),
            }
        }
    }

    /// What rsync makes of the source of the platform.
    #[track_caller]
    pub(crate) fn expected(&self, name: &str) -> Snapshot {
        oracle::expected(&self.source(name))
    }

    /// Checks that all agents have `expected`.
    #[track_caller]
    pub(crate) fn assert_all_have(&self, name: &str, expected: &Snapshot, compare: &Compare) {
        for index in 0..self.agent_count() {
            compare.assert_same(expected, &self.snapshot(index, name));
        }
    }

    /// Sets keys of a section (`platforms.site`) in the inventory; each line is `key = value`.
    #[track_caller]
    pub(crate) fn configure(&self, section: &str, lines: &[&str]) {
        let path = self.hub_dir().join("fanout.toml");
        let text = fs::read_to_string(&path).expect("read the inventory");
        let header = format!("[{section}]");
        let key_of = |line: &str| line.split('=').next().unwrap_or_default().trim().to_owned();
        let keys: Vec<_> = lines.iter().map(|line| key_of(line)).collect();
        let mut edited = Vec::new();
        let (mut inside, mut found) = (false, false);
        for line in text.lines() {
            if line.trim_start().starts_with('[') && !line.contains('=') {
                inside = line.trim() == header;
                found |= inside;
                edited.push(line.to_owned());
                if inside {
                    edited.extend(lines.iter().map(|&line| line.to_owned()));
                }
            } else if !(inside && keys.contains(&key_of(line))) {
                edited.push(line.to_owned());
            }
        }
        assert!(found, "no section {header} in the inventory:\n{text}");
        fs::write(&path, edited.join("\n") + "\n").expect("write the inventory");
    }

    /// Appends text to the inventory.
    #[track_caller]
    pub(crate) fn append_to_inventory(&self, text: &str) {
        let path = self.hub_dir().join("fanout.toml");
        let before = fs::read_to_string(&path).expect("read the inventory");
        fs::write(&path, format!("{before}\n{text}\n")).expect("write the inventory");
    }

    /// `resync --json` with these options, whatever comes of it.
    #[track_caller]
    pub(crate) fn resync(&self, options: &[&str]) -> Output {
        self.fanout(&[&["resync", "--json"][..], options].concat())
    }

    /// `verify platform NAME --json` with these options, whatever comes of it.
    #[track_caller]
    pub(crate) fn verify(&self, name: &str, options: &[&str]) -> Output {
        self.fanout(&[&["verify", "platform", name, "--json"][..], options].concat())
    }

    /// `rollback platform NAME --json` with these options, whatever comes of it.
    #[track_caller]
    pub(crate) fn rollback(&self, name: &str, options: &[&str]) -> Output {
        self.fanout(
            &[
                &["rollback", "platform", name, "--json", "--yes"][..],
                options,
            ]
            .concat(),
        )
    }

    /// Checks by `verify --level content` that every member is clean.
    #[track_caller]
    pub(crate) fn assert_clean(&self, name: &str) {
        let output = self.verify(name, &["--level", "content"]).success();
        for index in 0..self.agent_count() {
            let member = output.json_member(self.agent_name(index));
            assert_eq!(member["state"], "clean", "{}", output.describe());
        }
    }
}
