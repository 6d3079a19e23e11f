//! Certificates of sites: made where nobody has one, and checked before a web server reads them.
//!
//! Never shown: a private key, not even in an error.

use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, PublicKeyData as _};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use thiserror::Error;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// Why a certificate can't be used.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum CertificateError {
    /// No certificate in the text.
    #[error("There is no certificate in the file")]
    NoCertificate,
    /// No private key in the text.
    #[error("There is no private key in the file")]
    NoKey,
    /// It isn't understood.
    #[error("The certificate can't be read: {0}")]
    Unreadable(String),
    /// The key is another one's.
    #[error("The key doesn't belong to the certificate")]
    OtherKey,
    /// A certificate of the chain doesn't follow from the one before.
    #[error("The chain is broken: certificate {0} didn't sign the one before it")]
    BrokenChain(usize),
    /// None could be made.
    #[error("No certificate could be made: {0}")]
    NotMade(String),
}

/// What a certificate says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateFacts {
    /// Valid from, in seconds since 1970.
    pub not_before_s: i64,
    /// Valid until, in seconds since 1970.
    pub not_after_s: i64,
    /// The host names in it, `*.` included.
    pub names: Vec<String>,
    /// It was signed by its own key.
    pub is_self_signed: bool,
}

impl CertificateFacts {
    /// Does it hold for this host name?
    pub fn covers(&self, host: &str) -> bool {
        self.names.iter().any(|name| {
            let wild = name.strip_prefix("*.");
            let below = host.split_once('.').map(|(_, rest)| rest);
            name.eq_ignore_ascii_case(host)
                || wild.is_some_and(|it| below.is_some_and(|rest| it.eq_ignore_ascii_case(rest)))
        })
    }
}

/// A self-signed certificate for these host names, with its key, both as PEM: ten years, since
/// nobody trusts it any less at its end.
///
/// # Errors
/// A name that can't be in a certificate.
pub fn self_signed(hosts: &[&str]) -> Result<(String, String), CertificateError> {
    let not_made = |error: rcgen::Error| CertificateError::NotMade(error.to_string());
    let hosts: Vec<String> = hosts.iter().map(|it| (*it).to_owned()).collect();
    let mut params = CertificateParams::new(hosts.clone()).map_err(not_made)?;
    params.distinguished_name = DistinguishedName::new();
    if let Some(first) = hosts.first() {
        // A common name has 64 characters at most; nobody reads it any more.
        let name: String = first.chars().take(64).collect();
        params.distinguished_name.push(DnType::CommonName, name);
    }
    let today = jiff::Zoned::now().date();
    let (year, month, day) = (i32::from(today.year()), today.month(), today.day());
    let number = |it: i8| u8::try_from(it).unwrap_or(1);
    // A clock that is a little behind shall not make it one from the future.
    params.not_before = rcgen::date_time_ymd(year - 1, number(month), number(day).min(28));
    params.not_after = rcgen::date_time_ymd(year + 10, number(month), number(day).min(28));
    let key = KeyPair::generate().map_err(not_made)?;
    let certificate = params.self_signed(&key).map_err(not_made)?;
    Ok((certificate.pem(), key.serialize_pem()))
}

/// Checks that a certificate can be read, that its chain follows from it, and that the key is its
/// own.
///
/// # Errors
/// Which of these doesn't hold.
pub fn check(chain_pem: &str, key_pem: &str) -> Result<CertificateFacts, CertificateError> {
    let chain: Vec<CertificateDer<'_>> = CertificateDer::pem_slice_iter(chain_pem.as_bytes())
        .collect::<Result<_, _>>()
        .map_err(|error| CertificateError::Unreadable(error.to_string()))?;
    let leaf = chain.first().ok_or(CertificateError::NoCertificate)?;
    let key =
        PrivateKeyDer::from_pem_slice(key_pem.as_bytes()).map_err(|_| CertificateError::NoKey)?;
    let key = KeyPair::try_from(&key).map_err(|_| CertificateError::NoKey)?;
    let parsed = parse(leaf)?;
    if parsed.public_key().raw != key.subject_public_key_info().as_slice() {
        return Err(CertificateError::OtherKey);
    }
    for (index, pair) in chain.windows(2).enumerate() {
        let [one, next] = pair else { continue };
        let (one, next) = (parse(one)?, parse(next)?);
        if one.issuer() != next.subject() {
            return Err(CertificateError::BrokenChain(index + 2));
        }
    }
    let names = parsed.subject_alternative_name();
    let names = names.ok().flatten().map(|it| {
        let names = it.value.general_names.iter();
        names
            .filter_map(|name| match name {
                GeneralName::DNSName(name) => Some((*name).to_owned()),
                _ => None,
            })
            .collect()
    });
    Ok(CertificateFacts {
        not_before_s: parsed.validity().not_before.timestamp(),
        not_after_s: parsed.validity().not_after.timestamp(),
        names: names.unwrap_or_default(),
        is_self_signed: parsed.issuer() == parsed.subject(),
    })
}

fn parse<'a>(certificate: &'a CertificateDer<'_>) -> Result<X509Certificate<'a>, CertificateError> {
    let parsed = X509Certificate::from_der(certificate);
    let parsed = parsed.map_err(|error| CertificateError::Unreadable(error.to_string()));
    parsed.map(|(_, certificate)| certificate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_of_our_own_passes_its_check() {
        let (chain, key) = self_signed(&["www.example.com", "example.com"]).unwrap();
        let facts = check(&chain, &key).unwrap();
        assert!(facts.is_self_signed);
        assert!(facts.covers("www.example.com") && facts.covers("example.com"));
        assert!(!facts.covers("other.example.com"));
        assert!(facts.not_after_s - facts.not_before_s > 10 * 365 * 86_400);
    }

    #[test]
    fn a_key_of_another_certificate_and_a_chain_that_leads_nowhere_are_found() {
        let (one, key) = self_signed(&["a.example"]).unwrap();
        let (other, other_key) = self_signed(&["b.example"]).unwrap();
        assert!(matches!(
            check(&one, &other_key),
            Err(CertificateError::OtherKey)
        ));
        assert!(matches!(
            check(&format!("{one}{other}"), &key),
            Err(CertificateError::BrokenChain(2))
        ));
        assert!(matches!(
            check("", &key),
            Err(CertificateError::NoCertificate)
        ));
        assert!(matches!(check(&one, "x"), Err(CertificateError::NoKey)));
    }
}
