//! References to secrets, resolved: the hub's store, files, programs, credentials, the environment.
//!
//! Refuses: a file that others can read, and the environment where no person sits at a terminal (it
//! is inherited by every program, and shows in `/proc`). Invariant: no error holds a secret, nor
//! what a program printed on its standard output.

use super::HubDir;
use crate::model::{Secret, SecretName, SecretRef};
use crate::proc::{Program, RunError};
use crate::store::{MAX_SECRET_BYTES, SecretFileError, SecretStore, read_secret_file, secret_of};
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;
use thiserror::Error;
use zeroize::Zeroizing;

/// A password store may ask for a passphrase first.
const PROGRAM_TIMEOUT: Duration = Duration::from_secs(60);

/// Why a secret can't be had.
#[derive(Debug, Error)]
pub enum SecretError {
    /// The store has none of that name.
    #[error("There is no secret `{0}`")]
    Unknown(SecretName),
    /// A file: the store's own, one that is referred to, or a credential.
    #[error(transparent)]
    File(#[from] SecretFileError),
    /// The line is no list of words.
    #[error("The command of a secret has an unclosed quote: {0}")]
    Command(String),
    /// The program failed.
    #[error("The command of a secret failed")]
    Program(#[from] RunError),
    /// The program printed nothing, or no text.
    #[error("`{0}` printed no secret")]
    Nothing(String),
    /// systemd gave this process none.
    #[error("There is no credential `{0}`: this process has no credentials of systemd")]
    NoCredentials(SecretName),
    /// Not from a timer or a service.
    #[error("`env:{0}` is for use on a terminal only")]
    NotInteractive(SecretName),
    /// No such variable.
    #[error("The variable {0} is not set")]
    NoVariable(SecretName),
}

impl SecretError {
    /// What to do about it, where that is known.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Unknown(name) => Some(format!("fanout secret set {name}")),
            Self::File(SecretFileError::Exposed { path, .. }) => {
                Some(format!("chmod 600 {}", path.display()))
            }
            Self::NoCredentials(name) => Some(format!(
                "LoadCredential={name}:PATH in the unit gives it one"
            )),
            Self::NotInteractive(_) => {
                Some("`fanout secret set NAME` keeps it for timers and services".into())
            }
            _ => None,
        }
    }
}

/// Where a hub gets its secrets from.
#[derive(Clone, Debug)]
pub struct Secrets {
    store: SecretStore,
    credentials: Option<PathBuf>,
    is_interactive: bool,
}

