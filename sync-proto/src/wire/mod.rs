//! The control messages between a hub and a member, and the headers of bulk objects.
//!
//! A session is a connection with one control stream. The hub asks ([`Request`]), the member
//! answers ([`Reply`]); one request is answered before the next, except that the member may send
//! [`Reply::Progress`] and [`Reply::Need`] at any time while staging. Content travels beside the
//! control stream as *objects*: an [`ObjectHeader`] and a body, in any order.
//!
//! Encoding is `postcard`; enums only grow at the end. `docs/wire-protocol.md` is normative.

mod need;
mod plain;
mod plan;
pub mod service;
pub mod table;

pub use need::{Need, Needs, ranges_of};
pub use plan::{Item, ItemKind, Notice, Plan, sort_letter};
pub use service::{ServiceAnswer, ServiceRequest};

use crate::delta::batch::MAX_BATCH_BYTES;
use crate::digest::Digest;
use crate::manifest::Roots;
use crate::special::SpecialFiles;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use thiserror::Error;

/// The application protocol of the transport.
pub const ALPN: &[u8] = b"fanout/1";
/// The lowest and the highest protocol version that this build speaks.
pub const VERSIONS: (u16, u16) = (1, 1);
/// LIMIT: bytes of one control message.
pub const MAX_MESSAGE_BYTES: usize = 1024 * 1024;
/// Bytes of one part of a long list, so that a part with its wrapping stays below
/// [`MAX_MESSAGE_BYTES`].
pub const PART_BYTES: usize = 768 * 1024;
/// LIMIT: bytes of an object's header.
pub const MAX_HEADER_BYTES: usize = 1024;
/// LIMIT: bytes of an object's body. The longest is a batch with one delta; packs, segments and
/// parts of recipes stay far below.
pub const MAX_OBJECT_BYTES: usize = MAX_BATCH_BYTES;

/// LIMIT: bytes of a content that one [`Request::Lend`] asks for: a member hears nothing else while
/// it answers.
pub const MAX_LEND_BYTES: u32 = 64 << 20;

/// Why bytes are not a message.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum WireError {
    /// Longer than [`MAX_MESSAGE_BYTES`].
    #[error("A message of {0} bytes is longer than allowed")]
    TooLong(usize),
    /// Not a message of this protocol version.
    #[error("A message can't be read: {0}")]
    Malformed(String),
    /// A known message at the wrong moment.
    #[error("The peer sent {got} where {expected} was due")]
    Unexpected {
        /// What came.
        got: &'static str,
        /// What was due.
        expected: &'static str,
    },
    /// No protocol version in common.
    #[error("The peer speaks protocol {0} to {1}, this build {low} to {high}", low = VERSIONS.0, high = VERSIONS.1)]
    Version(u16, u16),
}

/// A tree's identity on the wire. Where it lies on a member's disk never crosses the wire after
/// it was bound.
pub type TreeKey = [u8; 16];
/// One push's, rollback's or repair's attempt at a tree.
pub type TxnKey = [u8; 16];

/// How a tree lies on a member's disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Layout {
    /// Complete generations beside the root, which is a symlink to the live one.
    Switched,
    /// The root is a directory; commits change it entry by entry.
    InPlace,
}

/// How closely a tree is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Level {
    /// The record of the last commit.
    Index,
    /// A stat walk against the index.
    Stat,
    /// Every byte is hashed.
    Content,
}

/// The hub's word on a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Decision {
    /// Make it so.
    Commit,
    /// Leave everything as it was.
    Abort,
}

