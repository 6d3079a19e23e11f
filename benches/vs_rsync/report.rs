//! The figures as one Markdown table and as JSON.

use crate::cases::Outcome;
use crate::meter::Values;
use crate::options::Options;
use crate::plot;
use crate::race::Row;
use crate::shell::output;
use anyhow::{Context, Result};
use serde_json::{Value, json};
use std::fmt::Write;
use std::fs;
use std::process::Command;

const TITLE: &str = "| Case | Side | Wall s | CPU s (hub + members) | Peak MiB (hub, member) | On the wire | \
     Files/s | Goal | Reached |\n|---|---|---:|---:|---:|---:|---:|---|---|\n";

/// Everything so far.
pub(crate) struct Report {
    machine: Vec<(&'static str, String)>,
    outcomes: Vec<Outcome>,
}

impl Report {
    /// Notes what it is measured on.
    pub(crate) fn begin(options: &Options) -> Result<Self> {
        let rounds = options.rounds();
        let size = if options.quick {
            ", quick: small trees"
        } else {
            ""
        };
        let cores = std::thread::available_parallelism()?;
        let cpu = fs::read_to_string("/proc/cpuinfo")?;
        let model = cpu.lines().find_map(|line| line.strip_prefix("model name"));
        let model = model
            .unwrap_or_default()
            .trim_start_matches(['\t', ' ', ':']);
        let memory = fs::read_to_string("/proc/meminfo")?;
        let memory = memory.lines().next().unwrap_or_default();
        let memory = memory.trim_start_matches("MemTotal:").trim().to_owned();
        let load = fs::read_to_string("/proc/loadavg")?;
        let machine = vec![
            ("rounds", format!("{rounds}{size}; medians")),
            ("machine", format!("{cores} cores, {model}, {memory}")),
            ("load before", load.trim().to_owned()),
            ("kernel", first_line("uname", &["-sr"])),
            ("file systems", file_systems(options)),
            (
                "fanout",
                first_line(&options.fanout.to_string_lossy(), &["--version"]),
            ),
            ("rsync", first_line("rsync", &["--version"])),
            ("ssh", first_line("ssh", &["-V"])),
            ("tar", first_line("tar", &["--version"])),
            ("zstd", first_line("zstd", &["--version"])),
            ("git", first_line("git", &["--version"])),
        ];
        Ok(Self {
            machine,
            outcomes: Vec::new(),
        })
    }

    pub(crate) fn add(&mut self, outcome: Outcome) {
        self.outcomes.push(outcome);
    }

    /// Writes both files.
    pub(crate) fn write(&self, options: &Options) -> Result<()> {
        fs::create_dir_all(&options.out).context("make the directory of --out")?;
        fs::write(options.out.join("vs_rsync.md"), self.markdown())?;
        if let Some(picture) = plot::picture(&self.outcomes) {
            fs::write(options.out.join("scale.svg"), picture)?;
        }
        let text = serde_json::to_string_pretty(&self.json())?;
        Ok(fs::write(options.out.join("vs_rsync.json"), text)?)
    }

    /// What was measured on, the table, and what has to be known to read it.
    pub(crate) fn markdown(&self) -> String {
        let mut text = String::new();
        for (what, value) in &self.machine {
            let _infallible = writeln!(text, "- {what}: {value}");
        }
        text.push('\n');
        text.push_str(TITLE);
        for outcome in &self.outcomes {
            outcome_lines(&mut text, outcome);
        }
        text.push('\n');
        for outcome in &self.outcomes {
            let _infallible = writeln!(
                text,
                "- **{}** {}. {}{}",
                outcome.id,
                outcome.title,
                outcome.conditions,
                outcome.busy()
            );
        }
        text
    }

