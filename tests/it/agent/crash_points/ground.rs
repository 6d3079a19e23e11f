//! A small platform that says in every file which generation it is of, what its member adds to it,
//! and readers that look at it all the time.

use super::super::crash::FAILPOINTS;
use crate::support::disk::SmallDisk;
use crate::support::env::{World, platform_root};
use crate::support::run::{Running, wait_until};
use crate::support::snapshot::{Compare, Snapshot};
use crate::support::task::{files_with, put};
use crate::support::tree;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

pub(super) const A_WHILE: Duration = Duration::from_secs(120);
/// Files that every generation has, and that say which one it is.
const LABELLED: [&str; 4] = ["index.php", "core/a.php", "core/b.php", "core/hard.php"];
/// An upload that was there from the beginning.
const UPLOAD: &str = "data/uploads/one";

/// Whose process dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Who {
    Agent,
    Hub,
}

/// What is done when it dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Task {
    First,
    Change,
    Rollback,
}

fn label(number: usize) -> String {
    format!("<?php // of generation {number}\n")
}

/// Makes the source say `number` everywhere, with a change of every kind against the one before.
fn write_source(source: &Path, number: usize) {
    for name in ["index.php", "core/a.php", "core/b.php"] {
        put(&source.join(name), label(number));
    }
    put(&source.join("core/same.php"), "<?php // always the same\n");
    put(&source.join("core/drift.php"), format!("// {number}\n"));
    put(&source.join("core/touched.php"), "<?php\n");
    tree::set_mtime(
        &source.join("core/touched.php"),
        1_600_000_000,
        number as i64,
    );
    let again = |path: &str, make: &dyn Fn(&Path)| {
        let path = source.join(path);
        match path.symlink_metadata() {
            Ok(there) if there.is_dir() => fs::remove_dir_all(&path).unwrap(),
            Ok(_) => fs::remove_file(&path).unwrap(),
            Err(_) => {}
        }
        make(&path);
    };
    again("core/hard.php", &|path| {
        fs::hard_link(source.join("core/a.php"), path).unwrap();
    });
    again("core/kind", &|path| match number % 2 {
        0 => put(&path.join("below"), "a directory this time"),
        _ => put(path, "a file this time"),
    });
    again("link", &|path| {
        symlink(["core/a.php", "core/b.php"][number % 2], path).unwrap();
    });
    again(&format!("core/gen-{}", number.saturating_sub(1)), &|_| {});
    put(
        &source.join(format!("core/gen-{number}/x.php")),
        label(number),
    );
    put(&source.join("data/readme"), "what belongs to the members");
    put(&source.join(UPLOAD), "an upload");
}

/// The boots of one agent's machine: it sees another `boot_id` than this machine has, and another one
/// after each outage.
pub(super) struct Boots {
    dir: PathBuf,
    count: u32,
}

impl Boots {
    /// Starts the agent so that it sees the first boot, and any later start the one of its time.
    /// Needs root.
    #[track_caller]
    pub(super) fn of(world: &mut World, agent: usize) -> Self {
        let dir = world.dir().join("boots");
        fs::create_dir(&dir).unwrap();
        let mut boots = Self { dir, count: 0 };
        boots.next();
        // The directory: what is mounted on the file itself would be another mount to who opens it.
        let script = format!(
            "mount --bind '{}' /proc/sys/kernel/random && exec \"$0\" \"$@\"",
            boots.dir.display()
        );
        let under = ["unshare", "--mount", "sh", "-c", &script];
        world.restart_agent_under(agent, &under);
        let seen = format!(
            "/proc/{}/root/proc/sys/kernel/random/boot_id",
            world.agent_pid(agent)
        );
        assert_eq!(fs::read_to_string(seen).unwrap(), boots.id());
        boots
    }

    /// The machine comes up again.
    pub(super) fn next(&mut self) {
        self.count += 1;
        fs::write(self.dir.join("boot_id"), self.id()).unwrap();
    }

    fn id(&self) -> String {
        format!("{:08x}-0000-4000-8000-000000000000\n", self.count)
    }
}

/// A world with one platform, whose source is at `number`.
pub(super) struct Bench {
    pub(super) world: World,
    pub(super) platform: String,
    layout: String,
    number: usize,
    cases: usize,
    /// What the hub wants, as far as we know; 0 is nothing.
    serial: u64,
    /// The disk under the side that dies, if its power goes with it.
    pub(super) disk: Option<SmallDisk>,
    /// What tells the first agent's boots apart, where an outage is one.
    pub(super) boots: Option<Boots>,
    /// Every upload: its content, inode and time.
    uploads: BTreeMap<PathBuf, (Vec<u8>, u64, i64)>,
}

