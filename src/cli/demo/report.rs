//! What the demo tells: a sentence for each step as it is done, then a table; or JSON lines.

use super::rsync::Transfers;
use crate::cli::human;
use crate::cli::json::VERSION;
use crate::cli::table::{Align, Table};
use serde::Serialize;
use serde_json::Value;
use std::time::Duration;

/// One step, done and checked.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Step {
    version: u32,
    r#type: &'static str,
    event: &'static str,
    pub(super) step: &'static str,
    /// What happened, in a sentence.
    pub(super) text: String,
    pub(super) elapsed_us: u64,
    /// Stream bytes to all members together.
    pub(super) sent_bytes: u64,
    /// Stream bytes from all members together.
    pub(super) received_bytes: u64,
    /// Content in them, unpacked.
    pub(super) content_bytes: u64,
    /// How closely members were looked at.
    pub(super) level: Option<String>,
    /// From the first member's switch to the last's.
    pub(super) commit_window_us: Option<u64>,
    /// The members' trees were read and are what they have to be.
    pub(super) checked: bool,
    pub(super) rsync: Option<Competitor>,
}

/// The same with `rsync -a`.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Competitor {
    elapsed_us: u64,
    sent_bytes: u64,
}

/// The last line.
#[derive(Debug, Serialize)]
pub(super) struct Summary<'a> {
    pub(super) version: u32,
    pub(super) r#type: &'static str,
    pub(super) files: u64,
    pub(super) directories: u64,
    pub(super) content_bytes: u64,
    pub(super) members: usize,
    /// What the rsync of this machine calls itself; null if there is none.
    pub(super) rsync: Option<&'a str>,
    pub(super) steps: &'a [Step],
}

impl Step {
    /// A step that took this long, with what the command said in its result.
    pub(super) fn new(step: &'static str, elapsed: Duration, result: &Value) -> Self {
        let members = result["members"].as_array().into_iter().flatten();
        let sum = |field| members.clone().filter_map(|one| one[field].as_u64()).sum();
        Self {
            version: VERSION,
            r#type: "event",
            event: "step",
            step,
            text: String::new(),
            elapsed_us: microseconds(elapsed),
            sent_bytes: sum("sent_bytes"),
            received_bytes: sum("received_bytes"),
            content_bytes: sum("content_bytes"),
            level: result["level"].as_str().map(str::to_owned),
            commit_window_us: result["commit_window_us"].as_u64(),
            checked: true,
            rsync: None,
        }
    }

    pub(super) fn elapsed(&self) -> Duration {
        Duration::from_micros(self.elapsed_us)
    }

    #[must_use]
    pub(super) fn with_rsync(mut self, transfers: Option<Transfers>) -> Self {
        self.rsync = transfers.map(|transfers| Competitor {
            elapsed_us: microseconds(transfers.elapsed),
            sent_bytes: transfers.sent_bytes,
        });
        self
    }

    #[must_use]
    pub(super) fn saying(mut self, text: String) -> Self {
        self.text = text;
        self
    }
}

impl<'a> Summary<'a> {
    pub(super) fn new(steps: &'a [Step]) -> Self {
        Self {
            version: VERSION,
            r#type: "result",
            files: 0,
            directories: 0,
            content_bytes: 0,
            members: 0,
            rsync: None,
            steps,
        }
    }

    /// The numbers side by side.
    pub(super) fn table(&self) -> Table {
        let mut table = Table::new(&[
            ("step", Align::Left),
            ("fanout", Align::Right),
            ("sent", Align::Right),
            ("rsync -a", Align::Right),
            ("sent", Align::Right),
        ]);
        for step in self.steps {
            let (time, bytes) = match step.rsync {
                Some(rsync) => (
                    human::time(Duration::from_micros(rsync.elapsed_us)),
                    human::bytes(rsync.sent_bytes),
                ),
                None => ("-".to_owned(), "-".to_owned()),
            };
            table.row([
                step.step.to_owned(),
                human::time(step.elapsed()),
                human::bytes(step.sent_bytes),
                time,
                bytes,
            ]);
        }
        table
    }

    /// What the numbers are, and what they are not.
    pub(super) fn footnote(&self) -> String {
        let what = format!(
            "{} in {}, {}, to {} on this machine; bytes are those of all members together.",
            human::counted(self.files, "file", "files"),
            human::counted(self.directories, "directory", "directories"),
            human::bytes(self.content_bytes),
            human::counted(self.members as u64, "member", "members"),
        );
        let rsync = match self.rsync {
            Some(version) => format!(
                "{version}, local, whole files, one member after the other: it has no network, no \
                 encryption, no hashes and no common switch to pay for."
            ),
            None => "rsync is not installed here, so there is nothing to compare with.".to_owned(),
        };
        let level = self.steps.iter().find_map(|step| step.level.as_deref());
        let level = match level {
            Some(level) => format!(" fanout looks at members at the level `{level}`."),
            None => String::new(),
        };
        format!(
            "{what}{level}\n{rsync}\nAfter each step every member's tree was read and compared with \
             what it has to be."
        )
    }
}

fn microseconds(duration: Duration) -> u64 {
    duration.as_micros().try_into().unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_added_up_and_the_competitor_stands_beside() {
        let result = serde_json::json!({
            "level": "stat", "commit_window_us": 900,
            "members": [
                {"sent_bytes": 1_000_000, "received_bytes": 10, "content_bytes": 4_000_000},
                {"sent_bytes": 1_000_000, "received_bytes": 20, "content_bytes": 4_000_000},
            ],
        });
        let transfers = Transfers {
            elapsed: Duration::from_millis(2_500),
            sent_bytes: 8_000_000,
        };
        let steps = [
            Step::new("first push", Duration::from_millis(1_200), &result)
                .with_rsync(Some(transfers)),
            Step::new("rollback", Duration::from_millis(30), &Value::Null),
        ];
        assert_eq!(steps[0].received_bytes, 30);
        let summary = Summary::new(&steps);
        insta::assert_snapshot!(summary.table(), @"
        step        fanout     sent  rsync -a     sent
        first push   1.2 s  1.9 MiB     2.5 s  7.6 MiB
        rollback     30 ms      0 B         -        -
        ");
        assert!(summary.footnote().contains("rsync is not installed"));
    }
}