    fn json(&self) -> Value {
        let machine: serde_json::Map<String, Value> = self
            .machine
            .iter()
            .map(|(what, value)| ((*what).to_owned(), json!(value)))
            .collect();
        let cases: Vec<_> = self
            .outcomes
            .iter()
            .map(|outcome| {
                let sides: Vec<_> = outcome.rows.iter().map(row_json).collect();
                let goals: Vec<_> = outcome
                    .goals
                    .iter()
                    .map(|goal| {
                        json!({"goal": goal.text, "value": goal.value, "reached": goal.is_reached})
                    })
                    .collect();
                json!({
                    "id": outcome.id, "title": outcome.title, "conditions": outcome.conditions,
                    "not_measured": outcome.not_measured, "error": outcome.error,
                    "sides": sides, "goals": goals,
                })
            })
            .collect();
        json!({"version": 1, "machine": machine, "cases": cases})
    }
}

fn file_systems(options: &Options) -> String {
    let place = match &options.on {
        Some(on) => first_line(
            "findmnt",
            &["-no", "FSTYPE,SOURCE", "-T", &on.to_string_lossy()],
        ),
        None => "tmpfs".to_owned(),
    };
    format!("ext4 in loop-mounted sparse images on {place}, one per machine, noatime")
}

fn row_json(row: &Row) -> Value {
    json!({
        "side": row.side, "too_slow": row.too_slow,
        "median": medians(row), "runs": row.runs,
    })
}

fn outcome_lines(text: &mut String, outcome: &Outcome) {
    let reason = outcome.error.as_deref().or(outcome.not_measured);
    if let Some(reason) = reason {
        let what = if outcome.error.is_some() {
            "failed"
        } else {
            "not measured"
        };
        let reason = reason.replace(['|', '\n'], " ");
        let _infallible = writeln!(text, "| {} | {what}: {reason} | | | | | | | |", outcome.id);
    }
    let lines = outcome.rows.len().max(outcome.goals.len());
    for line in 0..lines {
        let id = if line == 0 { outcome.id } else { "" };
        let cells = outcome
            .rows
            .get(line)
            .map_or("| | | | | |".to_owned(), cells);
        let (goal, reached) = outcome
            .goals
            .get(line)
            .map_or_else(Default::default, |goal| {
                let mark = match goal.is_reached {
                    Some(true) => "yes",
                    Some(false) => "**no**",
                    None => "?",
                };
                let value = goal.value.map_or("-".to_owned(), short);
                (goal.text.clone(), format!("{mark}, {value}"))
            });
        let _infallible = writeln!(text, "| {id} | {cells} | {goal} | {reached} |");
    }
}

fn cells(row: &Row) -> String {
    if row.too_slow {
        return format!("{} | over the limit | | | |", row.side);
    }
    let values = medians(row);
    let value = |name: &str| values.get(name).copied().unwrap_or_default();
    format!(
        "{} | {} | {} ({} + {}) | {}, {} | {} | {}",
        row.side,
        short(value("wall_s")),
        short(value("cpu_s")),
        short(value("hub_cpu_s")),
        short(value("members_cpu_s")),
        short(value("hub_peak_kib") / 1024.0),
        short(value("member_peak_kib") / 1024.0),
        bytes(value("wire_bytes")),
        value("files_per_s").round(),
    )
}

/// The median of each value over the rounds.
pub(crate) fn medians(row: &Row) -> Values {
    let Some(first) = row.runs.first() else {
        return Values::new();
    };
    first
        .keys()
        .map(|name| {
            let mut all: Vec<f64> = row
                .runs
                .iter()
                .filter_map(|run| run.get(name))
                .copied()
                .collect();
            all.sort_by(f64::total_cmp);
            let middle = all.len() / 2;
            let median = if all.len().is_multiple_of(2) {
                f64::midpoint(all[middle - 1], all[middle])
            } else {
                all[middle]
            };
            (*name, median)
        })
        .collect()
}

/// Three digits.
fn short(value: f64) -> String {
    match value.abs() {
        0.0 => "0".to_owned(),
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        size if size >= 0.1 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

fn bytes(count: f64) -> String {
    match count {
        count if count >= 1e6 => format!("{} MB", short(count / 1e6)),
        count => format!("{} kB", short(count / 1e3)),
    }
}

fn first_line(program: &str, words: &[&str]) -> String {
    // ssh names its version on standard error.
    let script = "\"$@\" 2>&1";
    let mut command = Command::new("sh");
    let said = output(command.args(["-c", script, "sh", program]).args(words));
    let said = said.unwrap_or_else(|_| "not installed".to_owned());
    let line = said.lines().find(|line| !line.trim().is_empty());
    line.unwrap_or_default()
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ")
}
