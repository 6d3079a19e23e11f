//! Scripts on a server, through the system's own ssh.
//!
//! The user's configuration, keys, agents, hardware keys and jump hosts all work, because it is
//! the user's ssh. A script travels on standard input, in front of whatever it is to read itself:
//! the command line holds no secret, and only characters that every login shell leaves alone.
//! Each line of an answer begins with a random word, so that neither a banner nor a chatty login
//! shell is taken for an answer.

use crate::codes::{Code, Problem};
use crate::model::SshDestination;
use crate::proc::{Output, Piped, Program, RunError};
use std::ffi::OsString;
use std::time::Duration;

/// How a server is reached by ssh.
#[derive(Clone, Debug)]
pub struct SshTarget {
    /// What ssh is given.
    pub destination: SshDestination,
    /// Become root over there by `sudo`, which must not ask for a password.
    pub sudo: bool,
    /// The ssh program and options of the user's choice.
    pub command: SshCommand,
    /// Somebody sits at a terminal whom ssh may ask for a passphrase.
    pub interactive: bool,
}

/// The ssh program with its first arguments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SshCommand(Vec<String>);

impl Default for SshCommand {
    fn default() -> Self {
        Self(vec!["ssh".to_owned()])
    }
}

impl SshCommand {
    /// `FANOUT_SSH`, such as `ssh -J bastion -i ~/.ssh/deploy`, split as a shell does; without it
    /// plain `ssh`.
    pub fn from_environment() -> Result<Self, Problem> {
        match std::env::var_os("FANOUT_SSH") {
            Some(text) if !text.is_empty() => Self::parse(&text.to_string_lossy()),
            _ => Ok(Self::default()),
        }
    }

    fn parse(text: &str) -> Result<Self, Problem> {
        match shlex::split(text) {
            Some(words) if !words.is_empty() => Ok(Self(words)),
            _ => Err(Problem::new(
                Code::SshFailed,
                format!("FANOUT_SSH is no command: {text}"),
            )
            .with_hint("Write it as for a shell, with every quote closed: FANOUT_SSH='ssh -J jump'")),
        }
    }
}

/// What a script answered.
#[derive(Debug)]
pub(super) struct Answer {
    lines: Vec<(String, String)>,
}

impl Answer {
    /// The value of the last answer with that name.
    pub(super) fn value(&self, name: &str) -> Option<&str> {
        let mut lines = self.lines.iter().rev();
        let (_, value) = lines.find(|(key, _)| key == name)?;
        Some(value)
    }
}

impl SshTarget {
    /// Runs a script in the server's `sh`. In it, `say NAME VALUE` answers, `step WORDS` says
    /// what is about to be done, and standard input is `input`.
    pub(super) async fn script(
        &self,
        script: &str,
        input: &[u8],
        limit: Duration,
    ) -> Result<Answer, Problem> {
        let marker = format!("fanout-{:032x}", rand::random::<u128>());
        let script = framed(&marker, script);
        let command = self.command_line(&first_word(script.len()));
        let mut stdin = script.into_bytes();
        stdin.extend_from_slice(input);
        let output = self
            .program(&command)
            .stdin(stdin)
            .timeout(limit)
            .run()
            .await
            .map_err(|error| self.not_run(&error))?;
        self.read(&marker, &output)
    }

    /// Starts a command on the server whose standard input and output are a connection.
    pub(super) fn pipe(&self, script: &str) -> Result<Piped, Problem> {
        let command = self.command_line(script);
        let started = self.program(&command).pipe();
        started.map_err(|error| self.not_run(&error))
    }

    fn program(&self, remote: &str) -> Program {
        let mut words = self.command.0.iter();
        let ssh: OsString = words.next().map_or("ssh".into(), OsString::from);
        let program = Program::new(ssh)
            .args(words)
            .args(["-T", "-o", "ClearAllForwardings=yes"])
            .args(["-o", "ConnectTimeout=15"])
            // A server that falls silent is noticed after half a minute.
            .args([
                "-o",
                "ServerAliveInterval=10",
                "-o",
                "ServerAliveCountMax=3",
            ]);
        let program = if self.interactive {
            program.keep_terminal()
        } else {
            program.args(["-o", "BatchMode=yes"])
        };
        program.arg(self.destination.as_str()).arg(remote)
    }

