//! The list of cases, with what each is held against.

use super::{Case, Goal, Kind, Measure};
use crate::corpus::Corpus;
use crate::disk::DiskSpec;
use crate::fanout_side::Setup;
use crate::ground::GroundSpec;
use crate::link::Wide;
use crate::options::Options;
use crate::race::{Plan, Race, Side};
use crate::rivals::Rival;
use std::time::Duration;

const STAT: Side = Side::Fanout("stat");
const INDEX: Side = Side::Fanout("index");
/// Debian's default.
const USUAL_CONGESTION: &str = "cubic";

/// Every case, in the order in which they are run.
pub(super) fn all(options: &Options) -> Vec<Case> {
    let base = Base { options };
    let floor = |id, title, race: Race| Case {
        id,
        title,
        kind: Kind::Floors(race.ground),
        goals: Vec::new(),
        not_measured: None,
    };
    let platform = base.race(Plan::First, 1, &[]);
    let large = base.large(256, 1, false);
    let mut cases = vec![
        floor("F", "floors: bare loops on the same disks", platform),
        floor("F-large", "floors of a large file", large),
    ];
    cases.extend(nothing_changed(&base));
    cases.extend(first_push(&base));
    cases.extend(release(&base));
    cases.extend(large_files(&base));
    cases.extend(far_away(&base));
    cases.extend(the_rest(&base));
    cases.extend(curves(&base));
    cases
}

fn nothing_changed(base: &Base<'_>) -> Vec<Case> {
    let rsync = Side::Rival(Rival::Rsync);
    let daemon = Side::Rival(Rival::RsyncDaemon);
    let in_turn = Side::Rival(Rival::RsyncInTurn);
    vec![
        case(
            "P1",
            "nothing changed, 1 member",
            base.race(Plan::Nothing, 1, &[STAT, rsync, daemon]),
            vec![
                times("5 times faster than rsync", "wall_s", Rival::Rsync, 5.0),
                times("a tenth of its bytes", "wire_bytes", Rival::Rsync, 10.0),
            ],
        ),
        case(
            "P2",
            "nothing changed, 8 members",
            base.race(Plan::Nothing, 8, &[STAT, rsync, in_turn, daemon]),
            vec![
                times("10 times faster than rsync", "wall_s", Rival::Rsync, 10.0),
                times("a tenth of its CPU", "cpu_s", Rival::Rsync, 10.0),
            ],
        ),
        case(
            "P3",
            "nothing changed, 8 members, level index (rsync has no such level)",
            base.race(Plan::Nothing, 8, &[INDEX, rsync]),
            vec![
                at_most("50 ms past the scan (shown: ms)", "past_scan_ms", 50.0, 1.0),
                at_most(
                    "2 kB of stream per member (shown: kB)",
                    "stream_bytes_per_member",
                    2e3,
                    1e3,
                ),
                at_most(
                    "8 kB on the wire per member (shown: kB)",
                    "wire_bytes_per_member",
                    8e3,
                    1e3,
                ),
            ],
        ),
    ]
}

fn first_push(base: &Base<'_>) -> Vec<Case> {
    let rivals = [Rival::Rsync, Rival::RsyncDaemon, Rival::TarZstd].map(Side::Rival);
    let one = [&[STAT][..], &rivals, &[Side::Rival(Rival::Copy)]].concat();
    let in_turn = Side::Rival(Rival::RsyncInTurn);
    let eight = [&[STAT][..], &rivals, &[in_turn]].concat();
    let of_one = || {
        vec![
            times("3 times faster than rsync", "wall_s", Rival::Rsync, 3.0),
            times("level with tar", "wall_s", Rival::TarZstd, 1.0),
        ]
    };
    let of_eight = || {
        vec![
            times("4 times faster than rsync", "wall_s", Rival::Rsync, 4.0),
            times("a quarter of its CPU", "cpu_s", Rival::Rsync, 4.0),
            times("faster than tar", "wall_s", Rival::TarZstd, 1.0),
        ]
    };
    let title = "first push, 1 member";
    let to_eight = "first push, 8 members";
    vec![
        case("P4", title, base.unsynced(Plan::First, 1, &one), of_one()),
        case(
            "P4-durable",
            title,
            base.synced(Plan::First, 1, &one),
            of_one(),
        ),
        case(
            "P5",
            to_eight,
            base.unsynced(Plan::First, 8, &eight),
            of_eight(),
        ),
        case(
            "P5-durable",
            to_eight,
            base.synced(Plan::First, 8, &eight),
            of_eight(),
        ),
    ]
}

