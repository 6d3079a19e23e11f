//! Which members a command is about: `--limit web1,label:eu` and `--skip web3`.

use super::name::{Label, NameError, ServerName};
use super::serde_as_text;
use std::fmt;
use std::str::FromStr;
use thiserror::Error;

/// A server as part of the cluster or platform that is being worked on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// The server's name.
    pub name: ServerName,
    /// Its labels.
    pub labels: Vec<Label>,
}

/// Why some text selects nothing.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum SelectorError {
    /// Not a server name and not `label:NAME`.
    #[error(transparent)]
    Name(#[from] NameError),
    /// A selector that no member answers to, so probably a typing mistake.
    #[error("`{selector}` selects no member; the members are {members}")]
    NoSuchMember {
        /// What was asked for.
        selector: Selector,
        /// The names there are.
        members: String,
    },
    /// Everything was skipped.
    #[error("No member is left after --limit and --skip")]
    NothingLeft,
}

/// One server, or all servers with a label.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Selector {
    /// `web1`.
    Server(ServerName),
    /// `label:eu`.
    Label(Label),
}

impl Selector {
    /// True if this selector means `member`.
    pub fn matches(&self, member: &Member) -> bool {
        match self {
            Self::Server(name) => *name == member.name,
            Self::Label(label) => member.labels.contains(label),
        }
    }
}

impl FromStr for Selector {
    type Err = SelectorError;
    fn from_str(text: &str) -> Result<Self, SelectorError> {
        Ok(match text.strip_prefix("label:") {
            Some(label) => Self::Label(label.parse()?),
            None => Self::Server(text.parse()?),
        })
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Server(name) => name.fmt(f),
            Self::Label(label) => write!(f, "label:{label}"),
        }
    }
}

serde_as_text!(Selector, "minLength": 1);

/// `--limit` and `--skip` together. Empty means every member.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    /// Only these; all if empty.
    pub limit: Vec<Selector>,
    /// Not these, whatever `limit` says.
    pub skip: Vec<Selector>,
}

impl Selection {
    /// True if nothing narrows the members.
    pub fn is_everything(&self) -> bool {
        self.limit.is_empty() && self.skip.is_empty()
    }

    /// True if `member` is meant.
    pub fn includes(&self, member: &Member) -> bool {
        let any = |list: &[Selector]| list.iter().any(|selector| selector.matches(member));
        (self.limit.is_empty() || any(&self.limit)) && !any(&self.skip)
    }

    /// The members that are meant, in their order. A selector that matches none is an error: a
    /// misspelt `--skip` must not push to the member it was meant to spare.
    pub fn choose(&self, members: &[Member]) -> Result<Vec<Member>, SelectorError> {
        let unmatched = |s: &&Selector| !members.iter().any(|member| s.matches(member));
        if let Some(selector) = self.limit.iter().chain(&self.skip).find(unmatched) {
            let names: Vec<&str> = members.iter().map(|m| m.name.as_str()).collect();
            return Err(SelectorError::NoSuchMember {
                selector: selector.clone(),
                members: names.join(", "),
            });
        }
        let chosen: Vec<Member> = members
            .iter()
            .filter(|m| self.includes(m))
            .cloned()
            .collect();
        if chosen.is_empty() {
            return Err(SelectorError::NothingLeft);
        }
        Ok(chosen)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn members() -> Vec<Member> {
        [
            ("web1", &["eu"][..]),
            ("web2", &["eu", "ssd"]),
            ("web3", &[]),
        ]
        .map(|(name, labels)| Member {
            name: name.parse().unwrap(),
            labels: labels.iter().map(|label| label.parse().unwrap()).collect(),
        })
        .into()
    }

    fn chosen(limit: &[&str], skip: &[&str]) -> Result<String, SelectorError> {
        let parse = |list: &[&str]| list.iter().map(|text| text.parse().unwrap()).collect();
        let selection = Selection {
            limit: parse(limit),
            skip: parse(skip),
        };
        let names = selection.choose(&members())?;
        let names: Vec<_> = names.iter().map(|m| m.name.as_str()).collect();
        Ok(names.join(" "))
    }

    #[test]
    fn limit_and_skip_narrow_the_members_in_their_order() {
        assert_eq!(chosen(&[], &[]).unwrap(), "web1 web2 web3");
        assert_eq!(
            chosen(&["web3", "label:eu"], &[]).unwrap(),
            "web1 web2 web3"
        );
        assert_eq!(chosen(&["label:eu"], &["label:ssd"]).unwrap(), "web1");
        assert_eq!(
            chosen(&["web1"], &["web1"]),
            Err(SelectorError::NothingLeft)
        );
    }

    #[test]
    fn a_misspelt_skip_is_refused_instead_of_ignored() {
        assert_eq!(
            chosen(&[], &["web33"]).unwrap_err().to_string(),
            "`web33` selects no member; the members are web1, web2, web3"
        );
        assert!(chosen(&["label:us"], &[]).is_err());
        assert!("label:".parse::<Selector>().is_err());
        assert!("other:eu".parse::<Selector>().is_err());
    }
}
