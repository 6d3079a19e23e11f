//! Sessions over a byte pipe: a Unix socket, or ssh's standard input and output.
//!
//! ```text
//! hub -- ssh -- `fanout agent connect` -- Unix socket -- agent
//!              (carries bytes, holds no key)
//! ```
//!
//! The same mutual TLS as over QUIC runs from end to end, so neither ssh nor the bridge is trusted
//! with anything. Before it, the listening side says [`READY`]: login shells print banners, and
//! whatever comes before that line is skipped, up to a limit.

use std::{
    fmt,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls::pki_types::ServerName;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{UnixListener, UnixStream},
    sync::{Mutex, Semaphore, mpsc},
    task::JoinHandle,
    time::timeout,
};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::{
    connection::{Connection, Counters, WELCOME},
    error::{NetError, words_of_a_peer},
    identity::Identity,
    key::NodeKey,
    limits::Options,
    pipe::Pipe,
    tls,
    trust::TrustStore,
    tuning,
};

/// Where an installation puts the program, of root or of an ordinary user; for a login shell.
pub const AGENT_PATH: &str = "PATH=\"$PATH:/usr/local/bin:$HOME/.local/bin\"";
/// What carries a session to the agent, wherever an installation puts it.
pub const CONNECT_SCRIPT: &str = "d=\"$HOME/.local/share/fanout/agent\"; \
     if [ \"$(id -u)\" != 0 ] && [ -z \"$FANOUT_DIR\" ] && [ -e \"$d/agent.toml\" ]; \
     then exec fanout agent connect --dir \"$d\"; fi; exec fanout agent connect";

/// What the listening side says before TLS begins.
pub const READY: &[u8] = b"FANOUT/1 ready\n";

/// LIMIT: what may come before [`READY`].
const BANNER_MAX_BYTES: usize = 64 * 1024;

/// Which end of a pipe this is, and whom it talks to.
#[derive(Debug)]
pub enum Side<'a> {
    /// The connecting end: nobody but this peer will do.
    Client(NodeKey),
    /// The listening end.
    Server(&'a TrustStore),
}

impl Connection {
    /// Makes a connection of a byte pipe. `remote` says for people where it leads.
    ///
    /// Takes `options.handshake` at most.
    pub async fn over_pipe<T>(
        pipe: T,
        remote: &str,
        identity: &Identity,
        side: Side<'_>,
        options: &Options,
    ) -> Result<Self, NetError>
    where
        T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let limit = options.handshake;
        let handshake = async {
            match side {
                Side::Client(peer) => client(pipe, remote, identity, peer, options).await,
                Side::Server(trust) => server(pipe, remote, identity, trust, options).await,
            }
        };
        timeout(limit, handshake)
            .await
            .unwrap_or(Err(NetError::TimedOut {
                what: "The handshake",
                limit,
            }))
    }
}

async fn client<T>(
    mut pipe: T,
    remote: &str,
    identity: &Identity,
    peer: NodeKey,
    options: &Options,
) -> Result<Connection, NetError>
where
    T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    skip_banner(&mut pipe).await?;
    let config = Arc::new(tls::client(identity, peer)?);
    let name = ServerName::try_from(tls::SERVER_NAME).map_err(|error| NetError::Tls {
        detail: error.to_string(),
    })?;
    let of_tls = |error| of_tls(error, |error| NetError::of_tls_as_client(error, peer));
    let mut secured = TlsConnector::from(config)
        .connect(name, pipe)
        .await
        .map_err(of_tls)?;
    // The verifier lets the pinned key vouch for others.
    let found = tls::peer_key(secured.get_ref().1.peer_certificates())?;
    if found != peer {
        return Err(NetError::WrongPeer {
            expected: peer,
            detail: format!("key {found}"),
        });
    }
    let mut word = [0; WELCOME.len()];
    match secured.read_exact(&mut word).await {
        Ok(_) if word == *WELCOME => {}
        Ok(_) => return Err(NetError::protocol("no welcome after the handshake")),
        // Its judgement of our certificate comes after what TLS calls the handshake.
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
            return Err(NetError::Refused {
                detail: "it hung up after the handshake".into(),
            });
        }
        Err(error) => return Err(of_tls(error)),
    }
    let counters = Arc::<Counters>::default();
    let carrier = Pipe::start(secured, options.clone(), Arc::clone(&counters));
    Ok(Connection::over_a_pipe(
        peer,
        remote.to_owned(),
        carrier,
        counters,
    ))
}

