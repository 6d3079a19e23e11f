//! Listening and connecting over QUIC.
//!
//! A listener reads nothing but TLS from anybody, allows so many handshakes at once and each so
//! much time, and yields a connection only when its peer's own key is accepted. A connecting side
//! tries all addresses of a name and finds out *why* nobody answers.

use std::{
    fmt, io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::{Arc, Mutex as StdMutex, PoisonError},
    time::Duration,
};

use quinn::{ConnectionError, Incoming, TransportErrorCode};
use rustls::pki_types::CertificateDer;
use tokio::{
    sync::{Mutex, Semaphore, mpsc},
    task::{JoinHandle, JoinSet},
    time::{Instant, sleep, timeout},
};

use super::{
    connection::{Connection, Counters, WeakConnection},
    error::{NetError, code},
    goodbye,
    identity::Identity,
    key::NodeKey,
    limits::Options,
    quic::{Quic, of_connection},
    tls,
    trust::TrustStore,
    tuning::{self, HALF_OPEN_MAX, HALF_OPEN_RETRY},
};

/// The next address of a name is tried this long after the one before (RFC 8305, section 5).
const NEXT_ADDRESS: Duration = Duration::from_millis(250);

/// LIMIT: a name may have so many addresses.
const ADDRESSES_MAX: usize = 8;

/// A QUIC listener. Dropping it ends its connections.
pub struct Endpoint {
    quic: quinn::Endpoint,
    address: SocketAddr,
    accepted: Mutex<mpsc::Receiver<Connection>>,
    open: Open,
    acceptor: JoinHandle<()>,
}

/// The connections of a listener.
type Open = Arc<StdMutex<Vec<WeakConnection>>>;

impl Endpoint {
    /// Listens on UDP `listen`; `[::]` serves IPv4 as well. Needs a tokio runtime around it.
    pub fn server(
        listen: SocketAddr,
        identity: Identity,
        trust: TrustStore,
        options: Options,
    ) -> Result<Self, NetError> {
        let failed = |error| NetError::io(format!("Listening on UDP {listen}"), error);
        let socket = tuning::udp_socket(listen).map_err(|errno| failed(errno.into()))?;
        let address = socket.local_addr().map_err(failed)?;
        let configs = Configs {
            identity,
            trust,
            options,
            cached: None,
        };
        // Never used for a handshake: each gets the accepted keys of its own moment.
        let unused = configs.build(Vec::new())?;
        let runtime = Arc::new(quinn::TokioRuntime);
        let quic = quinn::Endpoint::new(tuning::endpoint(), Some(unused), socket, runtime)
            .map_err(failed)?;
        let (sender, receiver) = mpsc::channel(HALF_OPEN_MAX);
        let open = Open::default();
        let acceptor = tokio::spawn(accept_all(quic.clone(), configs, sender, Arc::clone(&open)));
        Ok(Self {
            quic,
            address,
            accepted: Mutex::new(receiver),
            open,
            acceptor,
        })
    }

    /// The next connection of an accepted peer; `None` when the listener is closed.
    pub async fn accept(&self) -> Option<Connection> {
        self.accepted.lock().await.recv().await
    }

    /// Where it listens, with the port that the system chose if none was given.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    fn end(&self, code: u32, reason: &str) {
        self.acceptor.abort();
        // One by one first: see `goodbye`.
        let open = std::mem::take(&mut *self.open.lock().unwrap_or_else(PoisonError::into_inner));
        for connection in open.iter().filter_map(WeakConnection::upgrade) {
            connection.close(code, reason);
        }
        self.quic.close(code.into(), reason.as_bytes());
    }

    /// Ends all connections and waits until their peers know, a few seconds at most.
    pub async fn close(&self, code: u32, reason: &str) {
        self.end(code, reason);
        timeout(tuning::GOODBYE, self.quic.wait_idle()).await.ok();
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        self.end(code::DONE, "");
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Endpoint({})", self.address)
    }
}

/// The TLS configuration for the keys that are accepted at this moment.
struct Configs {
    identity: Identity,
    trust: TrustStore,
    options: Options,
    cached: Option<(u64, Arc<quinn::ServerConfig>)>,
}

