//! A hub that behaves as far as it is told to, and then sends what it likes.

use super::victim::Victim;
use fanout::net::{Connection, Identity, NetError, NodeKey, Options, connect_to};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use sync_proto::digest::Digest;
use sync_proto::entry::{Entry, Kind, Meta, Principal};
use sync_proto::manifest::{Directory, Manifest, Roots, meta_bytes};
use sync_proto::path::{Name, RelPath};
use sync_proto::wire::table::{encode_listings, encode_rows, rows};
use sync_proto::wire::{self, Generation, Layout, Level, Open, Reply, Request};

/// Longer than anything here takes, on a busy machine too.
pub(super) const LIMIT: Duration = Duration::from_secs(60);
/// The peer's own tree.
pub(super) const TREE: [u8; 16] = [0xE0; 16];
pub(super) const TXN: [u8; 16] = [0xE1; 16];
/// Bytes of the one content that the peer's tree needs.
pub(super) const CONTENT_BYTES: u64 = 40 << 20;

/// How far the peer behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Until {
    Connected,
    Greeted,
    Opened,
    Compared,
    Tabled,
    Planned,
    Staging,
}

/// What the peer sends then.
pub(super) enum Sends {
    Message(Vec<u8>),
    Object(Vec<u8>, Vec<u8>),
}

/// What comes of it.
#[derive(Clone, Copy, Debug)]
pub(super) enum Comes {
    /// It is refused with this code, and the connection closed.
    Ended(&'static str),
    /// It is refused with this code, and the session goes on.
    Refused(&'static str),
    /// Nothing: it is not even heard.
    Nothing,
}

/// A row of a table.
pub(super) struct Row {
    pub(super) what: &'static str,
    pub(super) until: Until,
    pub(super) sends: Vec<Sends>,
    pub(super) comes: Comes,
}

pub(super) fn row(what: &'static str, until: Until, sends: Vec<Sends>, comes: Comes) -> Row {
    Row {
        what,
        until,
        sends,
        comes,
    }
}

/// One request as the only thing that is sent.
pub(super) fn request(request: &Request) -> Vec<Sends> {
    vec![Sends::Message(wire::encode(request).unwrap())]
}

/// A runtime for one test's peers.
pub(super) fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap()
}

pub(super) fn content() -> Digest {
    Digest::of(b"a content that nobody ever sends")
}

/// What the peer wants the member to have: one large file that it never delivers.
pub(super) fn tree() -> Manifest {
    let meta = |mode| Meta {
        mode,
        user: Principal::Id(0),
        group: Principal::Id(0),
        mtime: None,
        xattrs: None,
    };
    let entry = Entry {
        name: Name::parse(b"large").unwrap(),
        kind: Kind::File {
            size: CONTENT_BYTES,
            content: content(),
        },
        meta: meta(0o644),
    };
    let root = Directory {
        path: RelPath::root(),
        entries: vec![entry],
    };
    Manifest::new(meta(0o755), vec![root]).unwrap()
}

pub(super) fn open(fence: u64) -> Open {
    Open {
        tree: TREE,
        fence,
        level: Level::Stat,
        exclude: Vec::new(),
        preserve: Vec::new(),
        options: wire::Options::default(),
    }
}

pub(super) fn generation(roots: Roots) -> Generation {
    Generation {
        serial: 1,
        roots,
        label: String::new(),
        created_ms: 0,
    }
}

/// One connection of a peer.
pub(super) struct Peer {
    pub(super) connection: Connection,
}

impl Peer {
    pub(super) async fn connect(
        identity: &Identity,
        (address, agent): (SocketAddr, NodeKey),
    ) -> Result<Self, NetError> {
        let mut options = Options::default();
        options.handshake = LIMIT;
        let connection = connect_to(&[address], identity, agent, &options).await?;
        Ok(Self { connection })
    }

