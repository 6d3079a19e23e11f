//! The command line: parses, calls the layers below, renders what they say.
//!
//! Nothing below this module prints, asks or exits. A command is a function from its arguments to
//! an [`Exit`] or a `CommandError`; [`run`] turns either into the process's exit code.

mod args;
mod commands;
mod complete;
pub mod demo;
mod error;
mod fresh;
mod hub;
mod human;
mod json;
mod man;
mod members;
mod plan;
mod progress;
mod reference;
mod rules;
mod serving;
mod show;
mod table;
mod tidy;
mod ui;
mod work;

use crate::codes::{Code, Exit};
use crate::config::{AgentDir, HubDir};
use crate::fs::fault;
use crate::net;
use args::{AgentCommand, Cli, ColorWhen, Command, GlobalArgs};
use clap::{ColorChoice, CommandFactory, FromArgMatches};
use error::CommandError;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;
use tracing_subscriber::EnvFilter;
use ui::Ui;

/// Where the hub's inventory is without `--dir`.
const INVENTORY_DIR: &str = "/etc/fanout";

/// What every command is given.
#[derive(Clone)]
pub(crate) struct Context {
    /// The only way to print.
    pub(crate) ui: Ui,
    dir: Option<PathBuf>,
}

impl Context {
    /// The hub's directories.
    pub(crate) fn hub_dir(&self) -> HubDir {
        HubDir::new(self.dir.as_deref())
    }

    /// The agent's directories.
    pub(crate) fn agent_dir(&self) -> AgentDir {
        AgentDir::new(self.dir.as_deref())
    }

    /// ` --dir DIR` where one was given, for commands that a person is told to type.
    pub(crate) fn dir_option(&self) -> String {
        match &self.dir {
            Some(dir) if std::env::var_os("FANOUT_DIR").is_none() => {
                let text = dir.display().to_string();
                let quoted = shlex::try_quote(&text).map_or_else(|_| text.clone(), Into::into);
                format!(" --dir {quoted}")
            }
            _ => String::new(),
        }
    }
}

/// Runs the command line of this process.
pub fn run() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    match complete::answer(&arguments) {
        Ok(false) => run_arguments(arguments).into(),
        Ok(true) => Exit::Done.into(),
        Err(_) => Exit::Failed.into(),
    }
}

fn run_arguments(arguments: Vec<OsString>) -> Exit {
    let color = color_of(&arguments);
    let command = Cli::command().color(color.into());
    let parsed = command
        .try_get_matches_from(&arguments)
        .and_then(|matches| Cli::from_arg_matches(&matches));
    let cli = match parsed {
        Ok(cli) => cli,
        Err(error) => return refuse(&error, &arguments, color),
    };
    let ui = Ui::new(&cli.global);
    report_panics(ui.clone());
    log(&ui, &cli);
    let context = Context {
        ui: ui.clone(),
        dir: cli.global.dir,
    };
    let exit = match execute(&context, cli.command) {
        Ok(exit) => exit,
        Err(error) => {
            ui.error(&error);
            error.exit()
        }
    };
    match ui.finish() {
        Some(failure) => {
            let error = CommandError::from_error(Code::OutputFailed, &failure);
            ui.error(&error);
            // What was done is done, but nobody can read what that was.
            if exit == Exit::Done {
                error.exit()
            } else {
                exit
            }
        }
        None => exit,
    }
}

fn execute(context: &Context, command: Command) -> Result<Exit, CommandError> {
    fault::check().map_err(CommandError::usage)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| {
            let message = format!("Can't start: {error}");
            CommandError::new(Code::TooManyOpenFiles, message)
        })?;
    let result = runtime.block_on(async {
        let result = commands::dispatch(context, command).await;
        net::let_goodbyes_out().await;
        result
    });
    // Whatever still reads a pipe or resolves a name must not keep the process.
    runtime.shutdown_background();
    result
}

/// Shows what clap says: help and version where they were asked for, otherwise an error of use.
fn refuse(error: &clap::Error, arguments: &[OsString], color: ColorWhen) -> Exit {
    let json = arguments.iter().any(|argument| argument == "--json");
    let ui = Ui::new(&GlobalArgs {
        dir: None,
        json,
        quiet: false,
        verbose: 0,
        color,
    });
    ui.clap(error);
    if !error.use_stderr() {
        return match ui.finish() {
            Some(_) => Exit::Failed,
            None => Exit::Done,
        };
    }
    if json {
        let text = error.render().to_string();
        let first = text.lines().next().unwrap_or_default();
        let message = first.strip_prefix("error: ").unwrap_or(first);
        ui.json(&json::ErrorLine::new(&CommandError::usage(message)));
    }
    Exit::Usage
}

/// `--color` as far as it can be known before parsing, for help and errors of use.
fn color_of(arguments: &[OsString]) -> ColorWhen {
    let mut words = arguments.iter().filter_map(|argument| argument.to_str());
    while let Some(word) = words.next() {
        let value = match word.split_once('=') {
            Some(("--color", value)) => Some(value),
            None if word == "--color" => words.next(),
            _ => None,
        };
        match value {
            Some("always") => return ColorWhen::Always,
            Some("never") => return ColorWhen::Never,
            _ => {}
        }
    }
    ColorWhen::Auto
}

impl From<ColorWhen> for ColorChoice {
    fn from(when: ColorWhen) -> Self {
        match when {
            ColorWhen::Auto => Self::Auto,
            ColorWhen::Always => Self::Always,
            ColorWhen::Never => Self::Never,
        }
    }
}

/// A panic is a bug of ours: say so, and exit with its number instead of an abort's.
fn report_panics(ui: Ui) {
    std::panic::set_hook(Box::new(move |panic| {
        let what = panic.payload_as_str().unwrap_or("no reason given");
        let place = panic.location().map_or("?".into(), ToString::to_string);
        ui.error(&CommandError::bug(format!("{what} ({place})")));
        ui.detail(std::backtrace::Backtrace::force_capture());
        #[expect(
            clippy::exit,
            reason = "a state that can't be must not go on, in any thread"
        )]
        std::process::exit(Exit::Bug.number().into());
    }));
}

/// Log lines go to standard error, like all words. An agent in the foreground says more, because
/// its journal is all that is left of it.
fn log(ui: &Ui, cli: &Cli) {
    let serves = matches!(&cli.command, Command::Agent(agent)
        if matches!(agent.command, AgentCommand::Run(_)));
    let level = match (cli.global.quiet, cli.global.verbose + u8::from(serves)) {
        (true, _) => "error",
        (false, 0) => "warn",
        (false, 1) => "fanout=info,warn",
        (false, 2) => "fanout=debug,info",
        (false, _) => "trace",
    };
    let filter = EnvFilter::try_from_env("FANOUT_LOG").unwrap_or_else(|_| EnvFilter::new(level));
    let writer = ui.clone();
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_target(false)
        .with_ansi(false)
        .with_writer(move || LogWriter(writer.clone()));
    // A second run in one process, as tests do it, keeps the first one's log.
    let _already_set = if cli.global.json {
        tracing::subscriber::set_global_default(lines.json().finish())
    } else {
        tracing::subscriber::set_global_default(lines.finish())
    };
}

struct LogWriter(Ui);

impl std::io::Write for LogWriter {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        (&self.0).write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