/// What the hub asks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// First message of a hub.
    Hello {
        /// Lowest and highest protocol version.
        versions: (u16, u16),
        /// Software name and version, for messages.
        software: String,
        /// The hub's name, for messages.
        hub: String,
    },
    /// The only message in the role `join`: accept the key of this certificate as your hub.
    Join {
        /// The hub's certificate, DER.
        certificate: Vec<u8>,
    },
    /// Proposes a root for a tree, once.
    Bind {
        /// The tree.
        tree: TreeKey,
        /// An absolute path; must lie strictly below a directory that the agent allows.
        root: Vec<u8>,
        /// How it is to lie there.
        layout: Layout,
        /// Take over a root that has content and isn't ours.
        adopt: bool,
    },
    /// The answer to a doubt, at any time outside a transaction.
    Settle {
        /// The tree.
        tree: TreeKey,
        /// The transaction in doubt.
        txn: TxnKey,
        /// What the hub decided; what it doesn't know is an abort.
        decision: Decision,
    },
    /// What is there: generations, fence, doubts, left-overs. Read-only.
    Survey {
        /// The tree.
        tree: TreeKey,
    },
    /// Begins work on a tree; the member looks at it.
    Open(Open),
    /// The tree that the member should have; its table follows at once.
    Compare {
        /// Its roots.
        roots: Roots,
        /// The metadata of its root directory:
        /// [`meta_bytes`](crate::manifest::meta_bytes).
        root_meta: Vec<u8>,
    },
    /// The desired tree's directory hashes, a list of [`table::Row`]s in parts.
    Table {
        /// One part.
        part: Vec<u8>,
        /// No part follows.
        last: bool,
    },
    /// Listings of directories that the member asked for, in parts.
    Listings {
        /// One part.
        part: Vec<u8>,
        /// No part follows.
        last: bool,
    },
    /// Asks for the plan's items one by one.
    Itemise,
    /// Begins a transaction: objects follow.
    Stage {
        /// The transaction.
        txn: TxnKey,
        /// What it will be when committed.
        generation: Generation,
        /// Foreign entries of an adopted root are deleted too.
        delete_foreign: bool,
    },
    /// Make everything durable and vote.
    Prepare {
        /// The transaction.
        txn: TxnKey,
    },
    /// The decision, durable on the hub before it is sent.
    Decide {
        /// The transaction.
        txn: TxnKey,
        /// Commit or abort.
        decision: Decision,
    },
    /// Ends work on a tree without a transaction.
    Leave,
    /// These serials are kept, all others may go.
    Keep {
        /// The tree.
        tree: TreeKey,
        /// Serials that must stay.
        serials: Vec<u64>,
    },
    /// Narrows the preserve rules that the member enforces.
    Release {
        /// The tree.
        tree: TreeKey,
        /// The rule to drop.
        rule: String,
        /// Only count what it protects.
        dry_run: bool,
    },
    /// Forgets a tree; everything stays where it is.
    Forget {
        /// The tree.
        tree: TreeKey,
    },
    /// Removes a tree, preserved paths excepted.
    Delete {
        /// The tree.
        tree: TreeKey,
        /// The root as the administrator typed it: a second lock on the right door.
        root: Vec<u8>,
    },
    /// Measures the clocks' difference.
    Ping,
    /// About the server's services.
    Service(ServiceRequest),
    /// A range of a content that the open tree holds as it was committed, for other members.
    Lend {
        /// Which content.
        content: Digest,
        /// Where the range starts.
        offset: u64,
        /// Its length: 1 to [`MAX_LEND_BYTES`], and not beyond the content's end.
        length: u32,
    },
}

/// What to open, and under which rules.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Open {
    /// The tree.
    pub tree: TreeKey,
    /// Fencing number, higher than any before for a purpose that changes something; 0 only looks.
    pub fence: u64,
    /// How closely to look.
    pub level: Level,
    /// Exclude rules, as lines.
    pub exclude: Vec<String>,
    /// Preserve rules, as lines; the member adds those it knows already.
    pub preserve: Vec<String>,
    /// What the tree may hold, and how.
    pub options: Options,
}

/// What the tree may hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Options {
    /// Which special files it may hold. A member makes no others, whatever the manifest says.
    pub special_files: SpecialFiles,
    /// `trusted.*` and `security.*` xattrs are preserved.
    pub privileged_xattrs: bool,
    /// Excluded entries on the member are deleted.
    pub delete_excluded: bool,
    /// What lies below preserved paths in the manifest is delivered where it is absent.
    pub seed: bool,
}

/// One committed state of a tree.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Generation {
    /// Serial, the same on every member.
    pub serial: u64,
    /// What it holds.
    pub roots: Roots,
    /// Label, for people.
    pub label: String,
    /// When it was first committed, Unix milliseconds on the hub.
    pub created_ms: i64,
}

/// A transaction that a member voted for and has not heard of since.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Doubt {
    /// The tree.
    pub tree: TreeKey,
    /// The transaction.
    pub txn: TxnKey,
    /// Its fence.
    pub fence: u64,
    /// What it would become.
    pub serial: u64,
}

/// What a member says about itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    /// The agent's own name.
    pub name: String,
    /// Software name and version.
    pub software: String,
    /// Kernel, architecture.
    pub system: String,
    /// May it change owners?
    pub privileged: bool,
    /// Directories that trees may lie in.
    pub allow: Vec<Vec<u8>>,
}

