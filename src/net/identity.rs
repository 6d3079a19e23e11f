//! Our own key: made, kept in a file, and turned into the certificate that peers pin.
//!
//! `key.pem` is the identity. The certificate follows from it (Ed25519 signatures and our fields
//! are deterministic), so it is made again at every start; `cert.pem` is written for people and for
//! `openssl x509`, and never read. A key file that others can read is refused, not repaired: it may
//! have been copied already.

use std::{
    fmt, fs,
    io::{self, Read as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use rcgen::{CertificateParams, DistinguishedName, DnType, PKCS_ED25519, PublicKeyData as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, pem::PemObject as _};
use thiserror::Error;

use super::{key::NodeKey, tls};

/// A PKCS #8 v1 private key is these bytes and a seed of 32 (RFC 8410, section 7).
const PKCS8_HEAD: [u8; 16] = [
    0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20,
];

/// LIMIT: a key file is about 120 bytes; whatever is larger isn't one.
const KEY_FILE_MAX_BYTES: u64 = 16 * 1024;

/// A node's private key with its self-signed certificate.
#[derive(Clone)]
pub struct Identity {
    key: NodeKey,
    certificate: CertificateDer<'static>,
    secret_pkcs8: Arc<[u8]>,
}

/// Why there is no identity.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum IdentityError {
    /// Somebody else may have read the key.
    #[error("Key file {} may be read by others (mode {mode:03o}, owner {owner})", path.display())]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
        /// Its owner's user id.
        owner: u32,
    },
    /// There is a key already; a second one would silently be another node.
    #[error("Key file {} exists already", path.display())]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// The file system refused.
    #[error("Key file {} could not be {verb}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What was tried.
        verb: &'static str,
        /// The system's answer.
        source: io::Error,
    },
    /// The bytes are not an Ed25519 private key.
    #[error("Not an Ed25519 private key in PKCS #8 form: {detail}")]
    Key {
        /// What the parser said; never the key.
        detail: String,
    },
    /// The system has no randomness to give.
    #[error("The system's random generator failed")]
    Random,
}

impl Identity {
    /// A new node, in memory only.
    pub fn generate() -> Result<Self, IdentityError> {
        Self::from_seed(&random_seed()?)
    }

    /// The identity in directory `dir`, which is made (0700) together with a new key if there is
    /// none yet.
    pub fn load_or_create(dir: &Path) -> Result<Self, IdentityError> {
        match Self::load(dir) {
            Err(IdentityError::File { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                // RACE: two first starts at once; the one that comes second takes the other's key.
                match Self::create(dir) {
                    Err(IdentityError::Exists { .. }) => Self::load(dir),
                    made => made,
                }
            }
            loaded => loaded,
        }
    }

    /// Makes a key and writes `key.pem` (0600) and `cert.pem`. An existing key is never replaced.
    pub fn create(dir: &Path) -> Result<Self, IdentityError> {
        let made = Self::generate()?;
        let path = dir.join("key.pem");
        let failed = |source| IdentityError::File {
            path: path.clone(),
            verb: "written",
            source,
        };
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(dir)
            .map_err(failed)?;
        match publish(dir, "key.pem", 0o600, made.key_pem().as_bytes()) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                return Err(IdentityError::Exists { path });
            }
            written => written.map_err(failed)?,
        }
        match publish(dir, "cert.pem", 0o644, made.certificate_pem().as_bytes()) {
            // A certificate left behind by a key that somebody removed is only a copy for people.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                tracing::warn!(dir = %dir.display(), "cert.pem belongs to an older key");
            }
            written => written.map_err(failed)?,
        }
        Ok(made)
    }

    /// The identity in directory `dir`.
    pub fn load(dir: &Path) -> Result<Self, IdentityError> {
        let path = dir.join("key.pem");
        let failed = |source| IdentityError::File {
            path: path.clone(),
            verb: "read",
            source,
        };
        let file = fs::File::open(&path).map_err(failed)?;
        // RACE: none. The permissions are those of the file that is read, not of the name.
        let meta = file.metadata().map_err(failed)?;
        let (mode, owner) = (meta.mode() & 0o7777, meta.uid());
        let ours = owner == 0 || owner == rustix::process::geteuid().as_raw();
        if mode & 0o077 != 0 || !ours {
            return Err(IdentityError::Exposed { path, mode, owner });
        }
        let mut pem = Vec::new();
        file.take(KEY_FILE_MAX_BYTES)
            .read_to_end(&mut pem)
            .map_err(failed)?;
        let der = PrivatePkcs8KeyDer::from_pem_slice(&pem).map_err(|error| IdentityError::Key {
            detail: error.to_string(),
        })?;
        Self::from_pkcs8(der.secret_pkcs8_der())
    }

    /// The node whose Ed25519 seed this is.
    pub(super) fn from_seed(seed: &[u8; 32]) -> Result<Self, IdentityError> {
        Self::from_pkcs8(&[&PKCS8_HEAD[..], &seed[..]].concat())
    }

    fn from_pkcs8(pkcs8: &[u8]) -> Result<Self, IdentityError> {
        let refuse = |error: rcgen::Error| IdentityError::Key {
            detail: error.to_string(),
        };
        let pair = rcgen::KeyPair::from_pkcs8_der_and_sign_algo(&pkcs8.into(), &PKCS_ED25519)
            .map_err(refuse)?;
        let key: [u8; 32] = pair
            .der_bytes()
            .try_into()
            .map_err(|_| IdentityError::Key {
                detail: "its public half is odd".into(),
            })?;
        let key = NodeKey::from_bytes(key);
        // Not a CA, no dates that matter (1975 to 4096), no serial that differs from run to run.
        let mut fields = CertificateParams::new([tls::SERVER_NAME.to_owned()]).map_err(refuse)?;
        fields.distinguished_name = DistinguishedName::new();
        fields.distinguished_name.push(DnType::CommonName, key.id());
        let certificate = fields.self_signed(&pair).map_err(refuse)?.into();
        Ok(Self {
            key,
            certificate,
            secret_pkcs8: pkcs8.into(),
        })
    }

    /// A key for another purpose, from the node's secret.
    pub(super) fn derived_key(&self, purpose: &str) -> [u8; 32] {
        blake3::derive_key(purpose, &self.secret_pkcs8)
    }

    /// Who we are.
    pub fn key(&self) -> NodeKey {
        self.key
    }

    /// The certificate that we present.
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// The private key, for a TLS configuration.
    pub(super) fn private_key(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::Pkcs8(self.secret_pkcs8.to_vec().into())
    }

    fn key_pem(&self) -> String {
        pem("PRIVATE KEY", &self.secret_pkcs8)
    }

    fn certificate_pem(&self) -> String {
        pem("CERTIFICATE", &self.certificate)
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity")
            .field("key", &self.key)
            .finish_non_exhaustive()
    }
}

