//! `fanout add server --ssh`: installs the agent on the server and exchanges keys.

use super::server::{check_key, remember};
use crate::bootstrap::{self, Install, SshCommand, SshTarget, Step};
use crate::cli::Context;
use crate::cli::error::CommandError;
use crate::cli::hub::{Hub, config_error};
use crate::cli::human::bytes;
use crate::config::{Edit, NewServer};
use crate::model::{AbsPath, Offer, ServerName, Transport};
use std::collections::BTreeSet;
use sync_proto::wire::Facts;

/// What the agent is asked to allow.
pub(super) struct Asked {
    /// Services that hubs may manage.
    pub(super) offers: BTreeSet<Offer>,
    /// Where roots may lie; the usual places if it is empty.
    pub(super) allow: Vec<AbsPath>,
}

pub(super) async fn run(
    context: &Context,
    hub: &Hub,
    name: &ServerName,
    new: &NewServer,
    asked: Asked,
    edit: Edit,
) -> Result<Facts, CommandError> {
    let destination = new
        .ssh
        .clone()
        .ok_or_else(|| CommandError::bug("no ssh destination"))?;
    let target = SshTarget {
        destination,
        sudo: new.sudo,
        command: SshCommand::from_environment()?,
        interactive: context.ui.is_interactive(),
    };
    let mut install = Install::new(name.clone(), new.address.clone());
    install.offers = asked.offers;
    install.allow = asked.allow;
    install.transport = new.transport.unwrap_or(Transport::Auto);
    let identity = hub.identity()?;
    let say = |step: Step| context.ui.status(words(name, &step));
    let installed = bootstrap::install(&target, &identity, &install, &say).await?;
    check_key(hub, name, installed.joined.key).await?;
    for notice in &installed.notices {
        context.ui.warning(notice);
    }
    remember(hub, name, installed.joined.key).await?;
    let is_blocked = installed.joined.carrier == Transport::Ssh;
    if is_blocked && install.transport == Transport::Auto {
        context.ui.status(format!(
            "{name} stays at transport = \"auto\": over ssh until UDP gets through."
        ));
    }
    edit.save().map_err(config_error)?;
    context
        .ui
        .detail(format!("{name}: the program is {}.", installed.binary));
    Ok(installed.joined.facts)
}

fn words(name: &ServerName, step: &Step) -> String {
    match step {
        Step::Probing => format!("{name}: looking at the server ..."),
        Step::ProgramKept => {
            format!("{name}: this fanout is there already; starting its agent ...")
        }
        Step::Copying { bytes: size } => {
            format!(
                "{name}: sending fanout ({}) and starting its agent ...",
                bytes(*size)
            )
        }
        Step::Starting => format!("{name}: starting the agent ..."),
        Step::Joining => format!("{name}: exchanging keys ..."),
    }
}
