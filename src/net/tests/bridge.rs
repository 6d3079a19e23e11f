//! Sessions through a Unix socket, a bridge, and a shell that talks too much.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex, split};

use super::*;

struct Agent {
    key: NodeKey,
    hub: Identity,
    listener: PipeListener,
    dir: tempfile::TempDir,
}

impl Agent {
    async fn start() -> Self {
        let (identity, hub, trust) = (node(), node(), TrustStore::new());
        trust.accept(hub.key(), Role::Hub);
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("agent.sock");
        let (key, options) = (identity.key(), Options::default());
        let listener = PipeListener::bind(&socket, 0o660, identity, trust, options)
            .await
            .unwrap();
        Self {
            key,
            hub,
            listener,
            dir,
        }
    }

    fn socket(&self) -> std::path::PathBuf {
        self.dir.path().join("agent.sock")
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_runs_through_ssh_behind_a_banner() {
    let agent = Agent::start().await;
    let (near, far) = duplex(64 * 1024);
    let socket = agent.socket();
    let bridging = tokio::spawn(async move {
        let (input, mut output) = split(far);
        output
            .write_all(b"Welcome to web1!\nFANOUT/1 read\nlast login: today ")
            .await
            .unwrap();
        bridge(input, output, &socket).await
    });
    let options = Options::default();
    let side = Side::Client(agent.key);
    let hub = soon(Connection::over_pipe(
        near, "ssh web1", &agent.hub, side, &options,
    ))
    .await;
    let hub = hub.unwrap();
    assert_eq!((hub.carrier(), hub.remote()), ("pipe", "ssh web1"));
    let served = soon(agent.listener.accept()).await.unwrap();
    assert_eq!(served.peer(), agent.hub.key());
    let body = pattern(5_000_000);
    let (sent, received) = soon(async {
        tokio::join!(
            hub.send_object(b"x", body.clone()),
            served.recv_object(6_000_000)
        )
    })
    .await;
    sent.unwrap();
    assert!(received.unwrap().body == body);
    served.send(b"bye").await.unwrap();
    served.finish(0, "done").await;
    assert_eq!(soon(hub.recv()).await.unwrap(), "bye");
    assert!(matches!(
        soon(hub.recv()).await,
        Err(NetError::Closed { code: 0, .. })
    ));
    soon(bridging).await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_socket_is_replaced_only_if_nobody_serves_it() {
    let agent = Agent::start().await;
    let again = |trust| async {
        let socket = agent.socket();
        PipeListener::bind(&socket, 0o660, node(), trust, Options::default()).await
    };
    let refused = again(TrustStore::new()).await.unwrap_err();
    assert!(matches!(refused, NetError::Io { .. }), "{refused}");
    let stale = agent.dir.path().join("stale.sock");
    drop(std::os::unix::net::UnixListener::bind(&stale).unwrap());
    let trust = TrustStore::new();
    PipeListener::bind(&stale, 0o660, node(), trust, Options::default())
        .await
        .unwrap();
    let key = agent.key;
    let hub = soon(connect_socket(
        &agent.socket(),
        &agent.hub,
        key,
        &Options::default(),
    ))
    .await;
    hub.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_other_side_said_instead_is_in_the_error() {
    let options = quick(2000);
    for (said, ends, expected) in [
        (
            b"fanout: command not found\n".to_vec(),
            true,
            "command not found",
        ),
        (vec![b'x'; 70_000], false, "never says that it is ready"),
        (b"FANOUT/1 ready\nand more".to_vec(), false, "out of turn"),
        (b"hello".to_vec(), false, "took longer than 2.0 s"),
    ] {
        let (near, mut far) = duplex(256 * 1024);
        far.write_all(&said).await.unwrap();
        let kept = (!ends).then_some(far);
        let side = Side::Client(node().key());
        let error = soon(Connection::over_pipe(near, "x", &node(), side, &options)).await;
        let error = error.unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
        drop(kept);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_says_nothing_is_dropped_in_time() {
    let trust = TrustStore::new();
    trust.accept(node().key(), Role::Hub);
    let (mut near, far) = duplex(1024);
    let options = quick(300);
    let error = Connection::over_pipe(far, "x", &node(), Side::Server(&trust), &options).await;
    assert!(matches!(error, Err(NetError::TimedOut { .. })), "{error:?}");
    let mut said = Vec::new();
    soon(near.read_to_end(&mut said)).await.unwrap();
    assert_eq!(said, stdio::READY);
}