impl Bench {
    pub(super) fn start(layout: &str, agents: usize) -> Self {
        let mut bench = Self {
            world: World::with_agents(agents),
            platform: String::new(),
            layout: layout.to_owned(),
            number: 0,
            cases: 0,
            serial: 0,
            disk: None,
            boots: None,
            uploads: BTreeMap::new(),
        };
        bench.add_platform();
        bench
    }

    /// Goes on with a platform that no member has yet.
    fn add_platform(&mut self) {
        self.platform = format!("site{}", self.cases);
        (self.number, self.serial) = (1, 0);
        self.uploads.clear();
        write_source(&self.world.source(&self.platform), 1);
        let options = ["--layout", &self.layout, "--preserve", "/data/uploads*"];
        self.world.add_platform(&self.platform, &options);
        let section = format!("platforms.{}", self.platform);
        self.world.configure(&section, &["seed = true", "keep = 2"]);
    }

    pub(super) fn live(&self) -> PathBuf {
        self.world.live(0, &self.platform)
    }

    #[track_caller]
    pub(super) fn push(&mut self) {
        self.serial = self.world.push(&self.platform, &[]).success().generation();
    }

    pub(super) fn words(&self, task: Task) -> Vec<String> {
        let verb = match task {
            Task::Rollback => "rollback",
            Task::First | Task::Change => "push",
        };
        let mut words = vec![verb, "platform", &self.platform, "--json"];
        if task == Task::Rollback {
            words.push("--yes");
        }
        words.into_iter().map(str::to_owned).collect()
    }

    /// The source goes on, and the member lives on.
    pub(super) fn prepare(&mut self, task: Task) {
        self.cases += 1;
        match task {
            Task::First => return self.add_platform(),
            Task::Change => {
                self.number += 1;
                write_source(&self.world.source(&self.platform), self.number);
            }
            Task::Rollback => {}
        }
        self.live_on();
    }

    /// A local edit, and a directory of uploads that no generation knows yet.
    pub(super) fn live_on(&mut self) {
        let live = self.live();
        fs::write(live.join("core/drift.php"), self.local_edit()).unwrap();
        put(
            &live.join(format!("data/uploads-{}/new", self.cases)),
            format!("upload {}", self.cases),
        );
        self.note_uploads();
    }

    fn local_edit(&self) -> String {
        format!("an edit on the member, the {}.", self.cases)
    }

    pub(super) fn note_uploads(&mut self) {
        self.uploads = uploads(&self.live());
    }

    /// What is live before and after the task, by number; 0 is nothing.
    fn numbers(&self, task: Task) -> (usize, usize) {
        match task {
            Task::First => (0, 1),
            Task::Change => (self.number - 1, self.number),
            Task::Rollback => (self.number, self.number - 1),
        }
    }

    /// Runs the task with `armed` on one side, and checks everything about its end. Without a
    /// `kill` in it nobody dies.
    pub(super) fn run(&mut self, task: Task, who: Who, armed: &str) {
        self.prepare(task);
        let said = format!("{} {task:?} {who:?} {armed}", self.layout);
        let (before, after) = self.numbers(task);
        if let Some(disk) = &self.disk {
            disk.sync();
        }
        let mut watch = Some(Watch::start(&self.live(), &self.layout, (before, after)));
        let words = self.words(task);
        let words: Vec<_> = words.iter().map(String::as_str).collect();
        let env = [(FAILPOINTS, armed)];
        let is_killed = armed.contains("kill");
        let fails = armed.contains("error:");
        let mut outcome = None;
        match who {
            Who::Hub => {
                let output = self.world.fanout_with_env(&words, &env);
                let died = output.code.is_none();
                assert_eq!(died, is_killed, "{said}\n{}", output.describe());
                self.lose_power(&mut watch, &said);
                self.damage_indexes();
            }
            Who::Agent => {
                self.world.restart_agent_with_env(0, &env);
                let mut running = self.world.start_fanout(&words, &[]);
                if is_killed {
                    self.wait_for_death(&mut running, &said);
                    self.lose_power(&mut watch, &said);
                    self.damage_indexes();
                    self.world.restart_agent(0);
                }
                let output = running.finish_within(A_WHILE);
                outcome = Some(output.json_member("web1")["outcome"].clone());
                if fails {
                    self.world.restart_agent(0);
                }
                assert!(
                    is_killed || fails || output.code == Some(0),
                    "{said}\n{}",
                    output.describe()
                );
            }
        }
        // I12: a repair publishes nothing. I9: it is what the hub says it is.
        let resync = self.world.resync(&[&self.platform]);
        let serial = resync.json_result()["generation"].as_u64();
        let is_decided = serial.unwrap_or_default() != self.serial;
        if let Some(outcome) = outcome {
            let says_new = ["committed", "in-doubt"].map(Into::into).contains(&outcome);
            assert_eq!(says_new, is_decided, "{said}: {outcome}");
        }
        if before > 0 || is_decided {
            assert_eq!(resync.code, Some(0), "{said}\n{}", resync.describe());
            let wanted = if is_decided { after } else { before };
            let index = fs::read_to_string(self.live().join("index.php")).unwrap();
            assert_eq!(index, label(wanted), "{said}");
        } else {
            assert!(!self.live().join("index.php").exists(), "{said}");
        }
        if let Some(watch) = watch {
            watch.stop(&said);
        }
        // I4, and what nobody committed was kept.
        if before > 0 {
            self.assert_uploads(&said);
            let kept = files_with(&self.world.dir().join("web1"), self.local_edit().as_bytes());
            assert!(!kept.is_empty(), "{said}: the local edit is gone");
        }
        self.push();
        self.assert_as_source(&said);
    }

