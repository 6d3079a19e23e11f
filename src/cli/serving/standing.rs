//! Where the members of a platform are with their balancer, for `fanout status`.

use super::rotation::rotation_of;
use crate::cli::hub::Hub;
use crate::config::Platform;
use crate::model::ServerName;
use crate::orchestrate::rotation::Standing;
use crate::store::OutOfRotation;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::Duration;

/// Where one member is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    word: &'static str,
    why: String,
    sessions: Option<u32>,
    out: Option<OutOfRotation>,
}

/// Where every member of a platform is; empty if no balancer is in front of them.
pub(crate) async fn places(
    hub: &Hub,
    platform: &Platform,
    patience: Duration,
) -> BTreeMap<ServerName, Place> {
    if hub.inventory.balancer_of(platform).is_none() {
        return BTreeMap::new();
    }
    let asked = match rotation_of(hub, platform).await {
        Ok(Some(rotation)) => tokio::time::timeout(patience, rotation.standing()).await,
        _ => return BTreeMap::new(),
    };
    let said = match asked {
        Ok(Ok(standing)) => {
            return standing
                .into_iter()
                .map(|(name, it)| (name, Place::of(it)))
                .collect();
        }
        Ok(Err(problem)) => problem.message,
        Err(_) => format!("the balancer didn't answer within {} s", patience.as_secs()),
    };
    // The record is here, whoever else is silent.
    let out = hub.store.out_of_rotation().await.unwrap_or_default();
    let place = |name: &ServerName| {
        let known = out.iter().find(|out| out.server == *name);
        (name.clone(), Place::by_record(known.cloned(), &said))
    };
    let members = hub.inventory.members(platform).into_iter();
    members.map(|server| place(&server.name)).collect()
}

impl Place {
    fn of(standing: Standing) -> Self {
        let said = standing.status.join(", ");
        let (word, why) = match &standing.out {
            Some(out) if standing.sessions > 0 => ("draining", reason(out)),
            Some(out) => ("out", reason(out)),
            None if standing.serves => ("in", String::new()),
            None => ("down", said),
        };
        Self {
            word,
            why,
            sessions: Some(standing.sessions),
            out: standing.out,
        }
    }

    fn by_record(out: Option<OutOfRotation>, said: &str) -> Self {
        Self {
            word: out.as_ref().map_or("unknown", |_| "out"),
            why: out.as_ref().map_or_else(|| said.to_owned(), reason),
            sessions: None,
            out,
        }
    }

    /// In one word, and why where that isn't the usual one.
    pub(crate) fn text(&self) -> String {
        match self.why.is_empty() {
            true => self.word.to_owned(),
            false => format!("{}: {}", self.word, self.why),
        }
    }

    /// For `--json`.
    pub(crate) fn shape(&self) -> Value {
        let out = self.out.as_ref();
        json!({
            "state": self.word,
            "why": self.why,
            "cause": out.map(|out| out.cause.as_str()),
            "by": out.map(|out| out.author.as_str()),
            "since": out.map(|out| out.since.utc()),
            "sessions": self.sessions,
        })
    }
}

fn reason(out: &OutOfRotation) -> String {
    match out.reason.is_empty() {
        true => format!("by {} since {}", out.author, out.since),
        false => format!("{} (by {} since {})", out.reason, out.author, out.since),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::UnixMillis;
    use crate::store::Cause;

    fn standing(serves: bool, sessions: u32, out: Option<Cause>) -> Standing {
        let out = out.map(|cause| OutOfRotation {
            server: "web1".parse().unwrap(),
            cause,
            reason: "a new disk".into(),
            author: "eve".into(),
            since: UnixMillis(0),
        });
        Standing {
            serves,
            status: vec!["DOWN".into()],
            sessions,
            out,
        }
    }

    #[test]
    fn a_member_is_in_or_there_is_a_reason_to_read() {
        assert_eq!(Place::of(standing(true, 7, None)).text(), "in");
        assert_eq!(Place::of(standing(false, 0, None)).text(), "down: DOWN");
        let draining = Place::of(standing(false, 3, Some(Cause::Person))).text();
        assert!(
            draining.starts_with("draining: a new disk (by eve"),
            "{draining}"
        );
        let out = Place::of(standing(false, 0, Some(Cause::Person)));
        assert!(out.text().starts_with("out: a new disk"), "{out:?}");
        assert_eq!(out.shape()["cause"], "person");
        let silent = Place::by_record(None, "no answer");
        assert_eq!(silent.text(), "unknown: no answer");
    }
}
