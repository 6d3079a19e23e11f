//! Listening over QUIC.
//!
//! A listener reads nothing but TLS from anybody, allows so many handshakes at once and each so
//! much time, and yields a connection only when its peer's own key is accepted.

use std::{
    fmt,
    net::SocketAddr,
    sync::{Arc, Mutex as StdMutex, PoisonError},
};

use quinn::Incoming;
use rustls::pki_types::TrustAnchor;
use tokio::{
    sync::{Mutex, Semaphore, mpsc},
    task::JoinHandle,
    time::timeout,
};

use super::{
    connection::{Connection, Counters, WeakConnection},
    error::{NetError, code},
    goodbye,
    identity::Identity,
    limits::Options,
    quic::{Quic, of_listening, peer_of},
    tls,
    trust::TrustStore,
    tuning::{self, HALF_OPEN_MAX, HALF_OPEN_RETRY},
};

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
        let quic = quinn::Endpoint::new(
            tuning::endpoint(Some(&configs.identity)),
            Some(unused),
            socket,
            runtime,
        )
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

    fn build(&self, anchors: Vec<TrustAnchor<'static>>) -> Result<quinn::ServerConfig, NetError> {
        let crypto = tls::quic_server(tls::server(&self.identity, anchors)?)?;
        let mut config = quinn::ServerConfig::with_crypto(Arc::new(crypto));
        let mut transport = tuning::transport();
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
    let options = options.for_peer(peer);
    let counters = Arc::<Counters>::default();
    let carrier = Quic::welcome(connection, quic, options, Arc::clone(&counters)).await?;
    let connection = Connection::over_quic(peer, remote, carrier, counters);
    trust.admit(&connection).inspect_err(|error| {
        connection.close(error.close_code(), "no more connections for this key");
    })?;
    Ok(connection)
}
