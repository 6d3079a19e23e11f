//! The command line as types: verb first, then noun, then name.
//!
//! Owns every option and help text. Refuses nothing that needs the inventory to be read: names
//! are checked here for being there at all, by the commands for being known. The doc comments are
//! what `--help`, the man pages and `docs/cli-reference.md` show.

mod agent;
mod app;
mod edit;
mod hub;
mod import;
mod inventory;
mod rotate;
mod secrets;
mod serve;
mod services;
mod setup;
mod sites;
mod tasks;
mod tools;
mod values;

pub(crate) use agent::{
    AgentArgs, AgentCommand, AgentInitArgs, AgentInviteArgs, AgentOfferArgs, AgentRevokeArgs,
};
pub(crate) use app::{
    CronArgs, CronNoun, DeliverArgs, DeliverNoun, InstallArgs, InstallNoun, InstallSiteArgs,
    LoginArgs, LoginNoun, ModeArgs, ModeNoun, UpdateArgs, UpdateNoun,
};
pub(crate) use edit::{
    EditArgs, EditBalancerArgs, EditClusterArgs, EditNoun, EditPlatformArgs, EditServerArgs,
    EditSiteArgs, UnsetArgs,
};
pub(crate) use hub::{HubArgs, HubBackupArgs, HubNoun, HubRestoreArgs};
pub(crate) use import::{ImportAegirArgs, ImportArgs, ImportNoun};
pub(crate) use inventory::{
    AddArgs, AddClusterArgs, AddNoun, AddPlatformArgs, AddServerArgs, AdoptArgs, AdoptNoun,
    AdoptPlatformArgs, DeleteArgs, DeleteNoun, DeleteSiteArgs, InitArgs, NamedArgs, RemoveArgs,
    RemoveNoun, RuleArgs,
};
pub(crate) use rotate::{RotateArgs, RotateNoun, RotateSiteArgs, RotateWhat};
pub(crate) use secrets::{SecretArgs, SecretNoun, SecretRemoveArgs, SecretSetArgs};
pub(crate) use serve::{
    ApplyArgs, CheckArgs, CheckNoun, CheckSiteArgs, DoctorArgs, DrainArgs, DrainNoun, LogArgs,
    PlanArgs, ReadyArgs, ReadyNoun, ScopeArgs,
};
pub(crate) use setup::{SetupArgs, SetupDbArgs, SetupNoun, SetupServerArgs};
pub(crate) use sites::{AddBalancerArgs, AddSiteArgs};
pub(crate) use tasks::{
    GenerationsArgs, GenerationsNoun, LockArgs, LockNoun, LockPlatformArgs, MarkBadArgs,
    MarkBadNoun, MemberArgs, PinArgs, PinNoun, PinPlatformArgs, PushArgs, PushConfigArgs, PushNoun,
    PushPlatformArgs, ResyncArgs, RollbackArgs, RollbackNoun, StatusArgs, TaskArgs, VerifyArgs,
    VerifyNoun, VerifyPlatformArgs,
};
pub(crate) use tools::{CompletionsArgs, DemoArgs, ExplainArgs, ExplainTarget, ManArgs};
pub(crate) use values::{
    ColorWhen, LayoutArg, LevelArg, PolicyArg, ResyncArg, TransportArg, UpdateArg,
};

use clap::builder::styling::{AnsiColor, Effects, Styles};
use clap::{Args, Parser, Subcommand};
use std::path::PathBuf;

const AFTER_HELP: &str = "\
Exit codes:
   0  done, or nothing to do
   1  failed
   2  differences found (verify)
   3  done on some members only
   4  locked by another task, try again
   5  refused by a brake
  64  usage
  70  a bug in fanout

Examples:
  fanout demo                       see the whole story on this machine alone
  fanout init                       make this machine the hub
  fanout push platform drupal       the source of drupal to every member
  fanout explain FX0201             what an error code means and what to do";

const STYLES: Styles = Styles::styled()
    .header(AnsiColor::Green.on_default().effects(Effects::BOLD))
    .usage(AnsiColor::Green.on_default().effects(Effects::BOLD))
    .literal(AnsiColor::Cyan.on_default().effects(Effects::BOLD))
    .placeholder(AnsiColor::Cyan.on_default());

