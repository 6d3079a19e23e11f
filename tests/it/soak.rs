//! Hours of pushes, rollbacks, uploads, kills and cut cables on one cluster; `scripts/soak` runs it.
//!
//! While that goes on, readers look at every member (I1) and visitors upload on every member (I4).
//! After each step everything that was broken is mended, the members are brought to what was
//! decided, and nothing may be missing. At the end nothing may have grown. `FANOUT_SOAK_SECONDS` says
//! how long, `FANOUT_SOAK_SEED` which course; both are printed.

use crate::support::env::World;
use crate::support::run::wait_until;
use crate::support::task::put;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read as _;
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

const AGENTS: usize = 3;
/// The agent that is never killed, so that its memory can be watched.
const WATCHED: usize = 0;
const PLATFORMS: [(&str, &str); 2] = [("blog", "switched"), ("shop", "in-place")];
/// Files that every release changes, so that a mixture would show.
const PAGES: usize = 24;
const RECOVERY: Duration = Duration::from_secs(180);

/// What is used by what runs for long.
#[derive(Clone, Copy, Debug, Default)]
struct Use {
    resident_kb: u64,
    descriptors: u64,
    /// Of the agent and of the trees' own directories, without what visitors uploaded.
    member_bytes: u64,
    depot_bytes: u64,
    /// The hub's history, which is kept.
    database_bytes: u64,
}

/// A course that can be had again.
struct Dice(u64);

impl Dice {
    /// SplitMix64 (Steele, Lea, Flood 2014).
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)) % sides
    }

    fn milliseconds(&mut self, below: u64) -> Duration {
        Duration::from_millis(self.roll(below))
    }
}

/// What visitors and readers do all the while.
#[derive(Default)]
struct Outside {
    ended: AtomicBool,
    looks: AtomicU64,
    uploads: Mutex<BTreeMap<PathBuf, String>>,
    faults: Mutex<Vec<String>>,
}

impl Outside {
    fn fault(&self, fault: String) {
        self.faults.lock().unwrap().push(fault);
    }

    fn goes_on(&self) -> bool {
        !self.ended.load(Ordering::Relaxed)
    }

    /// Uploads below one member's preserved directory.
    fn visit(&self, files: &Path) {
        for number in 0.. {
            if !self.goes_on() {
                return;
            }
            let path = files.join(format!("{}/{number}.txt", number / 500));
            let content = format!("upload {number} to {}\n", files.display());
            // The way there may be changing; a visitor tries again.
            let upload = || {
                fs::create_dir_all(path.parent().unwrap()).is_ok()
                    && fs::write(&path, &content).is_ok()
            };
            if !wait_until(Duration::from_secs(20), upload) {
                self.fault(format!("{} could not be uploaded", path.display()));
                return;
            }
            self.uploads.lock().unwrap().insert(path, content);
            std::thread::sleep(Duration::from_millis(250));
        }
    }

    /// Reads all pages of one member again and again.
    fn read(&self, live: &Path, is_switched: bool) {
        while self.goes_on() {
            if let Some(releases) = pages(live) {
                self.looks.fetch_add(1, Ordering::Relaxed);
                let first = &releases[0];
                let is_torn =
                    |page: &String| !page.starts_with("release ") || !page.ends_with('\n');
                let is_mixed = is_switched && releases.iter().any(|page| page != first);
                if is_mixed || releases.iter().any(is_torn) {
                    self.fault(format!("{} shows {releases:?}", live.display()));
                    return;
                }
            }
            std::thread::sleep(Duration::from_millis(15));
        }
    }
}

/// Every page of what is live now; `None` if it went while it was read.
fn pages(live: &Path) -> Option<Vec<String>> {
    let root = File::open(live).ok()?;
    let held = PathBuf::from(format!("/proc/self/fd/{}", root.as_raw_fd()));
    (0..PAGES)
        .map(|page| {
            let mut text = String::new();
            let mut file = File::open(held.join(page_name(page))).ok()?;
            file.read_to_string(&mut text).ok()?;
            Some(text)
        })
        .collect()
}

fn page_name(page: usize) -> String {
    format!("pages/{}/{page}.php", page % 5)
}

