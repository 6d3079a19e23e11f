//! Who gets in, and what everybody else gets: a failed handshake.

use rcgen::{CertificateParams, DnType, Issuer, KeyPair, PKCS_ED25519};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::{super::error::code, *};

struct Agent {
    key: NodeKey,
    identity: Identity,
    trust: TrustStore,
    endpoint: Endpoint,
}

fn agent() -> Agent {
    let (identity, trust) = (node(), TrustStore::new());
    let address = loopback(Carrier::Quic4);
    let options = Options::default();
    let endpoint = Endpoint::server(address, identity.clone(), trust.clone(), options).unwrap();
    Agent {
        key: identity.key(),
        identity,
        trust,
        endpoint,
    }
}

impl Agent {
    async fn dial(&self, hub: &Identity) -> Result<Connection, NetError> {
        soon(connect_to(
            &[self.endpoint.address()],
            hub,
            self.key,
            &Options::default(),
        ))
        .await
    }

    /// The same over a pipe; the agent's side of it is kept open for a moment.
    async fn dial_pipe(&self, hub: &Identity, peer: NodeKey) -> [Result<Connection, NetError>; 2] {
        let (near, far) = tokio::io::duplex(64 * 1024);
        let options = Options::default();
        let server = Side::Server(&self.trust);
        let (hub, agent) = soon(async {
            tokio::join!(
                Connection::over_pipe(near, "near", hub, Side::Client(peer), &options),
                Connection::over_pipe(far, "far", &self.identity, server, &options),
            )
        })
        .await;
        [hub, agent]
    }

    async fn nobody_came(&self) {
        let accept = self.endpoint.accept();
        let nobody = tokio::time::timeout(Duration::from_millis(100), accept).await;
        assert!(nobody.is_err(), "somebody got in: {nobody:?}");
    }
}

