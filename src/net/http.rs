//! One request to a web server at a given address, as a visitor of one of its sites would send it.
//!
//! Owns the way a site is looked at from outside: the host name goes into the request and into the
//! TLS handshake, the address is given. Follows no redirect, uses no proxy, reads a bounded part of
//! the body. A certificate is accepted whatever it is, and reported: this looks, it doesn't trust.

use super::tls::provider;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use sha2::{Digest as _, Sha256};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use sync_proto::wire::service::{Certificate, Probed};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

/// LIMIT: bytes of a body that are read.
pub const BODY_BYTES: usize = 4 << 20;
/// Bytes of a body that are kept for a person to read.
const EXCERPT_BYTES: usize = 64 << 10;

/// What to ask, and where.
#[derive(Clone, Debug)]
pub struct Question {
    /// The web server.
    pub at: SocketAddr,
    /// Over TLS.
    pub tls: bool,
    /// The host name in the request and in the handshake.
    pub host: String,
    /// Path and query.
    pub path: String,
    /// Of the headers only.
    pub head: bool,
    /// As a balancer that ends TLS would ask.
    pub forwarded_tls: bool,
    /// For so long at most.
    pub within: Duration,
}

/// Asks. Whatever goes wrong is part of the answer.
pub async fn probe(question: &Question) -> Probed {
    let began = Instant::now();
    let mut probed = Probed::default();
    if let Err(error) = ask(question, began, &mut probed).await {
        probed.status = 0;
        probed.error = error;
    }
    probed.elapsed_us = micros(began);
    probed
}

/// The first address of a host.
///
/// # Errors
/// It has none, or nobody knows.
pub async fn resolve(host: &str, port: u16) -> std::io::Result<SocketAddr> {
    let mut all = tokio::net::lookup_host((host, port)).await?;
    all.next()
        .ok_or_else(|| std::io::ErrorKind::NotFound.into())
}

async fn ask(question: &Question, began: Instant, probed: &mut Probed) -> Result<(), String> {
    let tls = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anybody(provider())))
        .with_no_client_auth();
    let client = reqwest::Client::builder()
        .tls_backend_preconfigured(tls)
        .tls_info(true)
        .no_proxy()
        .http1_only()
        .redirect(reqwest::redirect::Policy::none())
        .pool_max_idle_per_host(0)
        .timeout(question.within)
        .resolve(&question.host, question.at)
        .build()
        .map_err(|error| words(&error))?;
    let scheme = if question.tls { "https" } else { "http" };
    let url = format!(
        "{scheme}://{}:{}{}",
        question.host,
        question.at.port(),
        question.path
    );
    let mut request = match question.head {
        true => client.head(url),
        false => client.get(url),
    };
    // Without the port: sites are told apart by their names alone.
    request = request
        .header("Host", &question.host)
        .header("User-Agent", concat!("fanout/", env!("CARGO_PKG_VERSION")));
    if question.forwarded_tls {
        request = request.header("X-Forwarded-Proto", "https");
    }
    let mut response = request.send().await.map_err(|error| words(&error))?;
    probed.first_us = micros(began);
    probed.status = response.status().as_u16();
    let header = |name: &str| {
        let value = response.headers().get(name);
        value.map_or_else(String::new, |value| {
            String::from_utf8_lossy(value.as_bytes()).into_owned()
        })
    };
    probed.location = header("location");
    probed.content_type = header("content-type");
    let shown = response.extensions().get::<reqwest::tls::TlsInfo>();
    if let Some(der) = shown.and_then(|info| info.peer_certificate()) {
        probed.certificate = Some(certificate(der, &question.host)?);
    }
    let mut body = blake3::Hasher::new();
    let mut excerpt = Vec::new();
    let mut body_bytes = 0;
    while let Some(chunk) = response.chunk().await.map_err(|error| words(&error))? {
        let room = BODY_BYTES - body_bytes;
        let part = &chunk[..chunk.len().min(room)];
        body.update(part);
        body_bytes += part.len();
        let wanted = EXCERPT_BYTES - excerpt.len();
        excerpt.extend_from_slice(&part[..part.len().min(wanted)]);
        if part.len() < chunk.len() {
            probed.is_cut = true;
            break;
        }
    }
    probed.digest = *body.finalize().as_bytes();
    probed.body_bytes = body_bytes as u64;
    probed.excerpt = String::from_utf8_lossy(&excerpt).into_owned();
    Ok(())
}

