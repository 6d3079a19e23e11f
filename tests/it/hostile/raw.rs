//! Below the messages: a peer that frames wrongly, opens what it shouldn't, or never finishes. It
//! speaks QUIC itself, with a key that is trusted.

use super::peer::{LIMIT, Until, hello, runtime};
use super::victim::{SMALL_GROWTH_KIB, Victim, identity};
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::{
    Connection, ConnectionError, Endpoint, RecvStream, SendStream, TransportConfig, VarInt,
};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::version::TLS13;
use rustls::{DigitallySignedStruct, SignatureScheme};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use sync_proto::wire::{self, Reply, Request};

const WELCOME: &[u8] = b"fanout/1\n";
/// How long something that must not happen is waited for.
const SHORT: Duration = Duration::from_millis(700);

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

fn key(dir: &Path) -> PrivateKeyDer<'static> {
    PrivateKeyDer::from_pem_file(dir.join("key.pem")).unwrap()
}

/// Takes any server: what is tested is the server.
#[derive(Debug)]
struct Anybody;

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }
}

/// The configuration of a client with the identity in `dir`, which takes `window` bytes at a time.
fn client(dir: &Path, window: u32) -> quinn::ClientConfig {
    let tls = client_tls(dir);
    let mut config = quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls).unwrap()));
    let mut transport = TransportConfig::default();
    transport.stream_receive_window(VarInt::from_u32(window));
    transport.keep_alive_interval(Some(Duration::from_secs(1)));
    config.transport_config(Arc::new(transport));
    config
}

/// The TLS of such a client.
pub(super) fn client_tls(dir: &Path) -> rustls::ClientConfig {
    let mut tls = rustls::ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anybody))
        .with_client_auth_cert(vec![identity(dir).certificate().clone()], key(dir))
        .unwrap();
    tls.alpn_protocols = vec![b"fanout/1".to_vec()];
    tls
}

/// A server with the identity in `dir`, which lets anybody in.
pub(super) fn server(dir: &Path, listen: SocketAddr) -> std::io::Result<Endpoint> {
    let crypto = Arc::new(QuicServerConfig::try_from(server_tls(dir)).unwrap());
    let mut config = quinn::ServerConfig::with_crypto(crypto);
    let mut transport = TransportConfig::default();
    transport.keep_alive_interval(Some(Duration::from_secs(1)));
    config.transport_config(Arc::new(transport));
    Endpoint::server(config, listen)
}

/// The TLS of such a server.
pub(super) fn server_tls(dir: &Path) -> rustls::ServerConfig {
    let mut tls = rustls::ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![identity(dir).certificate().clone()], key(dir))
        .unwrap();
    tls.alpn_protocols = vec![b"fanout/1".to_vec()];
    tls
}

fn endpoint() -> Endpoint {
    Endpoint::client((Ipv4Addr::UNSPECIFIED, 0).into()).unwrap()
}

/// One connection, with its control stream in hand.
pub(super) struct Raw {
    _endpoint: Endpoint,
    pub(super) connection: Connection,
    pub(super) out: SendStream,
    pub(super) from: RecvStream,
}

impl Raw {
    pub(super) async fn connect(
        dir: &Path,
        agent: SocketAddr,
        window: u32,
    ) -> Result<Self, ConnectionError> {
        let endpoint = endpoint();
        let connecting = endpoint
            .connect_with(client(dir, window), agent, "fanout")
            .unwrap();
        let connection = connecting.await?;
        let (out, mut from) = connection.accept_bi().await?;
        let mut word = [0; WELCOME.len()];
        match from.read_exact(&mut word).await {
            Ok(()) => assert_eq!(word, WELCOME),
            Err(_) => return Err(connection.closed().await),
        }
        Ok(Self {
            _endpoint: endpoint,
            connection,
            out,
            from,
        })
    }

    pub(super) async fn send(&mut self, request: &Request) {
        let bytes = framed(&wire::encode(request).unwrap());
        self.out.write_all(&bytes).await.unwrap();
    }

