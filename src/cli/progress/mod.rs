//! Turns a task's events into what the reader wants: bars on a terminal, JSON lines, or silence.
//!
//! On a terminal: one total, one line per active member in the inventory's order, at most 16 or as
//! many as the terminal has room for, then "and N more". In cron
//! nothing but warnings. Rendering never slows the task: bars are drawn ten times a second at
//! most, and JSON carries a member's counters twice a second at most.

mod board;

use super::human;
use super::json::EventLine;
use super::ui::Ui;
use crate::engine::event::{Event, EventSink};
use board::{Board, Total};
use console::Term;
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};
use std::collections::HashMap;
use std::fmt::Write;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The most member lines on a screen.
const MEMBER_LINES: usize = 16;
const DRAW_INTERVAL: Duration = Duration::from_millis(100);
const COUNTER_INTERVAL: Duration = Duration::from_millis(500);
const TICK_INTERVAL: Duration = Duration::from_millis(120);

const SPINNER: &str = "{spinner} {msg}  {elapsed}";
const TOTAL_BAR: &str = "{msg}  [{bar:30}]  {moved}  {rate}  {elapsed}";

/// The rendering of one task on one platform.
pub(crate) struct Progress {
    renderer: Arc<Renderer>,
}

struct Renderer {
    ui: Ui,
    platform: String,
    mode: Mode,
}

enum Mode {
    Silent,
    Json(Mutex<Throttle>),
    Bars(Mutex<Option<Bars>>),
}

impl Progress {
    /// Begins to render a task on `platform`, in the way that the options and the terminal want.
    pub(crate) fn new(ui: &Ui, platform: &str) -> Self {
        let mode = if ui.is_json() {
            Mode::Json(Mutex::default())
        } else if ui.shows_progress() {
            Mode::Bars(Mutex::new(Some(Bars::new(
                ui,
                platform,
                ProgressDrawTarget::stderr(),
            ))))
        } else {
            Mode::Silent
        };
        Self {
            renderer: Arc::new(Renderer {
                ui: ui.clone(),
                platform: platform.to_owned(),
                mode,
            }),
        }
    }

    /// Where the task's events go. Events that come after [`Progress::finish`] are not drawn, but
    /// their warnings are still shown.
    pub(crate) fn sink(&self) -> EventSink {
        let renderer = Arc::clone(&self.renderer);
        EventSink::new(move |event| renderer.render(&event))
    }

    /// Clears the bars; what follows is the closing table.
    pub(crate) fn finish(self) {
        // Dropping is all there is to do.
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Mode::Bars(bars) = &self.renderer.mode
            && let Some(bars) = lock(bars).take()
        {
            bars.clear();
            self.renderer.ui.share_with(None);
        }
    }
}

impl Renderer {
    fn render(&self, event: &Event) {
        if let Mode::Json(throttle) = &self.mode {
            if lock(throttle).lets_through(event, Instant::now()) {
                self.ui.json(&EventLine::new(&self.platform, event));
            }
            return;
        }
        match event {
            Event::Warning(problem) => self.ui.warning(problem),
            Event::Note(text) => self.ui.detail(text),
            _ => {}
        }
        if let Mode::Bars(bars) = &self.mode
            && let Some(bars) = lock(bars).as_mut()
        {
            bars.update(event);
        }
    }
}

/// Rows on a terminal: the total, the members, and how many more there are.
struct Bars {
    board: Board,
    screen: MultiProgress,
    total: ProgressBar,
    rows: Vec<ProgressBar>,
    drawn: Option<Instant>,
    counts_bytes: bool,
    /// How many rows the terminal has, where that is known.
    height: fn() -> Option<usize>,
}

impl Bars {
    fn new(ui: &Ui, platform: &str, target: ProgressDrawTarget) -> Self {
        let screen = MultiProgress::with_draw_target(target);
        let total = screen.add(ProgressBar::new_spinner().with_style(style(SPINNER)));
        total.enable_steady_tick(TICK_INTERVAL);
        ui.share_with(Some(screen.clone()));
        Self {
            board: Board::new(platform),
            screen,
            total,
            rows: Vec::new(),
            drawn: None,
            counts_bytes: false,
            height: || Some(usize::from(Term::stderr().size_checked()?.0)),
        }
    }

    fn update(&mut self, event: &Event) {
        let is_counter = self.board.take(event);
        let now = Instant::now();
        let is_recent = self.drawn.is_some_and(|drawn| now - drawn < DRAW_INTERVAL);
        if is_counter && is_recent {
            return;
        }
        self.drawn = Some(now);
        self.draw();
    }

    fn draw(&mut self) {
        let Total { text, bytes } = self.board.total();
        self.total.set_message(text);
        if let Some((position, length)) = bytes {
            if !self.counts_bytes {
                self.counts_bytes = true;
                self.total.set_style(style(TOTAL_BAR));
            }
            self.total.set_length(length);
            self.total.set_position(position);
        }
        // The total, "and N more", and the line that the cursor is on have their rows, too.
        let room = (self.height)().map_or(MEMBER_LINES, |rows| rows.saturating_sub(3));
        let lines = self.board.lines(room.min(MEMBER_LINES));
        while self.rows.len() < lines.len() {
            let row = ProgressBar::new_spinner().with_style(style("  {msg}"));
            self.rows.push(self.screen.add(row));
        }
        for row in self.rows.drain(lines.len()..) {
            row.finish_and_clear();
            self.screen.remove(&row);
        }
        for (row, line) in self.rows.iter().zip(lines) {
            row.set_message(line);
        }
    }