fn write_release(world: &World, platform: &str, release: u64, dice: &mut Dice) {
    let source = world.source(platform);
    for page in 0..PAGES {
        put(
            &source.join(page_name(page)),
            format!("release {release}\n"),
        );
    }
    // What comes and goes: modules, and content that needs a delta.
    let module = source.join(format!("modules/m{}", dice.roll(12)));
    if fs::remove_dir_all(&module).is_err() {
        for file in 0..20 {
            put(
                &module.join(format!("{file}.inc")),
                format!("{file} of {release}\n").repeat(40),
            );
        }
    }
    let large: Vec<u8> = (0..300_000_u64)
        .map(|at| (dice_byte(at / 3_000 + release * u64::from(at % 3_000 == 7)) ^ at) as u8)
        .collect();
    put(&source.join("large.bin"), large);
}

fn dice_byte(seed: u64) -> u64 {
    Dice(seed).roll(256)
}

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().expect("a number"))
}

fn platform(world: &World, name: &str, layout: &str, dice: &mut Dice) {
    write_release(world, name, 0, dice);
    let options = ["--layout", layout, "--preserve", "/files/", "--keep", "3"];
    world.add_platform(name, &options);
    world.push(name, &["--yes"]).all("committed");
}

/// One step of the course; what it was.
fn step(world: &mut World, name: &str, release: &mut u64, dice: &mut Dice) -> &'static str {
    let one = 1 + usize::try_from(dice.roll(AGENTS as u64 - 1)).unwrap();
    let push = [
        "push",
        "platform",
        name,
        "--json",
        "--allow-delete",
        "10000",
    ];
    let kind = dice.roll(10);
    if !matches!(kind, 3 | 4) {
        *release += 1;
        write_release(world, name, *release, dice);
    }
    match kind {
        0..=2 => {
            world.fanout(&push).success();
            "push"
        }
        3 => {
            // Nothing to go back to is no fault.
            world.fanout(&["rollback", "platform", name, "--yes"]);
            "rollback"
        }
        4 => {
            world.fanout(&["resync", name]);
            "resync"
        }
        5 | 6 => {
            let running = world.start_fanout(&push, &[]);
            std::thread::sleep(dice.milliseconds(900));
            world.kill_agent(one);
            running.finish_within(RECOVERY);
            world.restart_agent(one);
            "push, a member killed"
        }
        7 => {
            let mut running = world.start_fanout(&push, &[]);
            std::thread::sleep(dice.milliseconds(1200));
            running.kill();
            "push, the hub killed"
        }
        _ => {
            let running = world.start_fanout(&push, &[]);
            std::thread::sleep(dice.milliseconds(700));
            let host = world.agent_host(one);
            match dice.roll(3) {
                0 => host.cut(),
                1 => host.cut_arriving(),
                _ => host.lose(30),
            }
            std::thread::sleep(dice.milliseconds(4_000));
            world.agent_host(one).mend();
            running.finish_within(RECOVERY);
            "push, a cable cut"
        }
    }
}

/// Members are brought to what was decided, and have exactly that.
fn settle(world: &World, name: &str) {
    let is_settled = || {
        world.fanout(&["resync", name]).code == Some(0)
            && world.fanout(&["verify", "platform", name]).code == Some(0)
    };
    assert!(wait_until(RECOVERY, is_settled), "{name} doesn't settle");
    let shown: Vec<_> = (0..AGENTS).map(|at| pages(&world.live(at, name))).collect();
    let first = shown[0].as_ref().expect("pages");
    assert!(first.iter().all(|page| page == &first[0]), "{first:?}");
    assert!(
        shown.iter().all(|pages| pages.as_ref() == Some(first)),
        "{shown:?}"
    );
}

fn bytes_below(directory: &Path, leave_out: &[&str]) -> u64 {
    let is_kept =
        |entry: &walkdir::DirEntry| !leave_out.iter().any(|name| entry.file_name() == *name);
    let entries = walkdir::WalkDir::new(directory).into_iter();
    let entries = entries.filter_entry(is_kept).filter_map(Result::ok);
    let sizes = entries.filter_map(|entry| entry.metadata().ok());
    sizes.filter(fs::Metadata::is_file).map(|it| it.len()).sum()
}

