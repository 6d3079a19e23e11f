//! `[database]` of `agent.toml`: how an agent logs in to the database server on its machine.

use super::{ConfigError, file};
use crate::model::AbsPath;
use serde::Deserialize;
use std::fmt::Write as _;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// How the agent logs in as an administrator.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LocalDatabase {
    /// The server's socket; Debian's if it isn't said.
    pub socket: Option<AbsPath>,
    /// TCP instead of the socket: a port on this machine.
    pub port: Option<u16>,
    /// The account.
    pub user: String,
    /// A file with its password; none where the socket says who somebody is.
    pub password_file: Option<AbsPath>,
}

/// Where Debian has it.
const SOCKET: &str = "/run/mysqld/mysqld.sock";

impl Default for LocalDatabase {
    fn default() -> Self {
        Self {
            socket: None,
            port: None,
            user: "root".into(),
            password_file: None,
        }
    }
}

impl LocalDatabase {
    /// Where the server's socket is.
    pub fn socket_path(&self) -> &Path {
        self.socket
            .as_ref()
            .map_or(Path::new(SOCKET), AbsPath::as_path)
    }

    /// The password, if there is one.
    ///
    /// # Errors
    /// The file can't be read, or others can read it.
    pub fn password(&self) -> Result<Option<String>, ConfigError> {
        let Some(path) = &self.password_file else {
            return Ok(None);
        };
        let path = Path::new(path.as_str());
        let bytes = file::read(path, "database password")?;
        let failed = |source| ConfigError::Read {
            path: path.to_owned(),
            source,
        };
        let metadata = std::fs::metadata(path).map_err(failed)?;
        if metadata.mode() & 0o077 != 0 {
            let exposed = "others than its owner can read it (chmod 600)";
            return Err(failed(std::io::Error::other(exposed)));
        }
        let text = String::from_utf8_lossy(&bytes);
        Ok(Some(text.trim_end_matches(['\r', '\n']).to_owned()))
    }

    /// The lines of `agent.toml`, if they say anything.
    pub(super) fn to_toml(&self) -> String {
        if *self == Self::default() {
            return String::new();
        }
        let quoted = |text: &str| toml_edit::Value::from(text).to_string();
        let mut text = String::from("\n# The database server on this machine.\n[database]\n");
        if let Some(socket) = &self.socket {
            let _infallible = writeln!(text, "socket = {}", quoted(socket.as_str()));
        }
        if let Some(port) = self.port {
            let _infallible = writeln!(text, "port = {port}");
        }
        let _infallible = writeln!(text, "user = {}", quoted(&self.user));
        if let Some(path) = &self.password_file {
            let _infallible = writeln!(text, "password_file = {}", quoted(path.as_str()));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_password_that_others_can_read_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("password");
        std::fs::write(&path, "secret\n").unwrap();
        let mode = |mode| {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        };
        let database = LocalDatabase {
            password_file: Some(path.to_str().unwrap().parse().unwrap()),
            ..LocalDatabase::default()
        };
        mode(0o644);
        assert!(database.password().is_err());
        mode(0o600);
        assert_eq!(database.password().unwrap().as_deref(), Some("secret"));
        assert_eq!(LocalDatabase::default().password().unwrap(), None);
    }
}