/// What a member answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reply {
    /// To Hello.
    Hello {
        /// Lowest and highest protocol version.
        versions: (u16, u16),
        /// Who answers.
        facts: Facts,
        /// Transactions that it must have settled first.
        doubts: Vec<Doubt>,
    },
    /// To Join.
    Joined {
        /// Who answers.
        facts: Facts,
    },
    /// To Bind.
    Bound {
        /// Entries that were there already, where the root was adopted.
        found_entries: u64,
        /// Where the tree's state lies: `Switched` needs it beside the root.
        state_beside_root: bool,
        /// Things worth saying.
        notices: Vec<Notice>,
    },
    /// To Settle, Release, Keep, Leave, and a Decide that aborts.
    Ok {
        /// Things worth saying.
        notices: Vec<Notice>,
    },
    /// To Survey.
    Survey(Survey),
    /// To Open.
    Opened {
        /// The live generation as recorded at its commit.
        generation: Option<Generation>,
        /// What is there now.
        observed: Roots,
        /// Entries seen.
        entries: u64,
        /// What is there differs from what was committed.
        drift: bool,
        /// Things worth saying.
        notices: Vec<Notice>,
    },
    /// To the last Table part: indexes into the table of the directories to list, as ranges.
    Wanted {
        /// Start and length.
        ranges: Vec<(u32, u32)>,
        /// No part follows.
        last: bool,
    },
    /// To the last Listings part: what a commit would do here.
    Planned(Plan),
    /// To Itemise, in parts.
    Items {
        /// Some items.
        items: Vec<Item>,
        /// No part follows.
        last: bool,
    },
    /// While staging: contents that must come from the hub, in parts.
    Need {
        /// What is needed.
        needs: Needs,
        /// No part follows.
        last: bool,
    },
    /// While staging.
    Progress {
        /// Entries in place so far.
        staged_entries: u64,
        /// Content bytes in place so far.
        staged_bytes: u64,
    },
    /// Everything is in place and verified.
    Staged {
        /// Metadata that couldn't be kept and the like.
        notices: Vec<Notice>,
    },
    /// To Prepare. A `no` is a [`Reply::Refused`].
    Voted {
        /// Entries that will be moved aside, because they are not what was committed.
        overwritten: Vec<Notice>,
    },
    /// To a Decide that commits: it is done.
    Done {
        /// The serial that is live now.
        serial: u64,
        /// When the member switched, Unix microseconds by its own clock.
        switched_us: i64,
        /// Entries changed.
        changed_entries: u64,
        /// Things worth saying.
        notices: Vec<Notice>,
    },
    /// To Forget and Delete: what stays where.
    Left {
        /// Paths and why they stay.
        notices: Vec<Notice>,
    },
    /// To Release.
    Released {
        /// Entries that the rule protected.
        entries: u64,
        /// Their bytes.
        bytes: u64,
    },
    /// To Ping.
    Pong {
        /// Unix microseconds.
        now_us: i64,
    },
    /// It can't or won't be done. The session goes on unless the connection is closed too.
    Refused(Refusal),
    /// To Service.
    Service(ServiceAnswer),
    /// To Lend, in parts: the range, in order and without gaps.
    Lent {
        /// Some bytes.
        #[serde(with = "plain")]
        part: Vec<u8>,
        /// No part follows.
        last: bool,
    },
}

/// A refusal with a stable code.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// `FXnnnn`.
    pub code: String,
    /// What happened, to what, why.
    pub message: String,
    /// What to do next; may be empty.
    pub hint: String,
}

/// What a member has of one tree.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Survey {
    /// Is the tree bound here?
    pub bound: bool,
    /// Where, for messages.
    pub root: Vec<u8>,
    /// The highest fence ever accepted.
    pub fence: u64,
    /// Serial of the live generation.
    pub live: Option<u64>,
    /// Every generation that can be returned to, the live one included.
    pub generations: Vec<Generation>,
    /// The last transaction that was committed here.
    pub last_committed: Option<TxnKey>,
    /// A transaction in doubt.
    pub doubt: Option<Doubt>,
    /// Preserve rules that the member enforces.
    pub preserve: Vec<String>,
    /// Bytes kept for resuming and undoing.
    pub kept_bytes: u64,
}

/// What an object is; its body follows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ObjectHeader {
    /// A [`pack`](crate::pack) of whole small files.
    Pack,
    /// A block of a large file.
    Segment,
    /// A delta of one file against content that the member has.
    Delta,
    /// How to rebuild a large file from what the member has; its literals follow as segments.
    Recipe {
        /// The content to build.
        content: Digest,
        /// The content to build it from.
        base: Digest,
        /// This body's offset in the recipe.
        offset: u64,
        /// Bytes of the whole recipe.
        total: u64,
    },
}

