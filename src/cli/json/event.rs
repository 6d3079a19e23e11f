//! Events as JSON lines.

use super::{ErrorShape, MemberLine, VERSION};
use crate::engine::event::{Decision, Event};
use serde::Serialize;

/// An event as a line, with the platform it happened on.
#[derive(Debug, Serialize)]
pub(crate) struct EventLine<'a> {
    version: u32,
    r#type: &'static str,
    platform: &'a str,
    #[serde(flatten)]
    event: EventShape<'a>,
}

impl<'a> EventLine<'a> {
    /// The line of one event.
    pub(crate) fn new(platform: &'a str, event: &'a Event) -> Self {
        Self {
            version: VERSION,
            r#type: "event",
            platform,
            event: event.into(),
        }
    }
}

#[derive(Debug, Serialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
enum EventShape<'a> {
    TaskStarted {
        task: u64,
        kind: &'static str,
        members: Vec<&'a str>,
    },
    Scanned {
        entries: u64,
        content_bytes: u64,
    },
    ScanFinished {
        entries: u64,
        content_bytes: u64,
        read_bytes: u64,
    },
    Phase {
        member: &'a str,
        phase: &'static str,
    },
    Needs {
        member: &'a str,
        changed_entries: u64,
        total_bytes: u64,
    },
    Sent {
        member: &'a str,
        sent_bytes: u64,
        total_bytes: u64,
    },
    Staged {
        member: &'a str,
        staged_entries: u64,
        total_entries: u64,
    },
    Decided {
        decision: &'static str,
        generation: u64,
    },
    MemberFinished {
        member: MemberLine,
    },
    Warning {
        warning: ErrorShape,
    },
    Note {
        text: &'a str,
    },
    TaskFinished {
        elapsed_us: u64,
    },
}

impl<'a> From<&'a Event> for EventShape<'a> {
    fn from(event: &'a Event) -> Self {
        match event {
            Event::TaskStarted {
                task,
                kind,
                members,
            } => Self::TaskStarted {
                task: *task,
                kind: kind.word(),
                members: members.iter().map(AsRef::as_ref).collect(),
            },
            &Event::Scanned {
                entries,
                content_bytes,
            } => Self::Scanned {
                entries,
                content_bytes,
            },
            &Event::ScanFinished {
                entries,
                content_bytes,
                read_bytes,
            } => Self::ScanFinished {
                entries,
                content_bytes,
                read_bytes,
            },
            Event::Phase { member, phase } => Self::Phase {
                member,
                phase: phase.word(),
            },
            Event::Needs {
                member,
                changed_entries,
                total_bytes,
            } => Self::Needs {
                member,
                changed_entries: *changed_entries,
                total_bytes: *total_bytes,
            },
            Event::Sent {
                member,
                sent_bytes,
                total_bytes,
            } => Self::Sent {
                member,
                sent_bytes: *sent_bytes,
                total_bytes: *total_bytes,
            },
            Event::Staged {
                member,
                staged_entries,
                total_entries,
            } => Self::Staged {
                member,
                staged_entries: *staged_entries,
                total_entries: *total_entries,
            },
            &Event::Decided {
                decision,
                generation,
            } => Self::Decided {
                decision: match decision {
                    Decision::Commit => "commit",
                    Decision::Abort => "abort",
                },
                generation,
            },
            Event::MemberFinished(report) => Self::MemberFinished {
                member: report.into(),
            },
            Event::Warning(problem) => Self::Warning {
                warning: problem.into(),
            },
            Event::Note(text) => Self::Note { text },
            Event::TaskFinished { elapsed } => Self::TaskFinished {
                elapsed_us: elapsed.as_micros().try_into().unwrap_or(u64::MAX),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codes::{Code, Problem};
    use crate::engine::event::Phase;

    #[test]
    fn every_event_is_one_flat_line() {
        let lines = |event: Event| serde_json::to_string(&EventLine::new("drupal", &event));
        assert_eq!(
            lines(Event::Phase {
                member: "web1".into(),
                phase: Phase::Staging,
            })
            .unwrap(),
            r#"{"version":1,"type":"event","platform":"drupal","event":"phase","member":"web1","phase":"staging"}"#
        );
        assert_eq!(
            lines(Event::Decided {
                decision: Decision::Commit,
                generation: 42,
            })
            .unwrap(),
            r#"{"version":1,"type":"event","platform":"drupal","event":"decided","decision":"commit","generation":42}"#
        );
        let warning = Problem::new(Code::CannotKeep, "Owner not kept").with_path(b"\xff");
        let line = lines(Event::Warning(warning.with_hint("Run as root"))).unwrap();
        assert_eq!(
            line,
            r#"{"version":1,"type":"event","platform":"drupal","event":"warning","warning":{"code":"FX0213","message":"\\xFF: Owner not kept","hint":"Run as root"}}"#
        );
    }
}
