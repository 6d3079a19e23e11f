//! Somebody works against fanout on the member's disk, above the root or in the source, from the
//! first moment of a push to the last (invariants I4 and I5): whatever comes of the single push,
//! nothing outside is opened, changed or removed, and when it is over a push delivers.
//!
//! `FANOUT_RACE_PUSHES` says how many pushes each of these tests makes; `docs/safety.md` has the
//! figures of long runs.

mod above;
mod inside;
mod mounts;
mod source;

use crate::support::attack::{Attack, SITE_USER};
use crate::support::env::World;
use crate::support::guard::Guard;
use crate::support::run::Output;
use crate::support::task::{put, site};
use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

/// How many pushes a test makes, if nobody says otherwise.
const PUSHES: u64 = 14;
/// What survives a race: brakes and policies are not what is tried here.
const ANYTHING: [&str; 2] = ["--allow-delete", "100000"];

fn pushes() -> u64 {
    let said = std::env::var("FANOUT_RACE_PUSHES").ok();
    said.map_or(PUSHES, |said| said.parse().expect("a number"))
}

/// A platform that belongs to the site's user, with uploads, on one member; and a guard, and a
/// place of the attacker's own outside the root.
struct Ground {
    world: World,
    guard: Guard,
    uploads: Vec<(PathBuf, String, u64, i64)>,
}

impl Ground {
    /// `dir_mode` is the mode of the platform's directories.
    fn new(layout: &str, dir_mode: u32) -> Self {
        let options = ["--layout", layout, "--preserve", "/sites/*/files"];
        let world = World::with_site(1, &site(), &options);
        fs::set_permissions(world.dir(), Permissions::from_mode(0o755)).unwrap();
        let mut ground = Self {
            guard: Guard::make(world.dir().join("guard")),
            world,
            uploads: Vec::new(),
        };
        let attic = ground.attic();
        fs::create_dir(&attic).unwrap();
        fs::set_permissions(&attic, Permissions::from_mode(0o777)).unwrap();
        ground.own_source(dir_mode);
        ground.world.push("site", &[]).all("committed");
        let files = ground.world.live(0, "site").join("sites/default/files");
        put(&files.join("2026/photo.jpg"), "what a visitor uploaded");
        put(&files.join("report.pdf"), "another upload");
        for entry in walkdir::WalkDir::new(&files) {
            chown(entry.unwrap().path(), Some(SITE_USER), Some(SITE_USER)).unwrap();
        }
        // From here on they lie where they stay.
        ground.edit(0, dir_mode);
        ground.world.push("site", &[]).all("committed");
        ground.uploads = ground.read_uploads();
        assert_eq!(ground.uploads.len(), 2);
        ground
    }

    /// A directory outside the root where everybody may put things.
    fn attic(&self) -> PathBuf {
        self.world.dir().join("attic")
    }

    fn root(&self) -> PathBuf {
        self.world.live(0, "site")
    }

    /// The directory above the roots, and the one above that.
    fn above(&self) -> (PathBuf, PathBuf) {
        let platforms = self.root().parent().unwrap().to_owned();
        (platforms.clone(), platforms.parent().unwrap().to_owned())
    }

    /// Everything in the source is the site's user's, and may be worked in by whoever the mode of
    /// directories lets in.
    fn own_source(&self, dir_mode: u32) {
        for entry in walkdir::WalkDir::new(self.world.source("site")) {
            let entry = entry.unwrap();
            std::os::unix::fs::lchown(entry.path(), Some(SITE_USER), Some(SITE_USER)).unwrap();
            if entry.file_type().is_dir() {
                fs::set_permissions(entry.path(), Permissions::from_mode(dir_mode)).unwrap();
            }
        }
    }

    /// The next version of the source: content, metadata, an entry that comes and goes, a
    /// directory that is a file every other time.
    fn edit(&self, round: u64, dir_mode: u32) {
        let source = self.world.source("site");
        put(&source.join("index.php"), format!("<?php // {round}\n"));
        for module in [3, 5, 7] {
            let path = format!("modules/m{module:02}/m{module:02}.module");
            put(&source.join(path), format!("<?php // {module} {round}\n"));
        }
        let _absent = fs::remove_dir_all(source.join("changing"));
        let _absent = fs::remove_file(source.join("changing"));
        match round % 2 {
            0 => put(&source.join("changing/inside/file"), format!("{round}")),
            _ => put(&source.join("changing"), "a file"),
        }
        let _absent = fs::remove_dir_all(source.join("coming"));
        if !round.is_multiple_of(3) {
            put(&source.join("coming/and/going"), "x");
        }
        self.own_source(dir_mode);
        let mode = 0o600 | (u32::try_from(round % 8).unwrap() << 3);
        for path in ["core/boot.php", "modules/m09/m09.module"] {
            fs::set_permissions(source.join(path), Permissions::from_mode(mode)).unwrap();
        }
    }

