//! A MariaDB server of a test's own, on a host of its own: its data lie in the host's memory.

use super::host::Host;
use super::run::{Output, Running, USUAL_TIME, run_within, wait_until};

const DATA: &str = "/var/lib/test-mariadb";
const SOCKET: &str = "/run/mysqld/mysqld.sock";

/// A running server; it ends with this value.
#[derive(Debug)]
pub(crate) struct MariaDb {
    running: Running,
}

impl MariaDb {
    /// Starts a server with a fresh data directory, root by the socket only, no other accounts.
    #[track_caller]
    pub(crate) fn start(host: &Host, options: &[&str]) -> Self {
        host.sh(&format!(
            "mkdir -p /run/mysqld {DATA} && chown mysql:mysql /run/mysqld {DATA} &&
             mariadb-install-db --no-defaults --user=mysql --datadir={DATA} --skip-test-db \
                 --auth-root-authentication-method=socket >/dev/null"
        ))
        .success();
        Self::start_again(host, options)
    }

    /// Starts a server on the data that are there.
    #[track_caller]
    pub(crate) fn start_again(host: &Host, options: &[&str]) -> Self {
        let (data, socket) = (format!("--datadir={DATA}"), format!("--socket={SOCKET}"));
        let words = [
            "mariadbd",
            "--no-defaults",
            "--user=mysql",
            &data,
            &socket,
            "--bind-address=*",
            "--skip-log-bin",
            "--innodb-flush-log-at-trx-commit=0",
        ];
        let mut running = host.spawn(&[&words[..], options].concat());
        let answers = || host.run(&["mariadb", "-S", SOCKET, "-e", "SELECT 1"]).code == Some(0);
        assert!(
            wait_until(USUAL_TIME, answers),
            "{}",
            running.output().describe()
        );
        Self { running }
    }

    /// Stops the server, as a machine that is cut off would.
    pub(crate) fn kill(&mut self) {
        self.running.kill();
    }
}

/// Runs statements as root, over the socket; rows are lines, columns are apart by tabs.
#[track_caller]
pub(crate) fn as_root(host: &Host, sql: &str) -> String {
    sql_over(host, &["-S", SOCKET], sql).success().text()
}

/// Runs statements with these options of the client.
#[track_caller]
pub(crate) fn sql_over(host: &Host, options: &[&str], sql: &str) -> Output {
    let mut command = host.command("mariadb");
    command.args(["--no-defaults", "--batch", "--skip-column-names"]);
    // `--no-defaults` has to come first, and the password is a test's.
    run_within(command.args(options), sql.as_bytes(), USUAL_TIME)
}
