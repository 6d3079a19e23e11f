//! One key pair for sshd, one for whoever logs in, and the configurations that name them.

use crate::disk::text;
use crate::shell::run;
use anyhow::Result;
use std::fs;
use std::path::{Path, PathBuf};

/// Files that sshd and ssh are started with.
pub(crate) struct Keys {
    pub(crate) server_config: PathBuf,
    pub(crate) client_config: PathBuf,
}

impl Keys {
    /// Makes everything in `dir`.
    pub(crate) fn make(dir: &Path) -> Result<Self> {
        fs::create_dir_all(dir)?;
        let file = |name: &str| dir.join(name);
        for name in ["host", "client"] {
            let path = file(name);
            let words = [
                "ssh-keygen",
                "-q",
                "-t",
                "ed25519",
                "-N",
                "",
                "-C",
                "",
                "-f",
            ];
            run(&[&words[..], &[text(&path)?]].concat())?;
        }
        fs::copy(file("client.pub"), file("authorized"))?;
        let host = fs::read_to_string(file("host.pub"))?;
        fs::write(file("known"), format!("* {host}"))?;
        let at = |name: &str| dir.join(name).display().to_string();
        // Everything else is OpenSSH's default, ciphers too.
        let server = format!(
            "Port 22\nHostKey {}\nAuthorizedKeysFile {}\nPermitRootLogin prohibit-password\n\
             PasswordAuthentication no\nKbdInteractiveAuthentication no\nUsePAM no\nUseDNS no\n\
             StrictModes no\nPidFile none\nMaxStartups 200\nLogLevel ERROR\n",
            at("host"),
            at("authorized"),
        );
        let client = format!(
            "IdentityFile {}\nIdentitiesOnly yes\nUserKnownHostsFile {}\n\
             StrictHostKeyChecking yes\nBatchMode yes\nLogLevel ERROR\n",
            at("client"),
            at("known"),
        );
        fs::write(file("sshd_config"), server)?;
        fs::write(file("ssh_config"), client)?;
        Ok(Self {
            server_config: file("sshd_config"),
            client_config: file("ssh_config"),
        })
    }
}