fn used(world: &World) -> Use {
    let process = PathBuf::from(format!("/proc/{}", world.agent_pid(WATCHED)));
    let status = fs::read_to_string(process.join("status")).unwrap();
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let resident = resident.and_then(|rest| rest.split_whitespace().next());
    Use {
        resident_kb: resident.unwrap().parse().unwrap(),
        descriptors: fs::read_dir(process.join("fd")).unwrap().count() as u64,
        member_bytes: bytes_below(&world.agent_dir(WATCHED), &[])
            + bytes_below(&world.agent_prefix(WATCHED), &["shared", "files"]),
        depot_bytes: bytes_below(&world.hub_dir().join("state/depot"), &[]),
        database_bytes: fs::metadata(world.hub_dir().join("state/state.sqlite"))
            .unwrap()
            .len(),
    }
}

/// The middle of what was used in a part of the course.
fn middle(part: &[Use], of: impl Fn(&Use) -> u64) -> u64 {
    let mut all: Vec<u64> = part.iter().map(of).collect();
    all.sort_unstable();
    all[all.len() / 2]
}

fn assert_flat(course: &[Use]) {
    let quarter = course.len() / 4;
    let (early, late) = (&course[quarter..2 * quarter], &course[3 * quarter..]);
    for (what, of) in [
        (
            "resident kB",
            (|it: &Use| it.resident_kb) as fn(&Use) -> u64,
        ),
        ("descriptors", |it| it.descriptors),
        ("bytes on a member", |it| it.member_bytes),
        ("bytes of the depot", |it| it.depot_bytes),
    ] {
        let (before, after) = (middle(early, of), middle(late, of));
        eprintln!("{what}: {before} in the second quarter, {after} in the last");
        assert!(after <= before + before / 4 + 16, "{what} grows");
    }
    // Each step is a task of each command, with its lines.
    let history = |at: usize| course[at].database_bytes;
    let a_step = (history(course.len() - 1) - history(0)) / course.len() as u64;
    eprintln!("bytes of history: {a_step} a step");
    assert!(
        a_step < 16 * 1024,
        "the history grows by {a_step} bytes a step"
    );
}

#[test]
#[ignore = "runs for as long as it is told; scripts/soak"]
fn netns_nothing_is_lost_mixed_or_grows_in_hours() {
    let seconds = setting("FANOUT_SOAK_SECONDS", 60);
    let seed = setting("FANOUT_SOAK_SEED", u64::from(std::process::id()));
    eprintln!("{seconds} s, seed {seed}");
    let mut dice = Dice(seed);
    let mut world = World::with(AGENTS).on_hosts().start();
    for (name, layout) in PLATFORMS {
        platform(&world, name, layout, &mut dice);
    }
    let outside = Outside::default();
    let (mut course, mut steps) = (Vec::new(), BTreeMap::<&str, u64>::new());
    let lives: Vec<_> = (0..AGENTS)
        .flat_map(|at| PLATFORMS.map(|(name, layout)| (at, name, layout)))
        .map(|(at, name, layout)| (world.live(at, name), layout == "switched"))
        .collect();
    std::thread::scope(|scope| {
        for (live, is_switched) in &lives {
            scope.spawn(|| outside.read(live, *is_switched));
            scope.spawn(|| outside.visit(&live.join("files")));
        }
        // Whatever happens here, the others must hear of the end.
        let ended = Ending(&outside.ended);
        let until = Instant::now() + Duration::from_secs(seconds);
        let mut release = 0;
        while Instant::now() < until {
            let (name, _) = PLATFORMS[usize::try_from(dice.roll(2)).unwrap()];
            let what = step(&mut world, name, &mut release, &mut dice);
            *steps.entry(what).or_default() += 1;
            for (name, _) in PLATFORMS {
                settle(&world, name);
            }
            course.push(used(&world));
            assert!(outside.faults.lock().unwrap().is_empty(), "after: {what}");
        }
        drop(ended);
    });
    let faults = outside.faults.into_inner().unwrap();
    assert!(faults.is_empty(), "{faults:#?}");
    let uploads = outside.uploads.into_inner().unwrap();
    for (path, content) in &uploads {
        let found = fs::read_to_string(path);
        assert_eq!(found.ok().as_ref(), Some(content), "{}", path.display());
    }
    eprintln!(
        "{steps:?}; {} looks, {} uploads, none lost",
        outside.looks.into_inner(),
        uploads.len()
    );
    assert!(course.len() >= 8, "too short: {} steps", course.len());
    assert_flat(&course);
}

/// Says that it is over, also when the course panics.
struct Ending<'a>(&'a AtomicBool);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
