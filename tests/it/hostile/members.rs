//! Members that lie to the hub: each stands in the place of an agent whose key it has, beside an
//! honest one. The push names the liar, the honest member gets what was pushed, and the hub neither
//! grows nor shows a raw byte.

use super::raw::{framed, server};
use super::victim::{high_water_kib, identity};
use crate::support::env::World;
use crate::support::run::{Output, wait_until};
use crate::support::task::site;
use fanout::net::{Connection, Endpoint, NetError, Options, Role, TrustStore};
use std::fs;
use std::path::PathBuf;
use std::time::Duration;
use sync_proto::digest::Digest;
use sync_proto::manifest::Roots;
use sync_proto::wire::{self, Decision, Doubt, Facts, Needs, Plan, Refusal, Reply, Request};

/// What a hub may grow by over an honest push.
pub(super) const GROWTH_KIB: u64 = 64 * 1024;
const CONTROL: &str = "\u{1b}[2J\r\nfine\u{7}\u{9b}31m";

/// Where the member lies, and how.
#[derive(Clone, Copy, Debug)]
enum At {
    Hello,
    Open,
    Wanted,
    Stage,
    Prepare,
    Decide,
}

struct Lie {
    what: &'static str,
    at: At,
    says: Vec<Vec<u8>>,
    /// The code of the problem that names it.
    code: &'static str,
}

fn lie(what: &'static str, at: At, says: Vec<Vec<u8>>, code: &'static str) -> Lie {
    Lie {
        what,
        at,
        says,
        code,
    }
}

fn bytes(reply: &Reply) -> Vec<u8> {
    wire::encode(reply).unwrap()
}

fn hello(change: impl FnOnce(&mut (u16, u16), &mut Facts, &mut Vec<Doubt>)) -> Reply {
    let (mut versions, mut facts, mut doubts) = (wire::VERSIONS, Facts::default(), Vec::new());
    change(&mut versions, &mut facts, &mut doubts);
    Reply::Hello {
        versions,
        facts,
        doubts,
    }
}

fn need(whole: Vec<(u32, u32)>) -> Vec<u8> {
    bytes(&Reply::Need {
        needs: Needs {
            whole,
            ..Needs::default()
        },
        last: false,
    })
}

fn wanted(ranges: Vec<(u32, u32)>, last: bool) -> Vec<u8> {
    bytes(&Reply::Wanted { ranges, last })
}

fn opened(entries: u64) -> Reply {
    let nothing = Roots {
        content: Digest::from_bytes([0; 32]),
        meta: Digest::from_bytes([0; 32]),
    };
    Reply::Opened {
        generation: None,
        observed: nothing,
        entries,
        drift: false,
        notices: Vec::new(),
    }
}

/// What an honest member would say, as far as a hub can tell; `None` where it says nothing.
pub(super) fn honest(request: &Request) -> Option<Reply> {
    let nothing = Vec::new;
    Some(match request {
        Request::Hello { .. } => hello(|_, _, _| {}),
        Request::Survey { .. } => Reply::Survey(wire::Survey::default()),
        Request::Open(_) => opened(1),
        Request::Table { last: true, .. } => Reply::Wanted {
            ranges: vec![(0, 1)],
            last: true,
        },
        Request::Listings { last: true, .. } => Reply::Planned(Plan {
            free_bytes: 1 << 40,
            free_inodes: 1 << 30,
            ..Plan::default()
        }),
        Request::Stage { .. } => Reply::Staged { notices: nothing() },
        Request::Prepare { .. } => Reply::Voted {
            overwritten: nothing(),
        },
        Request::Decide {
            decision: Decision::Commit,
            ..
        } => Reply::Done {
            serial: 1,
            switched_us: 0,
            changed_entries: 0,
            notices: nothing(),
        },
        Request::Ping => Reply::Pong { now_us: 0 },
        Request::Compare { .. } | Request::Table { .. } | Request::Listings { .. } => return None,
        _ => Reply::Ok { notices: nothing() },
    })
}

fn is_at(at: At, request: &Request) -> bool {
    matches!(
        (at, request),
        (At::Hello, Request::Hello { .. })
            | (At::Open, Request::Open(_))
            | (At::Wanted, Request::Table { last: true, .. })
            | (At::Stage, Request::Stage { .. })
            | (At::Prepare, Request::Prepare { .. })
            | (At::Decide, Request::Decide { .. })
    )
}

async fn serve(connection: Connection, at: At, says: Vec<Vec<u8>>) -> Result<(), NetError> {
    loop {
        let request: Request = wire::decode(&connection.recv().await?).unwrap();
        if is_at(at, &request) {
            for message in &says {
                connection.send(message).await?;
            }
        } else if let Some(reply) = honest(&request) {
            connection.send(&bytes(&reply)).await?;
        }
    }
}