    /// Waits until the first agent is dead, by what it was armed with.
    #[track_caller]
    pub(super) fn wait_for_death(&mut self, task: &mut Running, said: &str) {
        let world = &mut self.world;
        wait_until(A_WHILE, || !world.agent_is_running(0) || !task.is_running());
        // What follows the answer, such as collecting, may take a moment.
        let died = wait_until(Duration::from_secs(10), || !world.agent_is_running(0));
        assert!(died, "{said}: nobody died\n{}", task.output().describe());
    }

    /// The agent dies in a push, and is started again with `then` while the hub waits for it.
    pub(super) fn die_in_a_push(&mut self, armed: &str, options: &[&str], then: &str) {
        self.world.restart_agent_with_env(0, &[(FAILPOINTS, armed)]);
        let words = ["push", "platform", &self.platform, "--json"];
        let mut push = self.world.start_fanout(&[&words, options].concat(), &[]);
        self.wait_for_death(&mut push, armed);
        self.world.restart_agent_with_env(0, &[(FAILPOINTS, then)]);
        push.finish_within(A_WHILE);
    }

    /// The disk of the dead side loses what wasn't durable. What is found on it is the old or the
    /// new state, even before anybody has recovered anything.
    fn lose_power(&mut self, watch: &mut Option<Watch>, said: &str) {
        let Some(disk) = &mut self.disk else { return };
        let Some(watch) = watch.take() else { return };
        let reader = watch.reader.clone();
        watch.stop(said);
        disk.lose_power();
        if let Some(boots) = &mut self.boots {
            boots.next();
        }
        if let Err(what) = reader.look() {
            panic!("{said}: after the outage there is {what}");
        }
    }

    /// After a repair the tree is the new one if the hub decided so, otherwise the old one.
    #[track_caller]
    pub(super) fn assert_is_after_all(&self, is_new: bool, said: &str) {
        self.world.resync(&[&self.platform]).success();
        let index = fs::read_to_string(self.live().join("index.php")).unwrap();
        let number = if is_new { self.number } else { self.number - 1 };
        assert_eq!(index, label(number), "{said}");
    }

    #[track_caller]
    pub(super) fn assert_uploads(&self, said: &str) {
        assert_eq!(uploads(&self.live()), self.uploads, "{said}");
    }

    pub(super) fn upload_contents(&self) -> Vec<Vec<u8>> {
        self.uploads.values().map(|it| it.0.clone()).collect()
    }

    pub(super) fn assert_as_source(&self, said: &str) {
        let expected = Snapshot::read(&self.world.source(&self.platform));
        let compare = Compare::exact().without_path("data");
        let differences = compare.diff(&expected, &Snapshot::read(&self.live()));
        assert!(differences.is_empty(), "{said}\n{}", differences.join("\n"));
        assert!(self.live().join(UPLOAD).is_file(), "{said}");
    }

    /// I6: the member's index and the hub's are gone, or damaged, or stay, in turns.
    fn damage_indexes(&self) {
        let beside = format!(".{}.fanout/index", self.platform);
        let root = platform_root(&self.platform);
        let root = self
            .world
            .agent_prefix(0)
            .join(root.trim_start_matches('/'));
        let own = self
            .world
            .hub_dir()
            .join(format!("state/sources/{}.index", self.platform));
        for index in [root.with_file_name(beside), own] {
            let Ok(mut bytes) = fs::read(&index) else {
                continue;
            };
            match self.cases % 3 {
                0 => fs::remove_file(&index).unwrap(),
                1 => {
                    let middle = bytes.len() / 2;
                    bytes[middle] ^= 0x55;
                    fs::write(&index, bytes).unwrap();
                }
                _ => {}
            }
        }
    }
}

