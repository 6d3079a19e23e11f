//! The table behind [`Code`]: number, exit and page of each.
//!
//! Numbers are stable and sorted; the order of the rows is that of the variants, which the
//! compiler checks.

use super::{Code as C, Exit};

/// One code.
pub(super) struct Row {
    pub(super) code: C,
    pub(super) number: u16,
    pub(super) exit: Exit,
    pub(super) page: &'static str,
}

const fn row(code: C, number: u16, exit: Exit, page: &'static str) -> Row {
    Row {
        code,
        number,
        exit,
        page,
    }
}

/// Every code, by number.
pub(super) static TABLE: &[Row] = &ROWS;

const COUNT: usize = C::Bug as usize + 1;

#[rustfmt::skip] // One line a code: a table is read down its columns.
const ROWS: [Row; COUNT] = [
    // 00xx: the command line and the inventory
    row(C::Usage, 1, Exit::Usage, include_str!("../../docs/errors/FX0001.md")),
    row(C::InventoryMissing, 2, Exit::Failed, include_str!("../../docs/errors/FX0002.md")),
    row(C::InventoryInvalid, 3, Exit::Failed, include_str!("../../docs/errors/FX0003.md")),
    row(C::UnknownPlatform, 4, Exit::Usage, include_str!("../../docs/errors/FX0004.md")),
    row(C::UnknownServer, 5, Exit::Usage, include_str!("../../docs/errors/FX0005.md")),
    row(C::UnknownCluster, 6, Exit::Usage, include_str!("../../docs/errors/FX0006.md")),
    row(C::PlatformAmbiguous, 7, Exit::Usage, include_str!("../../docs/errors/FX0007.md")),
    row(C::NameTaken, 8, Exit::Usage, include_str!("../../docs/errors/FX0008.md")),
    row(C::NameInvalid, 9, Exit::Usage, include_str!("../../docs/errors/FX0009.md")),
    row(C::RuleInvalid, 10, Exit::Usage, include_str!("../../docs/errors/FX0010.md")),
    row(C::StillInUse, 11, Exit::Failed, include_str!("../../docs/errors/FX0011.md")),
    row(C::NotConfirmed, 12, Exit::Usage, include_str!("../../docs/errors/FX0012.md")),
    row(C::AlreadyInitialised, 13, Exit::Failed, include_str!("../../docs/errors/FX0013.md")),
    row(C::StateDamaged, 14, Exit::Failed, include_str!("../../docs/errors/FX0014.md")),
    row(C::SecretExposed, 15, Exit::Failed, include_str!("../../docs/errors/FX0015.md")),
    row(C::OutputFailed, 16, Exit::Failed, include_str!("../../docs/errors/FX0016.md")),
    row(C::UnknownCode, 17, Exit::Usage, include_str!("../../docs/errors/FX0017.md")),
    row(C::AgentMissing, 18, Exit::Failed, include_str!("../../docs/errors/FX0018.md")),
    row(C::UnknownBalancer, 19, Exit::Usage, include_str!("../../docs/errors/FX0019.md")),
    row(C::UnknownSite, 20, Exit::Usage, include_str!("../../docs/errors/FX0020.md")),
    row(C::UnknownSecret, 21, Exit::Failed, include_str!("../../docs/errors/FX0021.md")),
    row(C::SecretUnusable, 22, Exit::Failed, include_str!("../../docs/errors/FX0022.md")),
    row(C::NotAegir, 23, Exit::Failed, include_str!("../../docs/errors/FX0023.md")),
    // 01xx: the source tree
    row(C::SourceMissing, 101, Exit::Refused, include_str!("../../docs/errors/FX0101.md")),
    row(C::SourceEmpty, 102, Exit::Refused, include_str!("../../docs/errors/FX0102.md")),
    row(C::SourceHalfBuilt, 103, Exit::Refused, include_str!("../../docs/errors/FX0103.md")),
    row(C::RequiredMissing, 104, Exit::Refused, include_str!("../../docs/errors/FX0104.md")),
    row(C::UnfinishedMerge, 105, Exit::Refused, include_str!("../../docs/errors/FX0105.md")),
    row(C::SourceChanged, 106, Exit::Failed, include_str!("../../docs/errors/FX0106.md")),
    row(C::SourceUnreadable, 107, Exit::Failed, include_str!("../../docs/errors/FX0107.md")),
    row(C::SourceNotDirectory, 108, Exit::Refused, include_str!("../../docs/errors/FX0108.md")),
    row(C::EntryRefused, 109, Exit::Refused, include_str!("../../docs/errors/FX0109.md")),
    row(C::PreservedInSource, 110, Exit::Refused, include_str!("../../docs/errors/FX0110.md")),
    row(C::ReservedInSource, 111, Exit::Refused, include_str!("../../docs/errors/FX0111.md")),
    row(C::TooManyEntries, 112, Exit::Refused, include_str!("../../docs/errors/FX0112.md")),
    // 02xx: brakes
    row(C::TooManyDeletions, 201, Exit::Refused, include_str!("../../docs/errors/FX0201.md")),
    row(C::TopDirectoryVanishes, 202, Exit::Refused, include_str!("../../docs/errors/FX0202.md")),
    row(C::RootKindChanged, 203, Exit::Refused, include_str!("../../docs/errors/FX0203.md")),
    row(C::NoSpace, 204, Exit::Refused, include_str!("../../docs/errors/FX0204.md")),
    row(C::NoInodes, 205, Exit::Refused, include_str!("../../docs/errors/FX0205.md")),
    row(C::RootsOverlap, 206, Exit::Refused, include_str!("../../docs/errors/FX0206.md")),
    row(C::RootNotOurs, 207, Exit::Refused, include_str!("../../docs/errors/FX0207.md")),
    row(C::PlatformLocked, 209, Exit::Refused, include_str!("../../docs/errors/FX0209.md")),
    row(C::TaskLocked, 210, Exit::Locked, include_str!("../../docs/errors/FX0210.md")),
    row(C::PreservedConflict, 211, Exit::Refused, include_str!("../../docs/errors/FX0211.md")),
    row(C::OwnerMissing, 212, Exit::Failed, include_str!("../../docs/errors/FX0212.md")),
    row(C::CannotKeep, 213, Exit::Failed, include_str!("../../docs/errors/FX0213.md")),
    row(C::TooFewHealthy, 214, Exit::Refused, include_str!("../../docs/errors/FX0214.md")),
    row(C::PreserveNarrowed, 215, Exit::Refused, include_str!("../../docs/errors/FX0215.md")),
    row(C::StateNotOurs, 240, Exit::Refused, include_str!("../../docs/errors/FX0240.md")),
    row(C::HubOutdated, 241, Exit::Refused, include_str!("../../docs/errors/FX0241.md")),
    row(C::BackupDamaged, 242, Exit::Refused, include_str!("../../docs/errors/FX0242.md")),
    // 03xx: the network and trust
    row(C::Unreachable, 301, Exit::Failed, include_str!("../../docs/errors/FX0301.md")),
    row(C::UdpBlocked, 302, Exit::Failed, include_str!("../../docs/errors/FX0302.md")),
    row(C::HandshakeRefused, 303, Exit::Failed, include_str!("../../docs/errors/FX0303.md")),
    row(C::VersionMismatch, 304, Exit::Failed, include_str!("../../docs/errors/FX0304.md")),
    row(C::TokenInvalid, 305, Exit::Failed, include_str!("../../docs/errors/FX0305.md")),
    row(C::TokenExpired, 306, Exit::Failed, include_str!("../../docs/errors/FX0306.md")),
    row(C::TokenSpent, 307, Exit::Failed, include_str!("../../docs/errors/FX0307.md")),
    row(C::SessionLost, 308, Exit::Failed, include_str!("../../docs/errors/FX0308.md")),
    row(C::NoProgress, 309, Exit::Failed, include_str!("../../docs/errors/FX0309.md")),
    row(C::DeadlineExceeded, 310, Exit::Failed, include_str!("../../docs/errors/FX0310.md")),
    row(C::ProtocolViolation, 311, Exit::Failed, include_str!("../../docs/errors/FX0311.md")),
    row(C::PathNotAllowed, 312, Exit::Failed, include_str!("../../docs/errors/FX0312.md")),
    row(C::TreeBoundElsewhere, 313, Exit::Failed, include_str!("../../docs/errors/FX0313.md")),
    row(C::FenceTooOld, 314, Exit::Failed, include_str!("../../docs/errors/FX0314.md")),
    row(C::SshFailed, 315, Exit::Failed, include_str!("../../docs/errors/FX0315.md")),
    row(C::ArchitectureMismatch, 316, Exit::Failed, include_str!("../../docs/errors/FX0316.md")),
    row(C::GlibcTooOld, 317, Exit::Failed, include_str!("../../docs/errors/FX0317.md")),
    row(C::AddressUnresolved, 318, Exit::Failed, include_str!("../../docs/errors/FX0318.md")),
    row(C::ListenFailed, 319, Exit::Failed, include_str!("../../docs/errors/FX0319.md")),
    row(C::NotTrusted, 320, Exit::Failed, include_str!("../../docs/errors/FX0320.md")),
    row(C::RoleForbidden, 321, Exit::Failed, include_str!("../../docs/errors/FX0321.md")),
    row(C::TreeUnknown, 322, Exit::Failed, include_str!("../../docs/errors/FX0322.md")),
    row(C::InstallFailed, 323, Exit::Failed, include_str!("../../docs/errors/FX0323.md")),
    row(C::AgentLimit, 324, Exit::Failed, include_str!("../../docs/errors/FX0324.md")),
    // 04xx: a member's disk
    row(C::DiskFull, 401, Exit::Failed, include_str!("../../docs/errors/FX0401.md")),
    row(C::ReadOnly, 402, Exit::Failed, include_str!("../../docs/errors/FX0402.md")),
    row(C::DiskError, 403, Exit::Failed, include_str!("../../docs/errors/FX0403.md")),
    row(C::ContentMismatch, 404, Exit::Failed, include_str!("../../docs/errors/FX0404.md")),
    row(C::Openat2Missing, 405, Exit::Failed, include_str!("../../docs/errors/FX0405.md")),
    row(C::TooManyOpenFiles, 406, Exit::Failed, include_str!("../../docs/errors/FX0406.md")),
    row(C::NameUnsupported, 407, Exit::Failed, include_str!("../../docs/errors/FX0407.md")),
    row(C::PermissionDenied, 408, Exit::Failed, include_str!("../../docs/errors/FX0408.md")),
    row(C::MountInside, 409, Exit::Failed, include_str!("../../docs/errors/FX0409.md")),
    row(C::AgentStateDamaged, 410, Exit::Failed, include_str!("../../docs/errors/FX0410.md")),
    row(C::LayoutUnsupported, 411, Exit::Failed, include_str!("../../docs/errors/FX0411.md")),
    row(C::Drift, 412, Exit::Differences, include_str!("../../docs/errors/FX0412.md")),
    row(C::PathChanged, 413, Exit::Failed, include_str!("../../docs/errors/FX0413.md")),
    // 05xx: the commit
    row(C::MemberInDoubt, 501, Exit::Partial, include_str!("../../docs/errors/FX0501.md")),
    row(C::MemberAborted, 502, Exit::Failed, include_str!("../../docs/errors/FX0502.md")),
    row(C::VotesMissing, 503, Exit::Failed, include_str!("../../docs/errors/FX0503.md")),
    row(C::MemberStale, 504, Exit::Partial, include_str!("../../docs/errors/FX0504.md")),
    row(C::CommitFailed, 505, Exit::Failed, include_str!("../../docs/errors/FX0505.md")),
    row(C::TransactionOpen, 506, Exit::Failed, include_str!("../../docs/errors/FX0506.md")),
    row(C::Interrupted, 507, Exit::Failed, include_str!("../../docs/errors/FX0507.md")),
    row(C::NoMembers, 508, Exit::Failed, include_str!("../../docs/errors/FX0508.md")),
    // 06xx: generations and the depot
    row(C::DepotIncomplete, 601, Exit::Failed, include_str!("../../docs/errors/FX0601.md")),
    row(C::DepotDamaged, 602, Exit::Failed, include_str!("../../docs/errors/FX0602.md")),
    row(C::NoGeneration, 603, Exit::Failed, include_str!("../../docs/errors/FX0603.md")),
    row(C::GenerationBad, 604, Exit::Refused, include_str!("../../docs/errors/FX0604.md")),
    row(C::GenerationUnknown, 605, Exit::Usage, include_str!("../../docs/errors/FX0605.md")),
    row(C::DepotFull, 606, Exit::Failed, include_str!("../../docs/errors/FX0606.md")),
    row(C::NothingPushed, 607, Exit::Failed, include_str!("../../docs/errors/FX0607.md")),
    // 07xx: services
    row(C::ServiceNotOffered, 701, Exit::Failed, include_str!("../../docs/errors/FX0701.md")),
    row(C::SetRefused, 702, Exit::Failed, include_str!("../../docs/errors/FX0702.md")),
    row(C::ConfigFaulty, 703, Exit::Failed, include_str!("../../docs/errors/FX0703.md")),
    row(C::SetUnknown, 704, Exit::Failed, include_str!("../../docs/errors/FX0704.md")),
    row(C::NotProved, 705, Exit::Failed, include_str!("../../docs/errors/FX0705.md")),
    row(C::RevertFailed, 706, Exit::Failed, include_str!("../../docs/errors/FX0706.md")),
    row(C::ProgramNotRunning, 707, Exit::Failed, include_str!("../../docs/errors/FX0707.md")),
    row(C::LiveFileChanged, 708, Exit::Failed, include_str!("../../docs/errors/FX0708.md")),
    row(C::ServicesOfAnother, 709, Exit::Failed, include_str!("../../docs/errors/FX0709.md")),
    row(C::UserRefused, 710, Exit::Failed, include_str!("../../docs/errors/FX0710.md")),
    row(C::SetupFailed, 711, Exit::Failed, include_str!("../../docs/errors/FX0711.md")),
    row(C::RenderFailed, 712, Exit::Failed, include_str!("../../docs/errors/FX0712.md")),
    row(C::CertificateUnusable, 713, Exit::Failed, include_str!("../../docs/errors/FX0713.md")),
    row(C::ConfigUnconfirmed, 714, Exit::Failed, include_str!("../../docs/errors/FX0714.md")),
    row(C::ProgramFailed, 715, Exit::Failed, include_str!("../../docs/errors/FX0715.md")),
    row(C::DatabaseUnreachable, 720, Exit::Failed, include_str!("../../docs/errors/FX0720.md")),
    row(C::DatabaseRefused, 721, Exit::Failed, include_str!("../../docs/errors/FX0721.md")),
    row(C::DatabaseAddressUnknown, 722, Exit::Failed, include_str!("../../docs/errors/FX0722.md")),
    row(C::DatabaseAddressRefused, 723, Exit::Failed, include_str!("../../docs/errors/FX0723.md")),
    row(C::DatabaseLoginFailed, 724, Exit::Failed, include_str!("../../docs/errors/FX0724.md")),
    row(C::DatabaseUnsupported, 725, Exit::Failed, include_str!("../../docs/errors/FX0725.md")),
    row(C::DatabaseAccountMissing, 726, Exit::Failed, include_str!("../../docs/errors/FX0726.md")),
    row(C::DatabaseOrphans, 727, Exit::Differences, include_str!("../../docs/errors/FX0727.md")),
    row(C::BalancerUnfit, 740, Exit::Failed, include_str!("../../docs/errors/FX0740.md")),
    row(C::BalancerSilent, 741, Exit::Failed, include_str!("../../docs/errors/FX0741.md")),
    row(C::NotBehindBalancer, 742, Exit::Failed, include_str!("../../docs/errors/FX0742.md")),
    row(C::MemberBusy, 743, Exit::Failed, include_str!("../../docs/errors/FX0743.md")),
    row(C::MemberUnproved, 744, Exit::Failed, include_str!("../../docs/errors/FX0744.md")),
    row(C::SiteDiffers, 745, Exit::Differences, include_str!("../../docs/errors/FX0745.md")),
    row(C::AppUnfit, 760, Exit::Failed, include_str!("../../docs/errors/FX0760.md")),
    row(C::AppFailed, 761, Exit::Failed, include_str!("../../docs/errors/FX0761.md")),
    row(C::SettingsNotIncluded, 762, Exit::Refused, include_str!("../../docs/errors/FX0762.md")),
    row(C::NotInstalled, 763, Exit::Failed, include_str!("../../docs/errors/FX0763.md")),
    row(C::UpdatesUndecided, 764, Exit::Refused, include_str!("../../docs/errors/FX0764.md")),
    row(C::UploadsRefused, 765, Exit::Failed, include_str!("../../docs/errors/FX0765.md")),
    row(C::ShareWrong, 766, Exit::Refused, include_str!("../../docs/errors/FX0766.md")),
    row(C::AppActionMissing, 767, Exit::Failed, include_str!("../../docs/errors/FX0767.md")),
    row(C::AppTrap, 768, Exit::Refused, include_str!("../../docs/errors/FX0768.md")),
    row(C::UploadsPartial, 769, Exit::Partial, include_str!("../../docs/errors/FX0769.md")),
    row(C::ConfigRefused, 785, Exit::Failed, include_str!("../../docs/errors/FX0785.md")),
    row(C::SiteQuarantined, 786, Exit::Partial, include_str!("../../docs/errors/FX0786.md")),
    row(C::ConfigWarning, 787, Exit::Done, include_str!("../../docs/errors/FX0787.md")),
    row(C::PlanOutdated, 788, Exit::Refused, include_str!("../../docs/errors/FX0788.md")),
    row(C::UploadsUndecided, 789, Exit::Refused, include_str!("../../docs/errors/FX0789.md")),
    row(C::UnknownTask, 790, Exit::Usage, include_str!("../../docs/errors/FX0790.md")),
    // 09xx: fanout itself
    row(C::Bug, 901, Exit::Bug, include_str!("../../docs/errors/FX0901.md")),
];

// Row N is variant N, so that a lookup is an index that can't miss; numbers only rise.
const _: () = {
    let mut index = 0;
    while index < COUNT {
        assert!(ROWS[index].code as usize == index);
        assert!(index == 0 || ROWS[index - 1].number < ROWS[index].number);
        index += 1;
    }
};