fn release(base: &Base<'_>) -> Vec<Case> {
    let rivals = [
        Rival::Rsync,
        Rival::RsyncDaemon,
        Rival::Git,
        Rival::RsyncInTurn,
    ];
    let sides = [&[STAT][..], &rivals.map(Side::Rival)].concat();
    let goals = || {
        vec![
            times("6 times faster than rsync", "wall_s", Rival::Rsync, 6.0),
            times("not slower than git", "wall_s", Rival::Git, 1.0),
        ]
    };
    let title = "the next release (5 % of the files), 8 members";
    // What rsync does: single files are exchanged in a tree that is live.
    let as_rsync = [STAT, Side::Rival(Rival::Rsync), Side::Rival(Rival::Git)];
    let mut in_place = base.unsynced(Plan::Change, 8, &as_rsync);
    in_place.setup.layout = "in-place";
    vec![
        case("P6", title, base.unsynced(Plan::Change, 8, &sides), goals()),
        case(
            "P6-durable",
            title,
            base.synced(Plan::Change, 8, &sides),
            goals(),
        ),
        case("P6-in-place", title, in_place, goals()),
    ]
}

fn large_files(base: &Base<'_>) -> Vec<Case> {
    let one = || {
        let fewer = 1.0 / 1.3;
        vec![
            times("1.5 times faster than rsync", "wall_s", Rival::Rsync, 1.5),
            times("bytes within 1.3 times", "wire_bytes", Rival::Rsync, fewer),
        ]
    };
    let eight = || {
        let goal = "3 times faster than rsync";
        vec![times(goal, "wall_s", Rival::Rsync, 3.0)]
    };
    let title = "1 GiB file, 64 edits and an insert, 1 member";
    let to_eight = "256 MiB file, 64 edits and an insert, 8 members";
    vec![
        case("P7", title, base.large(1_024, 1, false), one()),
        case("P7-durable", title, base.large(1_024, 1, true), one()),
        case("P8", to_eight, base.large(256, 8, false), eight()),
        case("P8-durable", to_eight, base.large(256, 8, true), eight()),
    ]
}

fn far_away(base: &Base<'_>) -> Vec<Case> {
    let narrow = Wide {
        mbit: 20,
        delay: Duration::from_millis(10),
        lost_per_mille: 0,
    };
    let lossy = Wide {
        mbit: 100,
        delay: Duration::from_millis(50),
        lost_per_mille: 5,
    };
    let rsync = Rival::RsyncCompressed;
    let first = |congestion| base.wide(Plan::First, 1, lossy, congestion);
    let again = |congestion| base.wide(Plan::Nothing, 1, lossy, congestion);
    let three = || vec![times("3 times faster than rsync -z", "wall_s", rsync, 3.0)];
    let ten = || {
        vec![times(
            "10 times faster than rsync -z",
            "wall_s",
            rsync,
            10.0,
        )]
    };
    vec![
        case(
            "P9",
            "first push, 8 members, narrow uplink (the star: no member passes on yet)",
            base.wide(Plan::First, 8, narrow, USUAL_CONGESTION),
            vec![times("7 times faster than rsync -z", "wall_s", rsync, 7.0)],
        ),
        case(
            "P10-first-bbr",
            "first push, far and lossy",
            first("bbr"),
            three(),
        ),
        case(
            "P10-first-cubic",
            "first push, far and lossy",
            first("cubic"),
            Vec::new(),
        ),
        case(
            "P10-nothing-bbr",
            "nothing changed, far and lossy",
            again("bbr"),
            ten(),
        ),
        case(
            "P10-nothing-cubic",
            "nothing changed, far and lossy",
            again("cubic"),
            ten(),
        ),
    ]
}

