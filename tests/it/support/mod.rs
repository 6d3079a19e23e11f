//! The ground that the integration tests stand on: trees, snapshots of trees, rsync as an oracle,
//! real hubs and agents, real hosts with their own network, sshd, and Debian's packages.
//!
//! Nothing here knows how the product works inside: it runs the binary and looks at the disk.
//! What a test starts is ended when its value is dropped, and bounded in time.

pub(crate) mod acl;
pub(crate) mod address;
pub(crate) mod attack;
pub(crate) mod awkward;
pub(crate) mod change;
pub(crate) mod corpus;
pub(crate) mod debian;
pub(crate) mod disk;
pub(crate) mod env;
pub(crate) mod guard;
pub(crate) mod host;
pub(crate) mod mariadb;
pub(crate) mod netns;
pub(crate) mod oracle;
pub(crate) mod random;
pub(crate) mod relay;
pub(crate) mod run;
pub(crate) mod snapshot;
pub(crate) mod source_code;
pub(crate) mod sshd;
pub(crate) mod task;
pub(crate) mod terminal;
pub(crate) mod trace;
pub(crate) mod tree;

/// True if the tests run as root, which devices, foreign owners and namespaces need.
pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// True if a test that needs root can go on. Without root it says that it is skipped, unless
/// `FANOUT_TEST_ALL` is set (as `scripts/test` does for root): then it panics.
#[track_caller]
pub(crate) fn root_or_skip(what: &str) -> bool {
    if !is_root() {
        assert!(
            std::env::var_os("FANOUT_TEST_ALL").is_none(),
            "{what} needs root, and FANOUT_TEST_ALL allows no skipping"
        );
        eprintln!("skipped: {what} needs root");
    }
    is_root()
}
