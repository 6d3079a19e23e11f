//! What `--json` prints: one object a line, events first, then one result for each platform.
//!
//! These shapes are a promise to scripts, apart from the engine's own types, so that those can
//! change. Every line has `version` and `type`; fields are only ever added. Bytes are stream bytes
//! as the hub sees them; names and paths that are not UTF-8 are escaped as `\xHH`.

mod event;
mod plain;

pub(crate) use event::EventLine;
pub(crate) use plain::ResultLine;

use super::error::CommandError;
use crate::codes::{Code, Problem};
use crate::engine::event::MemberReport;
use serde::Serialize;
use sync_proto::path::escape;

/// The version of every shape in this module.
pub(crate) const VERSION: u32 = 1;

/// The result of a push, a resync or a rollback on one platform.
#[derive(Debug, Serialize)]
pub(crate) struct TaskLine {
    version: u32,
    r#type: &'static str,
    /// The number under which the hub records it.
    pub(crate) task: u64,
    pub(crate) platform: String,
    /// The desired generation after the task; null before the first push.
    pub(crate) generation: Option<u64>,
    /// `index`, `stat` or `content`.
    pub(crate) level: &'static str,
    pub(crate) members: Vec<MemberLine>,
    /// From the first member's switch to the last's; null if none switched.
    pub(crate) commit_window_us: Option<u64>,
    /// How far that may be off, since members' clocks are compared over the network.
    pub(crate) commit_window_error_us: Option<u64>,
    /// Objects that the hub encoded, once for all members.
    pub(crate) encoded_objects: u64,
    /// What they are in bytes; each member's part of it is in its `content_bytes`.
    pub(crate) encoded_bytes: u64,
    /// Why there was nothing to commit, such as a brake; null otherwise.
    pub(crate) error: Option<ErrorShape>,
}

impl TaskLine {
    /// The result line of one platform.
    pub(crate) fn new(task: u64, platform: &str, level: &'static str) -> Self {
        Self {
            version: VERSION,
            r#type: "result",
            task,
            platform: platform.to_owned(),
            generation: None,
            level,
            members: Vec::new(),
            commit_window_us: None,
            commit_window_error_us: None,
            encoded_objects: 0,
            encoded_bytes: 0,
            error: None,
        }
    }
}

/// One member in a [`TaskLine`].
#[derive(Debug, Serialize)]
pub(crate) struct MemberLine {
    name: String,
    /// `committed`, `up-to-date`, `aborted`, `failed`, `stale` or `in-doubt`.
    outcome: &'static str,
    generation: Option<u64>,
    sent_bytes: u64,
    received_bytes: u64,
    content_bytes: u64,
    /// How often the hub waited for its answer, until it was through: what distance costs.
    round_trips: u64,
    changed_entries: u64,
    elapsed_us: u64,
    error: Option<ErrorShape>,
    #[serde(skip_serializing_if = "Option::is_none")]
    kept_aside: Option<String>,
    /// As in a plan; absent where nothing was.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    kept: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    foreign_paths: Vec<String>,
}

impl From<&MemberReport> for MemberLine {
    fn from(report: &MemberReport) -> Self {
        Self {
            name: report.name.to_string(),
            outcome: report.outcome.as_str(),
            generation: report.generation,
            sent_bytes: report.sent_bytes,
            received_bytes: report.received_bytes,
            content_bytes: report.content_bytes,
            round_trips: report.round_trips,
            changed_entries: report.changed_entries,
            elapsed_us: report.elapsed.as_micros().try_into().unwrap_or(u64::MAX),
            error: report.problem.as_ref().map(ErrorShape::from),
            kept_aside: report.kept_aside.clone(),
            kept: report.stays.kept.clone(),
            foreign_paths: report.stays.foreign.clone(),
        }
    }
}

/// `{code, message, hint}`, wherever something went wrong.
#[derive(Debug, Serialize)]
pub(crate) struct ErrorShape {
    code: Code,
    message: String,
    hint: String,
}

