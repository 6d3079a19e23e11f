//! A real OpenSSH server on a host, and users who may log in to it from another host.
//!
//! Hosts have an empty `/root` and an `/etc` of their own, so the client side is what a person
//! has: a key in `~/.ssh`, `known_hosts` and `config`, found by plain `ssh` without any option.

use super::host::Host;
use super::run::{Running, USUAL_TIME};

const SERVER_CONFIG: &str = "\
Port 22
HostKey /etc/ssh/test_host_key
AuthorizedKeysFile .ssh/authorized_keys
PermitRootLogin prohibit-password
PasswordAuthentication no
KbdInteractiveAuthentication no
UsePAM no
UseDNS no
PidFile none
MaxStartups 100
Subsystem sftp internal-sftp
";

/// A server that answers on port 22 of its host until it is dropped.
#[derive(Debug)]
pub(crate) struct Sshd<'host> {
    host: &'host Host,
    public_host_key: String,
    running: Running,
}

impl<'host> Sshd<'host> {
    /// Starts a server with a new host key, and returns when it listens.
    #[track_caller]
    pub(crate) fn start(host: &'host Host) -> Self {
        // Debian's sshd wants its own empty directory; systemd or the init script usually make it.
        host.sh("install -d -m 0755 /run/sshd
             rm -f /etc/ssh/ssh_host_* /etc/ssh/test_host_key*
             ssh-keygen -q -t ed25519 -N '' -C test -f /etc/ssh/test_host_key
             usermod --password '*' root")
            .success();
        host.write("/etc/ssh/test_sshd_config", SERVER_CONFIG);
        let words = [
            "/usr/sbin/sshd",
            "-D",
            "-e",
            "-f",
            "/etc/ssh/test_sshd_config",
        ];
        let mut running = host.spawn(&words);
        running.wait_for("Server listening on 0.0.0.0", USUAL_TIME);
        let public = host
            .run(&["cat", "/etc/ssh/test_host_key.pub"])
            .success()
            .text();
        let key: Vec<_> = public.split_whitespace().take(2).collect();
        Self {
            host,
            public_host_key: key.join(" "),
            running,
        }
    }

    /// The host that the server runs on.
    pub(crate) fn host(&self) -> &'host Host {
        self.host
    }

    /// Everything that the server has logged.
    pub(crate) fn log(&mut self) -> String {
        self.running.output().error_text()
    }

    /// Lets root of `client` log in as `user`, from now on by plain `ssh USER@NAME`, with the
    /// server's host key known.
    #[track_caller]
    pub(crate) fn admit(&self, client: &Host, user: &str) {
        self.admit_as(client, user, self.host.name());
    }

    /// As [`admit`](Self::admit), by `ssh USER@NAME` with another name that `client` knows the
    /// host by.
    #[track_caller]
    pub(crate) fn admit_as(&self, client: &Host, user: &str, name: &str) {
        self.authorize(&public_key_of(client), user);
        append(
            client,
            "/root/.ssh/known_hosts",
            &format!("{name} {}\n", self.public_host_key),
        );
    }

    /// As [`admit`](Self::admit), but `ssh USER@NAME` goes through `jump`, where the same key
    /// lets root of `client` in as `jump_user`.
    #[track_caller]
    pub(crate) fn admit_through(
        &self,
        jump: &Sshd<'_>,
        jump_user: &str,
        client: &Host,
        user: &str,
    ) {
        jump.admit(client, jump_user);
        self.admit(client, user);
        let (name, jump) = (self.host.name(), jump.host.name());
        let config = format!("Host {name}\n    ProxyJump {jump_user}@{jump}\n");
        append(client, "/root/.ssh/config", &config);
    }

    fn authorize(&self, public_key: &str, user: &str) {
        self.host
            .sh(&format!(
                "home=$(getent passwd {user} | cut -d: -f6)
                 install -d -m 0700 -o {user} \"$home/.ssh\"
                 echo '{public_key}' >>\"$home/.ssh/authorized_keys\"
                 chown {user} \"$home/.ssh/authorized_keys\"
                 chmod 0600 \"$home/.ssh/authorized_keys\"",
            ))
            .success();
    }
}

/// The public key of root on `client`, which gets one if it has none.
#[track_caller]
fn public_key_of(client: &Host) -> String {
    let script = "
        install -d -m 0700 ~/.ssh
        [ -e ~/.ssh/id_ed25519 ] || ssh-keygen -q -t ed25519 -N '' -C test -f ~/.ssh/id_ed25519
        cat ~/.ssh/id_ed25519.pub";
    client.sh(script).success().text().trim().to_owned()
}

fn append(host: &Host, path: &str, text: &str) {
    host.sh(&format!("umask 077; cat >>{path} <<'END'\n{text}END"))
        .success();
}
