//! One case: all sides on the same ground, taking turns, each result checked before its time
//! counts.

use crate::fanout_side::{Fanout, Pushed, Setup};
use crate::ground::{Ground, GroundSpec};
use crate::meter::{Groups, Meter, Values};
use crate::rivals::{Rival, Transferred};
use crate::same::{Keeps, Snapshot};
use crate::sandbox::Sandbox;
use anyhow::{Context, Result};
use rayon::prelude::*;
use std::fs;
use std::thread;
use std::time::Duration;

/// After the source was written. rsync compares the times of directories by the second, and leaves
/// the nanoseconds of one that it made in the same second; an index doesn't trust files that
/// changed in the same tick as it was written.
const NOT_RACY: Duration = Duration::from_millis(1_100);

/// When what is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Plan {
    /// A whole tree to empty disks, made anew for every side in every round.
    First,
    /// The same tree once more.
    Nothing,
    /// The next change of the source, a new one in every round.
    Change,
}

/// Who takes part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    /// With a level: `index`, `stat` or `content`.
    Fanout(&'static str),
    Rival(Rival),
}

/// How a case is run.
#[derive(Clone, Debug)]
pub(crate) struct Race {
    pub(crate) ground: GroundSpec,
    pub(crate) plan: Plan,
    pub(crate) sides: Vec<Side>,
    pub(crate) setup: Setup,
    /// Whether the rivals sync the members' disks. Ours does unless `setup` says otherwise.
    pub(crate) durable: bool,
    pub(crate) rounds: usize,
    pub(crate) limit: Duration,
}

/// What came of one side.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) side: String,
    /// One for each round.
    pub(crate) runs: Vec<Values>,
    /// It didn't end within the limit, and was not asked again.
    pub(crate) too_slow: bool,
}

impl Side {
    /// In the table.
    pub(crate) fn name(self) -> String {
        match self {
            Self::Fanout(level) => format!("fanout push, {level}"),
            Self::Rival(rival) => rival.name().to_owned(),
        }
    }
}

/// Runs it.
pub(crate) fn run(sandbox: &Sandbox, race: &Race) -> Result<Vec<Row>> {
    let mut ground = Ground::new(sandbox, race.ground.clone()).context("set up the machines")?;
    let mut rows: Vec<Row> = race
        .sides
        .iter()
        .map(|side| Row {
            side: side.name(),
            runs: Vec::new(),
            too_slow: false,
        })
        .collect();
    let mut state = State {
        race,
        fanout: None,
        source: Snapshot::read(&ground.source())?,
    };
    thread::sleep(NOT_RACY);
    state.begin(&ground)?;
    for round in 0..race.rounds {
        if race.plan == Plan::Change {
            let corpus = race.ground.corpus;
            corpus.change(&ground.source(), round as u64 + 1)?;
            thread::sleep(NOT_RACY);
            state.source = Snapshot::read(&ground.source())?;
            state.publish(&ground)?;
        }
        for turn in 0..race.sides.len() {
            let number = (turn + round) % race.sides.len();
            if rows[number].too_slow {
                continue;
            }
            let side = race.sides[number];
            if race.plan == Plan::First {
                state.renew(&mut ground, side)?;
            }
            eprintln!("  round {}: {}", round + 1, side.name());
            match state.measure(&ground, side)? {
                Some(values) => {
                    if race.plan != Plan::Nothing {
                        state.check(&ground, side)?;
                    }
                    rows[number].runs.push(values);
                }
                None => rows[number].too_slow = true,
            }
        }
    }
    for side in &race.sides {
        if race.plan == Plan::Nothing {
            state.check(&ground, *side)?;
        }
    }
    // Agents end before their disks do.
    drop(state);
    Ok(rows)
}

struct State<'race> {
    race: &'race Race,
    fanout: Option<Fanout>,
    source: Snapshot,
}