impl Configs {
    fn current(&mut self) -> Result<Arc<quinn::ServerConfig>, NetError> {
        if let Some((version, config)) = &self.cached
            && *version == self.trust.version()
        {
            return Ok(Arc::clone(config));
        }
        let (version, anchors) = self.trust.anchors();
        let config = Arc::new(self.build(anchors)?);
        self.cached = Some((version, Arc::clone(&config)));
        Ok(config)
    }

    fn build(
        &self,
        anchors: Vec<rustls::pki_types::TrustAnchor<'static>>,
    ) -> Result<quinn::ServerConfig, NetError> {
        let crypto = tls::quic_server(tls::server(&self.identity, anchors)?)?;
        let mut config = quinn::ServerConfig::with_crypto(Arc::new(crypto));
        let mut transport = tuning::transport(self.options.path);
        // The listener opens the control stream; its peers have nothing to open but objects.
        transport.max_concurrent_bidi_streams(0u8.into());
        config.transport_config(Arc::new(transport));
        // LIMIT: what waits for a decision, which is immediate.
        config.max_incoming(4 * HALF_OPEN_MAX);
        config
            .incoming_buffer_size(64 * 1024)
            .incoming_buffer_size_total(4 * 1024 * 1024);
        Ok(config)
    }
}

async fn accept_all(
    quic: quinn::Endpoint,
    mut configs: Configs,
    accepted: mpsc::Sender<Connection>,
    open: Open,
) {
    let places = Arc::new(Semaphore::new(HALF_OPEN_MAX));
    while let Some(incoming) = quic.accept().await {
        let half_open = HALF_OPEN_MAX - places.available_permits();
        if half_open >= HALF_OPEN_RETRY && !incoming.remote_address_validated() {
            // LIMIT: under load, only who receives at its address gets a place. Fails only for a
            // validated address, which was just excluded.
            incoming.retry().ok();
            continue;
        }
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
            incoming.refuse();
            continue;
        };
        match configs.current() {
            Ok(config) => {
                let trust = configs.trust.clone();
                let options = configs.options.clone();
                let (quic, accepted) = (quic.clone(), accepted.clone());
                let open = Arc::clone(&open);
                tokio::spawn(async move {
                    let remote = incoming.remote_address();
                    match welcome(incoming, config, quic, trust, options).await {
                        Ok(connection) => {
                            remember(&open, &connection);
                            drop(accepted.send(connection).await);
                        }
                        Err(error) => tracing::info!(%remote, %error, "refused a peer"),
                    }
                    // Only now: what the application doesn't take counts as half open.
                    drop(place);
                });
            }
            Err(error) => {
                tracing::error!(%error, "no TLS configuration for a new peer");
                incoming.refuse();
            }
        }
    }
}

fn remember(open: &Open, connection: &Connection) {
    let mut open = open.lock().unwrap_or_else(PoisonError::into_inner);
    open.retain(WeakConnection::is_open);
    open.push(connection.downgrade());
}

/// One handshake of a listener, from the first packet to the welcome.
async fn welcome(
    incoming: Incoming,
    config: Arc<quinn::ServerConfig>,
    quic: quinn::Endpoint,
    trust: TrustStore,
    options: Options,
) -> Result<Connection, NetError> {
    let remote = incoming.remote_address().to_string();
    let handshake = async {
        let connecting = incoming.accept_with(config).map_err(of_listening)?;
        let connection = connecting.await.map_err(of_listening)?;
        let refusal = connection.clone();
        let admitted = admit(connection, quic, remote, &trust, options).await;
        admitted.inspect_err(|error| {
            goodbye::close(
                &refusal,
                error.close_code(),
                b"this key is not accepted here",
            );
        })
    };
    let limit = tuning::HANDSHAKE;
    let late = NetError::TimedOut {
        what: "The handshake",
        limit,
    };
    timeout(limit, handshake).await.unwrap_or(Err(late))
}

