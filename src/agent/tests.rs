//! A hub's session and an agent's, over a pipe, on real directories.

use super::serve::Agent;
use super::*;
use crate::engine::depot::Depot;
use crate::engine::event::EventSink;
use crate::engine::hub::encode::Encoder;
use crate::engine::hub::offer::Offer;
use crate::engine::hub::ownership::Ownership;
use crate::engine::hub::session::{Session, SessionError};
use crate::engine::hub::source::{Released, SourceSpec, scan};
use crate::engine::member::session::serve as serve_session;
use crate::model::SpecialFile;
use crate::net::limits::Options;
use crate::net::{Connection, Role, Side};
use std::collections::BTreeMap;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _, symlink};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use sync_proto::digest::Digest;
use sync_proto::filter::{Preserve, Rules, Scope};
use sync_proto::special::SpecialFiles;
use sync_proto::wire::{self, Generation, Layout, Level, Open, Options as TreeOptions, Plan};

mod lending;
mod overtaking;
mod tidying;

const TREE: [u8; 16] = [7; 16];

struct World {
    home: tempfile::TempDir,
    agent: Arc<Agent>,
    hub: Identity,
    agent_key: NodeKey,
    depot: Arc<Depot>,
    layout: Layout,
    adopt: bool,
    preserve: Vec<String>,
    special_files: SpecialFiles,
    serial: AtomicU64,
}

/// What a push came to.
struct Pushed {
    plan: Plan,
    sent_bytes: u64,
}

impl World {
    fn new(layout: Layout) -> Self {
        let home = tempfile::tempdir().unwrap();
        for dir in ["source", "srv"] {
            std::fs::create_dir(home.path().join(dir)).unwrap();
        }
        let depot = Arc::new(Depot::open(&home.path().join("depot")).unwrap_or_else(|_| {
            std::fs::create_dir(home.path().join("depot")).unwrap();
            Depot::open(&home.path().join("depot")).unwrap()
        }));
        let hub = Identity::generate().unwrap();
        let (agent, agent_key) = start(home.path(), &hub);
        Self {
            agent: Arc::new(agent),
            agent_key,
            hub,
            depot,
            layout,
            adopt: false,
            preserve: Vec::new(),
            special_files: SpecialFiles::ALL,
            serial: AtomicU64::new(0),
            home,
        }
    }

    fn source(&self, path: &str) -> std::path::PathBuf {
        self.home.path().join("source").join(path)
    }

    fn root(&self) -> std::path::PathBuf {
        self.home.path().join("srv/site")
    }