    /// `script` for the login shell, whatever that is.
    fn command_line(&self, script: &str) -> String {
        let sudo = if self.sudo { "sudo -n " } else { "" };
        format!("{sudo}sh -c {}", quoted(script))
    }

    fn read(&self, marker: &str, output: &Output) -> Result<Answer, Problem> {
        let text = output.text();
        let lines = text.lines().filter_map(|line| {
            let answer = line.strip_prefix(marker)?.trim_start();
            let (name, value) = answer.split_once(' ').unwrap_or((answer, ""));
            Some((name.to_owned(), value.trim().to_owned()))
        });
        let answer = Answer {
            lines: lines.collect(),
        };
        if answer.value("begin").is_none() {
            return Err(self.no_shell(output));
        }
        if answer.value("end").is_none() {
            return Err(self.broken_off(&answer, output));
        }
        Ok(answer)
    }

    /// The script never began.
    fn no_shell(&self, output: &Output) -> Problem {
        let complaint = last_lines(&output.complaint());
        let destination = &self.destination;
        if let Some(line) = complaint.split("; ").find(|line| line.starts_with("sudo:")) {
            return Problem::new(
                Code::SshFailed,
                format!("sudo on {destination} does not let us in: {line}"),
            )
            .with_hint(
                "Let that user run sudo without a password there (NOPASSWD in /etc/sudoers.d), or \
                 log in as root",
            );
        }
        let said = if complaint.is_empty() {
            output.status.to_string()
        } else {
            complaint
        };
        if output.status.code() == Some(255) {
            return Problem::new(Code::SshFailed, format!("ssh {destination}: {said}"));
        }
        Problem::new(
            Code::SshFailed,
            format!("The login on {destination} works, but runs no commands: {said}"),
        )
        .with_hint("fanout needs a login with an ordinary shell, not one for file transfers only")
    }

    /// The script began and stopped half-way.
    fn broken_off(&self, answer: &Answer, output: &Output) -> Problem {
        let step = answer.value("step").unwrap_or("The installation");
        let complaint = last_lines(&output.complaint());
        let said = if complaint.is_empty() {
            output.status.to_string()
        } else {
            complaint
        };
        let code = match output.status.code() {
            Some(255) => Code::SshFailed,
            _ => Code::InstallFailed,
        };
        let destination = &self.destination;
        Problem::new(code, format!("{step} failed on {destination}: {said}"))
    }

    /// ssh itself could not be run to its end.
    pub(super) fn not_run(&self, error: &RunError) -> Problem {
        let problem = Problem::from_error(Code::SshFailed, error);
        match error {
            RunError::NotFound { .. } => problem.with_hint(
                "Install the OpenSSH client, or use a token: `fanout agent invite` on the server",
            ),
            RunError::TimedOut { .. } => problem.with_hint(format!(
                "See how long `ssh {} true` takes by hand, and what it asks",
                self.destination
            )),
            _ => problem,
        }
    }
}

/// The script with what it answers with.
fn framed(marker: &str, script: &str) -> String {
    format!(
        "say() {{ printf '{marker} %s\\n' \"$*\"; }}\n\
         step() {{ say step \"$*\"; }}\n\
         # A banner may end without a line feed.\n\
         echo; say begin\n{script}\nsay end"
    )
}

/// Reads a script of that many bytes from standard input, not one byte more, and runs it. `dd`
/// with blocks of one byte is the one program on every system that promises not to read ahead.
fn first_word(script_bytes: usize) -> String {
    format!("eval \"$(dd bs=1 count={script_bytes} 2>/dev/null)\"")
}