/// Writes a message.
pub fn encode<T: Serialize>(message: &T) -> Result<Vec<u8>, WireError> {
    let bytes =
        postcard::to_stdvec(message).map_err(|error| WireError::Malformed(error.to_string()))?;
    if bytes.len() > MAX_MESSAGE_BYTES {
        return Err(WireError::TooLong(bytes.len()));
    }
    Ok(bytes)
}

/// Reads a message; every byte must belong to it.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, WireError> {
    if bytes.len() > MAX_MESSAGE_BYTES {
        return Err(WireError::TooLong(bytes.len()));
    }
    match postcard::take_from_bytes(bytes) {
        Ok((message, [])) => Ok(message),
        Ok(_) => Err(WireError::Malformed("bytes are left over".into())),
        Err(error) => Err(WireError::Malformed(error.to_string())),
    }
}

/// The version that both ends speak.
pub fn agree(theirs: (u16, u16)) -> Result<u16, WireError> {
    let version = theirs.1.min(VERSIONS.1);
    if version < theirs.0 || version < VERSIONS.0 {
        return Err(WireError::Version(theirs.0, theirs.1));
    }
    Ok(version)
}

impl Request {
    /// Its name, for errors.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Hello { .. } => "Hello",
            Self::Join { .. } => "Join",
            Self::Bind { .. } => "Bind",
            Self::Settle { .. } => "Settle",
            Self::Survey { .. } => "Survey",
            Self::Open(_) => "Open",
            Self::Compare { .. } => "Compare",
            Self::Table { .. } => "Table",
            Self::Listings { .. } => "Listings",
            Self::Itemise => "Itemise",
            Self::Stage { .. } => "Stage",
            Self::Prepare { .. } => "Prepare",
            Self::Decide { .. } => "Decide",
            Self::Leave => "Leave",
            Self::Keep { .. } => "Keep",
            Self::Release { .. } => "Release",
            Self::Forget { .. } => "Forget",
            Self::Delete { .. } => "Delete",
            Self::Ping => "Ping",
            Self::Service(_) => "Service",
            Self::Lend { .. } => "Lend",
        }
    }
}

impl Reply {
    /// Its name, for errors.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Hello { .. } => "Hello",
            Self::Joined { .. } => "Joined",
            Self::Bound { .. } => "Bound",
            Self::Ok { .. } => "Ok",
            Self::Survey(_) => "Survey",
            Self::Opened { .. } => "Opened",
            Self::Wanted { .. } => "Wanted",
            Self::Planned(_) => "Planned",
            Self::Items { .. } => "Items",
            Self::Need { .. } => "Need",
            Self::Progress { .. } => "Progress",
            Self::Staged { .. } => "Staged",
            Self::Voted { .. } => "Voted",
            Self::Done { .. } => "Done",
            Self::Left { .. } => "Left",
            Self::Released { .. } => "Released",
            Self::Pong { .. } => "Pong",
            Self::Refused(_) => "Refused",
            Self::Service(_) => "Service",
            Self::Lent { .. } => "Lent",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_as_long_as_allowed_and_no_longer() {
        for (bytes, fits) in [(0, true), (1, true), (2, false)] {
            // Behind three bytes of its own length.
            let message = vec![7_u8; MAX_MESSAGE_BYTES - 4 + bytes];
            let whole = postcard::to_stdvec(&message).unwrap();
            assert_eq!(whole.len(), MAX_MESSAGE_BYTES - 1 + bytes);
            assert_eq!(encode(&message).is_ok(), fits, "{bytes}");
            let decoded = decode::<Vec<u8>>(&whole);
            assert_eq!(decoded.is_ok(), fits, "{bytes}");
            assert!(fits || matches!(decoded, Err(WireError::TooLong(_))));
        }
    }

    #[test]
    fn both_ends_speak_the_highest_version_that_both_know() {
        let (low, high) = VERSIONS;
        assert_eq!(agree(VERSIONS).unwrap(), high);
        assert_eq!(agree((low, high + 3)).unwrap(), high);
        assert_eq!(agree((low - 1, high)).unwrap(), high);
        for strange in [(high + 1, high + 2), (low - 1, low - 1), (high + 1, high)] {
            assert!(agree(strange).is_err(), "{strange:?}");
        }
    }
}