async fn server<T>(
    mut pipe: T,
    remote: &str,
    identity: &Identity,
    trust: &TrustStore,
    options: &Options,
) -> Result<Connection, NetError>
where
    T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let failed = |error| NetError::io("Writing to the pipe", error);
    pipe.write_all(READY).await.map_err(failed)?;
    pipe.flush().await.map_err(failed)?;
    let (_, anchors) = trust.anchors();
    let config = Arc::new(tls::server(identity, anchors)?);
    let accepted = TlsAcceptor::from(config).accept(pipe).await;
    let mut secured = accepted.map_err(|error| of_tls(error, NetError::of_tls_as_server))?;
    let peer = tls::peer_key(secured.get_ref().1.peer_certificates())?;
    // Before it gets the welcome; `admit` asks again under the lock.
    if trust.role(peer).is_none() {
        return Err(NetError::NotAccepted {
            detail: format!("key {peer}"),
        });
    }
    secured.write_all(WELCOME).await.map_err(failed)?;
    secured.flush().await.map_err(failed)?;
    let counters = Arc::<Counters>::default();
    let carrier = Pipe::start(secured, options.for_peer(peer), Arc::clone(&counters));
    let connection = Connection::over_a_pipe(peer, remote.to_owned(), carrier, counters);
    trust.admit(&connection).inspect_err(|error| {
        connection.close(error.close_code(), "no more connections for this key");
    })?;
    Ok(connection)
}

/// Reads up to and including [`READY`]. Nothing may follow it yet: it is our turn to speak.
async fn skip_banner(pipe: &mut (impl AsyncRead + Unpin)) -> Result<(), NetError> {
    let mut seen = Vec::new();
    loop {
        if pipe
            .read_buf(&mut seen)
            .await
            .map_err(|e| NetError::io("Reading the pipe", e))?
            == 0
        {
            let said = words_of_a_peer(&seen);
            return Err(NetError::Lost {
                detail: format!("the other side ended before its agent was ready; it said: {said}"),
            });
        }
        if seen.ends_with(READY) {
            return Ok(());
        }
        let ready = seen.windows(READY.len()).any(|window| window == READY);
        if ready || seen.len() > BANNER_MAX_BYTES {
            let what = if ready {
                "it speaks out of turn"
            } else {
                "it never says that it is ready"
            };
            return Err(NetError::protocol(what));
        }
    }
}

/// A TLS error hides in an I/O error.
fn of_tls(error: std::io::Error, explain: impl Fn(&rustls::Error) -> NetError) -> NetError {
    match error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<rustls::Error>())
    {
        Some(inner) => explain(inner),
        None => NetError::Lost {
            detail: format!("TLS handshake: {error}"),
        },
    }
}

/// Connects to an agent's Unix socket.
pub async fn connect_socket(
    path: &Path,
    identity: &Identity,
    peer: NodeKey,
    options: &Options,
) -> Result<Connection, NetError> {
    let stream = UnixStream::connect(path)
        .await
        .map_err(|source| NetError::Unreachable {
            address: path.display().to_string(),
            source: Arc::new(source),
        })?;
    let remote = path.display().to_string();
    Connection::over_pipe(stream, &remote, identity, Side::Client(peer), options).await
}

/// A Unix socket that serves sessions. Dropping it removes the socket; its connections live on.
pub struct PipeListener {
    path: PathBuf,
    accepted: Mutex<mpsc::Receiver<Connection>>,
    acceptor: JoinHandle<()>,
}

