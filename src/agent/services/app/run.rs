//! Runs PHP as a site's own user: a script on standard input, a bare environment, a limit of time
//! and of output.

use super::site::LocalSite;
use crate::codes::{Code, Problem};
use crate::fs::owner;
use crate::proc::{Program, RunError};
use crate::services::app::SETTINGS_VARIABLE;
use crate::services::app::scripts::{self, Answer, Input, Script};
use std::time::Duration;
use sync_proto::path::escape;
use sync_proto::wire::service::{AppDone, AppDriver};

/// LIMIT: what a script may print; the rest is cut off.
const OUTPUT_BYTES: usize = 4 << 20;
/// LIMIT: what of it goes back to the hub.
const TAIL_BYTES: usize = 8 * 1024;
/// LIMIT: what an application may need of memory.
const MEMORY: &str = "memory_limit=1G";

/// How a run ended.
#[derive(Debug)]
pub(super) struct Ran {
    answer: Option<Answer>,
    ended_well: bool,
    ending: String,
    said: String,
    complaint: String,
}

/// Runs a script that is built in.
pub(super) async fn script(
    site: &LocalSite,
    script: Script,
    input: Input,
    limit: Duration,
) -> Result<Ran, Problem> {
    let Some(php) = &site.php else {
        let message = format!("{} is not installed here", site.wanted_php());
        return Err(Problem::new(Code::AppUnfit, message));
    };
    let word = input.word.clone();
    let Some(source) = scripts::source(site.target.driver, script, &input) else {
        let name = crate::services::app::driver_name(site.target.driver);
        let message = format!("{name} knows no `{}`", super::word(script));
        return Err(Problem::new(Code::AppActionMissing, message));
    };
    let program = as_user(site.ids, php.as_os_str().to_owned())
        .args(["-d", "display_errors=stderr", "-d", "log_errors=0"])
        .args(["-d", "html_errors=0", "-d", "max_execution_time=0"])
        .args(["-d", "opcache.enable_cli=0", "-d", MEMORY])
        .stdin(source);
    let mut ran = finish(environment(site, program), limit, &word).await?;
    // Scripts of MediaWiki end by themselves; their exit status is what they say.
    let ends_itself = matches!(script, Script::Install | Script::Update | Script::Cron);
    if site.target.driver == AppDriver::Mediawiki && ends_itself {
        ran.take_exit_as_answer();
    }
    Ok(ran)
}

/// A program as that user, which it can never leave, and which dies with this process.
pub(super) fn as_user((uid, gid): (u32, u32), program: std::ffi::OsString) -> Program {
    if owner::own_ids().0 == uid {
        return Program::new(program);
    }
    Program::new("setpriv")
        .arg(format!("--reuid={uid}"))
        .arg(format!("--regid={gid}"))
        .args(["--init-groups", "--no-new-privs", "--pdeathsig=KILL", "--"])
        .arg(program)
}

/// Nothing of ours, and what the application may know.
pub(super) fn environment(site: &LocalSite, program: Program) -> Program {
    let program = program
        .env_clear()
        .env(
            "PATH",
            "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        )
        .env("LANG", "C.UTF-8")
        .env("HOME", "/nonexistent")
        .env("USER", &site.target.user)
        .directory("/");
    match &site.settings {
        Some(settings) => program.env(SETTINGS_VARIABLE, settings),
        None => program,
    }
}

/// Runs it to its end.
pub(super) async fn finish(program: Program, limit: Duration, word: &str) -> Result<Ran, Problem> {
    let program = program
        .timeout(limit)
        .output_limit(OUTPUT_BYTES)
        .cut_output();
    let output = match program.run().await {
        Ok(output) => output,
        Err(RunError::TimedOut { limit, .. }) => {
            return Ok(Ran {
                answer: None,
                ended_well: false,
                ending: format!("it took longer than {} s and was ended", limit.as_secs()),
                said: String::new(),
                complaint: String::new(),
            });
        }
        Err(error) => return Err(Problem::from_error(Code::AppFailed, &error)),
    };
    let (answer, said) = scripts::answer(word, &String::from_utf8_lossy(&output.stdout));
    Ok(Ran {
        answer,
        ended_well: output.status.success(),
        ending: output.status.to_string(),
        said,
        complaint: output.complaint(),
    })
}

impl Ran {
    /// An answer for which nothing had to be run.
    pub(super) fn with(answer: Answer) -> Self {
        Self {
            answer: Some(answer),
            ended_well: true,
            ending: String::new(),
            said: String::new(),
            complaint: String::new(),
        }
    }

    /// Did it end with 0?
    pub(super) fn ended_well(&self) -> bool {
        self.ended_well
    }

    /// The last line of what it said.
    pub(super) fn last_line(&self) -> String {
        last_line(&self.said).trim().to_owned()
    }

    /// What came of it.
    pub(super) fn conclude(&mut self, answer: Answer) {
        self.answer = Some(answer);
    }

    /// Takes a secret out of everything that was said.
    pub(super) fn hide(&mut self, secret: &str) {
        if !secret.is_empty() {
            for text in [&mut self.said, &mut self.complaint] {
                *text = text.replace(secret, "***");
            }
        }
    }

    /// A good end without a word means that it was done.
    pub(super) fn take_exit_as_answer(&mut self) {
        if self.answer.is_none() && self.ended_well {
            self.answer = Some(Answer {
                changed: true,
                installed: Some(true),
                message: last_line(&self.said).trim().to_owned(),
                ..Answer::default()
            });
        }
    }

    /// The answer, if there is one and it is good.
    pub(super) fn good(&self, site: &LocalSite, what: &str) -> Result<Answer, Problem> {
        match &self.answer {
            Some(answer) if answer.error.is_empty() && self.ended_well => Ok(answer.clone()),
            _ => Err(self.failure(site, what)),
        }
    }

    /// The answer as the hub hears it.
    pub(super) fn done(&self, site: &LocalSite, what: &str) -> Result<AppDone, Problem> {
        let answer = self.good(site, what)?;
        Ok(AppDone {
            changed: answer.changed,
            message: answer.message,
            output: tail(&self.said),
        })
    }

    /// Why it failed, in the application's own words as far as there are any.
    pub(super) fn failure(&self, site: &LocalSite, what: &str) -> Problem {
        let mut said = [
            self.answer.as_ref().map_or("", |answer| &answer.error),
            last_line(&self.complaint),
            last_line(&self.said),
            &self.ending,
        ]
        .into_iter()
        .filter(|text| !text.trim().is_empty());
        let why: String = said
            .next()
            .unwrap_or("it said nothing")
            .chars()
            .take(800)
            .collect();
        let message = format!(
            "the {what} of {} failed: {}",
            site.target.site,
            escape(why.trim().as_bytes())
        );
        Problem::new(Code::AppFailed, message)
    }
}

fn last_line(text: &str) -> &str {
    text.lines()
        .rfind(|line| !line.trim().is_empty())
        .unwrap_or("")
}

/// The end of what was said, on whole lines.
fn tail(said: &str) -> String {
    let said = said.trim();
    let Some(surplus) = said.len().checked_sub(TAIL_BYTES) else {
        return said.to_owned();
    };
    let mut at = surplus;
    while !said.is_char_boundary(at) {
        at += 1;
    }
    let rest = said.get(at..).unwrap_or_default();
    rest.split_once('\n')
        .map_or(rest, |(_, whole)| whole)
        .to_owned()
}
