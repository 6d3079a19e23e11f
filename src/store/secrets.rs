//! The hub's own secrets: one file each, readable by its owner alone, apart from the database and
//! its history.
//!
//! Owns: `secrets/` in the state directory. Refuses: a file there that others can read, for it may
//! have been copied already. Invariants: a secret is replaced whole or not at all; two tasks that
//! ensure the same one end with the same text; no error and no `Debug` holds a secret.

use crate::model::{Secret, SecretName};
use rand::RngExt;
use rand::distr::{Alphanumeric, SampleString};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use thiserror::Error;
use zeroize::Zeroizing;

/// LIMIT: a private key with its chain is a few KiB.
pub const MAX_SECRET_BYTES: u64 = 64 * 1024;
/// Permission bits that would let others in.
const OTHERS: u32 = 0o077;

/// Why a secret can't be read or kept.
#[derive(Debug, Error)]
pub enum SecretFileError {
    /// Somebody else may have read it.
    #[error("{} may be read by others (mode {mode:04o}, owner {owner})", path.display())]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
        /// Its owner's user id.
        owner: u32,
    },
    /// Larger than any secret.
    #[error("{} is larger than {MAX_SECRET_BYTES} bytes", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// Neither a password nor a key in PEM.
    #[error("{} is not text", path.display())]
    NotText {
        /// The file.
        path: PathBuf,
    },
    /// Nothing, or a line feed.
    #[error("{} is empty", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// The file system refused.
    #[error("{} could not be {verb}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What was tried.
        verb: &'static str,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
}

/// How a secret that nobody chose is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Generator {
    /// Letters and digits, 32 of them (190 bits): safe in every settings file and every shell.
    Password,
    /// Letters and digits, 64 of them.
    Salt,
    /// Hexadecimal digits in lower case, 64 of them.
    HexKey,
}

impl Generator {
    /// A new secret from the system-seeded cryptographic generator.
    pub fn generate(self) -> Secret {
        let mut chance = rand::rng();
        Secret::new(match self {
            Self::Password => Alphanumeric.sample_string(&mut chance, 32),
            Self::Salt => Alphanumeric.sample_string(&mut chance, 64),
            Self::HexKey => {
                let bytes: Zeroizing<[u8; 32]> = Zeroizing::new(chance.random());
                data_encoding::HEXLOWER.encode(&*bytes)
            }
        })
    }
}

/// The secrets of one hub.
#[derive(Clone, Debug)]
pub struct SecretStore {
    directory: PathBuf,
}

impl SecretStore {
    /// The secrets in that directory, which needn't be there yet.
    pub fn new(directory: PathBuf) -> Self {
        Self { directory }
    }

    /// The secret of that name, if there is one.
    pub fn read(&self, name: &SecretName) -> Result<Option<Secret>, SecretFileError> {
        match read_secret_file(&self.path(name)) {
            Err(SecretFileError::File { source, .. })
                if source.kind() == io::ErrorKind::NotFound =>
            {
                Ok(None)
            }
            other => other.map(Some),
        }
    }

    /// Puts a secret there, in the place of one that is. True if there was none.
    pub fn write(&self, name: &SecretName, secret: &Secret) -> Result<bool, SecretFileError> {
        let path = self.path(name);
        let is_new = !path.exists();
        let temporary = self.write_beside(name, secret)?;
        rename(&temporary, &path)
            .and_then(|()| self.sync())
            .map_err(|source| {
                let _gone = fs::remove_file(&temporary);
                failed(&path, "written", source)
            })?;
        Ok(is_new)
    }

    /// The secret of that name; a new one if there is none. Of several that ensure it at the same
    /// time, one makes it and all get it.
    pub fn ensure(&self, name: &SecretName, new: Generator) -> Result<Secret, SecretFileError> {
        self.ensure_with(name, || new.generate())
    }