/// An honest member, `web2`, and the place of another, `web1`.
pub(super) struct Stage {
    pub(super) world: World,
    /// What the hub's environment has besides.
    pub(super) env: Vec<(String, String)>,
    pushes: u32,
    most_kib: u64,
}

impl Stage {
    #[track_caller]
    pub(super) fn set() -> Self {
        let mut world = World::with_site(2, &site(), &[]);
        world.push("site", &[]).all("committed");
        world.kill_agent(0);
        let mut stage = Self {
            world,
            env: Vec::new(),
            pushes: 0,
            most_kib: 0,
        };
        let (_, honest_kib) = stage.push(&[]);
        stage.most_kib = honest_kib + GROWTH_KIB;
        stage
    }

    pub(super) fn liar(&self) -> PathBuf {
        self.world.agent_dir(0).join("identity")
    }

    /// A push of something new, and the most memory that the hub took.
    #[track_caller]
    pub(super) fn push(&mut self, options: &[&str]) -> (Output, u64) {
        self.pushes += 1;
        let file = self.world.source("site").join("pushed.txt");
        fs::write(file, self.pushes.to_string()).unwrap();
        let usual = ["push", "platform", "site", "--json", "--policy", "each"];
        let words = [&usual[..], options].concat();
        let env: Vec<_> = self.env.iter().map(|(a, b)| (&a[..], &b[..])).collect();
        let mut running = self.world.start_fanout(&words, &env);
        let mut most_kib = 0;
        while running.is_running() {
            most_kib = high_water_kib(running.id()).unwrap_or(0).max(most_kib);
            std::thread::sleep(Duration::from_millis(3));
        }
        (running.finish_within(Duration::from_secs(60)), most_kib)
    }

    /// A push beside a liar.
    #[track_caller]
    pub(super) fn is_borne(&mut self, what: &str, code: &str) {
        let (output, most_kib) = self.push(&[]);
        let said = output.everything_said();
        let is_plain = said.chars().all(|c| c == '\n' || !c.is_control());
        assert!(is_plain, "{what}: raw bytes in {said:?}");
        assert_ne!(output.code, Some(0), "{what}: {}", output.describe());
        assert_ne!(output.code, Some(70), "{what}: {}", output.describe());
        let liar = output.json_member("web1");
        assert_ne!(liar["outcome"], "committed", "{what}: {said}");
        assert_eq!(liar["error"]["code"], code, "{what}: {said}");
        assert_eq!(
            output.json_member("web2")["outcome"],
            "committed",
            "{what}: {said}"
        );
        let live = self.world.live(1, "site").join("pushed.txt");
        assert_eq!(
            fs::read_to_string(live).unwrap(),
            self.pushes.to_string(),
            "{what}"
        );
        assert!(
            most_kib <= self.most_kib,
            "{what}: {most_kib} KiB, not {}",
            self.most_kib
        );
    }
}

/// The port of a former listener may be held by its last packets for a moment.
#[track_caller]
pub(super) fn once_free<T>(mut listen: impl FnMut() -> Option<T>) -> T {
    let mut listening = None;
    let is_free = wait_until(Duration::from_secs(20), || {
        listening = listen();
        listening.is_some()
    });
    assert!(is_free, "the port stays taken");
    listening.unwrap()
}