    fn clear(&self) {
        for row in &self.rows {
            row.finish_and_clear();
        }
        self.total.finish_and_clear();
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template)
        .unwrap_or_else(|_| ProgressStyle::default_spinner())
        .progress_chars("=> ")
        .with_key("moved", |state: &ProgressState, to: &mut dyn Write| {
            let total = state.len().unwrap_or_default();
            let (moved, total) = (human::bytes(state.pos()), human::bytes(total));
            let _infallible = write!(to, "{moved} / {total}");
        })
        .with_key("rate", |state: &ProgressState, to: &mut dyn Write| {
            // A rate of less than a byte is none.
            let _infallible = write!(to, "{}/s", human::bytes(state.per_sec() as u64));
        })
}

/// Lets counters through now and then, and everything else always.
#[derive(Debug, Default)]
struct Throttle {
    said: HashMap<(u8, String), Instant>,
}

impl Throttle {
    fn lets_through(&mut self, event: &Event, now: Instant) -> bool {
        let key = match event {
            Event::Scanned { .. } => (0, String::new()),
            // The last of each counter is always said.
            Event::Sent {
                sent_bytes,
                total_bytes,
                ..
            } if sent_bytes >= total_bytes => return true,
            Event::Staged {
                staged_entries,
                total_entries,
                ..
            } if staged_entries >= total_entries => return true,
            Event::Sent { member, .. } => (1, member.to_string()),
            Event::Staged { member, .. } => (2, member.to_string()),
            _ => return true,
        };
        let is_recent = self
            .said
            .get(&key)
            .is_some_and(|said| now.saturating_duration_since(*said) < COUNTER_INTERVAL);
        if !is_recent {
            self.said.insert(key, now);
        }
        !is_recent
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::args::GlobalArgs;
    use crate::cli::ui::testing::{captured, global};
    use crate::codes::{Code, Problem};
    use crate::engine::event::{MemberReport, Outcome, Phase};

    fn sent(member: &str, sent_bytes: u64) -> Event {
        Event::Sent {
            member: member.into(),
            sent_bytes,
            total_bytes: 1_000,
        }
    }

    #[test]
    fn in_cron_a_task_says_only_its_warnings() {
        let (ui, out, err) = captured(&global());
        let progress = Progress::new(&ui, "drupal");
        let sink = progress.sink();
        sink.emit(sent("web1", 10));
        sink.emit(Event::Note("resumed".into()));
        sink.warn(Problem::new(Code::MemberStale, "web3 is stale").with_hint("Resync it"));
        progress.finish();
        assert_eq!(out.text(), "");
        assert_eq!(
            err.text(),
            "warning: web3 is stale [FX0504]\nhint: Resync it\n"
        );
    }

    #[test]
    fn json_carries_events_as_lines_and_counters_seldom() {
        let (ui, out, err) = captured(&GlobalArgs {
            json: true,
            ..global()
        });
        let sink = Progress::new(&ui, "drupal").sink();
        for sent_bytes in 1..=1_000 {
            sink.emit(sent("web1", sent_bytes));
        }
        sink.warn(Problem::new(Code::MemberStale, "web3 is stale"));
        let text = out.text();
        let lines: Vec<serde_json::Value> = text
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        assert!((3..10).contains(&lines.len()), "{text}");
        assert_eq!(lines[lines.len() - 2]["sent_bytes"], 1_000);
        assert_eq!(lines[lines.len() - 1]["warning"]["code"], "FX0504");
        assert_eq!(err.text(), "");
    }

    #[test]
    fn a_terminal_shows_a_total_and_a_line_per_active_member() {
        let (ui, _, _) = captured(&global());
        let mut bars = Bars::new(&ui, "drupal", ProgressDrawTarget::hidden());
        bars.height = || None;
        bars.total.disable_steady_tick();
        let members: Vec<_> = (1..=20).map(|n| format!("web{n:02}").into()).collect();
        bars.update(&Event::TaskStarted {
            task: 7,
            kind: crate::engine::event::TaskKind::Push,
            members: members.clone(),
        });
        for member in &members {
            bars.update(&Event::Phase {
                member: Arc::clone(member),
                phase: Phase::Receiving,
            });
        }
        bars.update(&Event::Needs {
            member: "web01".into(),
            changed_entries: 412,
            total_bytes: 2048,
        });
        assert_eq!(bars.total.message(), "push drupal: 0 of 20 members");
        assert_eq!(bars.total.length(), Some(2048));
        let shown: Vec<_> = bars.rows.iter().map(ProgressBar::message).collect();
        assert_eq!(shown.len(), 17, "{shown:?}");
        assert!(shown[0].starts_with("web01  receiving"), "{shown:?}");
        assert_eq!(shown[16], "and 4 more");
        // A low terminal shows as many as it has room for.
        bars.height = || Some(10);
        bars.draw();
        let shown: Vec<_> = bars.rows.iter().map(ProgressBar::message).collect();
        assert_eq!(shown.len(), 8, "{shown:?}");
        assert_eq!(shown[7], "and 13 more");
        for member in &members[2..] {
            let report = MemberReport::new(Arc::clone(member), Outcome::Committed);
            bars.update(&Event::MemberFinished(report));
        }
        assert_eq!(bars.rows.len(), 2);
        assert_eq!(bars.total.message(), "push drupal: 18 of 20 members");
        bars.clear();
        assert!(bars.total.is_finished());
    }
}