    fn write(&self, path: &str, content: impl AsRef<[u8]>) {
        let path = self.source(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }

    async fn connect(&self) -> (Session, tokio::task::JoinHandle<()>) {
        let (near, far) = tokio::net::UnixStream::pair().unwrap();
        let trust = self.agent.peers().trust().clone();
        trust.accept(self.hub.key(), Role::Hub);
        let identity =
            Identity::load(&AgentDir::new(Some(&self.home.path().join("agent"))).identity());
        let identity = identity.unwrap();
        let options = Options::default();
        let (hub, agent) = tokio::join!(
            Connection::over_pipe(
                near,
                "near",
                &self.hub,
                Side::Client(self.agent_key),
                &options
            ),
            Connection::over_pipe(far, "far", &identity, Side::Server(&trust), &options),
        );
        let host = self.agent.clone();
        let agent = agent.unwrap();
        let served = tokio::spawn(async move {
            serve_session(agent, Role::Hub, host).await;
        });
        let session = Session::begin(hub.unwrap(), "hub").await.unwrap();
        (session, served)
    }

    fn spec(&self) -> SourceSpec {
        SourceSpec {
            path: self.home.path().join("source"),
            scope: Scope {
                exclude: Rules::default(),
                preserve: Preserve::parse(&self.preserve).unwrap(),
            },
            require: Vec::new(),
            ownership: Ownership::default(),
            special_files: SpecialFiles::ALL,
            privileged_xattrs: false,
            preserved_seen: true,
            seed: false,
            released: Released::default(),
            index: self.home.path().join("source.index"),
        }
    }

    async fn open(&self, session: &Session) -> Result<(), SessionError> {
        let fence = self.serial.fetch_add(1, Ordering::Relaxed) + 1;
        let open = Open {
            tree: TREE,
            fence,
            level: Level::Stat,
            exclude: Vec::new(),
            preserve: self.preserve.clone(),
            options: TreeOptions {
                special_files: self.special_files,
                ..TreeOptions::default()
            },
        };
        match session.open(open.clone()).await {
            Err(SessionError::Refused(refusal)) if refusal.code == "FX0322" => {
                let root = self.root();
                let root = root.as_os_str().as_encoded_bytes();
                session.bind(TREE, root, self.layout, self.adopt).await?;
                session.open(open).await.map(drop)
            }
            other => other.map(drop),
        }
    }

    /// Starts the agent anew with a changed configuration.
    fn configure(&mut self, change: impl FnOnce(&mut AgentConfig)) {
        let dir = AgentDir::new(Some(&self.home.path().join("agent")));
        let mut config = AgentConfig::load(dir.config()).unwrap();
        change(&mut config);
        config.save(dir.config()).unwrap();
        self.agent = Arc::new(start(self.home.path(), &self.hub).0);
    }

    /// What a member says to a hub that goes on in spite of its plan.
    async fn refused_stage(&self) -> wire::Refusal {
        let (session, served) = self.connect().await;
        let (offer, encoder) = self.offer().await;
        self.open(&session).await.unwrap();
        let plan = session.compare(&offer, false).await.unwrap();
        let conflicts: Vec<_> = plan.conflicts.iter().map(|it| it.code.as_str()).collect();
        assert_eq!(conflicts, ["FX0109"]);
        let generation = Generation {
            serial: 99,
            roots: offer.roots,
            label: String::new(),
            created_ms: 0,
        };
        let staged = session.stage([99; 16], generation, false, &encoder, |_| {});
        let refused = match staged.await.err() {
            Some(SessionError::Refused(refusal)) => refusal,
            other => panic!("{other:?}"),
        };
        drop(session);
        served.await.unwrap();
        refused
    }

    /// Everything up to the vote, and then the decision.
    async fn push(&self) -> Pushed {
        let (mut session, served) = self.connect().await;
        let pushed = self.push_with(&mut session).await.unwrap();
        drop(session);
        served.await.unwrap();
        assert_eq!(snapshot(&self.source("")), snapshot(&self.root()));
        pushed
    }

    async fn push_with(&self, session: &mut Session) -> Result<Pushed, SessionError> {
        let (offer, encoder) = self.offer().await;
        self.open(session).await?;
        let plan = session.compare(&offer, false).await?;
        let items = session.items().await?;
        let changes = plan.added + plan.replaced + plan.touched + plan.deleted;
        assert_eq!(items.len() as u64, changes);
        let before = session.connection().stats().sent_bytes;
        if changes > 0 {
            let serial = self.serial.load(Ordering::Relaxed);
            let generation = Generation {
                serial,
                roots: offer.roots,
                label: format!("push {serial}"),
                created_ms: 0,
            };
            let txn = [serial as u8; 16];
            session
                .stage(txn, generation, false, &encoder, |_| {})
                .await?;
            session.prepare(txn).await?;
            session.commit(txn).await?;
            session
                .keep(TREE, vec![serial, serial.saturating_sub(1)])
                .await?;
        } else {
            session.leave().await?;
        }
        Ok(Pushed {
            plan,
            sent_bytes: session.connection().stats().sent_bytes - before,
        })
    }

    async fn offer(&self) -> (Offer, Arc<Encoder>) {
        let scanned = scan(&self.spec(), None, &EventSink::none()).unwrap();
        let encoder =
            Encoder::new(&scanned.manifest, self.depot.clone(), scanned.supply(), 2).unwrap();
        let encoder = Arc::new(encoder);
        encoder.fill_depot().await.unwrap();
        (Offer::new(scanned.manifest, None), encoder)
    }
}

fn start(home: &Path, _hub: &Identity) -> (Agent, NodeKey) {
    let dir = AgentDir::new(Some(&home.join("agent")));
    if AgentConfig::load(dir.config()).is_err() {
        let allow = vec![home.join("srv").to_str().unwrap().parse().unwrap()];
        init(&dir, &AgentConfig::new("web1".parse().unwrap(), allow)).unwrap();
    }
    let identity = Identity::load(&dir.identity()).unwrap();
    let key = identity.key();
    let config = AgentConfig::load(dir.config()).unwrap();
    (Agent::open(&dir, config, identity).unwrap(), key)
}

/// Everything about a tree that a push preserves, path by path.
fn snapshot(root: &Path) -> BTreeMap<String, String> {
    let root = match std::fs::read_link(root) {
        Ok(target) => root.parent().unwrap().join(target),
        Err(_) => root.to_owned(),
    };
    let mut leaders: BTreeMap<u64, String> = BTreeMap::new();
    let mut all = BTreeMap::new();
    for entry in walkdir::WalkDir::new(&root).sort_by_file_name() {
        let entry = entry.unwrap();
        let path = entry
            .path()
            .strip_prefix(&root)
            .unwrap()
            .display()
            .to_string();
        let meta = entry.path().symlink_metadata().unwrap();
        let kind = meta.file_type();
        let content = if kind.is_file() {
            let leader = leaders.entry(meta.ino()).or_insert_with(|| path.clone());
            let bytes = std::fs::read(entry.path()).unwrap();
            format!("file {:?} like {leader}", Digest::of(&bytes))
        } else if kind.is_symlink() {
            format!("-> {}", std::fs::read_link(entry.path()).unwrap().display())
        } else {
            format!("{} {} {}", kind.is_fifo(), kind.is_socket(), meta.rdev())
        };
        let line = format!(
            "{:o} {}:{} {}.{:09} {content}",
            meta.mode(),
            meta.uid(),
            meta.gid(),
            meta.mtime(),
            meta.mtime_nsec()
        );
        all.insert(path, line);
    }
    all
}

fn noise(seed: u64, bytes: usize) -> Vec<u8> {
    let mut out = vec![0; bytes];
    blake3::Hasher::new()
        .update(&seed.to_le_bytes())
        .finalize_xof()
        .fill(&mut out);
    out
}

fn settle() {
    // Files of a test are changed faster than the clock that stamps them ticks.
    std::thread::sleep(Duration::from_millis(30));
}

const LAYOUTS: [Layout; 2] = [Layout::Switched, Layout::InPlace];

#[tokio::test(flavor = "multi_thread")]
async fn a_first_push_a_change_and_nothing_at_all() {
    for layout in LAYOUTS {
        let world = World::new(layout);
        for i in 0..300 {
            world.write(
                &format!("dir{}/sub/f{i}", i % 7),
                format!("content {i}").repeat(i),
            );
        }
        world.write("index.php", "<?php echo 1;");
        world.write("empty", "");
        let first = world.push().await;
        assert!(first.plan.added > 300, "{layout:?}");
        settle();
        world.write("index.php", "<?php echo 2;");
        world.write("new/dir/file", "new");
        std::fs::remove_file(world.source("dir1/sub/f1")).unwrap();
        std::fs::set_permissions(
            world.source("dir2/sub/f2"),
            std::fs::Permissions::from_mode(0o600),
        )
        .unwrap();
        let second = world.push().await;
        assert_eq!(second.plan.added, 3, "{layout:?}");
        assert_eq!(second.plan.deleted, 1, "{layout:?}");
        assert!(
            second.sent_bytes < 2_000,
            "{layout:?}: {}",
            second.sent_bytes
        );
        let third = world.push().await;
        assert_eq!(
            third.plan.added + third.plan.replaced + third.plan.deleted,
            0,
            "{layout:?}"
        );
        assert_eq!(third.plan.touched, 0, "{layout:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_of_entry_arrives_as_it_is() {
    for layout in LAYOUTS {
        let world = World::new(layout);
        world.write("a/file", "content");
        std::fs::hard_link(world.source("a/file"), world.source("a/further")).unwrap();
        std::fs::create_dir(world.source("b")).unwrap();
        std::fs::hard_link(world.source("a/file"), world.source("b/elsewhere")).unwrap();
        symlink("../a/file", world.source("b/link")).unwrap();
        symlink("/nowhere/at/all", world.source("dangling")).unwrap();
        let socket = std::os::unix::net::UnixListener::bind(world.source("socket")).unwrap();
        drop(socket);
        std::fs::set_permissions(world.source("b"), std::fs::Permissions::from_mode(0o2750))
            .unwrap();
        std::fs::create_dir(world.source("hollow")).unwrap();
        world.push().await;
        settle();
        // A link is broken up, and another one made.
        std::fs::remove_file(world.source("a/further")).unwrap();
        world.write("a/further", "its own");
        std::fs::hard_link(world.source("a/further"), world.source("third")).unwrap();
        std::fs::remove_file(world.source("dangling")).unwrap();
        std::fs::create_dir(world.source("dangling")).unwrap();
        world.write("dangling/x", "x");
        world.push().await;
    }
}

/// The hub lets its source pass; whether the member does is the member's own look.
#[tokio::test(flavor = "multi_thread")]
async fn a_member_makes_no_special_file_that_is_not_allowed_whatever_the_hub_lets_pass() {
    type Make = fn(&Path);
    let make: [(&str, Make); 2] = [
        ("fifo", |at| {
            let socket = std::os::unix::net::UnixListener::bind(at).unwrap();
            drop(socket);
        }),
        ("setuid", |at| {
            std::fs::write(at, "x").unwrap();
            std::fs::set_permissions(at, std::fs::Permissions::from_mode(0o4755)).unwrap();
        }),
    ];
    for (layout, (what, make)) in LAYOUTS
        .into_iter()
        .flat_map(|it| make.map(|made| (it, made)))
    {
        let mut world = World::new(layout);
        world.write("index.php", "1");
        world.push().await;
        make(&world.source("special"));
        // Not by the hub; by the hub, but not by the administrator.
        for (special_files, own) in [
            (SpecialFiles::default(), SpecialFile::ALL.to_vec()),
            (SpecialFiles::ALL, Vec::new()),
        ] {
            world.special_files = special_files;
            world.configure(|config| config.special_files = own);
            let refused = world.refused_stage().await;
            assert_eq!(refused.code, "FX0109", "{layout:?} {what}");
            assert!(refused.message.contains("special"), "{}", refused.message);
            let staged = walkdir::WalkDir::new(world.home.path().join("srv"));
            let staged = staged.into_iter().map(|entry| entry.unwrap());
            assert!(!staged.into_iter().any(|it| it.file_name() == "special"));
        }
        world.configure(|config| config.special_files = SpecialFile::ALL.to_vec());
        world.push().await;
        // What is there already is in nobody's way.
        world.special_files = SpecialFiles::default();
        settle();
        world.write("index.php", "2");
        world.push().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_large_file_costs_its_change() {
    for layout in LAYOUTS {
        let world = World::new(layout);
        let mut content = noise(1, 1 << 20);
        world.write("data.bin", &content);
        let mut large = noise(2, 70 << 20);
        large[10 << 20..40 << 20].fill(0);
        world.write("large.sql", &large);
        world.push().await;
        settle();
        content[500_000] ^= 1;
        world.write("data.bin", &content);
        large.splice(1000..1000, *b"inserted");
        world.write("large.sql", &large);
        let second = world.push().await;
        assert!(
            second.sent_bytes < 1 << 20,
            "{layout:?}: {}",
            second.sent_bytes
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rename_or_a_copy_costs_no_content() {
    for layout in LAYOUTS {
        let world = World::new(layout);
        for i in 0..50 {
            world.write(&format!("old/f{i}"), noise(i, 10_000));
        }
        world.push().await;
        settle();
        for i in 0..50 {
            world.write(&format!("new/f{i}"), noise(i, 10_000));
            std::fs::remove_file(world.source(&format!("old/f{i}"))).unwrap();
        }
        std::fs::copy(world.source("new/f1"), world.source("copy")).unwrap();
        let second = world.push().await;
        assert!(
            second.sent_bytes < 2_000,
            "{layout:?}: {}",
            second.sent_bytes
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_that_was_cut_off_resumes() {
    for layout in LAYOUTS {
        let world = World::new(layout);
        for i in 0..200 {
            world.write(&format!("d{}/f{i}", i % 5), noise(i, 50_000));
        }
        world.write("large", noise(1_000, 90 << 20));
        let (mut session, served) = world.connect().await;
        let cut = {
            let connection = session.connection().clone();
            tokio::spawn(async move {
                // At most 40 MiB of it are under way or in the member's hands.
                while connection.stats().sent_bytes < 80 << 20 {
                    tokio::time::sleep(Duration::from_millis(2)).await;
                }
                connection.close(1, "cut");
            })
        };
        assert!(world.push_with(&mut session).await.is_err());
        cut.await.unwrap();
        served.await.unwrap();
        let resumed = world.push().await;
        assert!(
            resumed.sent_bytes < 85 << 20,
            "{layout:?}: {}",
            resumed.sent_bytes
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_belongs_to_the_member_stays() {
    for layout in LAYOUTS {
        let mut world = World::new(layout);
        world.preserve = vec!["/sites/*/files".into()];
        world.write("sites/a/settings.php", "1");
        world.write("index.php", "1");
        let (mut session, served) = world.connect().await;
        world.push_with(&mut session).await.unwrap();
        let upload = world.root().join("sites/a/files");
        if !upload.exists() {
            std::fs::create_dir(&upload).unwrap();
        }
        std::fs::write(upload.join("upload"), "mine").unwrap();
        settle();
        world.write("index.php", "2");
        std::fs::remove_file(world.source("sites/a/settings.php")).unwrap();
        std::fs::remove_dir(world.source("sites/a")).unwrap();
        std::fs::remove_dir(world.source("sites")).unwrap();
        world.push_with(&mut session).await.unwrap();
        drop(session);
        served.await.unwrap();
        assert_eq!(
            std::fs::read(upload.join("upload")).unwrap(),
            b"mine",
            "{layout:?}"
        );
        assert_eq!(std::fs::read(world.root().join("index.php")).unwrap(), b"2");
        assert!(!world.root().join("sites/a/settings.php").exists());
    }
}