fn the_rest(base: &Base<'_>) -> Vec<Case> {
    let local = [Rival::RsyncLocal, Rival::Copy].map(Side::Rival);
    let mut sync = case(
        "P12",
        "local copy, new tree",
        base.race(Plan::First, 1, &local),
        vec![
            goal("1.7 times faster than rsync -a", Measure::Unknown),
            goal("faster than cp -a", Measure::Unknown),
        ],
    );
    sync.not_measured = Some("`fanout sync` doesn't exist yet");
    let members = if base.options.quick { 16 } else { 64 };
    let many_files = base.options.many_files();
    let mib = 1024.0;
    vec![
        case(
            "P11-switched",
            "commit window of a release, 8 members, layout switched, as fanout itself records it",
            base.in_layout("switched"),
            vec![at_most("10 ms (shown: ms)", "commit_window_us", 10e3, 1e3)],
        ),
        case(
            "P11-in-place",
            "commit window of a release, 8 members, layout in-place, as fanout itself records it",
            base.in_layout("in-place"),
            vec![at_most(
                "10 ms + 25 us per entry and member / cores (shown: share of it)",
                "in_place_window_share",
                1.0,
                1.0,
            )],
        ),
        sync,
        case(
            "P13",
            "nothing changed, very many files, 1 member",
            base.many(
                Plan::Nothing,
                many_files,
                Corpus::Many { files: many_files },
            ),
            vec![
                times("3 times faster than rsync", "wall_s", Rival::Rsync, 3.0),
                at_most(
                    "300 MB on the hub (shown: MiB)",
                    "hub_peak_kib",
                    300e6 / 1024.0,
                    mib,
                ),
                at_most(
                    "300 MB on the member (shown: MiB)",
                    "member_peak_kib",
                    300e6 / 1024.0,
                    mib,
                ),
            ],
        ),
        Case {
            id: "P14",
            title: "nothing changed, 64 members (2,000 files), what each costs the hub",
            kind: Kind::Scale(Box::new(base.sixty_four()), members),
            goals: vec![
                at_most(
                    "1 MB of the hub's memory per member (shown: MiB)",
                    "hub_peak_kib_per_member",
                    1e6 / 1024.0,
                    mib,
                ),
                at_most(
                    "2 ms of the hub's CPU per member (shown: ms)",
                    "hub_cpu_ms_per_member",
                    2.0,
                    1.0,
                ),
            ],
            not_measured: None,
        },
        case(
            "D1",
            "first push of WordPress, 1 member",
            base.debian("wordpress"),
            Vec::new(),
        ),
        case(
            "D2",
            "first push of MediaWiki, 1 member",
            base.debian("mediawiki"),
            Vec::new(),
        ),
    ]
}

/// How time and memory grow.
fn curves(base: &Base<'_>) -> Vec<Case> {
    let sizes: &[usize] = match base.options.quick {
        true => &[1_000, 10_000],
        false => &[10_000, 100_000, 1_000_000],
    };
    let members: &[usize] = match base.options.quick {
        true => &[1, 4],
        false => &[1, 4, 16, 64],
    };
    let gib: &[usize] = if base.options.quick {
        &[1]
    } else {
        &[1, 4, 10]
    };
    let flat: &[usize] = match base.options.quick {
        true => &[2_000],
        false => &[20_000, 200_000],
    };
    let of_files = |plan, corpus: fn(usize) -> Corpus, sizes: &[usize]| {
        let sizes = sizes.iter().copied();
        sizes
            .map(|files| (files, base.many(plan, files, corpus(files))))
            .collect()
    };
    let many: fn(usize) -> Corpus = |files| Corpus::Many { files };
    let one: fn(usize) -> Corpus = |files| Corpus::Flat { files };
    let (first, nothing) = (Plan::First, Plan::Nothing);
    let with_members = |count: &usize| (*count, base.so_many(*count));
    let of_gib = |gib: &usize| (*gib, base.sparse(*gib as u64 * 1_024));
    let points = [
        (
            "S-files-nothing",
            "nothing changed, by the number of files",
            of_files(nothing, many, sizes),
        ),
        (
            "S-files-first",
            "first push, by the number of files",
            of_files(first, many, sizes),
        ),
        (
            "S-directory-nothing",
            "nothing changed, by the number of files in one directory",
            of_files(nothing, one, flat),
        ),
        (
            "S-directory-first",
            "first push, by the number of files in one directory",
            of_files(first, one, flat),
        ),
        (
            "S-members",
            "nothing changed (2,000 files), by the number of members",
            members.iter().map(with_members).collect(),
        ),
        (
            "S-large",
            "64 edits in a file with holes, by its GiB",
            gib.iter().map(of_gib).collect(),
        ),
    ];
    points
        .into_iter()
        .map(|(id, title, points)| Case {
            id,
            title,
            kind: Kind::Curve(points),
            goals: Vec::new(),
            not_measured: None,
        })
        .collect()
}

/// What all cases begin with.
struct Base<'options> {
    options: &'options Options,
}