/// 32 bytes from the same generator that TLS uses.
pub(super) fn random_seed() -> Result<[u8; 32], IdentityError> {
    let mut seed = [0; 32];
    tls::provider()
        .secure_random
        .fill(&mut seed)
        .map_err(|_| IdentityError::Random)?;
    Ok(seed)
}

/// RFC 7468: base64 in lines of 64.
fn pem(label: &str, der: &[u8]) -> String {
    let body = data_encoding::BASE64.encode(der);
    let mut text = format!("-----BEGIN {label}-----\n");
    for start in (0..body.len()).step_by(64) {
        text.push_str(&body[start..body.len().min(start + 64)]);
        text.push('\n');
    }
    text + &format!("-----END {label}-----\n")
}

/// Writes a file so that its name appears with all its bytes or not at all, and replaces nothing.
fn publish(dir: &Path, name: &str, mode: u32, bytes: &[u8]) -> io::Result<()> {
    let draft = dir.join(format!(".{name}.{:016x}", rand::random::<u64>()));
    let result = (|| {
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(&draft)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        // ORDER: the bytes are durable before the name is. A link, unlike a rename, replaces
        // nothing.
        fs::hard_link(&draft, dir.join(name))?;
        fs::File::open(dir)?.sync_all()
    })();
    match fs::remove_file(&draft) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => result.and(Err(error)),
        _ => result,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn an_identity_survives_a_restart_with_its_certificate() {
        let dir = tempfile::tempdir().unwrap();
        let place = dir.path().join("agent");
        let made = Identity::load_or_create(&place).unwrap();
        let again = Identity::load_or_create(&place).unwrap();
        assert_eq!(made.key(), again.key());
        assert_eq!(made.certificate(), again.certificate());
        let mode = fs::metadata(place.join("key.pem")).unwrap().mode();
        assert_eq!(mode & 0o777, 0o600);
        let names = fs::read_dir(&place).unwrap().count();
        assert_eq!(names, 2, "drafts were left behind");
    }

    #[test]
    fn a_key_that_others_can_read_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        Identity::create(dir.path()).unwrap();
        let path = dir.path().join("key.pem");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        let refused = Identity::load_or_create(dir.path()).unwrap_err();
        assert!(
            matches!(refused, IdentityError::Exposed { mode: 0o640, .. }),
            "{refused}"
        );
    }

    #[test]
    fn an_existing_key_is_never_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let made = Identity::create(dir.path()).unwrap();
        assert!(matches!(
            Identity::create(dir.path()),
            Err(IdentityError::Exists { .. })
        ));
        assert_eq!(Identity::load(dir.path()).unwrap().key(), made.key());
    }

    #[test]
    fn a_damaged_key_is_an_error_and_not_a_panic() {
        let dir = tempfile::tempdir().unwrap();
        for content in [&b""[..], b"-----BEGIN PRIVATE KEY-----\n", &[0xff; 40_000]] {
            let path = dir.path().join("key.pem");
            fs::write(&path, content).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
            assert!(matches!(
                Identity::load(dir.path()),
                Err(IdentityError::Key { .. })
            ));
        }
    }

    #[test]
    fn the_private_half_stays_out_of_debug_output() {
        let node = Identity::generate().unwrap();
        let shown = format!("{node:?}");
        let secret = data_encoding::HEXLOWER.encode(&node.secret_pkcs8[16..24]);
        assert!(
            !shown.contains(&secret) && !shown.contains("pkcs8"),
            "{shown}"
        );
    }
}