    /// As [`SecretStore::ensure`], with a maker of one's own.
    pub fn ensure_with(
        &self,
        name: &SecretName,
        new: impl FnOnce() -> Secret,
    ) -> Result<Secret, SecretFileError> {
        if let Some(secret) = self.read(name)? {
            return Ok(secret);
        }
        let path = self.path(name);
        let made = new();
        let temporary = self.write_beside(name, &made)?;
        // A second link, unlike a rename, fails where another was first.
        let linked = fs::hard_link(&temporary, &path).and_then(|()| self.sync());
        let _gone = fs::remove_file(&temporary);
        match linked {
            Ok(()) => Ok(made),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => read_secret_file(&path),
            Err(source) => Err(failed(&path, "written", source)),
        }
    }

    /// Removes a secret. False if there was none.
    pub fn remove(&self, name: &SecretName) -> Result<bool, SecretFileError> {
        let path = self.path(name);
        match fs::remove_file(&path).and_then(|()| self.sync()) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(source) => Err(failed(&path, "removed", source)),
        }
    }

    /// The names of all secrets, sorted.
    pub fn names(&self) -> Result<Vec<SecretName>, SecretFileError> {
        let entries = match fs::read_dir(&self.directory) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(source) => return Err(failed(&self.directory, "read", source)),
        };
        let mut names = Vec::new();
        for entry in entries {
            let entry = entry.map_err(|source| failed(&self.directory, "read", source))?;
            // What an interrupted write left behind starts with a dot, which no name does.
            if let Some(name) = entry
                .file_name()
                .to_str()
                .and_then(|name| name.parse().ok())
            {
                names.push(name);
            }
        }
        names.sort();
        Ok(names)
    }

    fn path(&self, name: &SecretName) -> PathBuf {
        self.directory.join(name.as_str())
    }

    /// Writes a secret under a name of this process and moment alone.
    fn write_beside(&self, name: &SecretName, secret: &Secret) -> Result<PathBuf, SecretFileError> {
        let chance: u64 = rand::rng().random();
        let temporary = self.directory.join(format!(".{name}.{chance:016x}.tmp"));
        let written = fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.directory)
            .and_then(|()| {
                let mut file = OpenOptions::new()
                    .write(true)
                    .create_new(true)
                    .mode(0o600)
                    .open(&temporary)?;
                file.write_all(secret.expose().as_bytes())?;
                // ORDER: content before name, so that a power cut leaves a whole secret or none.
                file.sync_all()
            });
        if written.is_err() {
            let _gone = fs::remove_file(&temporary);
        }
        written.map_err(|source| failed(&temporary, "written", source))?;
        Ok(temporary)
    }

    fn sync(&self) -> io::Result<()> {
        File::open(&self.directory)?.sync_all()
    }
}

/// The text of a file that only its owner can read, without one line feed at its end.
pub fn read_secret_file(path: &Path) -> Result<Secret, SecretFileError> {
    let unreadable = |source| failed(path, "read", source);
    let mut file = File::open(path).map_err(unreadable)?;
    // ORDER: the opened file is looked at, not its name, which may mean another one by now.
    let found = file.metadata().map_err(unreadable)?;
    let us = rustix::process::geteuid().as_raw();
    let is_ours = found.uid() == us || found.uid() == 0;
    if found.mode() & OTHERS != 0 || !is_ours {
        return Err(SecretFileError::Exposed {
            path: path.to_owned(),
            mode: found.mode() & 0o7777,
            owner: found.uid(),
        });
    }
    let mut bytes = Zeroizing::new(Vec::new());
    Read::by_ref(&mut file)
        .take(MAX_SECRET_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(unreadable)?;
    if bytes.len() as u64 > MAX_SECRET_BYTES {
        return Err(SecretFileError::TooLarge {
            path: path.to_owned(),
        });
    }
    let text = std::str::from_utf8(&bytes).map_err(|_| SecretFileError::NotText {
        path: path.to_owned(),
    })?;
    secret_of(text).ok_or_else(|| SecretFileError::Empty {
        path: path.to_owned(),
    })
}

/// A text as a secret: without one line feed at its end; nothing if nothing is left.
pub fn secret_of(text: &str) -> Option<Secret> {
    let text = text.strip_suffix('\n').unwrap_or(text);
    let text = text.strip_suffix('\r').unwrap_or(text);
    (!text.trim().is_empty()).then(|| Secret::new(text.to_owned()))
}

#[expect(
    clippy::disallowed_methods,
    reason = "a directory of the hub's own, which nobody else can write to"
)]
fn rename(from: &Path, to: &Path) -> io::Result<()> {
    fs::rename(from, to)
}