/// What TLS has let in is judged by its own key.
async fn admit(
    connection: quinn::Connection,
    quic: quinn::Endpoint,
    remote: String,
    trust: &TrustStore,
    options: Options,
) -> Result<Connection, NetError> {
    let peer = peer_of(&connection)?;
    // Before it gets the welcome; `TrustStore::admit` asks again under its lock.
    if trust.role(peer).is_none() {
        return Err(NetError::NotAccepted {
            detail: format!("key {peer}"),
        });
    }
    let counters = Arc::<Counters>::default();
    let carrier = Quic::welcome(connection, quic, options, Arc::clone(&counters)).await?;
    let connection = Connection::over_quic(peer, remote, carrier, counters);
    trust.admit(&connection).inspect_err(|error| {
        connection.close(error.close_code(), "no more connections for this key");
    })?;
    Ok(connection)
}

/// Connects to `host` (a name or an address) over QUIC and accepts nobody but `peer` there.
///
/// Takes `options.handshake` at most.
pub async fn connect(
    host: &str,
    port: u16,
    identity: &Identity,
    peer: NodeKey,
    options: &Options,
) -> Result<Connection, NetError> {
    let start = Instant::now();
    let unresolved = |source: io::Error| NetError::Resolve {
        host: host.to_owned(),
        source: Arc::new(source),
    };
    let found = timeout(options.handshake, tokio::net::lookup_host((host, port))).await;
    let addresses: Vec<SocketAddr> = match found {
        Ok(Ok(addresses)) => addresses.take(ADDRESSES_MAX).collect(),
        Ok(Err(error)) => return Err(unresolved(error)),
        Err(_) => {
            let limit = options.handshake;
            return Err(NetError::TimedOut {
                what: "Looking up the host name",
                limit,
            });
        }
    };
    if addresses.is_empty() {
        return Err(unresolved(io::ErrorKind::NotFound.into()));
    }
    let mut options = options.clone();
    options.handshake = options.handshake.saturating_sub(start.elapsed());
    connect_to(&addresses, identity, peer, &options).await
}

/// Connects to whichever of the addresses answers first with the right key.
pub async fn connect_to(
    addresses: &[SocketAddr],
    identity: &Identity,
    peer: NodeKey,
    options: &Options,
) -> Result<Connection, NetError> {
    let crypto = tls::quic_client(tls::client(identity, peer)?)?;
    let mut config = quinn::ClientConfig::new(Arc::new(crypto));
    config.transport_config(Arc::new(tuning::transport(options.path)));
    let mut attempts = JoinSet::new();
    for (nth, address) in (0u32..).zip(addresses.iter().copied()) {
        let (config, options) = (config.clone(), options.clone());
        attempts.spawn(async move {
            let wait = NEXT_ADDRESS * nth;
            sleep(wait).await;
            let within = options.handshake.saturating_sub(wait);
            attempt(address, peer, config, options, within).await
        });
    }
    let mut worst: Option<NetError> = None;
    while let Some(outcome) = attempts.join_next().await {
        match outcome {
            Ok(Ok(connection)) => return Ok(connection),
            Ok(Err(error)) => {
                if worst
                    .as_ref()
                    .is_none_or(|known| telling(&error) > telling(known))
                {
                    worst = Some(error);
                }
            }
            Err(error) => {
                return Err(NetError::Lost {
                    detail: error.to_string(),
                });
            }
        }
    }
    let nowhere = || NetError::Lost {
        detail: "there was no address to connect to".into(),
    };
    Err(worst.unwrap_or_else(nowhere))
}

/// Of several addresses' errors, the one that says most is reported.
fn telling(error: &NetError) -> u8 {
    match error {
        NetError::Refused { .. } | NetError::WrongPeer { .. } => 4,
        NetError::Unreachable { .. } | NetError::Io { .. } => 0,
        NetError::NoAnswer { .. } => 1,
        NetError::NothingListens { .. } => 2,
        _ => 3,
    }
}