/// One word of a shell's command line.
pub(super) fn quoted(word: &str) -> String {
    match shlex::try_quote(word) {
        Ok(quoted) => quoted.into_owned(),
        // Only NUL can't be quoted, and no path or name of ours holds one.
        Err(_) => "''".to_owned(),
    }
}

/// What matters of what a program complained: the last lines, as one.
fn last_lines(complaint: &str) -> String {
    let lines: Vec<&str> = complaint
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect();
    lines[lines.len().saturating_sub(4)..].join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A target whose "ssh" runs the command here: what is tested is what reaches the shell. The
    /// real thing is tested against a real sshd, in `tests/it/ssh_bootstrap.rs`.
    fn local(prelude: &str) -> SshTarget {
        let script = format!("{prelude}\nfor last; do :; done; eval \"$last\"");
        SshTarget {
            destination: "admin@web1".parse().unwrap(),
            sudo: false,
            command: SshCommand(vec!["sh".into(), "-c".into(), script, "ssh".into()]),
            interactive: false,
        }
    }

    const LIMIT: Duration = Duration::from_secs(20);

    #[tokio::test]
    async fn a_script_and_its_input_arrive_whole_behind_any_banner() {
        let target = local("echo begin; printf 'fanout-0 end\\nno newline'; echo >&2 Welcome");
        let input = [b"line\n\0\xff".as_slice(), &vec![b'x'; 300_000]].concat();
        let answer = target
            .script(
                "say name \"it's $(printf 'two\\nlines' | wc -l)\"\nsay bytes \"$(cat | wc -c)\"",
                &input,
                LIMIT,
            )
            .await
            .unwrap();
        assert_eq!(answer.value("name"), Some("it's 1"));
        assert_eq!(answer.value("bytes"), Some("300007"));
        assert_eq!(answer.value("begin"), Some(""));
        assert_eq!(answer.value("nothing"), None);
    }

    #[tokio::test]
    async fn a_step_that_fails_is_named_with_what_was_said() {
        let script = "set -eu\nstep 'Copying the program'\necho 'disk full' >&2; false\nsay never";
        let problem = local("").script(script, b"", LIMIT).await.unwrap_err();
        assert_eq!(
            problem.to_string(),
            "Copying the program failed on admin@web1: disk full [FX0323]"
        );
    }

    #[tokio::test]
    async fn why_there_is_no_login_is_told() {
        for (shell, expected) in [
            (
                "echo 'admin@web1: Permission denied (publickey).' >&2; exit 255",
                "ssh admin@web1: admin@web1: Permission denied (publickey). [FX0315]",
            ),
            (
                "echo 'sudo: a password is required' >&2; exit 1",
                "sudo on admin@web1 does not let us in: sudo: a password is required [FX0315]",
            ),
            (
                "echo 'This service allows sftp connections only.'; exit 1",
                "The login on admin@web1 works, but runs no commands: exit status: 1 [FX0315]",
            ),
        ] {
            let answer = local(shell).script("say hello", b"", LIMIT).await;
            assert_eq!(answer.unwrap_err().to_string(), expected);
        }
        let mut target = local("");
        target.command = SshCommand(vec!["no-such-ssh".into()]);
        let problem = target.script("", b"", LIMIT).await.unwrap_err();
        assert!(problem.hint().contains("OpenSSH"), "{problem}");
    }

    #[test]
    fn the_users_own_ssh_command_is_split_as_a_shell_does() {
        assert_eq!(
            SshCommand::parse("ssh -J 'a b' -i key").unwrap().0,
            ["ssh", "-J", "a b", "-i", "key"]
        );
        assert!(SshCommand::parse("ssh 'open").is_err());
        assert!(SshCommand::parse("  ").is_err());
    }

    #[test]
    fn what_reaches_a_login_shell_has_nothing_that_one_could_expand() {
        let line = local("").command_line(&first_word(1234));
        assert_eq!(line, "sh -c 'eval \"$(dd bs=1 count=1234 2>/dev/null)\"'");
    }
}