/// Every file below a preserved path, wherever it lies by now.
fn uploads(live: &Path) -> BTreeMap<PathBuf, (Vec<u8>, u64, i64)> {
    let Ok(names) = fs::read_dir(live.join("data")) else {
        return BTreeMap::new();
    };
    let mut found = BTreeMap::new();
    for name in names.map(Result::unwrap) {
        if !name.file_name().as_encoded_bytes().starts_with(b"uploads") {
            continue;
        }
        let below = walkdir::WalkDir::new(name.path()).follow_root_links(true);
        for file in below.into_iter().map(Result::unwrap) {
            if file.file_type().is_file() {
                let path = file.path();
                let stat = fs::metadata(path).unwrap();
                let state = (fs::read(path).unwrap(), stat.ino(), stat.mtime_nsec());
                found.insert(path.strip_prefix(live).unwrap().to_owned(), state);
            }
        }
    }
    found
}

/// I1: somebody who reads the tree all the time, as a web server does.
pub(super) struct Watch {
    is_over: Arc<AtomicBool>,
    reader: Reader,
    thread: JoinHandle<Result<u64, String>>,
}

impl Watch {
    pub(super) fn start(live: &Path, layout: &str, (before, after): (usize, usize)) -> Self {
        let is_over = Arc::new(AtomicBool::new(false));
        let reader = Reader {
            live: live.to_owned(),
            is_switched: layout == "switched",
            may_be_absent: before == 0,
            labels: [label(before), label(after)],
        };
        let (ends, looks_again) = (is_over.clone(), reader.clone());
        let thread = std::thread::spawn(move || {
            let mut looks = 0;
            while !ends.load(Ordering::Relaxed) {
                reader.look()?;
                looks += 1;
                std::thread::sleep(Duration::from_millis(1));
            }
            Ok(looks)
        });
        Self {
            is_over,
            reader: looks_again,
            thread,
        }
    }

    #[track_caller]
    pub(super) fn stop(self, said: &str) {
        self.is_over.store(true, Ordering::Relaxed);
        match self.thread.join().expect("the reader") {
            Ok(looks) => assert!(looks > 0, "{said}: nobody looked"),
            Err(what) => panic!("{said}: a reader saw {what}"),
        }
    }
}

#[derive(Clone, Debug)]
struct Reader {
    live: PathBuf,
    is_switched: bool,
    may_be_absent: bool,
    labels: [String; 2],
}

impl Reader {
    fn look(&self) -> Result<(), String> {
        let Ok(root) = self.live.canonicalize() else {
            return self.absent("the root");
        };
        let mut seen = Vec::new();
        for name in LABELLED {
            match fs::read_to_string(root.join(name)) {
                Ok(text) => seen.push((name, text)),
                // The generation that was resolved is collected: the root leads elsewhere by now.
                Err(_) if self.is_switched && self.is_elsewhere(&root) => return Ok(()),
                Err(_) => self.absent(name)?,
            }
        }
        if let Some((name, text)) = seen.iter().find(|(_, text)| !self.labels.contains(text)) {
            return Err(format!("{name} as in neither generation: {text:?}"));
        }
        if self.is_switched && seen.windows(2).any(|pair| pair[0].1 != pair[1].1) {
            return Err(format!("a mixture: {seen:?}"));
        }
        if self.is_switched && !seen.is_empty() && seen.len() < LABELLED.len() {
            return Err(format!("a part: {seen:?}"));
        }
        for name in ["core/same.php", "core/drift.php", "core/kind", "link"] {
            let there = root.join(name).symlink_metadata();
            if there.is_err() && !(self.is_switched && self.is_elsewhere(&root)) {
                self.absent(name)?;
            }
        }
        match fs::read(self.live.join(UPLOAD)) {
            Ok(bytes) if bytes == b"an upload" => Ok(()),
            Ok(bytes) => Err(format!("an upload as {}", bytes.escape_ascii())),
            Err(_) => self.absent("an upload"),
        }
    }

    fn is_elsewhere(&self, root: &Path) -> bool {
        self.live.canonicalize().is_ok_and(|now| now != root)
    }

    fn absent(&self, what: &str) -> Result<(), String> {
        match self.may_be_absent {
            true => Ok(()),
            false => Err(format!("{what} absent")),
        }
    }
}
