//! What HAProxy answers on its run-time socket: tables of comma separated values.
//!
//! Columns are found by their names, so that an older or newer HAProxy with others is read as well.

use std::collections::BTreeMap;
use sync_proto::wire::service::{BackendMember, Rotation};

/// The members in the answer to `show stat`; frontends and sums are left out.
///
/// # Errors
/// What came isn't such a table.
pub fn members(answer: &str) -> Result<Vec<BackendMember>, String> {
    let mut lines = answer.lines();
    let head = lines
        .next()
        .and_then(|line| line.strip_prefix("# "))
        .ok_or_else(|| format!("not a table of statistics: {}", short(answer)))?;
    let columns: BTreeMap<&str, usize> = fields(head)
        .iter()
        .enumerate()
        .map(|(at, _)| (head.split(',').nth(at).unwrap_or_default(), at))
        .collect();
    for needed in ["pxname", "svname", "scur", "status"] {
        if !columns.contains_key(needed) {
            return Err(format!("the table of statistics has no column `{needed}`"));
        }
    }
    let rows = lines.filter(|line| !line.trim().is_empty()).map(fields);
    let members = rows.filter_map(|row| {
        let text = |name: &str| {
            let at = columns.get(name)?;
            row.get(*at).map(String::as_str)
        };
        let number = |name: &str| text(name).and_then(|it| it.parse::<u64>().ok());
        let member = text("svname")?;
        if matches!(member, "FRONTEND" | "BACKEND") {
            return None;
        }
        let status = text("status")?;
        Some(BackendMember {
            backend: text("pxname")?.to_owned(),
            member: member.to_owned(),
            rotation: rotation(status),
            is_up: status.starts_with("UP") || status == "no check" || status == "DRAIN",
            status: status.to_owned(),
            check: [text("check_status"), text("check_desc"), text("last_chk")]
                .into_iter()
                .flatten()
                .filter(|it| !it.is_empty())
                .collect::<Vec<_>>()
                .join(" "),
            sessions: saturated(number("scur")),
            queued: saturated(number("qcur")),
            total_sessions: number("stot").unwrap_or_default(),
            failures: number("hrsp_5xx").unwrap_or_default(),
        })
    });
    Ok(members.collect())
}

/// The number of connections in use for each server: `show servers conn`. A long transfer is in use
/// even where its request counts as answered.
pub fn used_connections(answer: &str) -> BTreeMap<String, u32> {
    let mut lines = answer.lines();
    let Some(head) = lines.next().and_then(|line| line.strip_prefix("# ")) else {
        return BTreeMap::new();
    };
    let columns: Vec<&str> = head.split_whitespace().collect();
    let at = |name: &str| columns.iter().position(|column| *column == name);
    let (Some(name), Some(used)) = (at("bkname/svname"), at("used_cur")) else {
        return BTreeMap::new();
    };
    lines
        .filter_map(|line| {
            let row: Vec<&str> = line.split_whitespace().collect();
            // A column of the head may have no value in a row; they are counted from the front.
            let server = row.get(name)?;
            Some(((*server).to_owned(), row.get(used)?.parse().ok()?))
        })
        .collect()
}

/// What each server was told: `show servers state`. `show stat` doesn't say it of one that is down.
pub fn told(answer: &str) -> BTreeMap<String, Rotation> {
    /// Forced and inherited, by the socket, the configuration and the resolver.
    const MAINTENANCE: u32 = 0x01 | 0x02 | 0x04 | 0x20 | 0x40;
    const DRAIN: u32 = 0x08 | 0x10;
    let mut lines = answer.lines().skip_while(|line| !line.starts_with("# "));
    let Some(head) = lines.next().and_then(|line| line.strip_prefix("# ")) else {
        return BTreeMap::new();
    };
    let columns: Vec<&str> = head.split_whitespace().collect();
    let at = |name: &str| columns.iter().position(|column| *column == name);
    let (Some(backend), Some(server), Some(state)) =
        (at("be_name"), at("srv_name"), at("srv_admin_state"))
    else {
        return BTreeMap::new();
    };
    let of = |line: &str| {
        let row: Vec<&str> = line.split_whitespace().collect();
        let state: u32 = row.get(state)?.parse().ok()?;
        let rotation = match (state & MAINTENANCE, state & DRAIN) {
            (0, 0) => Rotation::Ready,
            (0, _) => Rotation::Drain,
            _ => Rotation::Maintenance,
        };
        let key = format!("{}/{}", row.get(backend)?, row.get(server)?);
        Some((key, rotation))
    };
    lines.filter_map(of).collect()
}

fn rotation(status: &str) -> Rotation {
    match status {
        _ if status.starts_with("MAINT") => Rotation::Maintenance,
        _ if status.starts_with("DRAIN") => Rotation::Drain,
        _ => Rotation::Ready,
    }
}

fn saturated(number: Option<u64>) -> u32 {
    u32::try_from(number.unwrap_or_default()).unwrap_or(u32::MAX)
}

/// One line; a value in quotation marks may hold commas.
fn fields(line: &str) -> Vec<String> {
    let mut all = vec![String::new()];
    let mut is_quoted = false;
    let mut letters = line.chars().peekable();
    while let Some(letter) = letters.next() {
        match letter {
            '"' if is_quoted && letters.peek() == Some(&'"') => {
                letters.next();
                push(&mut all, '"');
            }
            '"' => is_quoted = !is_quoted,
            ',' if !is_quoted => all.push(String::new()),
            other => push(&mut all, other),
        }
    }
    all
}

fn push(all: &mut [String], letter: char) {
    if let Some(last) = all.last_mut() {
        last.push(letter);
    }
}

fn short(text: &str) -> String {
    text.trim().chars().take(80).collect()
}