    async fn reply(&mut self) -> Reply {
        let mut length = [0; 4];
        self.from.read_exact(&mut length).await.unwrap();
        let mut bytes = vec![0; u32::from_le_bytes(length) as usize];
        self.from.read_exact(&mut bytes).await.unwrap();
        wire::decode(&bytes).unwrap()
    }

    /// The code with which the victim closes.
    pub(super) async fn closed(&self) -> u64 {
        match tokio::time::timeout(LIMIT, self.connection.closed()).await {
            Ok(ConnectionError::ApplicationClosed(closed)) => closed.error_code.into_inner(),
            other => panic!("not closed by the victim: {other:?}"),
        }
    }
}

pub(super) fn framed(message: &[u8]) -> Vec<u8> {
    let mut bytes = u32::try_from(message.len()).unwrap().to_le_bytes().to_vec();
    bytes.extend_from_slice(message);
    bytes
}

/// The two lengths in front of an object.
pub(super) fn object(header_bytes: u32, body_bytes: u64, rest: &[u8]) -> Vec<u8> {
    let mut bytes = header_bytes.to_le_bytes().to_vec();
    bytes.extend_from_slice(&body_bytes.to_le_bytes());
    bytes.extend_from_slice(rest);
    bytes
}

enum Wrong {
    /// On the control stream.
    Control(Vec<u8>),
    /// On a stream of its own; whether that ends there.
    Object(Vec<u8>, bool),
    EndOfControl,
}

enum End {
    Closed(u64),
    /// The stream alone.
    Stopped(u64),
}

#[test]
fn who_frames_wrongly_is_closed_or_stopped_and_named_once() {
    let mut victim = Victim::start(&[], SMALL_GROWTH_KIB);
    let dir = victim.world.hub_dir().join("state/identity");
    let pack = [0];
    let cases = [
        (
            "a control message of 4 GiB",
            Wrong::Control(vec![0xFF; 8]),
            End::Closed(2),
            "control message",
        ),
        (
            "one byte above the limit",
            Wrong::Control((1024 * 1024 + 4 * 1024 + 1_u32).to_le_bytes().to_vec()),
            End::Closed(2),
            "control message",
        ),
        (
            "the end of the control stream",
            Wrong::EndOfControl,
            End::Closed(3),
            "control stream",
        ),
        (
            "a header of 4 GiB",
            Wrong::Object(object(u32::MAX, 1, &[0; 64]), false),
            End::Stopped(2),
            "header",
        ),
        (
            "a header above 1 KiB",
            Wrong::Object(object(1025, 1, &[0; 64]), false),
            End::Stopped(2),
            "header",
        ),
        (
            "a body of 16 EiB",
            Wrong::Object(object(1, u64::MAX, &pack), false),
            End::Stopped(2),
            "object",
        ),
        (
            "a body above the limit",
            Wrong::Object(object(1, 67_108_947, &pack), false),
            End::Stopped(2),
            "object",
        ),
        (
            "an object that ends in its header",
            Wrong::Object(object(9, 1, &pack), true),
            End::Closed(3),
            "",
        ),
        (
            "an object that ends in its body",
            Wrong::Object(object(1, 9, &[0, 1, 1]), true),
            End::Closed(3),
            "",
        ),
        (
            "an object that doesn't end",
            Wrong::Object(object(1, 1, &[0, 1, 1, 1]), true),
            End::Closed(3),
            "",
        ),
    ];
    for (what, wrong, end, said) in cases {
        runtime().block_on(async {
            let mut raw = Raw::connect(&dir, victim.agent.0, 1 << 20).await.unwrap();
            raw.send(&hello((1, 1))).await;
            assert!(matches!(raw.reply().await, Reply::Hello { .. }));
            let mut stream = None;
            match wrong {
                Wrong::Control(bytes) => raw.out.write_all(&bytes).await.unwrap(),
                Wrong::EndOfControl => raw.out.finish().unwrap(),
                Wrong::Object(bytes, ends) => {
                    let mut object = raw.connection.open_uni().await.unwrap();
                    object.write_all(&bytes).await.unwrap();
                    if ends {
                        object.finish().unwrap();
                    }
                    stream = Some(object);
                }
            }
            match end {
                End::Closed(code) => assert_eq!(raw.closed().await, code, "{what}"),
                End::Stopped(code) => {
                    // Dropping it would end it.
                    let object = stream.unwrap();
                    let stopped = object.stopped();
                    let stopped = tokio::time::timeout(LIMIT, stopped).await.unwrap().unwrap();
                    assert_eq!(stopped.map(VarInt::into_inner), Some(code), "{what}");
                    raw.send(&Request::Ping).await;
                    assert!(matches!(raw.reply().await, Reply::Pong { .. }), "{what}");
                }
            }
        });
        victim.has_said_once(what, said);
        victim.is_well(what);
    }
    victim.serves_its_own_hub();
}