async fn attempt(
    address: SocketAddr,
    peer: NodeKey,
    config: quinn::ClientConfig,
    options: Options,
    within: Duration,
) -> Result<Connection, NetError> {
    let unreachable = |error: io::Error| NetError::Unreachable {
        address: address.to_string(),
        source: Arc::new(error),
    };
    let any: SocketAddr = match address {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    // A socket of its own per connection: one member's burst can't crowd out another's packets.
    let socket = tuning::udp_socket(any).map_err(|errno| unreachable(errno.into()))?;
    let runtime = Arc::new(quinn::TokioRuntime);
    let quic =
        quinn::Endpoint::new(tuning::endpoint(), None, socket, runtime).map_err(unreachable)?;
    let connecting = quic
        .connect_with(config, address, tls::SERVER_NAME)
        .map_err(|error| NetError::Lost {
            detail: error.to_string(),
        })?;
    let handshake = async {
        let connection = connecting
            .await
            .map_err(|error| of_connecting(error, peer))?;
        // The verifier lets the pinned key vouch for others.
        let found = peer_of(&connection)?;
        if found != peer {
            goodbye::close(&connection, code::NOT_ACCEPTED, b"another key was expected");
            return Err(NetError::WrongPeer {
                expected: peer,
                detail: format!("key {found}"),
            });
        }
        let counters = Arc::<Counters>::default();
        let joined = Quic::join(connection.clone(), quic, options, Arc::clone(&counters)).await;
        let carrier = joined.map_err(|error| match connection.close_reason() {
            // It was the handshake that failed, only later: see `WELCOME`.
            Some(reason) => of_connecting(reason, peer),
            None => error,
        })?;
        Ok(Connection::over_quic(
            peer,
            address.to_string(),
            carrier,
            counters,
        ))
    };
    tokio::select! {
        done = timeout(within, handshake) => done.unwrap_or_else(|_| {
            Err(NetError::NoAnswer { address: address.to_string(), waited: within })
        }),
        error = closed_port(address) => Err(error),
    }
}

/// Waits for the system's word that nothing can be reached there. QUIC's own socket isn't told:
/// such answers come to connected sockets only. The one byte sent is no QUIC packet, and ignored.
async fn closed_port(address: SocketAddr) -> NetError {
    let any: SocketAddr = match address {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let probe = async {
        let socket = tokio::net::UdpSocket::bind(any).await?;
        socket.connect(address).await?;
        socket.send(&[0]).await?;
        let mut answer = [0; 1];
        loop {
            // Data would be from the peer, to a byte that needs no answer.
            socket.recv(&mut answer).await?;
        }
    };
    let result: io::Result<std::convert::Infallible> = probe.await;
    let address = address.to_string();
    match result {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            NetError::NothingListens { address }
        }
        Err(error) => NetError::Unreachable {
            address,
            source: Arc::new(error),
        },
    }
}

fn peer_of(connection: &quinn::Connection) -> Result<NodeKey, NetError> {
    let chain = connection
        .peer_identity()
        .and_then(|any| any.downcast().ok());
    let chain: Option<Box<Vec<CertificateDer<'static>>>> = chain;
    tls::peer_key(chain.as_deref().map(Vec::as_slice))
}

/// The number of a TLS alert within a QUIC error (RFC 9001, section 4.8).
fn alert(code: TransportErrorCode) -> Option<rustls::AlertDescription> {
    let number = u64::from(code).checked_sub(0x100)?;
    u8::try_from(number)
        .ok()
        .map(rustls::AlertDescription::from)
}

fn of_connecting(error: ConnectionError, expected: NodeKey) -> NetError {
    match error {
        // The peer's word.
        ConnectionError::ConnectionClosed(close) => match alert(close.error_code) {
            Some(alert) => {
                NetError::of_tls_as_client(&rustls::Error::AlertReceived(alert), expected)
            }
            None if close.error_code == TransportErrorCode::CONNECTION_REFUSED => NetError::Busy,
            None => of_connection(ConnectionError::ConnectionClosed(close)),
        },
        ConnectionError::ApplicationClosed(close)
            if close.error_code == code::NOT_ACCEPTED.into() =>
        {
            NetError::Refused {
                detail: super::error::words_of_a_peer(&close.reason),
            }
        }
        // Our own.
        ConnectionError::TransportError(error) if alert(error.code).is_some() => {
            NetError::WrongPeer {
                expected,
                detail: error.reason,
            }
        }
        other => of_connection(other),
    }
}

fn of_listening(error: ConnectionError) -> NetError {
    match error {
        ConnectionError::TransportError(error) if alert(error.code).is_some() => {
            NetError::NotAccepted {
                detail: error.reason,
            }
        }
        other => of_connection(other),
    }
}