/// The reason at the bottom: reqwest's own words only repeat the address.
fn words(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        return "no answer in time".into();
    }
    let mut deepest: &dyn std::error::Error = error;
    while let Some(source) = deepest.source() {
        deepest = source;
    }
    deepest.to_string()
}

fn micros(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_micros()).unwrap_or(u64::MAX)
}

/// What a certificate says.
fn certificate(der: &[u8], host: &str) -> Result<Certificate, String> {
    let (_, parsed) = X509Certificate::from_der(der)
        .map_err(|error| format!("a certificate that can't be read: {error}"))?;
    let mut names: Vec<String> = Vec::new();
    if let Ok(Some(alternative)) = parsed.subject_alternative_name() {
        for name in &alternative.value.general_names {
            if let GeneralName::DNSName(name) = name {
                names.push((*name).to_owned());
            }
        }
    }
    Ok(Certificate {
        subject: parsed.subject().to_string(),
        issuer: parsed.issuer().to_string(),
        matches: names.iter().any(|name| covers(name, host)),
        names,
        is_self_signed: parsed.subject() == parsed.issuer(),
        not_before: parsed.validity().not_before.timestamp(),
        not_after: parsed.validity().not_after.timestamp(),
        sha256: Sha256::digest(der).into(),
    })
}

/// Is the certificate's name for this host? A star stands for one label in front.
fn covers(name: &str, host: &str) -> bool {
    let (name, host) = (name.to_ascii_lowercase(), host.to_ascii_lowercase());
    match name.strip_prefix("*.") {
        Some(parent) => host.split_once('.').is_some_and(|(_, rest)| rest == parent),
        None => name == host,
    }
}

/// Accepts every certificate whose key is really there.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

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
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(
            message,
            cert,
            signed,
            &self.0.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(
            message,
            cert,
            signed,
            &self.0.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    fn question(at: SocketAddr, host: &str) -> Question {
        Question {
            at,
            tls: false,
            host: host.into(),
            path: "/a?b=c".into(),
            head: false,
            forwarded_tls: false,
            within: Duration::from_secs(5),
        }
    }

    #[test]
    fn a_star_stands_for_one_label() {
        assert!(covers("www.example.com", "WWW.example.com"));
        assert!(covers("*.example.com", "www.example.com"));
        assert!(!covers("*.example.com", "example.com"));
        assert!(!covers("*.example.com", "a.b.example.com"));
    }

    #[tokio::test]
    async fn the_host_name_goes_to_the_address_that_is_given() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut asked = vec![0; 4096];
            let read = stream.read(&mut asked).await.unwrap();
            let body = "x".repeat(1000);
            let answer = format!(
                "HTTP/1.1 302 Found\r\nLocation: /there\r\nContent-Length: 1000\r\n\r\n{body}"
            );
            stream.write_all(answer.as_bytes()).await.unwrap();
            String::from_utf8_lossy(&asked[..read]).to_ascii_lowercase()
        });
        let probed = probe(&question(at, "www.example.com")).await;
        let asked = server.await.unwrap();
        assert!(asked.starts_with("get /a?b=c http/1.1\r\n"), "{asked}");
        assert!(asked.contains("host: www.example.com\r\n"), "{asked}");
        assert_eq!((probed.status, probed.location.as_str()), (302, "/there"));
        assert_eq!(probed.body_bytes, 1000);
        assert_eq!(probed.excerpt.len(), 1000);
        assert_eq!(probed.digest, *blake3::hash(&[b'x'; 1000]).as_bytes());
    }

    #[tokio::test]
    async fn what_does_not_answer_says_why() {
        let at = {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            listener.local_addr().unwrap()
        };
        let probed = probe(&question(at, "www.example.com")).await;
        assert_eq!(probed.status, 0);
        assert!(probed.error.contains("refused"), "{}", probed.error);
        let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut question = question(silent.local_addr().unwrap(), "www.example.com");
        question.within = Duration::from_millis(100);
        assert_eq!(probe(&question).await.error, "no answer in time");
    }
}