impl Base<'_> {
    fn race(&self, plan: Plan, members: usize, sides: &[Side]) -> Race {
        let corpus = Corpus::Platform {
            files: self.options.platform_files(),
        };
        let disk = DiskSpec {
            mib: 4_096,
            small_blocks: false,
        };
        Race {
            ground: GroundSpec {
                members,
                corpus,
                hub_disk: disk,
                member_disk: disk,
                shared_disk: false,
                wide: None,
                congestion: USUAL_CONGESTION,
                servers: sides.iter().any(|side| matches!(side, Side::Rival(_))),
            },
            plan,
            sides: sides.to_vec(),
            setup: Setup {
                fanout: self.options.program(),
                layout: "switched",
                keep: 2,
                without_sync: false,
            },
            durable: false,
            rounds: self.options.rounds(),
            limit: self.options.limit(),
        }
    }

    /// Neither side syncs.
    fn unsynced(&self, plan: Plan, members: usize, sides: &[Side]) -> Race {
        let mut race = self.race(plan, members, sides);
        race.setup.without_sync = true;
        race
    }

    /// Both do.
    fn synced(&self, plan: Plan, members: usize, sides: &[Side]) -> Race {
        let mut race = self.race(plan, members, sides);
        race.durable = true;
        race
    }

    fn wide(&self, plan: Plan, members: usize, wide: Wide, congestion: &'static str) -> Race {
        let sides = [STAT, Side::Rival(Rival::RsyncCompressed)];
        let mut race = self.race(plan, members, &sides);
        race.ground.wide = Some(wide);
        race.ground.congestion = congestion;
        race
    }

    fn large(&self, mib: u64, members: usize, durable: bool) -> Race {
        let sides = [STAT, Side::Rival(Rival::Rsync)];
        let mut race = match durable {
            true => self.synced(Plan::Change, members, &sides),
            false => self.unsynced(Plan::Change, members, &sides),
        };
        let mib = self.options.large_mib(mib);
        race.ground.corpus = Corpus::Large { mib };
        race.ground.hub_disk.mib = mib * 5 + 512;
        race.ground.member_disk.mib = mib * 8 + 512;
        race.setup.keep = 1;
        race
    }

    fn in_layout(&self, layout: &'static str) -> Race {
        let mut race = self.race(Plan::Change, 8, &[STAT]);
        race.setup.layout = layout;
        race
    }

    fn many(&self, plan: Plan, files: usize, corpus: Corpus) -> Race {
        let sides = [STAT, Side::Rival(Rival::Rsync)];
        let mut race = self.race(plan, 1, &sides);
        race.ground.corpus = corpus;
        race.ground.hub_disk = DiskSpec {
            mib: files as u64 / 200 + 512,
            small_blocks: true,
        };
        race.ground.member_disk = DiskSpec {
            mib: files as u64 / 120 + 512,
            small_blocks: true,
        };
        race
    }

    fn debian(&self, name: &'static str) -> Race {
        let sides = [Rival::Rsync, Rival::RsyncDaemon, Rival::TarZstd].map(Side::Rival);
        let mut race = self.unsynced(Plan::First, 1, &[&[STAT][..], &sides].concat());
        race.ground.corpus = Corpus::Debian(name);
        race
    }

    fn so_many(&self, members: usize) -> Race {
        let rsync = Side::Rival(Rival::Rsync);
        let mut race = self.race(Plan::Nothing, members, &[STAT, rsync]);
        race.ground.corpus = Corpus::Platform { files: 2_000 };
        race.ground.shared_disk = true;
        race.ground.member_disk.mib = 8_192;
        race
    }

    fn sparse(&self, mib: u64) -> Race {
        let mut race = self.race(Plan::Change, 1, &[STAT]);
        race.ground.corpus = Corpus::Sparse { mib };
        race.ground.hub_disk.mib = mib * 4 + 512;
        race.ground.member_disk.mib = mib * 4 + 512;
        race.setup.keep = 1;
        race
    }

    fn sixty_four(&self) -> Race {
        let mut race = self.race(Plan::Nothing, 1, &[STAT]);
        race.ground.corpus = Corpus::Platform { files: 2_000 };
        race.ground.shared_disk = true;
        race.ground.member_disk.mib = 8_192;
        race
    }
}

fn goal(text: &'static str, measure: Measure) -> Goal {
    Goal { text, measure }
}

fn times(text: &'static str, value: &'static str, rival: Rival, least: f64) -> Goal {
    goal(text, Measure::Times(value, rival, least))
}

fn at_most(text: &'static str, value: &'static str, most: f64, unit: f64) -> Goal {
    goal(text, Measure::AtMost(value, most, unit))
}

fn case(id: &'static str, title: &'static str, race: Race, goals: Vec<Goal>) -> Case {
    Case {
        id,
        title,
        kind: Kind::Race(Box::new(race)),
        goals,
        not_measured: None,
    }
}
