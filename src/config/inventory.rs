//! The inventory as the rest of fanout sees it: every name resolved, every default filled in.

use super::document::Kind;
use super::problem::Problems;
use super::suggest::closest;
use super::{ConfigError, Invalid, app, check, file};
use crate::model::{
    AbsPath, Address, AppKind, BalancerKind, BalancerName, BalancerTls, ByteSize, ClusterName,
    CommitPolicy, DbKind, DbVia, IpNet, Label, Layout, Member, Mode, OwnerPolicy, PlatformName,
    ResyncMode, SecretRef, ServerName, SiteTls, SiteUri, SpecialFile, SshDestination, Transport,
    Uploads, WebKind,
};
use jiff::civil::Date;
use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::path::Path;
use sync_proto::path::RelPath;

/// What `exclude` means where it isn't given.
pub const DEFAULT_EXCLUDES: [&str; 4] = [".git", ".svn", ".hg", ".bzr"];

/// What the depot may hold where nothing is said.
pub const DEFAULT_DEPOT_BUDGET: ByteSize = ByteSize::gib(64);

/// A consistent inventory.
#[derive(Clone, Debug, PartialEq)]
pub struct Inventory {
    /// What this installation is called.
    pub hub: String,
    /// How much the depot may hold before old generations go that `keep` would keep.
    pub depot_budget: ByteSize,
    /// The machines.
    pub servers: BTreeMap<ServerName, Server>,
    /// Sets of servers.
    pub clusters: BTreeMap<ClusterName, Cluster>,
    /// Load balancers.
    pub balancers: BTreeMap<BalancerName, Balancer>,
    /// Code bases.
    pub platforms: BTreeMap<PlatformName, Platform>,
    /// Sites.
    pub sites: BTreeMap<SiteUri, Site>,
}

/// One machine.
#[derive(Clone, Debug, PartialEq)]
pub struct Server {
    /// Its name.
    pub name: ServerName,
    /// How the hub reaches the agent.
    pub address: Address,
    /// What databases and balancers see.
    pub addresses: Vec<IpAddr>,
    /// Groups for `--limit` and `--skip`.
    pub labels: Vec<Label>,
    /// How to talk to the agent.
    pub transport: Transport,
    /// The way in by the system's ssh, if there is one.
    pub ssh: Option<Ssh>,
    /// Its web server.
    pub web: Option<Web>,
    /// Its database server.
    pub db: Option<Db>,
}

impl Server {
    /// This server as part of what is being worked on.
    pub fn member(&self) -> Member {
        Member {
            name: self.name.clone(),
            labels: self.labels.clone(),
        }
    }
}

/// The way to a server by the system's ssh.
#[derive(Clone, Debug, PartialEq)]
pub struct Ssh {
    /// What ssh is given.
    pub destination: SshDestination,
    /// Whether to become root by sudo over there.
    pub sudo: bool,
}

/// Servers that are kept identical.
#[derive(Clone, Debug, PartialEq)]
pub struct Cluster {
    /// Its name.
    pub name: ClusterName,
    /// Its servers in the order of the file, clusters in it replaced by their servers, each once.
    pub members: Vec<ServerName>,
    /// Which votes a commit needs.
    pub commit: CommitPolicy,
    /// The least number of members that must take part.
    pub min_healthy: u32,
    /// The balancer in front of it.
    pub balancer: Option<BalancerName>,
}

/// Where a platform lives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum On {
    /// On one server.
    Server(ServerName),
    /// On all servers of a cluster.
    Cluster(ClusterName),
}

impl fmt::Display for On {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Server(name) => name.fmt(f),
            Self::Cluster(name) => name.fmt(f),
        }
    }
}

