//! What is known about a running task, and the lines that say it. No terminal here.

use crate::cli::human;
use crate::engine::event::{Decision, Event, MemberName, Phase, TaskKind};
use std::collections::HashMap;

/// The state of one task as its events tell it.
#[derive(Debug)]
pub(super) struct Board {
    platform: String,
    kind: Option<TaskKind>,
    scanned_entries: u64,
    is_scanned: bool,
    decision: Option<(Decision, u64)>,
    /// In the order of the inventory, as the task names them.
    members: Vec<Member>,
    places: HashMap<MemberName, usize>,
}

#[derive(Debug)]
struct Member {
    name: MemberName,
    phase: Phase,
    is_finished: bool,
    sent_bytes: u64,
    total_bytes: u64,
    staged_entries: u64,
    total_entries: u64,
}

/// The first row.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Total {
    /// What the task is at.
    pub(super) text: String,
    /// Bytes sent, and bytes to send, once anything has to be sent.
    pub(super) bytes: Option<(u64, u64)>,
}

impl Member {
    fn new(name: &MemberName) -> Self {
        Self {
            name: MemberName::clone(name),
            phase: Phase::Waiting,
            is_finished: false,
            sent_bytes: 0,
            total_bytes: 0,
            staged_entries: 0,
            total_entries: 0,
        }
    }
}

impl Board {
    pub(super) fn new(platform: &str) -> Self {
        Self {
            platform: platform.to_owned(),
            kind: None,
            scanned_entries: 0,
            is_scanned: false,
            decision: None,
            members: Vec::new(),
            places: HashMap::new(),
        }
    }

    /// Takes an event in; true if it only moved a counter.
    pub(super) fn take(&mut self, event: &Event) -> bool {
        match event {
            Event::TaskStarted { kind, members, .. } => {
                self.kind = Some(*kind);
                for member in members {
                    self.member(member);
                }
            }
            Event::Scanned { entries, .. } => {
                self.scanned_entries = *entries;
                return true;
            }
            Event::ScanFinished { entries, .. } => {
                self.scanned_entries = *entries;
                self.is_scanned = true;
            }
            Event::Phase { member, phase } => self.member(member).phase = *phase,
            Event::Needs {
                member,
                total_bytes,
                ..
            } => self.member(member).total_bytes = *total_bytes,
            Event::Sent {
                member,
                sent_bytes,
                total_bytes,
            } => {
                let member = self.member(member);
                member.sent_bytes = *sent_bytes;
                member.total_bytes = *total_bytes;
                return true;
            }
            Event::Staged {
                member,
                staged_entries,
                total_entries,
            } => {
                let member = self.member(member);
                member.staged_entries = *staged_entries;
                member.total_entries = *total_entries;
                return true;
            }
            Event::Decided {
                decision,
                generation,
            } => self.decision = Some((*decision, *generation)),
            Event::MemberFinished(report) => self.member(&report.name).is_finished = true,
            Event::Warning(_) | Event::Note(_) | Event::TaskFinished { .. } => {}
        }
        false
    }

    fn member(&mut self, name: &MemberName) -> &mut Member {
        let end = self.members.len();
        let at = *self.places.entry(MemberName::clone(name)).or_insert(end);
        if at == end {
            self.members.push(Member::new(name));
        }
        &mut self.members[at]
    }

    /// The first row: what the task does, and how far it is.
    pub(super) fn total(&self) -> Total {
        let word = self.kind.map_or("task", TaskKind::word);
        let state = match self.decision {
            Some((Decision::Commit, serial)) => format!("committing #{serial}"),
            Some((Decision::Abort, _)) => "aborting".to_owned(),
            None if !self.is_scanned && self.scanned_entries > 0 => {
                let entries = human::counted(self.scanned_entries, "entry", "entries");
                format!("scanning, {entries}")
            }
            None => {
                let finished = self.members.iter().filter(|m| m.is_finished).count();
                let all = self.members.len() as u64;
                format!("{finished} of {}", human::counted(all, "member", "members"))
            }
        };
        let sum = |field: fn(&Member) -> u64| self.members.iter().map(field).sum::<u64>();
        let total_bytes = sum(|member| member.total_bytes);
        Total {
            text: format!("{word} {}: {state}", self.platform),
            bytes: (total_bytes > 0).then(|| (sum(|member| member.sent_bytes), total_bytes)),
        }
    }