fn is_refused<T: std::fmt::Debug>(outcome: Result<T, NetError>) {
    assert!(
        matches!(outcome, Err(NetError::Refused { .. })),
        "{outcome:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_is_not_accepted_gets_a_failed_handshake() {
    let agent = agent();
    let (hub, stranger) = (node(), node());
    // Nobody is accepted yet.
    is_refused(agent.dial(&hub).await);
    is_refused(agent.dial(&agent.identity).await);
    agent.trust.accept(hub.key(), Role::Hub);
    is_refused(agent.dial(&stranger).await);
    agent.nobody_came().await;
    let [near, far] = agent.dial_pipe(&stranger, agent.key).await;
    is_refused(near);
    assert!(matches!(far, Err(NetError::NotAccepted { .. })), "{far:?}");
    // And the change holds without a restart.
    agent.trust.accept(stranger.key(), Role::Member);
    let connection = agent.dial(&stranger).await.unwrap();
    assert_eq!(
        soon(agent.endpoint.accept()).await.unwrap().peer(),
        stranger.key()
    );
    drop(connection);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_machine_at_the_address_is_not_talked_to() {
    let agent = agent();
    let (hub, expected) = (node(), node());
    agent.trust.accept(hub.key(), Role::Hub);
    let addresses = [agent.endpoint.address()];
    let wrong = soon(connect_to(
        &addresses,
        &hub,
        expected.key(),
        &Options::default(),
    ))
    .await;
    assert!(
        matches!(wrong, Err(NetError::WrongPeer { .. })),
        "{wrong:?}"
    );
    agent.nobody_came().await;
    let [near, _] = agent.dial_pipe(&hub, expected.key()).await;
    assert!(matches!(near, Err(NetError::WrongPeer { .. })), "{near:?}");
}

/// A client of another make: our settings, but whatever certificate it likes.
async fn dial_with(
    agent: &Agent,
    chain: Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>,
) -> Result<Vec<u8>, quinn::ConnectionError> {
    let roots = rustls::RootCertStore {
        roots: vec![agent.key.anchor()],
    };
    let builder = rustls::ClientConfig::builder_with_provider(tls::provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots);
    let mut config = match chain {
        Some((chain, key)) => builder.with_client_auth_cert(chain, key).unwrap(),
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![tls::ALPN.to_vec()];
    let config = quinn::ClientConfig::new(std::sync::Arc::new(tls::quic_client(config).unwrap()));
    let quic = quinn::Endpoint::client("127.0.0.1:0".parse().unwrap()).unwrap();
    let connecting = quic
        .connect_with(config, agent.endpoint.address(), "fanout")
        .unwrap();
    let connection = soon(connecting).await?;
    let (_, mut stream) = soon(connection.accept_bi()).await?;
    Ok(soon(stream.read_to_end(100)).await.unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_certificate_there_is_no_byte_to_read() {
    let agent = agent();
    agent.trust.accept(node().key(), Role::Hub);
    let refused = dial_with(&agent, None).await.unwrap_err();
    // certificate_required, as a QUIC error.
    assert!(
        matches!(&refused, quinn::ConnectionError::ConnectionClosed(close)
            if u64::from(close.error_code) == 0x100 + 116),
        "{refused:?}"
    );
    agent.nobody_came().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_accepted_key_cannot_vouch_for_another() {
    let agent = agent();
    let member = node();
    agent.trust.accept(member.key(), Role::Member);
    // The member signs a certificate for a key that nobody accepted.
    let member_pair = KeyPair::try_from(member.private_key().secret_der()).unwrap();
    let member_der = member.certificate().clone();
    let issuer = Issuer::from_ca_cert_der(&member_der, member_pair).unwrap();
    let friend = KeyPair::generate_for(&PKCS_ED25519).unwrap();
    let mut fields = CertificateParams::new(["fanout".to_owned()]).unwrap();
    fields
        .distinguished_name
        .push(DnType::CommonName, member.key().id());
    let certificate = fields.signed_by(&friend, &issuer).unwrap();
    let key = PrivateKeyDer::try_from(friend.serialize_der()).unwrap();
    let refused = dial_with(&agent, Some((vec![certificate.der().clone()], key))).await;
    assert!(
        matches!(&refused, Err(quinn::ConnectionError::ApplicationClosed(close))
            if close.error_code == code::NOT_ACCEPTED.into()),
        "{refused:?}"
    );
    agent.nobody_came().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_lets_one_hub_in_once() {
    let agent = agent();
    let port = agent.endpoint.address().port();
    let (token, grant) = Token::mint(agent.key, Some(port), token::LIFETIME).unwrap();
    agent.trust.grant(grant);
    let invitation = Token::parse(token.text()).unwrap();
    let (address, options) = ("127.0.0.1", Options::default());
    let once = &invitation.identity;
    let dial = || {
        connect(
            address,
            invitation.port.unwrap(),
            once,
            invitation.agent,
            &options,
        )
    };
    let first = soon(dial()).await.unwrap();
    let second = soon(dial()).await.unwrap();
    let (here, there) = (
        soon(agent.endpoint.accept()).await.unwrap(),
        soon(agent.endpoint.accept()).await.unwrap(),
    );
    assert_eq!(agent.trust.role(here.peer()), Some(Role::Join));
    // Both are in, one gets its key accepted.
    let (hub, other) = (node(), node());
    assert_eq!(
        agent.trust.redeem(here.peer(), hub.key(), Role::Hub),
        Ok(())
    );
    let again = agent.trust.redeem(there.peer(), other.key(), Role::Hub);
    assert_eq!(again, Err(JoinError::NotGranted));
    drop((first, second));
    is_refused(soon(dial()).await);
    is_refused(agent.dial(&other).await);
    agent.dial(&hub).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expired_token_gets_a_failed_handshake() {
    let agent = agent();
    agent.trust.accept(node().key(), Role::Hub);
    let (token, grant) = Token::mint(agent.key, None, Duration::from_millis(900)).unwrap();
    agent.trust.grant(grant);
    let invitation = Token::parse(token.text()).unwrap();
    let in_time = agent.dial(&invitation.identity).await.unwrap();
    // Grants are kept in whole seconds, rounded up.
    tokio::time::sleep(Duration::from_millis(2000)).await;
    is_refused(agent.dial(&invitation.identity).await);
    // Who came in time is still there, and too late all the same.
    let late = agent
        .trust
        .redeem(in_time_peer(&agent).await, node().key(), Role::Hub);
    assert!(
        matches!(late, Err(JoinError::Expired | JoinError::NotGranted)),
        "{late:?}"
    );
    drop(in_time);
}

async fn in_time_peer(agent: &Agent) -> NodeKey {
    soon(agent.endpoint.accept()).await.unwrap().peer()
}

#[tokio::test(flavor = "multi_thread")]
async fn revoking_a_key_closes_its_connections_and_no_others() {
    for carrier in CARRIERS {
        let pair = pair(carrier).await;
        let other = node();
        pair.trust.accept(other.key(), Role::Hub);
        assert_eq!(pair.trust.revoke(other.key()), 0);
        assert!(pair.hub.is_open());
        assert_eq!(pair.trust.revoke(pair.hub_key), 1, "{carrier:?}");
        let end = soon(pair.hub.recv()).await.unwrap_err();
        assert!(
            matches!(end, NetError::Closed { code: 1, .. }),
            "{carrier:?}: {end}"
        );
        assert!(soon(pair.agent.send(b"too late")).await.is_err());
        assert_eq!(pair.trust.revoke(pair.hub_key), 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trust_file_read_again_closes_what_it_no_longer_lists() {
    let pair = pair(Carrier::Quic4).await;
    assert_eq!(pair.trust.replace([(pair.hub_key, Role::Hub)]), 0);
    assert!(pair.hub.is_open());
    assert_eq!(pair.trust.replace([(node().key(), Role::Hub)]), 1);
    let end = soon(pair.hub.recv()).await.unwrap_err();
    assert!(matches!(end, NetError::Closed { code: 1, .. }), "{end}");
}

#[tokio::test(flavor = "multi_thread")]
async fn many_handshakes_at_once_are_delayed_and_not_refused() {
    let agent = agent();
    let hub = node();
    agent.trust.accept(hub.key(), Role::Hub);
    let mut dialing = tokio::task::JoinSet::new();
    // More than are let in without a proof of the address.
    for _ in 0..2 * tuning::HALF_OPEN_RETRY - 1 {
        let (hub, address, key) = (hub.clone(), agent.endpoint.address(), agent.key);
        dialing.spawn(async move {
            let dialed = connect_to(&[address], &hub, key, &Options::default()).await;
            dialed.unwrap()
        });
    }
    let connections = soon(dialing.join_all()).await;
    for _ in &connections {
        soon(agent.endpoint.accept()).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_key_gets_only_so_many_connections() {
    let agent = agent();
    let hub = node();
    agent.trust.accept(hub.key(), Role::Hub);
    let mut kept = Vec::new();
    let refused = loop {
        match agent.dial(&hub).await {
            // Accepted by the listener, or the dialing side's next call tells.
            Ok(connection) => {
                let brief = Duration::from_millis(20);
                match tokio::time::timeout(brief, connection.recv()).await {
                    Err(_) => kept.push((connection, agent.endpoint.accept().await)),
                    Ok(ended) => break ended.unwrap_err(),
                }
            }
            Err(error) => break error,
        }
        assert!(kept.len() <= 32);
    };
    assert_eq!(kept.len(), 32, "{refused}");
    assert!(
        matches!(
            refused,
            NetError::Closed {
                code: code::BUSY,
                ..
            }
        ),
        "{refused}"
    );
}
