//! Configuration sets: every file that fanout manages for the services of one server, replaced as
//! a whole.
//!
//! A set is put beside the live one ([`ConfigRequest::Put`]), tested there by the programs that
//! will read it, and activated by one rename. It stays live only if the hub confirms it in time;
//! otherwise the server goes back to the one before by itself.
//!
//! Names that mean something to an agent: `00-*` is shared by all sites; `00-health-PORT.conf` is the
//! endpoint that proves a reload; `sub-*` is included by another file of the set; the name of a pool
//! begins with its version of PHP. `docs/wire-protocol.md` has the rest.

use crate::digest::Digest;
use serde::{Deserialize, Serialize};

/// A set's identity: chosen by the hub, never used twice.
pub type ConfigSetId = [u8; 16];

/// What a file belongs to. The agent decides where each area lies, and who may read it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum ConfigArea {
    /// Included by nginx, `http` context. Mode 0644.
    Nginx,
    /// Included by apache, server context. Mode 0644.
    Apache,
    /// Pools of one PHP-FPM version; the file name begins with the version: `8.2-NAME.conf`. 0644.
    PhpFpm,
    /// Certificates and their chains. 0644.
    Certificates,
    /// Private keys. 0600, root.
    Keys,
    /// Pages that are served while a site is disabled or in maintenance. 0644.
    Pages,
    /// Password files of basic authentication. 0640, the web server's group.
    Passwords,
    /// Settings with secrets that an application includes. 0440, the group in [`ConfigFile::group`].
    Settings,
    /// HAProxy's configuration. 0600, root.
    Haproxy,
    /// nginx as a balancer, `http` context. 0644.
    NginxBalancer,
}

/// One file of a set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigFile {
    /// What it belongs to.
    pub area: ConfigArea,
    /// One path component: letters, digits, `-`, `_`, `.`, `+`; no leading `.`.
    pub name: String,
    /// The group that may read it, for [`ConfigArea::Settings`]; else empty.
    pub group: String,
    /// What it holds.
    pub content: Content,
}

/// What a file holds.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Content {
    /// These bytes.
    Bytes(Vec<u8>),
    /// What the live set has under the same area and name, if it has this digest.
    Same(Digest),
}

impl std::fmt::Debug for Content {
    // Settings and keys are among them: their bytes never reach a log.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Bytes(bytes) => write!(f, "Bytes({})", bytes.len()),
            Self::Same(digest) => write!(f, "Same({digest:?})"),
        }
    }
}

/// A request about configuration sets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ConfigRequest {
    /// What is live here.
    State,
    /// One file of the live set, for a difference that a person reads. Not of the areas with
    /// secrets.
    Read {
        /// Which area.
        area: ConfigArea,
        /// Which file.
        name: String,
    },
    /// Some files of a new set; the first request makes it.
    Put {
        /// The new set.
        set: ConfigSetId,
        /// Some of its files.
        files: Vec<ConfigFile>,
    },
    /// The set is complete: test it all together, and where that fails file by file, so that each
    /// fault names its file. Makes the system users that its pools name.
    Test {
        /// The set.
        set: ConfigSetId,
    },
    /// Make it live, reload what changed, and prove that the new configuration answers.
    Activate {
        /// The set.
        set: ConfigSetId,
        /// Go back by itself unless confirmed within so many seconds.
        confirm_within_s: u32,
    },
    /// The activated set stays.
    Confirm {
        /// The set.
        set: ConfigSetId,
    },
    /// Back to the set before, if this one is live; forget it, if it is not.
    Revert {
        /// The set.
        set: ConfigSetId,
    },
}

/// The answer to a [`ConfigRequest`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ConfigAnswer {
    /// To State.
    State(ConfigState),
    /// To Read.
    Read {
        /// Its bytes.
        bytes: Vec<u8>,
    },
    /// To Put, Confirm and Revert.
    Done,
    /// To Test.
    Tested(Tested),
    /// To Activate.
    Activated(Activated),
}

/// What is live on a server.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigState {
    /// The live set.
    pub live: Option<ConfigSetId>,
    /// It was activated and waits for its confirmation.
    pub is_unconfirmed: bool,
    /// Its files as they are on the disk now, edits by hand included.
    pub files: Vec<FileState>,
}

/// One file of the live set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileState {
    /// What it belongs to.
    pub area: ConfigArea,
    /// Its name.
    pub name: String,
    /// Digest of what it holds now.
    pub digest: Digest,
    /// Digest of what fanout put there.
    pub put: Digest,
}

/// What a test found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tested {
    /// Files that can't be used. A set with faults can't be activated.
    pub faults: Vec<ConfigFault>,
    /// Things worth saying.
    pub warnings: Vec<String>,
}

/// A file that can't be used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigFault {
    /// What it belongs to.
    pub area: ConfigArea,
    /// The file; empty if it is all of them together.
    pub name: String,
    /// What the program said.
    pub message: String,
}

/// A set that went live.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Activated {
    /// The set before.
    pub previous: Option<ConfigSetId>,
    /// The programs that were reloaded and answered with the new set's id.
    pub proved: Vec<String>,
    /// Microseconds from the rename to the proof.
    pub elapsed_us: u64,
    /// Things worth saying.
    pub warnings: Vec<String>,
}
