//! The byte pipe, as ssh carries it: a hub that breaks its frames through the very command that ssh
//! runs, and members that break them towards a hub whose ssh leads to them.

use super::members::{Stage, honest, once_free};
use super::peer::{LIMIT, TREE, hello, runtime};
use super::raw::{client_tls, server_tls};
use super::victim::{SMALL_GROWTH_KIB, Victim};
use crate::support::env::FANOUT;
use crate::support::run::wait_until;
use fanout::config::AgentDir;
use fanout::net::stdio::{AGENT_PATH, CONNECT_SCRIPT, READY};
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;
use sync_proto::wire::{self, Reply, Request};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};
use tokio::process::{Child, Command};

const WELCOME: &[u8] = b"fanout/1\n";
const CONTROL: u8 = 0;
const OPEN: u8 = 1;
const PART: u8 = 2;
const RESET: u8 = 3;
const STOP: u8 = 4;
const MORE: u8 = 5;
const PING: u8 = 6;
const CLOSE: u8 = 7;
const CREDIT: u8 = 8;
const PLACE: u8 = 9;
const PART_BYTES: usize = 64 * 1024;

fn head(kind: u8, id: u32, length: u32) -> Vec<u8> {
    let mut bytes = vec![kind];
    bytes.extend_from_slice(&id.to_le_bytes());
    bytes.extend_from_slice(&length.to_le_bytes());
    bytes
}

fn frame(kind: u8, id: u32, content: &[u8]) -> Vec<u8> {
    let mut bytes = head(kind, id, u32::try_from(content.len()).unwrap());
    bytes.extend_from_slice(content);
    bytes
}

fn open(id: u32, body_bytes: u64, header_bytes: usize) -> Vec<u8> {
    let mut content = body_bytes.to_le_bytes().to_vec();
    content.resize(8 + header_bytes, 0);
    frame(OPEN, id, &content)
}

fn part(id: u32, bytes: usize) -> Vec<u8> {
    frame(PART, id, &vec![0; bytes])
}

fn words(code: u32, words: &[u8]) -> Vec<u8> {
    frame(CLOSE, 0, &[&code.to_le_bytes(), words].concat())
}

/// An end of a pipe behind TLS.
trait Pipe: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Pipe for T {}

struct Frames(Box<dyn Pipe>);

impl Frames {
    async fn write(&mut self, bytes: &[u8]) {
        // Who has closed already doesn't take the rest.
        let _closed = self.0.write_all(bytes).await;
        let _closed = self.0.flush().await;
    }

    async fn send(&mut self, message: &[u8]) {
        self.write(&frame(CONTROL, 0, message)).await;
    }

    /// The next frame; `None` at the end.
    async fn next(&mut self) -> Option<(u8, u32, Vec<u8>)> {
        let read = async {
            let mut head = [0; 9];
            self.0.read_exact(&mut head).await.ok()?;
            let number = |at: usize| u32::from_le_bytes(head[at..at + 4].try_into().unwrap());
            let mut content = vec![0; number(5) as usize];
            self.0.read_exact(&mut content).await.ok()?;
            Some((head[0], number(1), content))
        };
        tokio::time::timeout(LIMIT, read).await.expect("no frame")
    }

    /// The next frame of one of these kinds.
    async fn next_of(&mut self, kinds: &[u8]) -> Option<(u8, u32, Vec<u8>)> {
        loop {
            match self.next().await {
                Some(frame) if kinds.contains(&frame.0) => return Some(frame),
                Some(_) => {}
                None => return None,
            }
        }
    }

    async fn reply(&mut self) -> Reply {
        let (.., message) = self.next_of(&[CONTROL]).await.expect("an answer");
        wire::decode(&message).unwrap()
    }

    /// The code with which the other side says goodbye.
    async fn closed(&mut self) -> Option<u32> {
        let (.., content) = self.next_of(&[CLOSE]).await?;
        Some(u32::from_le_bytes(content[..4].try_into().unwrap()))
    }
}

/// What ssh would run on the agent's host.
fn connect(victim: &Victim) -> Child {
    let programs = Path::new(FANOUT).parent().unwrap();
    let path = format!("{}:/usr/bin:/bin", programs.display());
    Command::new("sh")
        .args(["-c", &format!("{AGENT_PATH}; {CONNECT_SCRIPT}")])
        .env_clear()
        .env("PATH", path)
        .env("HOME", victim.world.dir().join("home"))
        .env("FANOUT_DIR", victim.world.agent_dir(0))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap()
}

