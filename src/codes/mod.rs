//! Stable error codes, each with a page in `docs/errors/`.
//!
//! Owns the list of everything that can go wrong and that a person has to hear about. A code
//! never changes its number or its meaning; one that falls out of use stays in the table. Title,
//! hint and explanation live in the page alone, which is compiled in.
//!
//! Groups: `FX00xx` command line and inventory, `FX01xx` source, `FX02xx` brakes, `FX03xx`
//! network and trust, `FX04xx` a member's disk, `FX05xx` commit, `FX06xx` generations and depot,
//! `FX07xx` services (web server, database, balancer, application), `FX09xx` fanout itself.

mod exit;
mod problem;
mod table;

pub use exit::Exit;
pub use problem::{Problem, error_chain};

use std::fmt;
use std::str::FromStr;
use table::{Row, TABLE};

/// What kind of problem it is. The number behind each is in the table next door.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Code {
    /// The command line is not valid.
    Usage,
    /// There is no inventory in the directory.
    InventoryMissing,
    /// The inventory has an error in it.
    InventoryInvalid,
    /// No platform has that name.
    UnknownPlatform,
    /// No server has that name.
    UnknownServer,
    /// No cluster has that name.
    UnknownCluster,
    /// There are several platforms and none was named.
    PlatformAmbiguous,
    /// Something else has that name already.
    NameTaken,
    /// That can't be a name.
    NameInvalid,
    /// An exclude or preserve rule can't be understood.
    RuleInvalid,
    /// Something else in the inventory refers to it.
    StillInUse,
    /// A dangerous command was not confirmed.
    NotConfirmed,
    /// The directory holds a hub or an agent already.
    AlreadyInitialised,
    /// The hub's state can't be read.
    StateDamaged,
    /// A file that holds a secret is open to others.
    SecretExposed,
    /// Standard output or a file can't be written.
    OutputFailed,
    /// No error has that code.
    UnknownCode,
    /// There is no agent in the directory.
    AgentMissing,
    /// No balancer has that name.
    UnknownBalancer,
    /// No site has that address.
    UnknownSite,
    /// The hub's store has no secret of that name.
    UnknownSecret,
    /// A secret can't be had or kept.
    SecretUnusable,
    /// There are no contexts of Aegir.
    NotAegir,
    /// The source does not exist.
    SourceMissing,
    /// The source is an empty directory.
    SourceEmpty,
    /// A build says that it is still at work in the source.
    SourceHalfBuilt,
    /// A file that the platform requires is missing.
    RequiredMissing,
    /// The source is in the middle of a merge.
    UnfinishedMerge,
    /// The source changed while it was read.
    SourceChanged,
    /// Part of the source can't be read.
    SourceUnreadable,
    /// The source is not a directory.
    SourceNotDirectory,
    /// The source holds an entry of a kind that the platform does not allow.
    EntryRefused,
    /// The source has content below a preserved path.
    PreservedInSource,
    /// The source uses a name that fanout reserves.
    ReservedInSource,
    /// The source is larger than the limits.
    TooManyEntries,
    /// A member would lose too many entries.
    TooManyDeletions,
    /// A directory at the top of the tree would vanish.
    TopDirectoryVanishes,
    /// The root on a member is not the kind of thing it was.
    RootKindChanged,
    /// A member lacks the space for the push.
    NoSpace,
    /// A member lacks the inodes for the push.
    NoInodes,
    /// Two roots, or a root and a state directory, overlap.
    RootsOverlap,
    /// The root has content and is not ours.
    RootNotOurs,
    /// The platform is locked by a person.
    PlatformLocked,
    /// Another task works on the platform.
    TaskLocked,
    /// The tree wants something else where a member's own content is.
    PreservedConflict,
    /// A member has no user or group of that name.
    OwnerMissing,
    /// An agent lacks the privilege to keep some metadata.
    CannotKeep,
    /// Too few members would be left at the desired generation.
    TooFewHealthy,
    /// A preserve rule would be narrowed.
    PreserveNarrowed,
    /// A tree's state directory does not belong to the agent alone.
    StateNotOurs,
    /// The hub's state came out of a backup, and may be older than what was decided.
    HubOutdated,
    /// That file is not a backup of a hub, or not a whole one.
    BackupDamaged,
    /// A server does not answer.
    Unreachable,
    /// UDP does not get through to a server.
    UdpBlocked,
    /// One side does not accept the other's key.
    HandshakeRefused,
    /// Hub and agent have no protocol version in common.
    VersionMismatch,
    /// That is not an invitation token, or not for this agent.
    TokenInvalid,
    /// The invitation token is too old.
    TokenExpired,
    /// The invitation token was used already.
    TokenSpent,
    /// The connection broke.
    SessionLost,
    /// A member made no progress and was detached.
    NoProgress,
    /// A member was not ready at the deadline.
    DeadlineExceeded,
    /// The peer broke the protocol or a limit.
    ProtocolViolation,
    /// The agent does not allow trees at that path.
    PathNotAllowed,
    /// The tree is bound to another root or another hub.
    TreeBoundElsewhere,
    /// A newer task has taken over the tree.
    FenceTooOld,
    /// The ssh program failed.
    SshFailed,
    /// The server has another processor architecture.
    ArchitectureMismatch,
    /// The server's C library is too old for this binary.
    GlibcTooOld,
    /// An address can't be resolved.
    AddressUnresolved,
    /// The agent can't listen at its address.
    ListenFailed,
    /// No key was exchanged with the server yet.
    NotTrusted,
    /// The peer's role does not allow what it asked for.
    RoleForbidden,
    /// The agent does not know the tree.
    TreeUnknown,
    /// fanout can't be installed on the server.
    InstallFailed,
    /// The agent's administrator allows less than that.
    AgentLimit,
    /// The disk or the quota is full.
    DiskFull,
    /// The file system is read-only.
    ReadOnly,
    /// The disk reports an error.
    DiskError,
    /// Content does not have the hash it should have.
    ContentMismatch,
    /// The kernel call `openat2` is not available.
    Openat2Missing,
    /// The limit of open files is reached.
    TooManyOpenFiles,
    /// The file system can't hold an entry's name or kind.
    NameUnsupported,
    /// The operating system denied access.
    PermissionDenied,
    /// Another file system is mounted inside the tree.
    MountInside,
    /// The agent's records can't be read.
    AgentStateDamaged,
    /// The layout is not possible at that root.
    LayoutUnsupported,
    /// A member has something else than it should have.
    Drift,
    /// Somebody replaced a directory while it was worked on.
    PathChanged,
    /// A member voted and was then lost.
    MemberInDoubt,
    /// A member did not switch, because another could not.
    MemberAborted,
    /// The votes that the commit policy asks for are not in.
    VotesMissing,
    /// A member is not at the desired generation.
    MemberStale,
    /// A member could not finish its commit.
    CommitFailed,
    /// An earlier transaction is not settled.
    TransactionOpen,
    /// The command was interrupted.
    Interrupted,
    /// There is no member to work on.
    NoMembers,
    /// The depot lacks content that a member needs.
    DepotIncomplete,
    /// The depot holds content that is damaged.
    DepotDamaged,
    /// There is no generation to go back to.
    NoGeneration,
    /// The generation is marked bad.
    GenerationBad,
    /// There is no such generation.
    GenerationUnknown,
    /// The depot exceeds its byte budget.
    DepotFull,
    /// Nothing was pushed to the platform yet.
    NothingPushed,
    /// The agent's administrator doesn't let it offer that service.
    ServiceNotOffered,
    /// A file or a set that the agent doesn't take.
    SetRefused,
    /// A configuration set has faults, or was not tested.
    ConfigFaulty,
    /// There is no such configuration set on the server.
    SetUnknown,
    /// A reload could not be proved and was taken back.
    NotProved,
    /// A configuration set could not be taken back.
    RevertFailed,
    /// A server program isn't running.
    ProgramNotRunning,
    /// A file of the live set is not what it was.
    LiveFileChanged,
    /// Another hub manages the services of the server.
    ServicesOfAnother,
    /// A system user can't be used or made.
    UserRefused,
    /// Preparing a server failed.
    SetupFailed,
    /// A server's files can't be rendered.
    RenderFailed,
    /// A certificate or its key can't be used.
    CertificateUnusable,
    /// A configuration set waits for its confirmation.
    ConfigUnconfirmed,
    /// A program on the server could not do its work.
    ProgramFailed,
    /// The hub or an agent can't log in to a database server.
    DatabaseUnreachable,
    /// A database server refused a change.
    DatabaseRefused,
    /// How a database server sees a member can't be found out.
    DatabaseAddressUnknown,
    /// A member's way to its database can't be granted.
    DatabaseAddressRefused,
    /// A member can't log in to a site's database.
    DatabaseLoginFailed,
    /// The database server is too old or none that fanout knows.
    DatabaseUnsupported,
    /// No administration account of a database server is configured.
    DatabaseAccountMissing,
    /// A database server has accounts or privileges that fanout didn't make.
    DatabaseOrphans,
    /// A balancer can't do what the inventory asks of it.
    BalancerUnfit,
    /// A balancer doesn't answer at its run-time socket.
    BalancerSilent,
    /// A server is not behind the balancer.
    NotBehindBalancer,
    /// A drained member still has visitors.
    MemberBusy,
    /// A member doesn't prove itself.
    MemberUnproved,
    /// Members answer differently.
    SiteDiffers,
    /// The application can't run there.
    AppUnfit,
    /// An application failed to do what it was asked.
    AppFailed,
    /// The application's own settings file doesn't include the site's settings.
    SettingsNotIncluded,
    /// The site is not installed.
    NotInstalled,
    /// A push brings schema updates that nobody decided about.
    UpdatesUndecided,
    /// Files can't be read or written there as uploads.
    UploadsRefused,
    /// The share of a site's uploads is not what it should be.
    ShareWrong,
    /// The application knows no such action.
    AppActionMissing,
    /// The application would lose something on several members.
    AppTrap,
    /// Uploads could not be delivered to every member.
    UploadsPartial,
    /// A server's configuration doesn't pass its test.
    ConfigRefused,
    /// One site's configuration doesn't pass its test, and stays as it was.
    SiteQuarantined,
    /// Something about a server's configuration is worth knowing.
    ConfigWarning,
    /// A saved plan does not fit what is there any more.
    PlanOutdated,
    /// A site on several members doesn't say what becomes of uploads.
    UploadsUndecided,
    /// No task has that number.
    UnknownTask,
    /// Something that can't happen happened.
    Bug,
}

