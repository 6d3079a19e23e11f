//! Plain tables: columns padded to their widest cell, nothing drawn around them.

use super::human;
use crate::engine::event::MemberReport;
use std::fmt;

/// Which side of a cell is padded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Align {
    /// Text.
    Left,
    /// Numbers.
    Right,
}

/// A table; displayed without a line feed at its end.
#[derive(Clone, Debug)]
pub(crate) struct Table {
    columns: Vec<(&'static str, Align)>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table without rows.
    pub(crate) fn new(columns: &[(&'static str, Align)]) -> Self {
        Self {
            columns: columns.to_vec(),
            rows: Vec::new(),
        }
    }

    /// Adds a row; cells that are missing are empty, further ones are dropped.
    pub(crate) fn row<I: IntoIterator<Item: Into<String>>>(&mut self, cells: I) {
        let cells = cells.into_iter().map(Into::into).take(self.columns.len());
        self.rows.push(cells.collect());
    }

    fn widths(&self) -> Vec<usize> {
        let width_of = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column));
            let widest = cells.map(|cell| width(cell)).max().unwrap_or(0);
            widest.max(width(self.columns[column].0))
        };
        (0..self.columns.len()).map(width_of).collect()
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let widths = self.widths();
        let heads: Vec<String> = self
            .columns
            .iter()
            .map(|(head, _)| (*head).into())
            .collect();
        for (index, cells) in std::iter::once(&heads).chain(&self.rows).enumerate() {
            let mut line = String::new();
            for (column, width_wanted) in widths.iter().enumerate() {
                let cell = cells.get(column).map_or("", String::as_str);
                let padding = " ".repeat(width_wanted.saturating_sub(width(cell)));
                let (left, right) = match self.columns[column].1 {
                    Align::Left => (cell, padding.as_str()),
                    Align::Right => (padding.as_str(), cell),
                };
                if column > 0 {
                    line.push_str("  ");
                }
                line.push_str(left);
                line.push_str(right);
            }
            if index > 0 {
                f.write_str("\n")?;
            }
            f.write_str(line.trim_end())?;
        }
        Ok(())
    }
}

/// Characters stand for columns: names are ASCII, and all else is our own words.
fn width(cell: &str) -> usize {
    cell.chars().count()
}

/// The closing table of a task.
pub(crate) fn members(reports: &[MemberReport]) -> Table {
    let mut table = Table::new(&[
        ("member", Align::Left),
        ("outcome", Align::Left),
        ("generation", Align::Right),
        ("changed", Align::Right),
        ("sent", Align::Right),
        ("time", Align::Right),
        ("error", Align::Left),
    ]);
    for report in reports {
        table.row([
            report.name.to_string(),
            report.outcome.as_str().into(),
            report
                .generation
                .map_or("-".into(), |serial| format!("#{serial}")),
            human::count(report.changed_entries),
            human::bytes(report.sent_bytes),
            human::time(report.elapsed),
            report
                .problem
                .as_ref()
                .map_or(String::new(), ToString::to_string),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codes::{Code, Problem};
    use crate::engine::event::Outcome;
    use std::time::Duration;

    #[test]
    fn the_closing_table_says_what_came_of_each_member() {
        let committed = MemberReport {
            generation: Some(42),
            sent_bytes: 19_293_798,
            changed_entries: 20_412,
            elapsed: Duration::from_millis(940),
            ..MemberReport::new("web1", Outcome::Committed)
        };
        let stale = MemberReport {
            elapsed: Duration::from_secs(5),
            problem: Some(Problem::new(
                Code::Unreachable,
                "No answer from 10.0.0.13:4600",
            )),
            ..MemberReport::new("web-three", Outcome::Stale)
        };
        insta::assert_snapshot!(members(&[committed, stale]), @r"
        member     outcome    generation  changed      sent   time  error
        web1       committed         #42   20,412  18.4 MiB  0.9 s
        web-three  stale               -        0       0 B  5.0 s  No answer from 10.0.0.13:4600 [FX0301]
        ");
    }

    #[test]
    fn a_table_without_rows_is_its_head() {
        let table = Table::new(&[("name", Align::Left), ("bytes", Align::Right)]);
        assert_eq!(table.to_string(), "name  bytes");
        assert_eq!(table.rows.len(), 0);
    }
}