    /// A line for each member at work, at most `limit`, then how many more there are.
    pub(super) fn lines(&self, limit: usize) -> Vec<String> {
        let is_active = |m: &Member| !m.is_finished && m.phase != Phase::Waiting;
        let active: Vec<_> = self.members.iter().filter(|m| is_active(m)).collect();
        let shown = &active[..active.len().min(limit)];
        let widest = shown
            .iter()
            .map(|member| member.name.len())
            .max()
            .unwrap_or(0);
        let mut lines: Vec<_> = shown
            .iter()
            .map(|member| format!("{:widest$}  {}", member.name, member.state()))
            .collect();
        if active.len() > shown.len() {
            lines.push(format!("and {} more", active.len() - shown.len()));
        }
        lines
    }
}

impl Member {
    fn state(&self) -> String {
        let word = self.phase.word();
        match self.phase {
            Phase::Receiving if self.total_bytes > 0 => format!(
                "{word:<10}  {} / {}",
                human::bytes(self.sent_bytes),
                human::bytes(self.total_bytes)
            ),
            Phase::Filling | Phase::Staging if self.total_entries > 0 => format!(
                "{word:<10}  {} / {}",
                human::count(self.staged_entries),
                human::counted(self.total_entries, "entry", "entries")
            ),
            _ => word.to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::event::{MemberReport, Outcome};

    fn phase(member: &str, phase: Phase) -> Event {
        Event::Phase {
            member: member.into(),
            phase,
        }
    }

    fn started(members: &[&str]) -> Event {
        Event::TaskStarted {
            task: 1,
            kind: TaskKind::Push,
            members: members.iter().map(|&name| name.into()).collect(),
        }
    }

    #[test]
    fn the_total_adds_the_members_up() {
        let mut board = Board::new("drupal");
        assert_eq!(board.total().text, "task drupal: 0 of 0 members");
        board.take(&started(&["web1", "web2"]));
        board.take(&Event::Scanned {
            entries: 5_310,
            content_bytes: 0,
        });
        assert_eq!(board.total().text, "push drupal: scanning, 5,310 entries");
        board.take(&Event::ScanFinished {
            entries: 20_412,
            content_bytes: 1,
            read_bytes: 1,
        });
        assert_eq!(board.total().bytes, None);
        for (member, sent_bytes) in [("web1", 100), ("web2", 300)] {
            board.take(&Event::Sent {
                member: member.into(),
                sent_bytes,
                total_bytes: 500,
            });
        }
        board.take(&Event::MemberFinished(MemberReport::new(
            "web1",
            Outcome::Committed,
        )));
        let total = board.total();
        assert_eq!(total.text, "push drupal: 1 of 2 members");
        assert_eq!(total.bytes, Some((400, 1_000)));
        board.take(&Event::Decided {
            decision: Decision::Commit,
            generation: 42,
        });
        assert_eq!(board.total().text, "push drupal: committing #42");
    }

    #[test]
    fn only_members_at_work_have_a_line() {
        let mut board = Board::new("drupal");
        board.take(&started(&["web1", "web2", "web10"]));
        assert!(board.lines(16).is_empty());
        board.take(&phase("web10", Phase::Receiving));
        board.take(&phase("web1", Phase::Voted));
        board.take(&Event::Sent {
            member: "web10".into(),
            sent_bytes: 1024,
            total_bytes: 2048,
        });
        assert_eq!(
            board.lines(16),
            ["web1   voted", "web10  receiving   1.0 KiB / 2.0 KiB"]
        );
        assert_eq!(board.lines(1), ["web1  voted", "and 1 more"]);
        board.take(&Event::MemberFinished(MemberReport::new(
            "web1",
            Outcome::Failed,
        )));
        assert_eq!(board.lines(16).len(), 1);
    }
}