/// A code base, and where it goes. `docs/inventory.md` says what each setting means.
#[derive(Clone, Debug, PartialEq)]
pub struct Platform {
    /// Its name.
    pub name: PlatformName,
    /// Where it lives.
    pub on: On,
    /// The source, on the hub.
    pub path: AbsPath,
    /// The destination, on the members.
    pub root: AbsPath,
    /// How it lies on the members' disks.
    pub layout: Layout,
    /// Who owns its entries.
    pub owner: OwnerPolicy,
    /// Whether owners are kept as numbers where a member lacks the name.
    pub numeric_ids: bool,
    /// The mode of every directory, instead of the source's.
    pub dirs: Option<Mode>,
    /// The mode of every regular file, instead of the source's.
    pub files: Option<Mode>,
    /// Rules for what is neither sent nor deleted.
    pub exclude: Vec<String>,
    /// Rules for what belongs to the member.
    pub preserve: Vec<String>,
    /// Whether preserved paths are sent once, where absent.
    pub seed: bool,
    /// Whether excluded names are deleted on the members.
    pub delete_excluded: bool,
    /// How many generations are kept, the live one included.
    pub keep: u32,
    /// What `resync` does about drift.
    pub resync: ResyncMode,
    /// Whether the clock pushes a changed source.
    pub follow: bool,
    /// What the source must have.
    pub require: Vec<RelPath>,
    /// Known differences.
    pub drift_ignore: Vec<DriftIgnore>,
    /// Whether `trusted.*` and `security.*` attributes are carried.
    pub privileged_xattrs: bool,
    /// Special files that it may hold.
    pub special_files: Vec<SpecialFile>,
    /// The application that it is; nothing but files if it isn't said.
    pub app: Option<AppKind>,
    /// Where visitors' requests begin, relative to the root of the tree.
    pub docroot: RelPath,
    /// The version of PHP that its sites run with; the members' only one if it isn't said.
    pub php: Option<String>,
}

/// A server's web server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Web {
    /// Which.
    pub kind: WebKind,
    /// The port of plain requests.
    pub http: u16,
    /// The port of requests over TLS.
    pub https: u16,
    /// The port of the health endpoint.
    pub health: u16,
}

impl Web {
    /// A web server of that kind on the usual ports.
    pub fn new(kind: WebKind) -> Self {
        Self {
            kind,
            http: 80,
            https: 443,
            health: DEFAULT_HEALTH_PORT,
        }
    }
}

/// The port of the health endpoint, unless it is said otherwise.
pub const DEFAULT_HEALTH_PORT: u16 = 4680;

/// A server's database server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Db {
    /// Which.
    pub kind: DbKind,
    /// Its TCP port.
    pub port: u16,
    /// How the hub reaches it.
    pub via: DbVia,
    /// The administration account's name.
    pub admin_user: String,
    /// Its password; none if the agent logs in by its socket.
    pub admin: Option<SecretRef>,
    /// Networks whose members share one account, as the database sees them. Empty: one account for
    /// each member.
    pub networks: Vec<IpNet>,
    /// The name or address by which the members reach it; its server's address if it isn't said.
    pub host: Option<String>,
}

/// A load balancer in front of clusters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Balancer {
    /// Its name.
    pub name: BalancerName,
    /// The servers that it runs on, each with the same configuration.
    pub servers: Vec<ServerName>,
    /// Which.
    pub kind: BalancerKind,
    /// Where TLS ends.
    pub tls: BalancerTls,
    /// The port of plain requests.
    pub http: u16,
    /// The port of requests over TLS.
    pub https: u16,
    /// How long a member may take to become idle while it is drained, in seconds.
    pub drain_timeout_s: u32,
}