impl Code {
    /// Every code, in the order of their numbers.
    pub fn all() -> impl ExactSizeIterator<Item = Self> {
        TABLE.iter().map(|row| row.code)
    }

    /// The code with that number, as it crosses the wire.
    pub fn from_number(number: u16) -> Option<Self> {
        TABLE
            .binary_search_by_key(&number, |row| row.number)
            .ok()
            .map(|index| TABLE[index].code)
    }

    /// The stable number: 201 for `FX0201`.
    pub fn number(self) -> u16 {
        self.row().number
    }

    /// The stable id, such as `FX0201`.
    pub fn id(self) -> String {
        format!("FX{:04}", self.number())
    }

    /// What a command that ends with this problem exits with.
    pub fn exit(self) -> Exit {
        self.row().exit
    }

    /// What it is, in a few words.
    pub fn title(self) -> &'static str {
        let heading = self.page().lines().next().unwrap_or_default();
        heading.split_once(": ").map_or(heading, |(_, title)| title)
    }

    /// What to do next, where the one who reports the problem knows nothing better.
    pub fn hint(self) -> &'static str {
        let hint = self.page().lines().nth(2).unwrap_or_default();
        hint.strip_prefix("hint: ").unwrap_or(hint)
    }

    /// The whole page, in Markdown.
    pub fn page(self) -> &'static str {
        self.row().page
    }

    fn row(self) -> &'static Row {
        // The table next door proves at compile time that row N is variant N.
        &TABLE[self as usize]
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FX{:04}", self.number())
    }
}