#[test]
fn streams_beyond_those_of_the_protocol_are_not_opened() {
    let mut victim = Victim::start(&[], SMALL_GROWTH_KIB);
    let dir = victim.world.hub_dir().join("state/identity");
    runtime().block_on(async {
        let raw = Raw::connect(&dir, victim.agent.0, 1 << 20).await.unwrap();
        let second = tokio::time::timeout(SHORT, raw.connection.open_bi()).await;
        assert!(second.is_err(), "a second bidirectional stream");
        let mut open = Vec::new();
        for nth in 0..32 {
            let mut stream = raw.connection.open_uni().await.unwrap();
            stream.write_all(&object(1, 1 << 20, &[nth])).await.unwrap();
            open.push(stream);
        }
        let further = tokio::time::timeout(SHORT, raw.connection.open_uni()).await;
        assert!(further.is_err(), "a further object at the same time");
    });
    victim.is_well("streams that never end");
    victim.serves_its_own_hub();
}

/// More handshakes than the agent has places for, none of which goes on: whoever comes then has to
/// prove its address, and is let in.
#[test]
fn handshakes_that_nobody_finishes_keep_nobody_out() {
    let mut victim = Victim::start(&[], SMALL_GROWTH_KIB);
    let dir = victim.world.hub_dir().join("state/identity");
    let agent = victim.agent.0;
    let ear = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    ear.set_read_timeout(Some(LIMIT)).unwrap();
    let mut first_packets = Vec::new();
    runtime().block_on(async {
        for _ in 0..150 {
            let endpoint = endpoint();
            let nowhere = ear.local_addr().unwrap();
            let connecting = endpoint
                .connect_with(client(&dir, 1024), nowhere, "fanout")
                .unwrap();
            let mut packet = [0; 2000];
            // The first packet of a handshake is sent by the endpoint's own task.
            let (length, _) = tokio::task::block_in_place(|| ear.recv_from(&mut packet)).unwrap();
            first_packets.push(packet[..length].to_vec());
            drop(connecting);
        }
    });
    let senders: Vec<UdpSocket> = first_packets
        .iter()
        .map(|packet| {
            let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
            socket.send_to(packet, agent).unwrap();
            for _ in 0..20 {
                // And what is no packet of anything.
                socket.send_to(&[0x5A; 1200], agent).unwrap();
            }
            socket
        })
        .collect();
    victim.serves_its_own_hub();
    victim.is_well("stalled handshakes");
    drop(senders);
}

/// Kept here, next to what it is made of.
pub(super) async fn greeted(
    dir: &Path,
    agent: SocketAddr,
    until: Until,
) -> Result<Raw, ConnectionError> {
    let window = if until == Until::Greeted {
        1 << 20
    } else {
        1024
    };
    let mut raw = Raw::connect(dir, agent, window).await?;
    let greeting = framed(&wire::encode(&hello((1, 1))).unwrap());
    let sent = raw.out.write_all(&greeting).await;
    // Who gets no place may hear so before or after it greets.
    let refused = tokio::time::timeout(SHORT, raw.connection.closed()).await;
    match (sent, refused) {
        (Ok(()), Err(_)) => Ok(raw),
        (Ok(()) | Err(_), Ok(error)) => Err(error),
        (Err(_), Err(_)) => Err(raw.connection.closed().await),
    }
}