fn failed(path: &Path, verb: &'static str, source: io::Error) -> SecretFileError {
    SecretFileError::File {
        path: path.to_owned(),
        verb,
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;
    use std::sync::Barrier;

    fn name(text: &str) -> SecretName {
        text.parse().unwrap()
    }

    fn store() -> (tempfile::TempDir, SecretStore) {
        let directory = tempfile::tempdir().unwrap();
        let store = SecretStore::new(directory.path().join("secrets"));
        (directory, store)
    }

    #[test]
    fn a_secret_is_kept_for_its_owner_alone() {
        let (_directory, store) = store();
        assert_eq!(store.names().unwrap(), []);
        assert!(store.read(&name("a")).unwrap().is_none());
        assert!(store.write(&name("a"), &Secret::new("one".into())).unwrap());
        assert!(!store.write(&name("a"), &Secret::new("two".into())).unwrap());
        assert_eq!(store.read(&name("a")).unwrap().unwrap().expose(), "two");
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&store.path(&name("a"))), 0o600);
        assert_eq!(mode(&store.directory), 0o700);
        assert_eq!(store.names().unwrap(), [name("a")]);
        assert!(store.remove(&name("a")).unwrap());
        assert!(!store.remove(&name("a")).unwrap());
        assert_eq!(
            fs::read_dir(&store.directory).unwrap().count(),
            0,
            "no leftovers"
        );
    }

    #[test]
    fn what_others_could_read_is_not_used() {
        let (_directory, store) = store();
        store.write(&name("a"), &Secret::new("one".into())).unwrap();
        let open = fs::Permissions::from_mode(0o644);
        fs::set_permissions(store.path(&name("a")), open).unwrap();
        let error = store.read(&name("a")).unwrap_err();
        assert!(matches!(
            error,
            SecretFileError::Exposed { mode: 0o644, .. }
        ));
        let again = store.ensure(&name("a"), Generator::Password).unwrap_err();
        assert!(matches!(again, SecretFileError::Exposed { .. }));
    }

    #[test]
    fn tasks_that_ensure_the_same_secret_get_the_same() {
        let (_directory, store) = store();
        let barrier = Barrier::new(8);
        let made: Vec<Secret> = std::thread::scope(|scope| {
            let tasks: Vec<_> = (0..8)
                .map(|_| {
                    scope.spawn(|| {
                        barrier.wait();
                        store.ensure(&name("salt"), Generator::Salt).unwrap()
                    })
                })
                .collect();
            tasks.into_iter().map(|task| task.join().unwrap()).collect()
        });
        assert!(made.iter().all(|secret| *secret == made[0]));
        assert_eq!(
            fs::read_dir(&store.directory).unwrap().count(),
            1,
            "no leftovers"
        );
    }

    #[test]
    fn made_secrets_are_long_and_differ() {
        for (generator, length) in [
            (Generator::Password, 32),
            (Generator::Salt, 64),
            (Generator::HexKey, 64),
        ] {
            let one = generator.generate();
            assert_eq!(one.expose().len(), length);
            assert!(one.expose().bytes().all(|b| b.is_ascii_alphanumeric()));
            assert_ne!(one, generator.generate());
        }
    }

    #[test]
    fn one_line_feed_at_the_end_does_not_count() {
        let text = |text: &str| secret_of(text).map(|secret| secret.expose().to_owned());
        assert_eq!(text("a\n").unwrap(), "a");
        assert_eq!(text("a \r\n").unwrap(), "a ");
        assert_eq!(text("a\nb\n").unwrap(), "a\nb");
        assert_eq!((text(""), text("\n"), text(" \n")), (None, None, None));
    }
}