impl serde::Serialize for Code {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// That text is not the id of a code.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseCodeError {
    /// It doesn't look like `FX0201`.
    #[error("Not an error code")]
    Form,
    /// It looks like a code, but there is none with that number.
    #[error("There is no error code FX{0:04}")]
    Unknown(u16),
}

impl FromStr for Code {
    type Err = ParseCodeError;

    /// Reads `FX0201`, `fx0201` and `[FX0201]`, as messages show it.
    fn from_str(text: &str) -> Result<Self, ParseCodeError> {
        let bare = text
            .strip_prefix('[')
            .and_then(|text| text.strip_suffix(']'))
            .unwrap_or(text);
        let (prefix, digits) = bare.split_at_checked(2).ok_or(ParseCodeError::Form)?;
        let is_code = prefix.eq_ignore_ascii_case("FX")
            && digits.len() == 4
            && digits.bytes().all(|digit| digit.is_ascii_digit());
        if !is_code {
            return Err(ParseCodeError::Form);
        }
        let number = digits.parse().map_err(|_| ParseCodeError::Form)?;
        Self::from_number(number).ok_or(ParseCodeError::Unknown(number))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECTIONS: [&str; 4] = [
        "## What it means",
        "## Why fanout stops",
        "## What to do",
        "## Example",
    ];

    #[test]
    fn every_code_has_a_whole_page() {
        for code in Code::all() {
            let page = code.page();
            assert!(page.starts_with(&format!("# {code}: ")), "{code}");
            assert!(page.lines().nth(2).unwrap().starts_with("hint: "), "{code}");
            assert!(!code.title().ends_with('.'), "{code}");
            let places: Vec<_> = SECTIONS.iter().map(|section| page.find(section)).collect();
            assert!(places.iter().all(Option::is_some), "{code}: {places:?}");
            assert!(places.is_sorted(), "{code}");
        }
    }

    #[test]
    fn every_page_belongs_to_a_code() {
        let pages = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/errors");
        let count = std::fs::read_dir(pages).unwrap().count();
        assert_eq!(count, Code::all().len());
    }

    #[test]
    fn a_brake_exits_with_5_and_a_held_lock_with_4() {
        for code in Code::all().filter(|code| code.number() / 100 == 2) {
            let expected = match code {
                Code::TaskLocked => Exit::Locked,
                Code::OwnerMissing | Code::CannotKeep => Exit::Failed,
                _ => Exit::Refused,
            };
            assert_eq!(code.exit(), expected, "{code}");
        }
    }

    #[test]
    fn ids_are_read_as_they_are_shown() {
        for code in Code::all() {
            assert_eq!(code.id().parse(), Ok(code));
            assert_eq!(Code::from_number(code.number()), Some(code));
        }
        assert_eq!("fx0201".parse(), Ok(Code::TooManyDeletions));
        assert_eq!("[FX0201]".parse(), Ok(Code::TooManyDeletions));
        assert_eq!("FX0299".parse::<Code>(), Err(ParseCodeError::Unknown(299)));
        for text in ["", "FX", "FX201", "FX02010", "FX+201", "web/index.php", "ü"] {
            assert_eq!(text.parse::<Code>(), Err(ParseCodeError::Form), "{text}");
        }
    }
}