/// A session that has greeted, with a key that is trusted.
async fn greeted(victim: &Victim) -> (Child, Frames) {
    let mut child = connect(victim);
    let (input, mut output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    let mut ready = [0; READY.len()];
    output.read_exact(&mut ready).await.unwrap();
    assert_eq!(ready, READY);
    let tls = client_tls(&victim.world.hub_dir().join("state/identity"));
    let connector = tokio_rustls::TlsConnector::from(Arc::new(tls));
    let name = rustls::pki_types::ServerName::try_from("fanout").unwrap();
    let pipe = tokio::io::join(output, input);
    let mut secured = connector.connect(name, pipe).await.unwrap();
    let mut welcome = [0; WELCOME.len()];
    secured.read_exact(&mut welcome).await.unwrap();
    assert_eq!(welcome, WELCOME);
    let mut frames = Frames(Box::new(secured));
    frames.send(&wire::encode(&hello((1, 1))).unwrap()).await;
    assert!(matches!(frames.reply().await, Reply::Hello { .. }));
    (child, frames)
}

/// What comes of a row.
#[derive(Clone, Copy)]
enum End {
    /// The connection is closed with this code, and the log says this.
    Closed(u32, &'static str),
    /// The object is stopped with this code.
    Stopped(u32, &'static str),
    /// Nothing.
    GoesOn,
}

const BROKEN: End = End::Closed(3, "");

fn rows() -> Vec<(&'static str, Vec<u8>, End)> {
    let many = |frames: &[Vec<u8>]| frames.concat();
    // Its body never comes, so that what comes behind it waits.
    let waiting = || open(1, 64 << 20, 1);
    let four = |bytes: &[u8]| bytes.to_vec();
    let window = 2 << 20;
    let over_window: Vec<u8> = (0..=window / PART_BYTES)
        .flat_map(|_| part(2, PART_BYTES))
        .collect();
    let objects = |last: u32| -> Vec<u8> { (2..=last).flat_map(|id| open(id, 1, 1)).collect() };
    let taken_back: Vec<u8> = (2..200)
        .flat_map(|id| many(&[open(id, 1 << 20, 1000), frame(RESET, id, b"")]))
        .collect();
    let ping = wire::encode(&Request::Ping).unwrap();
    let credit = |cost: u32| frame(CREDIT, 0, &cost.to_le_bytes());
    vec![
        ("an unknown kind", frame(10, 0, b""), BROKEN),
        (
            "the last kind that there could be",
            frame(255, 0, b""),
            BROKEN,
        ),
        (
            "a message that names an object",
            frame(CONTROL, 1, &ping),
            BROKEN,
        ),
        (
            "a sign of life that names an object",
            frame(PING, 1, b""),
            BROKEN,
        ),
        ("a place that names an object", frame(PLACE, 1, b""), BROKEN),
        (
            "credit that names an object",
            frame(CREDIT, 9, &[1, 0, 0, 0]),
            BROKEN,
        ),
        (
            "a goodbye that names an object",
            frame(CLOSE, 9, &[0; 4]),
            BROKEN,
        ),
        (
            "a message of 4 GiB",
            head(CONTROL, 0, u32::MAX),
            End::Closed(2, "control message"),
        ),
        (
            "a message one byte above the limit",
            head(CONTROL, 0, 1024 * 1024 + 4 * 1024 + 1),
            End::Closed(2, "control message"),
        ),
        (
            "an object without a length",
            frame(OPEN, 1, &[0; 7]),
            BROKEN,
        ),
        (
            "a header above 1 KiB",
            open(1, 1, 1025),
            End::Closed(2, "header"),
        ),
        (
            "a header of 4 GiB",
            head(OPEN, 1, u32::MAX),
            End::Closed(2, "header"),
        ),
        (
            "an object opened twice",
            many(&[open(1, 9, 1), open(1, 9, 1)]),
            BROKEN,
        ),
        (
            "a body of 16 EiB",
            open(1, u64::MAX, 1),
            End::Stopped(2, "object"),
        ),
        (
            "a body above the limit",
            open(1, 67_108_947, 1),
            End::Stopped(2, "object"),
        ),
        (
            "a part of nothing",
            many(&[waiting(), frame(PART, 1, b"")]),
            BROKEN,
        ),
        (
            "a part above 64 KiB",
            many(&[waiting(), part(1, PART_BYTES + 1)]),
            End::Closed(2, ""),
        ),
        (
            "a part that is too short",
            many(&[waiting(), part(1, 100)]),
            BROKEN,
        ),
        (
            "a part that is too long",
            many(&[open(1, 10, 1), part(1, 11)]),
            BROKEN,
        ),
        ("a part of no object", part(77, 1), BROKEN),
        (
            "a part behind the end of its object",
            many(&[open(1, 1, 1), part(1, 1), part(1, 1)]),
            BROKEN,
        ),
        (
            "a part of an object that was taken back",
            many(&[
                open(1, 1 << 20, 1),
                frame(RESET, 1, b""),
                part(1, PART_BYTES),
            ]),
            BROKEN,
        ),
        (
            "more of an object than it has credit for",
            many(&[waiting(), open(2, 4 << 20, 1), over_window]),
            BROKEN,
        ),
        ("a ninth object", many(&[waiting(), objects(9)]), BROKEN),
        (
            "objects that are opened and taken back without end",
            many(&[waiting(), taken_back]),
            BROKEN,
        ),
        (
            "a taking back with words",
            frame(RESET, 1, b"x"),
            End::Closed(2, ""),
        ),
        (
            "a sign of life with words",
            frame(PING, 0, b"x"),
            End::Closed(2, ""),
        ),
        (
            "a place with words",
            frame(PLACE, 0, b"x"),
            End::Closed(2, ""),
        ),
        ("a stop without its code", frame(STOP, 1, &[0; 3]), BROKEN),
        (
            "a stop with words",
            frame(STOP, 1, &[0; 5]),
            End::Closed(2, ""),
        ),
        ("more without a number", frame(MORE, 1, b""), BROKEN),
        (
            "more with words",
            frame(MORE, 1, &[0; 5]),
            End::Closed(2, ""),
        ),
        ("credit without a number", frame(CREDIT, 0, &[0; 3]), BROKEN),
        (
            "a goodbye without its code",
            frame(CLOSE, 0, &[0; 3]),
            BROKEN,
        ),
        (
            "a goodbye above 1 KiB",
            words(0, &[b'x'; 1025]),
            End::Closed(2, ""),
        ),
        ("credit beyond the window", credit(u32::MAX), BROKEN),
        ("a little credit that nobody used", credit(1 << 20), BROKEN),
        ("a place that nobody left", frame(PLACE, 0, b""), BROKEN),
        (
            "a stop of no object",
            frame(STOP, 5, &four(&[1, 0, 0, 0])),
            End::GoesOn,
        ),
        (
            "more for no object",
            frame(MORE, 5, &four(&[255; 4])),
            End::GoesOn,
        ),
        (
            "a taking back of no object",
            frame(RESET, 5, b""),
            End::GoesOn,
        ),
        (
            "an object of nothing that nobody asked for",
            open(5, 0, 1),
            End::GoesOn,
        ),
        (
            "messages without taking an answer, beyond their credit",
            frame(CONTROL, 0, &ping).repeat(200_000),
            BROKEN,
        ),
    ]
}

#[test]
fn who_breaks_the_frames_of_a_pipe_is_closed_or_stopped_and_named_once() {
    let mut victim = Victim::start(&[], SMALL_GROWTH_KIB);
    let runtime = runtime();
    for (what, bytes, end) in rows() {
        runtime.block_on(async {
            let (_child, frames) = greeted(&victim).await;
            let (reading, mut writing) = tokio::io::split(frames.0);
            // What the agent says must be taken while it is written to.
            let writer = tokio::spawn(async move {
                let _closed = writing.write_all(&bytes).await;
                let _closed = writing.flush().await;
                writing
            });
            let mut frames = Frames(Box::new(tokio::io::join(reading, tokio::io::sink())));
            match end {
                End::Closed(code, _) => assert_eq!(frames.closed().await, Some(code), "{what}"),
                End::Stopped(code, _) => {
                    let (_, id, content) = frames.next_of(&[STOP]).await.expect(what);
                    assert_eq!((id, content), (1, code.to_le_bytes().to_vec()), "{what}");
                }
                End::GoesOn => {}
            }
            if !matches!(end, End::Closed(..)) {
                let mut writing = writer.await.unwrap();
                let ping = frame(CONTROL, 0, &wire::encode(&Request::Ping).unwrap());
                writing.write_all(&ping).await.unwrap();
                writing.flush().await.unwrap();
                assert!(matches!(frames.reply().await, Reply::Pong { .. }), "{what}");
            }
        });
        if let End::Closed(_, said) | End::Stopped(_, said) = end {
            victim.has_said_once(what, said);
        }
        victim.is_well(what);
    }
    victim.serves_its_own_hub();
}

/// Ends that come too early, and what is said behind a goodbye.
#[test]
fn pipes_that_break_off_cost_nobody_anything() {
    let mut victim = Victim::start(&[], SMALL_GROWTH_KIB);
    let ping = wire::encode(&Request::Ping).unwrap();
    let bind = wire::encode(&Request::Bind {
        tree: TREE,
        root: b"/srv/platforms/behind-a-goodbye".to_vec(),
        layout: wire::Layout::InPlace,
        adopt: false,
    })
    .unwrap();
    runtime().block_on(async {
        for bytes in [
            head(CONTROL, 0, 100),
            head(OPEN, 1, 100)[..5].to_vec(),
            [open(1, 1 << 20, 1), part(1, PART_BYTES)].concat(),
            frame(CONTROL, 0, &ping),
        ] {
            let (mut child, mut frames) = greeted(&victim).await;
            frames.write(&bytes).await;
            child.kill().await.unwrap();
        }
        let (_child, mut frames) = greeted(&victim).await;
        frames
            .write(&[words(0, b"\x1b[31mbye\r\n"), frame(CONTROL, 0, &bind)].concat())
            .await;
        while frames.next().await.is_some() {}
    });
    victim.is_well("pipes that break off");
    let root = victim.world.live(0, "behind-a-goodbye");
    assert!(!root.exists(), "a request behind the goodbye was heard");
    victim.serves_its_own_hub();
}

/// More half-open pipes than there are places for, and what is no handshake at all.
#[test]
fn pipes_that_never_finish_their_handshake_keep_nobody_out() {
    let mut victim = Victim::start(&[], SMALL_GROWTH_KIB);
    let agent = AgentDir::new(Some(&victim.world.agent_dir(0)));
    let held = runtime().block_on(async {
        let mut held = Vec::new();
        for nth in 0..100_u8 {
            let mut stream = UnixStream::connect(agent.socket()).await.unwrap();
            let said: &[u8] = match nth % 4 {
                0 => b"",
                1 => b"SSH-2.0-OpenSSH_9.2\r\n",
                // A record of a ClientHello that doesn't come.
                2 => &[0x16, 3, 1, 0x40, 0, 1, 0, 0x3F, 0xFC],
                _ => b"GET / HTTP/1.1\r\n\r\n",
            };
            let _closed = stream.write_all(said).await;
            held.push(stream);
        }
        let (_child, mut frames) = greeted(&victim).await;
        frames.send(&wire::encode(&Request::Ping).unwrap()).await;
        assert!(matches!(frames.reply().await, Reply::Pong { .. }));
        held
    });
    victim.is_well("half-open pipes");
    victim.serves_its_own_hub();
    drop(held);
}

/// How a member answers a hub that comes by ssh.
enum Lie {
    /// Instead of the line that says that it is ready, and what follows.
    Before(Vec<u8>),
    /// With the key of somebody else.
    OtherKey,
    /// Instead of the welcome.
    Welcome(&'static [u8]),
    /// After its greeting.
    Frames(Vec<u8>),
}

fn lies() -> Vec<(&'static str, Lie, &'static str)> {
    let frames = |what, frames| (what, Lie::Frames(frames), "FX0311");
    let before = |what, bytes: &[u8]| (what, Lie::Before(bytes.to_vec()), "FX0315");
    let banner = b"Welcome!\n".repeat(8_000);
    let ready_twice = [READY, READY].concat();
    let out_of_turn = [READY, b"\x16\x03"].concat();
    let tls = [READY, &[0x15; 400]].concat();
    vec![
        before("a banner without an end", &banner),
        before("ready twice", &ready_twice),
        before("speaking out of turn", &out_of_turn),
        before("noise for a handshake", &tls),
        before(
            "nothing but control characters",
            b"\x1b[2J\r\nfine\x07\xc2\x9b31m",
        ),
        before("nothing", b""),
        ("another key", Lie::OtherKey, "FX0303"),
        ("another welcome", Lie::Welcome(b"fanout/2\n"), "FX0315"),
        ("no welcome", Lie::Welcome(b""), "FX0303"),
        frames("an unknown kind", frame(10, 0, b"")),
        frames("a message that names an object", frame(CONTROL, 1, b"x")),
        frames("a message of 4 GiB", head(CONTROL, 0, u32::MAX)),
        frames("an object towards a hub", open(1, 1, 1)),
        frames("a part of no object", part(1, 1)),
        frames("credit beyond the window", frame(CREDIT, 0, &[255; 4])),
        frames("a place that nobody left", frame(PLACE, 0, b"")),
        frames("a stop without its code", frame(STOP, 0, b"")),
        frames("a goodbye above 1 KiB", words(0, &[b'x'; 1025])),
        frames("noise for a message", frame(CONTROL, 0, &[0xFF; 50])),
        frames(
            "messages beyond their credit",
            frame(CONTROL, 0, &vec![0; 1 << 20]).repeat(8),
        ),
        (
            "a goodbye with control characters",
            Lie::Frames(words(7, b"\x1b[2J\r\nfine\x07\xc2\x9b31m")),
            "FX0308",
        ),
        (
            "an end within a frame",
            Lie::Frames(head(CONTROL, 0, 100)),
            "FX0308",
        ),
    ]
}

async fn lie(mut stream: UnixStream, lie: &Lie, dir: &Path) -> Option<()> {
    if let Lie::Before(bytes) = lie {
        stream.write_all(bytes).await.ok()?;
        stream.shutdown().await.ok()?;
        // Until the hub has hung up, too.
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).await.ok()?;
        return Some(());
    }
    stream.write_all(READY).await.ok()?;
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(server_tls(dir)));
    let mut secured = acceptor.accept(stream).await.ok()?;
    if let Lie::Welcome(word) = lie {
        secured.write_all(word).await.ok()?;
        secured.flush().await.ok()?;
        return secured.shutdown().await.ok();
    }
    secured.write_all(WELCOME).await.ok()?;
    secured.flush().await.ok()?;
    let mut frames = Frames(Box::new(secured));
    let request: Request = wire::decode(&frames.next_of(&[CONTROL]).await?.2).ok()?;
    frames.send(&wire::encode(&honest(&request)?).ok()?).await;
    let Lie::Frames(bytes) = lie else {
        return Some(());
    };
    frames.write(bytes).await;
    if bytes.len() == 9 && bytes[5] == 100 {
        // Nothing follows the head.
        return frames.0.shutdown().await.ok();
    }
    while frames.next().await.is_some() {}
    Some(())
}

#[test]
fn a_member_that_breaks_the_frames_of_its_pipe_is_named_and_left_behind() {
    let mut stage = Stage::set();
    let (agent_dir, dir) = (stage.world.agent_dir(0), stage.world.dir().to_owned());
    // What ssh would run over there, run here.
    let ssh = dir.join("ssh");
    let programs = Path::new(FANOUT).parent().unwrap().display().to_string();
    let script = format!(
        "#!/bin/sh\nfor command; do :; done\nexport PATH='{programs}':/usr/bin:/bin\n\
         export FANOUT_DIR='{}'\nexec sh -c \"$command\"\n",
        agent_dir.display()
    );
    std::fs::write(&ssh, script).unwrap();
    let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&ssh, executable).unwrap();
    stage.env = vec![("FANOUT_SSH".into(), ssh.display().to_string())];
    let by_ssh = [r#"transport = "ssh""#, r#"ssh = "root@web1""#];
    stage.world.configure("servers.web1", &by_ssh);
    let socket = AgentDir::new(Some(&agent_dir)).socket().to_owned();
    let other = stage.world.agent_dir(1).join("identity");
    let runtime = runtime();
    for (what, how, code) in lies() {
        let own = stage.liar();
        let keys = if matches!(how, Lie::OtherKey) {
            other.clone()
        } else {
            own
        };
        let entered = runtime.enter();
        let _stale = std::fs::remove_file(&socket);
        let listener = once_free(|| UnixListener::bind(&socket).ok());
        drop(entered);
        let serving = runtime.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let _its_end = lie(stream, &how, &keys).await;
            }
        });
        stage.is_borne(what, code);
        serving.abort();
        let _cancelled = runtime.block_on(serving);
    }
    // The honest agent is back, and reached by the same way.
    let _stale = std::fs::remove_file(&socket);
    stage.world.restart_agent(0);
    let reached = wait_until(Duration::from_secs(30), || {
        stage.push(&[]).0.code == Some(0)
    });
    assert!(reached, "no push gets through by ssh");
}