impl Secrets {
    /// Those of the hub in that directory. `is_interactive` says whether a person sits at a
    /// terminal.
    pub fn new(dir: &HubDir, is_interactive: bool) -> Self {
        Self {
            store: SecretStore::new(dir.secrets()),
            credentials: std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from),
            is_interactive,
        }
    }

    /// The hub's own store, to keep secrets in and to ensure those that nobody chose.
    pub fn store(&self) -> &SecretStore {
        &self.store
    }

    /// The secret that is referred to. Programs are run anew each time.
    pub async fn resolve(&self, reference: &SecretRef) -> Result<Secret, SecretError> {
        match reference {
            SecretRef::Stored(name) => self
                .store
                .read(name)?
                .ok_or_else(|| SecretError::Unknown(name.clone())),
            SecretRef::File(path) => Ok(read_secret_file(path.as_path())?),
            SecretRef::Command(line) => self.printed(line).await,
            SecretRef::Credential(name) => {
                let directory = self.credentials.as_deref();
                let directory: &Path =
                    directory.ok_or_else(|| SecretError::NoCredentials(name.clone()))?;
                Ok(read_secret_file(&directory.join(name.as_str()))?)
            }
            SecretRef::Env(name) if !self.is_interactive => {
                Err(SecretError::NotInteractive(name.clone()))
            }
            SecretRef::Env(name) => std::env::var_os(name.as_str())
                .map(OsString::into_string)
                .and_then(Result::ok)
                .map(Zeroizing::new)
                .and_then(|text| secret_of(&text))
                .ok_or_else(|| SecretError::NoVariable(name.clone())),
        }
    }

    /// True if the reference leads nowhere for sure; looks and reads nothing. For plans.
    pub fn is_missing(&self, reference: &SecretRef) -> bool {
        match reference {
            SecretRef::Stored(name) => matches!(self.store.read(name), Ok(None)),
            SecretRef::File(path) => {
                let found = path.as_path().symlink_metadata();
                found.is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
            }
            SecretRef::Command(_) | SecretRef::Credential(_) | SecretRef::Env(_) => false,
        }
    }

    async fn printed(&self, line: &str) -> Result<Secret, SecretError> {
        let words = shlex::split(line).ok_or_else(|| SecretError::Command(line.to_owned()))?;
        let (name, arguments) = words
            .split_first()
            .ok_or_else(|| SecretError::Command(line.to_owned()))?;
        let mut program = Program::new(name)
            .args(arguments)
            .timeout(PROGRAM_TIMEOUT)
            .output_limit(usize::try_from(MAX_SECRET_BYTES).unwrap_or(usize::MAX));
        if self.is_interactive {
            program = program.keep_terminal();
        }
        let output = program.succeed().await?;
        let printed = Zeroizing::new(output.stdout);
        std::str::from_utf8(&printed)
            .ok()
            .and_then(secret_of)
            .ok_or_else(|| SecretError::Nothing(name.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;

    struct Ground {
        secrets: Secrets,
        directory: tempfile::TempDir,
    }

    fn ground() -> Ground {
        let directory = tempfile::tempdir().unwrap();
        let dir = HubDir::new(Some(directory.path()));
        dir.create().unwrap();
        let mut secrets = Secrets::new(&dir, false);
        secrets.credentials = None;
        Ground { secrets, directory }
    }

    impl Ground {
        fn file(&self, text: &str, mode: u32) -> String {
            let path = self.directory.path().join("secret-file");
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            path.display().to_string()
        }

        async fn resolve(&self, reference: &str) -> Result<String, SecretError> {
            let secret = self.secrets.resolve(&reference.parse().unwrap()).await?;
            Ok(secret.expose().to_owned())
        }
    }

    #[tokio::test]
    async fn a_stored_secret_is_resolved_by_its_name() {
        let ground = ground();
        let missing = ground.resolve("secret:db1").await.unwrap_err();
        assert_eq!(missing.to_string(), "There is no secret `db1`");
        assert_eq!(missing.hint().unwrap(), "fanout secret set db1");
        let name = "db1".parse().unwrap();
        let store = ground.secrets.store();
        store.write(&name, &Secret::new("hunter2".into())).unwrap();
        assert_eq!(ground.resolve("secret:db1").await.unwrap(), "hunter2");
        assert!(!ground.secrets.is_missing(&"secret:db1".parse().unwrap()));
        assert!(ground.secrets.is_missing(&"secret:db2".parse().unwrap()));
    }

    #[tokio::test]
    async fn a_file_that_others_can_read_is_refused() {
        let ground = ground();
        let path = ground.file("hunter2\n", 0o600);
        assert_eq!(
            ground.resolve(&format!("file:{path}")).await.unwrap(),
            "hunter2"
        );
        for mode in [0o640, 0o604, 0o620] {
            ground.file("hunter2\n", mode);
            let error = ground.resolve(&format!("file:{path}")).await.unwrap_err();
            assert!(
                matches!(error, SecretError::File(SecretFileError::Exposed { .. })),
                "{mode:o}: {error}"
            );
            assert!(!format!("{error} {error:?}").contains("hunter2"));
        }
    }

    #[tokio::test]
    async fn a_program_is_run_without_a_shell() {
        let ground = ground();
        let path = ground.file("one two", 0o600);
        assert_eq!(
            ground
                .resolve(&format!("command:cat '{path}'"))
                .await
                .unwrap(),
            "one two"
        );
        assert_eq!(
            ground.resolve("command:echo $HOME; id").await.unwrap(),
            "$HOME; id"
        );
        let failed = ground.resolve("command:false").await.unwrap_err();
        assert!(matches!(
            failed,
            SecretError::Program(RunError::Failed { .. })
        ));
        assert!(matches!(
            ground.resolve("command:true").await.unwrap_err(),
            SecretError::Nothing(_)
        ));
    }

    #[tokio::test]
    async fn the_environment_is_for_people_and_credentials_are_for_units() {
        let mut ground = ground();
        let refused = ground.resolve("env:PATH").await.unwrap_err();
        assert!(matches!(refused, SecretError::NotInteractive(_)));
        ground.secrets.is_interactive = true;
        assert_eq!(
            ground.resolve("env:PATH").await.unwrap(),
            std::env::var("PATH").unwrap()
        );
        assert!(ground.resolve("credential:db1").await.is_err());
        ground.secrets.credentials = Some(ground.directory.path().to_owned());
        ground.file("from systemd", 0o400);
        assert_eq!(
            ground.resolve("credential:secret-file").await.unwrap(),
            "from systemd"
        );
    }
}