fn lies() -> Vec<Lie> {
    let doubt = |tree| Doubt {
        tree: [tree; 16],
        txn: [1; 16],
        fence: 1,
        serial: 1,
    };
    let refusal = bytes(&Reply::Refused(Refusal {
        code: "FX0401".into(),
        message: CONTROL.into(),
        hint: CONTROL.into(),
    }));
    let pong = || vec![bytes(&Reply::Pong { now_us: 0 })];
    let broken = "FX0311";
    vec![
        lie(
            "noise for a greeting",
            At::Hello,
            vec![vec![0xFF; 50]],
            broken,
        ),
        lie(
            "nothing for a greeting",
            At::Hello,
            vec![Vec::new()],
            broken,
        ),
        lie(
            "a message above 1 MiB",
            At::Hello,
            vec![vec![0; 1024 * 1024 + 1]],
            broken,
        ),
        lie(
            "no version in common",
            At::Hello,
            vec![bytes(&hello(|versions, _, _| *versions = (7, 9)))],
            "FX0304",
        ),
        lie(
            "two doubts about one tree",
            At::Hello,
            vec![bytes(&hello(|_, _, doubts| {
                *doubts = vec![doubt(3), doubt(3)];
            }))],
            broken,
        ),
        lie(
            "control characters for a reason",
            At::Open,
            vec![refusal],
            "FX0401",
        ),
        lie("another answer than was due", At::Open, pong(), broken),
        lie(
            "directories that there aren't",
            At::Wanted,
            vec![wanted(vec![(0, u32::MAX)], true)],
            broken,
        ),
        lie(
            "a directory wanted twice",
            At::Wanted,
            vec![wanted(vec![(0, 1), (0, 1)], true)],
            broken,
        ),
        lie(
            "all directories a hundred thousand times",
            At::Wanted,
            vec![wanted(vec![(0, 2); 100_000], true)],
            broken,
        ),
        lie(
            "wishes without an end",
            At::Wanted,
            vec![wanted(Vec::new(), false); 3],
            broken,
        ),
        lie(
            "all contents a hundred thousand times",
            At::Stage,
            vec![need(vec![(0, u32::MAX); 100_000])],
            broken,
        ),
        lie(
            "a content again and again",
            At::Stage,
            vec![need(vec![(0, 1)]); 3],
            broken,
        ),
        lie(
            "a need of nothing",
            At::Stage,
            vec![need(Vec::new())],
            broken,
        ),
        lie(
            "a vote before it is asked for",
            At::Stage,
            vec![bytes(&Reply::Voted {
                overwritten: Vec::new(),
            })],
            broken,
        ),
        lie(
            "Staged for a vote",
            At::Prepare,
            vec![bytes(&Reply::Staged {
                notices: Vec::new(),
            })],
            broken,
        ),
        lie("Pong for a commit", At::Decide, pong(), "FX0501"),
        lie(
            "who has nothing and doesn't want everything",
            At::Open,
            vec![bytes(&opened(0))],
            broken,
        ),
    ]
}

#[test]
fn a_member_that_lies_is_named_and_left_behind() {
    let mut stage = Stage::set();
    let runtime = super::peer::runtime();
    for Lie {
        what,
        at,
        says,
        code,
    } in lies()
    {
        let trust = TrustStore::new();
        let hub = identity(&stage.world.hub_dir().join("state/identity"));
        trust.accept(hub.key(), Role::Hub);
        let listen = stage.world.agent_address(0);
        let entered = runtime.enter();
        let endpoint = once_free(|| {
            let options = Options::default();
            Endpoint::server(listen, identity(&stage.liar()), trust.clone(), options).ok()
        });
        drop(entered);
        let serving = runtime.spawn(async move {
            while let Some(connection) = endpoint.accept().await {
                tokio::spawn(serve(connection, at, says.clone()));
            }
        });
        stage.is_borne(what, code);
        serving.abort();
        let _cancelled = runtime.block_on(serving);
    }
}

/// What a member does that isn't in a hurry.
#[derive(Clone, Copy, Debug)]
enum Slow {
    /// One byte of its greeting in a second.
    ByteByByte,
    /// It greets, and never reads or says anything again.
    Deaf,
}

#[test]
fn a_member_that_is_slow_or_deaf_holds_nobody_up_beyond_the_deadline() {
    let mut stage = Stage::set();
    let runtime = super::peer::runtime();
    for slow in [Slow::ByteByByte, Slow::Deaf] {
        let entered = runtime.enter();
        let endpoint = once_free(|| server(&stage.liar(), stage.world.agent_address(0)).ok());
        drop(entered);
        let serving = runtime.spawn(async move {
            while let Some(incoming) = endpoint.accept().await {
                tokio::spawn(async move {
                    let connection = incoming.await.unwrap();
                    let (mut out, _never_read) = connection.open_bi().await.unwrap();
                    out.write_all(b"fanout/1\n").await.unwrap();
                    let greeting = framed(&bytes(&hello(|_, _, _| {})));
                    match slow {
                        Slow::Deaf => out.write_all(&greeting).await.unwrap(),
                        Slow::ByteByByte => {
                            for byte in greeting {
                                if out.write_all(&[byte]).await.is_err() {
                                    return;
                                }
                                tokio::time::sleep(Duration::from_secs(1)).await;
                            }
                        }
                    }
                    connection.closed().await;
                });
            }
        });
        let (output, most_kib) = stage.push(&["--deadline", "20s"]);
        let said = output.everything_said();
        assert_ne!(output.code, Some(0), "{slow:?}: {said}");
        let reached = output.json_member("web1");
        assert_ne!(reached["outcome"], "committed", "{slow:?}: {said}");
        assert!(most_kib <= stage.most_kib, "{slow:?}: {most_kib} KiB");
        serving.abort();
        let _cancelled = runtime.block_on(serving);
    }
}
