//! A case: how it is run, and whether it reached what it should.

mod list;

use crate::floor;
use crate::ground::GroundSpec;
use crate::options::Options;
use crate::race::{self, Race, Row};
use crate::report::medians;
use crate::rivals::Rival;
use crate::sandbox::Sandbox;
use anyhow::{Result, ensure};

/// The value that says how large the tree was, or how many members there were.
pub(crate) const SIZE: &str = "size";

/// One case.
pub(crate) struct Case {
    pub(crate) id: &'static str,
    pub(crate) title: &'static str,
    kind: Kind,
    goals: Vec<Goal>,
    not_measured: Option<&'static str>,
}

enum Kind {
    Race(Box<Race>),
    /// The same with one member and with so many; what each further one costs is in question.
    Scale(Box<Race>, usize),
    /// The same in several sizes.
    Curve(Vec<(usize, Race)>),
    Floors(GroundSpec),
}

/// What shall be reached.
struct Goal {
    text: &'static str,
    measure: Measure,
}

enum Measure {
    /// How many times better than the side of this name, in a value of which less is better.
    Times(&'static str, Rival, f64),
    /// No more than this, in a value of the first side, shown divided by the last number.
    AtMost(&'static str, f64, f64),
    /// Can't be told yet.
    Unknown,
}

/// What came of a case.
pub(crate) struct Outcome {
    pub(crate) id: &'static str,
    pub(crate) title: &'static str,
    pub(crate) conditions: String,
    pub(crate) rows: Vec<Row>,
    pub(crate) goals: Vec<GoalOutcome>,
    pub(crate) not_measured: Option<&'static str>,
    pub(crate) error: Option<String>,
}

/// What came of a goal.
pub(crate) struct GoalOutcome {
    pub(crate) text: String,
    pub(crate) value: Option<f64>,
    pub(crate) is_reached: Option<bool>,
}

/// The cases that were asked for.
pub(crate) fn chosen(options: &Options) -> Result<Vec<Case>> {
    let mut cases = list::all(options);
    if options.list {
        for case in &cases {
            println!("{:18} {}", case.id, case.title);
        }
        return Ok(Vec::new());
    }
    cases.retain(|case| options.wants(case.id));
    ensure!(!cases.is_empty(), "no case is called so; --list names them");
    Ok(cases)
}

/// Runs one. What goes wrong is in the outcome.
pub(crate) fn run(case: &Case, sandbox: &Sandbox, options: &Options) -> Outcome {
    let (rows, conditions) = match &case.kind {
        Kind::Race(race) => (race::run(sandbox, race), describe(race)),
        Kind::Scale(race, members) => (scale(sandbox, race, *members), describe(race)),
        Kind::Curve(points) => {
            let largest = points.last().map(|(_, race)| describe(race));
            (curve(sandbox, points), largest.unwrap_or_default())
        }
        Kind::Floors(ground) => (
            floor::run(sandbox, ground, options.rounds()),
            ground.corpus.describe(),
        ),
    };
    let (rows, error) = match rows {
        Ok(rows) => (rows, None),
        Err(error) => (Vec::new(), Some(format!("{error:#}"))),
    };
    let goals = case.goals.iter().map(|goal| goal.judge(&rows)).collect();
    Outcome {
        id: case.id,
        title: case.title,
        conditions,
        rows,
        goals,
        not_measured: case.not_measured,
        error,
    }
}

impl Outcome {
    /// How much of the machine others used meanwhile.
    pub(crate) fn busy(&self) -> String {
        let others = self.rows.iter().map(medians);
        let others: Vec<f64> = others
            .filter_map(|row| row.get("others_cores").copied())
            .collect();
        let most = others.iter().copied().fold(0.0, f64::max);
        format!(" Others and the kernel's own threads used up to {most:.1} cores meanwhile.")
    }
}

impl Goal {
    fn judge(&self, rows: &[Row]) -> GoalOutcome {
        let first = rows.first().map(medians).unwrap_or_default();
        let (value, is_reached) = match self.measure {
            Measure::Times(name, rival, least) => {
                let rival = rows.iter().find(|row| row.side == rival.name());
                let rival = rival.map(medians).unwrap_or_default();
                let both = rival.get(name).zip(first.get(name));
                let times = both.map(|(theirs, ours)| theirs / ours);
                (times, times.map(|times| times >= least))
            }
            Measure::AtMost(name, most, unit) => {
                let value = first.get(name).copied();
                (
                    value.map(|value| value / unit),
                    value.map(|value| value <= most),
                )
            }
            Measure::Unknown => (None, None),
        };
        GoalOutcome {
            text: self.text.to_owned(),
            value,
            is_reached,
        }
    }
}

fn scale(sandbox: &Sandbox, race: &Race, members: usize) -> Result<Vec<Row>> {
    let with = |members: usize| {
        let mut race = race.clone();
        race.ground.members = members;
        let mut rows = race::run(sandbox, &race)?;
        rows[0].side = format!("{}, {members} members", rows[0].side);
        anyhow::Ok(rows.remove(0))
    };
    let (one, mut many) = (with(1)?, with(members)?);
    let base = medians(&one);
    let others = members as f64 - 1.0;
    for run in &mut many.runs {
        let each = |name: &str| (run[name] - base[name]) / others;
        let (cpu_ms, peak_kib) = (each("hub_cpu_s") * 1e3, each("hub_peak_kib"));
        run.insert("hub_cpu_ms_per_member", cpu_ms);
        run.insert("hub_peak_kib_per_member", peak_kib);
    }
    // The one that is judged comes first.
    Ok(vec![many, one])
}

/// The rows of each size, with the size as a value.
fn curve(sandbox: &Sandbox, points: &[(usize, Race)]) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for (size, race) in points {
        eprintln!("  size {size}");
        for mut row in race::run(sandbox, race)? {
            for run in &mut row.runs {
                run.insert(SIZE, *size as f64);
            }
            row.side = format!("{} ({size})", row.side);
            rows.push(row);
        }
    }
    Ok(rows)
}

fn describe(race: &Race) -> String {
    let ground = &race.ground;
    let mut words = vec![ground.corpus.describe()];
    words.push(format!("{} members", ground.members));
    words.push(match (race.setup.without_sync, race.durable) {
        (true, _) => "nobody syncs".to_owned(),
        (false, true) => "both sync".to_owned(),
        (false, false) => "fanout as it is by default, the others without sync".to_owned(),
    });
    words.push(format!("layout {}", race.setup.layout));
    words.push(match ground.wide {
        Some(wide) => format!(
            "{} Mbit/s, {} ms round trip, {} % lost",
            wide.mbit,
            2 * wide.delay.as_millis(),
            wide.lost_per_mille as f64 / 10.0
        ),
        None => "veth pairs".to_owned(),
    });
    words.push(format!("TCP with {}", ground.congestion));
    format!("{}.", words.join("; "))
}
