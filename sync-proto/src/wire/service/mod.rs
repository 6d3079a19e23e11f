//! What a hub asks of a server besides trees: facts about its services, and configuration.
//!
//! A fixed set of verbs with typed parameters. Nothing here is a command line, and no path from a
//! hub is used as it comes: a configuration file is named by its [`ConfigArea`] and a file name,
//! and the agent decides where that lies. An agent answers only for the services that its own
//! administrator lets it offer.

pub mod app;
pub mod balancer;
pub mod config;
pub mod database;
pub mod setup;
pub mod uploads;

pub use app::{
    AppAction, AppAnswer, AppDone, AppDriver, AppInstall, AppRequest, AppSettings, AppState,
    AppTarget,
};
pub use balancer::{
    BackendMember, BalancerAnswer, BalancerRequest, BalancerState, Certificate, MemberAnswer,
    MemberRequest, Probe, Probed, Rotation, Waited,
};
pub use config::{
    Activated, ConfigAnswer, ConfigArea, ConfigFault, ConfigFile, ConfigRequest, ConfigSetId,
    ConfigState, Content, FileState, Tested,
};
pub use setup::{SetupAnswer, SetupBalancer, SetupRequest, SetupStep, SetupWeb, SetupWish};
pub use uploads::{MountFacts, UploadAnswer, UploadFile, UploadPlace, UploadRequest};

use serde::{Deserialize, Serialize};

/// A request about services. Due when no tree is open.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ServiceRequest {
    /// What is installed here, and how it can be reached.
    Facts,
    /// About the web server's, PHP's and the balancer's configuration.
    Config(ConfigRequest),
    /// About the local database server.
    Database(database::DatabaseRequest),
    /// About a database server as seen from here.
    DatabaseProbe(database::ProbeRequest),
    /// About the rotation of the balancer that runs here.
    Balancer(BalancerRequest),
    /// About this server as a member behind a balancer.
    Member(MemberRequest),
    /// About a site's application.
    App(Box<AppRequest>),
    /// About uploaded files.
    Uploads(UploadRequest),
    /// About preparing this server.
    Setup(SetupRequest),
}

/// The answer to a [`ServiceRequest`]; a refusal is a [`Reply::Refused`](super::Reply::Refused).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ServiceAnswer {
    /// To Facts.
    Facts(Box<ServiceFacts>),
    /// To Config.
    Config(ConfigAnswer),
    /// To Database.
    Database(database::DatabaseAnswer),
    /// To DatabaseProbe.
    DatabaseProbe(database::ProbeAnswer),
    /// To Balancer.
    Balancer(BalancerAnswer),
    /// To Member.
    Member(MemberAnswer),
    /// To App.
    App(AppAnswer),
    /// To Uploads.
    Uploads(UploadAnswer),
    /// To Setup.
    Setup(SetupAnswer),
}

/// What is installed on a server. Everything comes from the server itself, nothing is guessed from
/// what the hub has.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceFacts {
    /// Services that its administrator lets the agent offer: `web`, `db`, `balancer`, `app`,
    /// `setup`.
    pub offers: Vec<String>,
    /// Distribution and version, such as `debian 12`.
    pub distribution: String,
    /// The agent's prefix: where the hub's absolute paths lie on this server's disk. Empty: as they
    /// are.
    pub prefix: Vec<u8>,
    /// The directory that web servers, PHP and balancers include from, as they see it: the live
    /// configuration set.
    pub config_root: Vec<u8>,
    /// The directory of files that outlive configuration sets (drain mark, sessions, site data).
    pub data_root: Vec<u8>,
    /// Addresses of its interfaces, loopback excepted, as text.
    pub addresses: Vec<String>,
    /// nginx, where it is installed.
    pub nginx: Option<ProgramFacts>,
    /// apache, where it is installed.
    pub apache: Option<ProgramFacts>,
    /// HAProxy, where it is installed.
    pub haproxy: Option<ProgramFacts>,
    /// Each installed PHP-FPM, lowest version first.
    pub php: Vec<PhpFacts>,
    /// The group of the web server's workers, such as `www-data`.
    pub web_group: String,
    /// The file systems that trees, configuration and the agent's state lie on.
    pub disks: Vec<DiskFacts>,
    /// The set that is live and confirmed.
    pub live: Option<ConfigSetId>,
    /// What an administrator should know, one sentence each with its remedy.
    pub warnings: Vec<String>,
}

/// What is left on a file system.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskFacts {
    /// A directory on it.
    pub path: String,
    /// What an ordinary user may still write.
    pub free_bytes: u64,
    /// Its size.
    pub total_bytes: u64,
    /// Inodes that may still be made, and how many there can be; 0 of 0 where they are made as
    /// needed.
    pub free_inodes: u64,
    /// How many there can be.
    pub total_inodes: u64,
}

/// An installed server program.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProgramFacts {
    /// Version, such as `1.22.1`.
    pub version: String,
    /// Path of the binary.
    pub binary: String,
    /// Path of its main configuration file.
    pub config: String,
    /// Is the line there that includes fanout's files?
    pub is_included: bool,
    /// Does it run?
    pub is_running: bool,
    /// Modules that are loaded or built in, as the program names them.
    pub modules: Vec<String>,
    /// Ports that the machine's own configuration listens on, fanout's files not counted.
    pub own_ports: Vec<u16>,
    /// Those of them that have a default server there.
    pub own_defaults: Vec<u16>,
}

/// An installed PHP-FPM.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PhpFacts {
    /// Version, such as `8.2`.
    pub version: String,
    /// Path of the FPM binary.
    pub binary: String,
    /// Path of the command line interpreter of the same version; empty if it isn't installed.
    pub cli: String,
    /// Path of its main configuration file.
    pub config: String,
    /// Is the line there that includes fanout's pools?
    pub is_included: bool,
    /// Does it run?
    pub is_running: bool,
    /// `process_control_timeout` in seconds; 0 drops requests at a reload.
    pub control_timeout_s: u32,
    /// `opcache.validate_timestamps`.
    pub validates_timestamps: bool,
    /// Extensions that are loaded.
    pub extensions: Vec<String>,
    /// Directory for the sockets of pools.
    pub socket_dir: String,
}