impl State<'_> {
    /// Brings every side to where the first round begins.
    fn begin(&mut self, ground: &Ground) -> Result<()> {
        self.publish(ground)?;
        if self.race.plan == Plan::First {
            return Ok(());
        }
        if self
            .race
            .sides
            .iter()
            .any(|side| matches!(side, Side::Fanout(_)))
        {
            self.fanout = Some(Fanout::start(ground, self.race.setup)?);
        }
        let mut delivered = false;
        for side in &self.race.sides {
            match side {
                // Several levels are one side that is asked in several ways.
                Side::Fanout(_) if delivered => continue,
                Side::Fanout(_) => delivered = true,
                Side::Rival(rival) => rival.prepare(ground)?,
            }
            self.transfer(ground, *side, self.race.limit * 4)
                .with_context(|| format!("the first transfer by {}", side.name()))?
                .with_context(|| format!("{} didn't end", side.name()))?;
            self.check(ground, *side)?;
        }
        Ok(())
    }

    fn publish(&self, ground: &Ground) -> Result<()> {
        let rivals = self.race.sides.iter().filter_map(|side| match side {
            Side::Rival(rival) => Some(rival),
            Side::Fanout(_) => None,
        });
        rivals
            .into_iter()
            .try_for_each(|rival| rival.publish(ground))
    }

    /// Empty disks, and nothing but what this side needs.
    fn renew(&mut self, ground: &mut Ground, side: Side) -> Result<()> {
        self.fanout = None;
        ground.renew_disks()?;
        match side {
            Side::Fanout(_) => self.fanout = Some(Fanout::start(ground, self.race.setup)?),
            Side::Rival(rival) => rival.prepare(ground)?,
        }
        Ok(())
    }

    fn measure(&self, ground: &Ground, side: Side) -> Result<Option<Values>> {
        ground.settle()?;
        if self.race.plan == Plan::First {
            warm(ground);
        }
        let meter = Meter::start(groups(ground, side), ground.lab.uplink())?;
        let said = self.transfer(ground, side, self.race.limit)?;
        let Some(said) = said else {
            return Ok(None);
        };
        let mut values = meter.finish()?;
        values.extend(said);
        let files = self.source.files() as f64 * self.race.ground.members as f64;
        values.insert("files_per_s", files / values["wall_s"]);
        let members = self.race.ground.members as f64;
        values.insert("wire_bytes_per_member", values["wire_bytes"] / members);
        Ok(Some(values))
    }

    /// The clock stops when this returns.
    fn transfer(&self, ground: &Ground, side: Side, limit: Duration) -> Result<Option<Values>> {
        match side {
            Side::Fanout(level) => {
                let fanout = self.fanout.as_ref().context("not started")?;
                match fanout.push(ground, level, limit)? {
                    Pushed::Done(values) => Ok(Some(values)),
                    Pushed::TooSlow => Ok(None),
                }
            }
            Side::Rival(rival) => match rival.transfer(ground, self.race.durable, limit)? {
                Transferred::Done => Ok(Some(Values::new())),
                Transferred::TooSlow => Ok(None),
            },
        }
    }

    fn check(&self, ground: &Ground, side: Side) -> Result<()> {
        for number in ground.members() {
            let (place, keeps) = match side {
                Side::Fanout(_) => (Fanout::live(ground, number), Keeps::All),
                Side::Rival(rival) => (rival.place(ground, number), rival.keeps()),
            };
            if number > 1 && matches!(side, Side::Rival(Rival::Copy | Rival::RsyncLocal)) {
                continue;
            }
            let there = Snapshot::read(&place)?;
            self.source
                .expect_same(&there, keeps)
                .with_context(|| format!("after {}, member {number}", side.name()))?;
        }
        Ok(())
    }
}

fn groups(ground: &Ground, side: Side) -> &Groups {
    match side {
        Side::Fanout(_) => &ground.ours,
        Side::Rival(_) => &ground.theirs,
    }
}

/// Reads the source's content once, so that it is in memory for everybody. Where a tree is there
/// already the checks have done that.
fn warm(ground: &Ground) {
    let files = walkdir::WalkDir::new(ground.source()).into_iter().flatten();
    let files: Vec<_> = files.filter(|entry| entry.file_type().is_file()).collect();
    files.par_iter().for_each(|entry| {
        let _read = fs::File::open(entry.path())
            .and_then(|mut file| std::io::copy(&mut file, &mut std::io::sink()));
    });
}