/// Keeps one web platform identical on many web heads
///
/// One scan, one hash and one compression for all members; staged and verified everywhere first,
/// then switched on all of them together, or on none.
#[derive(Debug, Parser)]
#[command(
    name = "fanout",
    version,
    after_help = AFTER_HELP,
    styles = STYLES,
    max_term_width = 100,
    subcommand_required = true,
    arg_required_else_help = true,
    disable_help_subcommand = true
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: GlobalArgs,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What every command takes.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Global options")]
pub(crate) struct GlobalArgs {
    /// Directory of the hub or agent, with its inventory and its state
    ///
    /// Without it the hub's inventory is in /etc/fanout and its state in /var/lib/fanout.
    #[arg(
        long,
        global = true,
        env = "FANOUT_DIR",
        value_name = "DIR",
        hide_env_values = true
    )]
    pub(crate) dir: Option<PathBuf>,
    /// Print JSON lines on standard output: events, then the result
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Print only results, warnings and errors
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub(crate) quiet: bool,
    /// Say more (can be repeated)
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,
    /// When to use colors; NO_COLOR is respected
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto")]
    pub(crate) color: ColorWhen,
}

/// One verb a variant.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Make this machine the hub: inventory, identity, state
    Init(InitArgs),
    /// Make this machine the hub, with an inventory from another system
    Import(ImportArgs),
    /// Write the hub into one file, or restore it from one
    Hub(HubArgs),
    /// Run or prepare the agent on this server
    Agent(AgentArgs),
    /// Add a server, cluster, balancer, platform or site to the inventory
    Add(AddArgs),
    /// Change something in the inventory
    Edit(EditArgs),
    /// Take over an existing root as a platform's
    Adopt(AdoptArgs),
    /// Publish a platform's source on every member, in parallel
    Push(PushArgs),
    /// Bring members back to what was last decided; publishes nothing new
    Resync(ResyncArgs),
    /// Compare members with what they should have; changes nothing
    Verify(VerifyArgs),
    /// Go back to a kept generation on every member
    Rollback(RollbackArgs),
    /// List the generations of a platform
    Generations(GenerationsArgs),
    /// Keep a generation from being collected
    Pin(PinArgs),
    /// Let a pinned generation be collected again
    Unpin(PinArgs),
    /// Exclude a generation from being rolled back to
    MarkBad(MarkBadArgs),
    /// Let nothing change a platform until it is unlocked
    Lock(LockArgs),
    /// Let a locked platform be changed again
    Unlock(LockArgs),
    /// Show servers, members and their generations
    Status(StatusArgs),
    /// Forget something, and list what stays where
    Remove(RemoveArgs),
    /// Keep, list and remove the hub's own secrets
    Secret(SecretArgs),
    /// Destroy a platform on its members, preserved paths excepted
    Delete(DeleteArgs),
    /// Show what would change to make every server as the inventory says
    Plan(PlanArgs),
    /// Make every server as the inventory says, code excepted
    Apply(ApplyArgs),
    /// Replace a secret while everything goes on
    Rotate(RotateArgs),
    /// Prepare a server for its role
    Setup(SetupArgs),
    /// Install a site's application on one member, and open it on all
    Install(InstallArgs),
    /// Show the recorded tasks, or one of them step by step
    Log(LogArgs),
    /// Take a server out of rotation
    Drain(DrainArgs),
    /// Put a server into rotation again
    Ready(ReadyArgs),
    /// Ask every member, as a visitor would; changes nothing
    Check(CheckArgs),
    /// Let a site show itself again
    Enable(ModeArgs),
    /// Show a page instead of a site
    Disable(ModeArgs),
    /// Show a page that says that a site is worked on
    Maintenance(ModeArgs),
    /// Bring a site's database to the schema that its code wants
    Update(UpdateArgs),
    /// Run the periodic work of sites, each on one member
    Cron(CronArgs),
    /// Print an address that logs in to a site once
    Login(LoginArgs),
    /// Bring uploads from the member that they are pinned to to the others
    Deliver(DeliverArgs),
    /// Look for what servers lack, each with its remedy; changes nothing
    Doctor(DoctorArgs),
    /// Explain an error code, or which rule decided about a path
    Explain(ExplainArgs),
    /// Show the whole story on this machine alone
    Demo(DemoArgs),
    /// Print the completion script of a shell
    Completions(CompletionsArgs),
    /// Write the man pages into a directory
    Man(ManArgs),
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;
    use clap::error::ErrorKind;

    fn parse(line: &str) -> Result<Cli, clap::Error> {
        Cli::try_parse_from(shlex::split(line).unwrap())
    }

    #[test]
    fn the_definition_holds_together() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_calls_that_scripts_rely_on_are_understood() {
        for line in [
            "fanout init --dir HUB",
            "fanout import aegir /var/aegir --dry-run",
            "fanout agent init --dir A --name web1 --listen 127.0.0.1:4601 --allow /srv --prefix D",
            "fanout agent init --allow /srv --offer web,app,setup",
            "fanout agent offer web app",
            "fanout agent run --dir AGENT",
            "fanout agent invite --dir AGENT",
            "fanout add server web1 --address 127.0.0.1:4601 --token-file FILE",
            "fanout add server web1 --address [::1]:4601 --token-file - --labels eu,blue",
            "fanout add server web1 --address w:4601 --ssh admin@w --sudo --transport ssh",
            "fanout add cluster front --members web1,web2",
            "fanout add platform drupal --path /srv/src/drupal --root /srv/platforms/drupal \
             --on front --layout in-place --exclude .git --exclude '*.bak' --preserve /files/",
            "fanout adopt platform drupal",
            "fanout push platform",
            "fanout push platform drupal wiki --limit web1,label:eu --skip web3 --dry-run",
            "fanout push platform --all --allow-delete 412 --json",
            "fanout push platform drupal --level content --deadline 10m --wait --policy quorum:2",
            "fanout resync --level index --json",
            "fanout verify platform drupal --level content --json",
            "fanout rollback platform drupal --to 42 --json",
            "fanout rollback platform drupal --to '#42'",
            "fanout generations platform drupal --json",
            "fanout lock platform drupal --reason 'Black Friday'",
            "fanout unlock platform drupal",
            "fanout status --json --check",
            "fanout add server web1 --address w:4601 --ssh w --web nginx --web-http 8080",
            "fanout add server db1 --address db1 --no-agent --db mysql --db-admin secret:db1",
            "fanout add balancer edge --servers lb1,lb2 --kind haproxy --tls passthrough",
            "fanout add cluster front --members web1,web2 --balancer edge --min-healthy 2",
            "fanout add platform wiki --path /s --root /r --on front --app mediawiki --php 8.2",
            "fanout add site www.example.com --platform drupal --db db1 --alias example.com \
             --redirect-aliases --tls required --uploads pin:web1 --redirect /a=/b --cron=false",
            "fanout edit site www.example.com --redirect-aliases=false --unset hsts",
            "fanout edit cluster front --add-members web3 --remove-members web1",
            "fanout secret set db1-admin",
            "fanout secret set db1-admin --generate",
            "fanout secret list --json",
            "fanout setup db db1 --root admin --from 10.0.0.5 --yes",
            "fanout setup db db1 --print --mysql",
            "fanout setup server web1 --php 8.2 --extension gd --yes",
            "fanout setup server web1 --print",
            "fanout rotate password site www.example.com --yes",
            "fanout remove site www.example.com",
            "fanout remove server web1",
            "fanout delete platform drupal --yes-delete drupal",
            "fanout edit platform drupal --release-preserved /private",
            "fanout --dir HUB push platform drupal -v",
            "fanout maintenance site www.example.com --yes",
            "fanout enable site www.example.com/shop",
            "fanout disable site www.example.com --wait",
            "fanout update site www.example.com --dry-run",
            "fanout cron",
            "fanout cron site www.example.com",
            "fanout login site www.example.com --user editor",
            "fanout hub backup /backup/hub.tar --depot",
            "fanout hub restore /backup/hub.tar --dry-run --json",
            "fanout deliver uploads",
            "fanout deliver uploads www.example.com --json",
        ] {
            if let Err(error) = parse(line) {
                panic!("{line}: {error}");
            }
        }
    }

    #[test]
    fn an_empty_name_and_all_with_a_name_are_errors() {
        for line in [
            "fanout push platform ''",
            "fanout push platform drupal --all",
            "fanout push",
            "fanout push drupal",
            "fanout push platform drupal --limit ''",
            "fanout push platform --deadline 10",
            "fanout push platform --deadline -5s",
            "fanout push platform --policy quorum:0",
            "fanout verify platform drupal --level index",
            "fanout add server web1 --address a:1 --token-file F --ssh x@y",
            "fanout add server web1 --address a:1 --sudo --token-file F",
            "fanout delete platform drupal --yes-delete wiki --yes-delete drupal",
            "fanout status -q -v",
            "fanout add server db1 --address db1 --no-agent --ssh db1",
            "fanout add server w --address w --no-agent --web lighttpd",
            "fanout add server w --address w --no-agent --db mysql --db-admin hunter2",
            "fanout add site a.example --platform p --uploads collect",
            "fanout add site a.example --platform p --redirect /a",
            "fanout add site a.example --platform p --redirect-aliases false",
            "fanout secret set db1-admin hunter2",
        ] {
            assert!(parse(line).is_err(), "{line}");
        }
    }

    #[test]
    fn asking_for_help_is_not_an_error_of_use() {
        let error = parse("fanout push platform --help").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::DisplayHelp);
    }

    #[test]
    fn every_option_and_command_says_what_it_does() {
        fn check(command: &clap::Command) {
            let name = command.get_name();
            assert!(command.get_about().is_some(), "{name}");
            for argument in command.get_arguments() {
                assert!(
                    argument.get_help().is_some(),
                    "{name} {}",
                    argument.get_id()
                );
            }
            command.get_subcommands().for_each(check);
        }
        check(&Cli::command());
    }
}