impl PipeListener {
    /// Listens at `path` with these permissions. A socket that nobody serves any more is replaced,
    /// one that answers is not.
    pub async fn bind(
        path: &Path,
        mode: u32,
        identity: Identity,
        trust: TrustStore,
        options: Options,
    ) -> Result<Self, NetError> {
        let failed = |error| NetError::io(format!("Listening on {}", path.display()), error);
        match UnixStream::connect(path).await {
            Ok(_) => return Err(failed(std::io::ErrorKind::AddrInUse.into())),
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => {
                // RACE: two agents that start at once; the socket of the first is lost, and its
                // QUIC port, which the second can't have, tells.
                std::fs::remove_file(path).map_err(failed)?;
            }
            Err(_) => {}
        }
        let listener = UnixListener::bind(path).map_err(failed)?;
        let permissions = std::fs::Permissions::from_mode(mode);
        std::fs::set_permissions(path, permissions).map_err(failed)?;
        let (sender, receiver) = mpsc::channel(tuning::HALF_OPEN_MAX);
        let remote = path.display().to_string();
        let acceptor = tokio::spawn(accept_all(
            listener, remote, identity, trust, options, sender,
        ));
        Ok(Self {
            path: path.to_owned(),
            accepted: Mutex::new(receiver),
            acceptor,
        })
    }

    /// The next connection of an accepted peer.
    pub async fn accept(&self) -> Option<Connection> {
        self.accepted.lock().await.recv().await
    }
}

impl Drop for PipeListener {
    fn drop(&mut self) {
        self.acceptor.abort();
        // A socket that stays behind is replaced at the next start.
        std::fs::remove_file(&self.path).ok();
    }
}

impl fmt::Debug for PipeListener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PipeListener({})", self.path.display())
    }
}

async fn accept_all(
    listener: UnixListener,
    remote: String,
    identity: Identity,
    trust: TrustStore,
    options: Options,
    accepted: mpsc::Sender<Connection>,
) {
    let places = Arc::new(Semaphore::new(tuning::HALF_OPEN_MAX));
    loop {
        // LIMIT: who finds no place waits in the kernel's queue.
        let Ok(place) = Arc::clone(&places).acquire_owned().await else {
            return;
        };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Out of descriptors, most likely: a pause instead of a busy loop.
                tracing::warn!(%error, "accepting on the agent's socket failed");
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                continue;
            }
        };
        let (remote, identity) = (remote.clone(), identity.clone());
        let (trust, options, accepted) = (trust.clone(), options.clone(), accepted.clone());
        tokio::spawn(async move {
            let side = Side::Server(&trust);
            match Connection::over_pipe(stream, &remote, &identity, side, &options).await {
                Ok(connection) => drop(accepted.send(connection).await),
                Err(error) => tracing::info!(%remote, %error, "refused a peer"),
            }
            drop(place);
        });
    }
}

/// Carries bytes between this process's input and output and an agent's socket, until one of them
/// hangs up. Run by ssh on the agent's host.
///
/// The caller should end the process afterwards: a read of standard input can't be given up.
pub async fn bridge(
    mut input: impl AsyncRead + Unpin,
    mut output: impl AsyncWrite + Unpin,
    socket: &Path,
) -> Result<(), NetError> {
    let stream = UnixStream::connect(socket)
        .await
        .map_err(|source| NetError::Unreachable {
            address: socket.display().to_string(),
            source: Arc::new(source),
        })?;
    let failed = |error| NetError::io("Carrying bytes to the agent", error);
    let (mut from_agent, mut to_agent) = stream.into_split();
    let inwards = async {
        tokio::io::copy(&mut input, &mut to_agent).await?;
        to_agent.shutdown().await
    };
    let outwards = async {
        let mut buffer = vec![0; 64 * 1024];
        loop {
            let read = from_agent.read(&mut buffer).await?;
            if read == 0 {
                return Ok(());
            }
            let written = async {
                output.write_all(&buffer[..read]).await?;
                // Each burst at once: `Stdout` keeps what isn't flushed.
                output.flush().await
            };
            match written.await {
                // The hub heard the goodbye and hung up first.
                Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => return Ok(()),
                written => written?,
            }
        }
    };
    tokio::pin!(outwards);
    tokio::select! {
        out = &mut outwards => out.map_err(failed),
        end = inwards => {
            // The hub is done, or the agent reads no more. What the agent still says is carried.
            if let Err(error) = end {
                tracing::debug!(%error, "the way to the agent is closed");
            }
            outwards.await.map_err(failed)
        }
    }
}