/// One site.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Site {
    /// Its address.
    pub uri: SiteUri,
    /// The platform that it runs on.
    pub platform: PlatformName,
    /// The name of its own directory, where the application knows several sites (`sites/NAME`).
    pub dir: Option<String>,
    /// The server of its database.
    pub db: Option<ServerName>,
    /// Other host names that it answers to.
    pub aliases: Vec<SiteUri>,
    /// Redirect the aliases to its address.
    pub redirect_aliases: bool,
    /// Paths that lead elsewhere: the path, and where to.
    pub redirects: BTreeMap<String, String>,
    /// Whether it is served over TLS.
    pub tls: SiteTls,
    /// Its certificate with its chain, on the hub; self-signed if it isn't said.
    pub certificate: Option<AbsPath>,
    /// The certificate's private key.
    pub key: Option<SecretRef>,
    /// Tell browsers to come back over TLS only, for so many seconds.
    pub hsts_s: Option<u32>,
    /// What becomes of uploads.
    pub uploads: Option<Uploads>,
    /// The system user that its PHP runs as; one of its own if it isn't said.
    pub user: Option<String>,
    /// The largest request body, in MiB.
    pub upload_mib: u32,
    /// User and password of basic authentication, as lines `USER:PASSWORD`.
    pub auth: Option<SecretRef>,
    /// Its title, for the installation.
    pub title: Option<String>,
    /// The first administrator's mail address, for the installation.
    pub mail: Option<String>,
    /// Run its periodic work, on one member.
    pub cron: bool,
}

/// One known difference on one member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DriftIgnore {
    /// An anchored rule.
    pub path: String,
    /// The member that differs.
    pub member: ServerName,
    /// Why it may.
    pub reason: String,
    /// The last day on which it may.
    pub until: Date,
}