    fn read_uploads(&self) -> Vec<(PathBuf, String, u64, i64)> {
        let root = self.root().join("sites/default/files");
        let root = fs::canonicalize(root).expect("the uploads");
        let entries = walkdir::WalkDir::new(&root).sort_by_file_name().into_iter();
        let files = entries.map(|entry| entry.expect("walk"));
        files
            .filter(|entry| entry.file_type().is_file())
            .map(|entry| {
                let metadata = entry.metadata().expect("stat");
                let path = entry.path().strip_prefix(&root).unwrap().to_owned();
                let content = fs::read_to_string(entry.path()).expect("read");
                (path, content, metadata.ino(), metadata.ctime_nsec())
            })
            .collect()
    }

    /// Pushes, rolls back, repairs and looks while the attackers work; then everybody goes home,
    /// `settle` tidies up, and a push delivers.
    fn work_under(mut self, attack: Attack, dir_mode: u32, settle: impl FnOnce(&Self)) {
        let (mut done, mut refused) = (0, 0);
        for round in 1..=pushes() {
            self.edit(round, dir_mode);
            let output = match round % 6 {
                4 => self.world.rollback("site", &[]),
                5 => self.world.resync(&[]),
                _ => self.world.push("site", &ANYTHING),
            };
            let is_bug = output.everything_said().contains("FX0901");
            let is_known = matches!(output.code, Some(0..=5));
            assert!(is_known && !is_bug, "{}", output.describe());
            match output.code {
                Some(0) => done += 1,
                _ => refused += 1,
            }
            assert!(self.world.agent_is_running(0), "{}", self.log());
        }
        let changes = attack.end();
        eprintln!(
            "{} tasks, {done} done, {refused} not, {changes} changes",
            pushes()
        );
        assert!(
            changes > 3 * pushes(),
            "only {changes} changes: no race at all"
        );
        self.guard.assert_untouched();
        settle(&self);
        self.edit(1, dir_mode);
        self.deliver();
        self.guard.assert_untouched();
        self.assert_no_canary();
        let gone = &[
            "delete",
            "platform",
            "site",
            "--yes-delete",
            "site",
            "--json",
        ];
        let gone: Output = self.world.fanout(gone);
        assert!(matches!(gone.code, Some(0 | 3)), "{}", gone.describe());
        self.guard.assert_untouched();
    }

    /// A push that nobody disturbs: everything is as it should be, uploads included.
    fn deliver(&self) {
        self.world.push("site", &ANYTHING).success();
        self.world.resync(&["--level", "content"]).success();
        self.world.assert_clean("site");
        let live = self.world.snapshot(0, "site");
        let expected = self.world.expected("site");
        let compare = crate::support::snapshot::Compare::exact()
            .without_path("sites/default/files")
            .without_directory_times();
        compare.assert_same(&expected, &live);
        assert_eq!(self.read_uploads(), self.uploads);
    }

    /// Nothing of what the guard holds is anywhere on the member.
    fn assert_no_canary(&self) {
        assert_no_canary_below(&self.world.agent_prefix(0));
        assert_no_canary_below(&self.world.agent_dir(0));
    }

    fn log(&mut self) -> String {
        self.world.agent_log(0)
    }
}

/// Nothing of what a guard holds is in any file below `directory`.
#[track_caller]
fn assert_no_canary_below(directory: &Path) {
    let canary = crate::support::guard::CANARY.as_bytes();
    for entry in walkdir::WalkDir::new(directory).same_file_system(true) {
        let entry = entry.expect("walk");
        if entry.file_type().is_file() {
            let bytes = fs::read(entry.path()).expect("read");
            let found = bytes.windows(canary.len()).any(|part| part == canary);
            assert!(!found, "a canary got to {}", entry.path().display());
        }
    }
}
