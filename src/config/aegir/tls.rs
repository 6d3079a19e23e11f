//! Certificates below `config/ssl.d`.

use super::contexts::read_text;
use std::path::Path;

const BEGIN: &str = "-----BEGIN CERTIFICATE-----";

/// A certificate with its private key.
pub(super) struct Certificate {
    /// The certificate with its chain, where it isn't one file; else the file has both.
    pub(super) text: Option<String>,
    /// The file that has them, relative to the certificate's directory.
    pub(super) file: &'static str,
    /// The private key.
    pub(super) key: String,
}

/// What lies in the directory of a key.
pub(super) fn certificate(directory: &Path) -> Result<Certificate, String> {
    let read = |name: &str| {
        let path = directory.join(name);
        read_text(&path).map_err(|error| format!("{}: {error}", path.display()))
    };
    let own = read("openssl.crt")?;
    let key = read("openssl.key")?;
    if !own.contains(BEGIN) || !key.contains("PRIVATE KEY-----") {
        return Err(format!(
            "{} holds no certificate in PEM",
            directory.display()
        ));
    }
    let chain = read("openssl_chain.crt").unwrap_or_default();
    // With nginx the chain file begins with the certificate itself, with apache it doesn't.
    let (text, file) = match (chain.contains(BEGIN), first(&chain) == first(&own)) {
        (false, _) => (None, "openssl.crt"),
        (true, true) => (None, "openssl_chain.crt"),
        (true, false) => (
            Some(format!("{}\n{}\n", own.trim(), chain.trim())),
            "openssl.crt",
        ),
    };
    Ok(Certificate { text, file, key })
}

/// The first certificate of a file, without white space.
fn first(pem: &str) -> String {
    let body = pem.split(BEGIN).nth(1).unwrap_or_default();
    let body = body.split("-----END").next().unwrap_or_default();
    body.split_whitespace().collect()
}