impl From<&Problem> for ErrorShape {
    fn from(problem: &Problem) -> Self {
        let message = match &problem.path {
            Some(path) => format!("{}: {}", escape(path), problem.message),
            None => problem.message.clone(),
        };
        Self {
            code: problem.code,
            message,
            hint: problem.hint().to_owned(),
        }
    }
}

/// The result of a verify on one platform.
#[derive(Debug, Serialize)]
pub(crate) struct VerifyLine {
    version: u32,
    r#type: &'static str,
    pub(crate) platform: String,
    /// The desired generation, which members are compared with.
    pub(crate) generation: Option<u64>,
    /// `stat` or `content`.
    pub(crate) level: &'static str,
    pub(crate) members: Vec<VerifiedLine>,
}

impl VerifyLine {
    /// The result line of one platform.
    pub(crate) fn new(platform: &str, generation: Option<u64>, level: &'static str) -> Self {
        Self {
            version: VERSION,
            r#type: "result",
            platform: platform.to_owned(),
            generation,
            level,
            members: Vec::new(),
        }
    }
}

/// One member in a [`VerifyLine`].
#[derive(Debug, Serialize)]
pub(crate) struct VerifiedLine {
    pub(crate) name: String,
    pub(crate) state: VerifiedState,
    /// The generation that the member says it is at.
    pub(crate) generation: Option<u64>,
    pub(crate) drift: Vec<DriftLine>,
    pub(crate) error: Option<ErrorShape>,
}

/// How a member compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum VerifiedState {
    /// As it should be.
    Clean,
    /// Something differs.
    Drift,
    /// It could not be asked.
    Unreachable,
}

/// One entry that differs.
#[derive(Debug, Serialize)]
pub(crate) struct DriftLine {
    path: String,
    kind: DriftKind,
}

impl DriftLine {
    /// One entry that differs, by its raw path below the root.
    pub(crate) fn new(path: &[u8], kind: DriftKind) -> Self {
        Self {
            path: escape(path),
            kind,
        }
    }
}

/// How an entry differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum DriftKind {
    /// It should be there.
    Missing,
    /// It should not be there.
    Extra,
    /// It has other content, or is of another kind.
    Content,
    /// Mode, owner, times or attributes differ.
    Metadata,
}

/// The last line of a command that failed as a whole.
#[derive(Debug, Serialize)]
pub(crate) struct ErrorLine {
    version: u32,
    r#type: &'static str,
    exit: u8,
    error: ErrorShape,
}

impl ErrorLine {
    /// The line of one failure.
    pub(crate) fn new(error: &CommandError) -> Self {
        Self {
            version: VERSION,
            r#type: "result",
            exit: error.exit().number(),
            error: error.problem().into(),
        }
    }
}

/// An error code, explained.
#[derive(Debug, Serialize)]
pub(crate) struct CodeLine {
    version: u32,
    r#type: &'static str,
    #[serde(flatten)]
    summary: CodeShape,
    page: &'static str,
}

impl CodeLine {
    /// The line of one code.
    pub(crate) fn new(code: Code) -> Self {
        Self {
            version: VERSION,
            r#type: "result",
            summary: code.into(),
            page: code.page(),
        }
    }
}

/// All error codes.
#[derive(Debug, Serialize)]
pub(crate) struct CodesLine {
    version: u32,
    r#type: &'static str,
    codes: Vec<CodeShape>,
}

impl CodesLine {
    /// The line with all of them.
    pub(crate) fn all() -> Self {
        Self {
            version: VERSION,
            r#type: "result",
            codes: Code::all().map(CodeShape::from).collect(),
        }
    }
}

#[derive(Debug, Serialize)]
struct CodeShape {
    code: Code,
    title: &'static str,
    hint: &'static str,
    exit: u8,
}