impl Inventory {
    /// Reads and checks an inventory file.
    ///
    /// # Errors
    /// [`ConfigError::Missing`], [`ConfigError::Read`], or [`ConfigError::Invalid`] with every
    /// fault in the file.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let bytes = file::read(path, "inventory")?;
        let name = path.display().to_string();
        Ok(Self::from_bytes(&bytes, &name)?)
    }

    /// Checks the text of an inventory; `file` is what messages call it.
    pub fn parse(text: &str, file: &str) -> Result<Self, Invalid> {
        check::inventory(text, file)
    }

    /// True if it names the hub and nothing else.
    pub fn is_empty(&self) -> bool {
        self.servers.is_empty()
            && self.clusters.is_empty()
            && self.balancers.is_empty()
            && self.platforms.is_empty()
            && self.sites.is_empty()
    }

    pub(super) fn from_bytes(bytes: &[u8], file: &str) -> Result<Self, Invalid> {
        match std::str::from_utf8(bytes) {
            Ok(text) => Self::parse(text, file),
            Err(error) => {
                let valid = String::from_utf8_lossy(&bytes[..error.valid_up_to()]);
                let mut problems = Problems::new(file, &valid);
                problems.push(valid.len()..valid.len(), "What follows here isn't UTF-8");
                problems.finish(None)
            }
        }
    }

    /// The platform of that name.
    pub fn platform(&self, name: &str) -> Result<&Platform, ConfigError> {
        find(&self.platforms, Kind::Platform, name)
    }

    /// The server of that name.
    pub fn server(&self, name: &str) -> Result<&Server, ConfigError> {
        find(&self.servers, Kind::Server, name)
    }

    /// The cluster of that name.
    pub fn cluster(&self, name: &str) -> Result<&Cluster, ConfigError> {
        find(&self.clusters, Kind::Cluster, name)
    }

    /// The servers that a platform lives on, in the order of the file.
    pub fn members(&self, platform: &Platform) -> Vec<&Server> {
        let names = match &platform.on {
            On::Server(name) => std::slice::from_ref(name),
            On::Cluster(name) => self
                .clusters
                .get(name)
                .map_or(&[][..], |cluster| cluster.members.as_slice()),
        };
        names
            .iter()
            .filter_map(|name| self.servers.get(name))
            .collect()
    }

    /// The servers that these names stand for: servers, clusters, balancers, platforms or sites.
    /// Without a name, all of them.
    pub fn servers_of(&self, names: &[String]) -> Result<Vec<ServerName>, ConfigError> {
        if names.is_empty() {
            return Ok(self.servers.keys().cloned().collect());
        }
        let mut all: Vec<ServerName> = Vec::new();
        for name in names {
            let of =
                |servers: Vec<&Server>| servers.into_iter().map(|it| it.name.clone()).collect();
            let found: Vec<ServerName> = if let Ok(cluster) = self.cluster(name) {
                cluster.members.clone()
            } else if let Ok(balancer) = self.balancer(name) {
                balancer.servers.clone()
            } else if let Ok(platform) = self.platform(name) {
                of(self.members(platform))
            } else if let Ok(site) = self.site(name) {
                of(self.members_of_site(site))
            } else {
                vec![self.server(name)?.name.clone()]
            };
            all.extend(found);
        }
        all.sort();
        all.dedup();
        Ok(all)
    }

    /// The sites of a platform.
    pub fn sites_of(&self, platform: &PlatformName) -> Vec<&Site> {
        let of_it = |site: &&Site| site.platform == *platform;
        self.sites.values().filter(of_it).collect()
    }

    /// The servers that serve a site.
    pub fn members_of_site(&self, site: &Site) -> Vec<&Server> {
        let platform = self.platforms.get(&site.platform);
        platform.map_or_else(Vec::new, |platform| self.members(platform))
    }

    /// The sites whose uploads would be lost between their members: several serve them, and
    /// nothing says what becomes of uploads. The inventory may say so for a while; a plan may not.
    pub fn sites_without_uploads(&self) -> Vec<&Site> {
        let is_open = |site: &&Site| {
            let app = self.platforms.get(&site.platform).and_then(|p| p.app);
            site.uploads.is_none()
                && app::defaults(app).takes_uploads
                && self.members_of_site(site).len() > 1
        };
        self.sites.values().filter(is_open).collect()
    }

    /// The sites whose database is on a server.
    pub fn sites_with_db_on(&self, server: &ServerName) -> Vec<&Site> {
        let on_it = |site: &&Site| site.db.as_ref() == Some(server);
        self.sites.values().filter(on_it).collect()
    }

    /// Every reference to a secret, and what has it.
    pub fn secret_references(&self) -> Vec<(String, &SecretRef)> {
        let mut all = Vec::new();
        for server in self.servers.values() {
            let admin = server.db.as_ref().and_then(|db| db.admin.as_ref());
            all.extend(admin.map(|it| (format!("the database server on {}", server.name), it)));
        }
        for site in self.sites.values() {
            let it = site.key.iter().chain(&site.auth);
            all.extend(it.map(|it| (format!("the site {}", site.uri), it)));
        }
        all
    }

    /// The balancer in front of a platform.
    pub fn balancer_of(&self, platform: &Platform) -> Option<&Balancer> {
        let On::Cluster(cluster) = &platform.on else {
            return None;
        };
        let name = self.clusters.get(cluster)?.balancer.as_ref()?;
        self.balancers.get(name)
    }

    /// The site of that address.
    pub fn site(&self, uri: &str) -> Result<&Site, ConfigError> {
        find(&self.sites, Kind::Site, uri)
    }

    /// The balancer of that name.
    pub fn balancer(&self, name: &str) -> Result<&Balancer, ConfigError> {
        find(&self.balancers, Kind::Balancer, name)
    }

    /// Which votes a platform's commit needs, and from how many members at least.
    pub fn commit_policy(&self, platform: &Platform) -> (CommitPolicy, u32) {
        match &platform.on {
            On::Cluster(name) => self
                .clusters
                .get(name)
                .map_or((CommitPolicy::default(), 1), |c| (c.commit, c.min_healthy)),
            On::Server(_) => (CommitPolicy::All, 1),
        }
    }

    /// The platforms that live on a server, alone or in a cluster.
    pub fn platforms_on(&self, server: &ServerName) -> Vec<&Platform> {
        let lives_there = |p: &&Platform| self.members(p).iter().any(|s| s.name == *server);
        self.platforms.values().filter(lives_there).collect()
    }
}

fn find<'a, N, T>(map: &'a BTreeMap<N, T>, kind: Kind, name: &str) -> Result<&'a T, ConfigError>
where
    N: Ord + AsRef<str> + std::borrow::Borrow<str>,
{
    map.get(name).ok_or_else(|| ConfigError::Unknown {
        kind,
        name: sync_proto::path::escape(name.as_bytes()),
        closest: closest(name, map.keys().map(AsRef::as_ref)).map(str::to_owned),
    })
}