    /// As a hub would begin, step by step.
    pub(super) async fn behaving(victim: &Victim, until: Until) -> Self {
        static FENCE: AtomicU64 = AtomicU64::new(1000);
        let peer = Self::connect(&victim.hub, victim.agent).await.unwrap();
        let desired = tree();
        let roots = desired.roots();
        let steps: [(Until, Vec<Request>); 6] = [
            (Until::Greeted, vec![hello((1, 1))]),
            (
                Until::Opened,
                vec![
                    Request::Bind {
                        tree: TREE,
                        root: b"/srv/platforms/hostile".to_vec(),
                        layout: Layout::InPlace,
                        adopt: false,
                    },
                    Request::Open(open(FENCE.fetch_add(1, Ordering::Relaxed))),
                ],
            ),
            (
                Until::Compared,
                vec![Request::Compare {
                    roots,
                    root_meta: meta_bytes(desired.root_meta()),
                }],
            ),
            (
                Until::Tabled,
                vec![Request::Table {
                    part: encode_rows(&rows(&desired)),
                    last: true,
                }],
            ),
            (
                Until::Planned,
                vec![Request::Listings {
                    part: encode_listings(desired.directories()),
                    last: true,
                }],
            ),
            (
                Until::Staging,
                vec![Request::Stage {
                    txn: TXN,
                    generation: generation(roots),
                    delete_foreign: false,
                }],
            ),
        ];
        for (reached, requests) in steps {
            if reached > until {
                break;
            }
            for request in requests {
                peer.send(&request).await;
                if reached == Until::Compared {
                    continue;
                }
                let mut reply = peer.reply().await.unwrap();
                // The session of the row before may still be ending.
                while matches!(&reply, Reply::Refused(refusal) if refusal.code == "FX0210") {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    peer.send(&request).await;
                    reply = peer.reply().await.unwrap();
                }
                let is_well = !matches!(reply, Reply::Refused(_));
                assert!(is_well, "{} got {reply:?}", request.name());
            }
        }
        peer
    }

    pub(super) async fn send(&self, request: &Request) {
        let bytes = wire::encode(request).unwrap();
        self.connection.send(&bytes).await.unwrap();
    }

    pub(super) async fn reply(&self) -> Result<Reply, NetError> {
        let received = tokio::time::timeout(LIMIT, self.connection.recv()).await;
        Ok(wire::decode(&received.expect("no reply")?).unwrap())
    }

    /// The next reply to a request, whatever is said of staging meanwhile.
    pub(super) async fn answer(&self) -> Result<Reply, NetError> {
        loop {
            match self.reply().await {
                Ok(Reply::Progress { .. } | Reply::Need { .. }) => {}
                other => return other,
            }
        }
    }

    /// Sends what a row says, and waits for what must come of it.
    pub(super) async fn play(self, row: Row) {
        let Row {
            what,
            sends,
            comes,
            until,
        } = row;
        for sent in sends {
            // A victim that has closed already doesn't take the rest.
            let _closed = match sent {
                Sends::Message(bytes) => self.connection.send(&bytes).await,
                Sends::Object(header, body) => {
                    self.connection.send_object(&header, body.into()).await
                }
            };
        }
        let code = match comes {
            Comes::Ended(code) | Comes::Refused(code) => {
                let reply = self.answer().await;
                match reply {
                    Ok(Reply::Refused(refusal)) => {
                        assert_eq!(refusal.code, code, "{what}: {}", refusal.message);
                    }
                    other => panic!("{what}: {other:?} came, not {code}"),
                }
                code
            }
            Comes::Nothing => "",
        };
        if let Comes::Ended(_) = comes {
            let end = self.reply().await;
            let is_closed = matches!(end, Err(NetError::Closed { code: 3, .. }));
            assert!(is_closed, "{what}: after {code} came {end:?}");
        } else if until >= Until::Greeted && until != Until::Compared && until != Until::Tabled {
            self.send(&Request::Ping).await;
            let pong = self.answer().await;
            assert!(matches!(pong, Ok(Reply::Pong { .. })), "{what}: {pong:?}");
        }
    }
}

pub(super) fn hello(versions: (u16, u16)) -> Request {
    Request::Hello {
        versions,
        software: "a \u{1b}[31mhostile\r\nhub".into(),
        hub: "evil".into(),
    }
}

/// Plays a table against a victim, row by row, and looks after the victim in between.
#[track_caller]
pub(super) fn play(victim: &mut Victim, table: Vec<Row>) {
    let runtime = runtime();
    for row in table {
        let (what, comes) = (row.what, row.comes);
        runtime.block_on(async {
            let peer = Peer::behaving(victim, row.until).await;
            peer.play(row).await;
        });
        match comes {
            // How every first push begins, also where it is said of a service.
            Comes::Refused("FX0322") | Comes::Nothing => {}
            Comes::Ended(code) | Comes::Refused(code) => victim.has_said_once(what, code),
        }
        victim.is_well(what);
    }
    victim.serves_its_own_hub();
}