impl From<Code> for CodeShape {
    fn from(code: Code) -> Self {
        Self {
            code,
            title: code.title(),
            hint: code.hint(),
            exit: code.exit().number(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::event::Outcome;
    use std::time::Duration;

    #[test]
    fn the_result_of_a_push_has_the_promised_shape() {
        let mut line = TaskLine::new(7, "drupal", "stat");
        line.generation = Some(42);
        line.commit_window_us = Some(1_800);
        line.commit_window_error_us = Some(90);
        line.encoded_objects = 3;
        line.encoded_bytes = 900;
        let committed = MemberReport {
            generation: Some(42),
            sent_bytes: 1_000,
            received_bytes: 200,
            content_bytes: 900,
            round_trips: 8,
            changed_entries: 3,
            elapsed: Duration::from_millis(12),
            ..MemberReport::new("web1", Outcome::Committed)
        };
        let stale = MemberReport {
            problem: Some(Problem::new(Code::Unreachable, "No answer").with_hint("Look there")),
            ..MemberReport::new("web2", Outcome::Stale)
        };
        line.members = [committed, stale].iter().map(MemberLine::from).collect();
        insta::assert_json_snapshot!(line, @r#"
        {
          "version": 1,
          "type": "result",
          "task": 7,
          "platform": "drupal",
          "generation": 42,
          "level": "stat",
          "members": [
            {
              "name": "web1",
              "outcome": "committed",
              "generation": 42,
              "sent_bytes": 1000,
              "received_bytes": 200,
              "content_bytes": 900,
              "round_trips": 8,
              "changed_entries": 3,
              "elapsed_us": 12000,
              "error": null
            },
            {
              "name": "web2",
              "outcome": "stale",
              "generation": null,
              "sent_bytes": 0,
              "received_bytes": 0,
              "content_bytes": 0,
              "round_trips": 0,
              "changed_entries": 0,
              "elapsed_us": 0,
              "error": {
                "code": "FX0301",
                "message": "No answer",
                "hint": "Look there"
              }
            }
          ],
          "commit_window_us": 1800,
          "commit_window_error_us": 90,
          "encoded_objects": 3,
          "encoded_bytes": 900,
          "error": null
        }
        "#);
    }

    #[test]
    fn the_result_of_a_verify_has_the_promised_shape() {
        let mut line = VerifyLine::new("drupal", Some(42), "content");
        line.members.push(VerifiedLine {
            name: "web1".into(),
            state: VerifiedState::Drift,
            generation: Some(42),
            drift: vec![
                DriftLine::new(b"web/index.php", DriftKind::Content),
                DriftLine::new(b"web/caf\xe9\n", DriftKind::Extra),
            ],
            error: None,
        });
        insta::assert_json_snapshot!(line, @r#"
        {
          "version": 1,
          "type": "result",
          "platform": "drupal",
          "generation": 42,
          "level": "content",
          "members": [
            {
              "name": "web1",
              "state": "drift",
              "generation": 42,
              "drift": [
                {
                  "path": "web/index.php",
                  "kind": "content"
                },
                {
                  "path": "web/caf\\xE9\\x0A",
                  "kind": "extra"
                }
              ],
              "error": null
            }
          ]
        }
        "#);
        let states = [
            VerifiedState::Clean,
            VerifiedState::Drift,
            VerifiedState::Unreachable,
        ];
        assert_eq!(
            serde_json::to_string(&states).unwrap(),
            r#"["clean","drift","unreachable"]"#
        );
    }

    #[test]
    fn a_failure_is_a_result_too() {
        let error = CommandError::new(Code::PlatformLocked, "drupal is locked").hint("Unlock it");
        insta::assert_json_snapshot!(ErrorLine::new(&error), @r#"
        {
          "version": 1,
          "type": "result",
          "exit": 5,
          "error": {
            "code": "FX0209",
            "message": "drupal is locked",
            "hint": "Unlock it"
          }
        }
        "#);
    }
}
