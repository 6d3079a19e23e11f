//! `fanout hub backup` and `fanout hub restore`.
//!
//! A backup is made while everything goes on: the database is copied as it is at one moment, and
//! no edit of the inventory comes in between. A restored hub asks its members at once what they
//! know: its own state is older than what it may have decided (I3).

use super::recover;
use crate::cli::Context;
use crate::cli::args::{HubArgs, HubBackupArgs, HubNoun, HubRestoreArgs};
use crate::cli::error::CommandError;
use crate::cli::hub::{Hub, config_error, store_error};
use crate::cli::human::{bytes, counted};
use crate::cli::json::ResultLine;
use crate::codes::{Code, Exit};
use crate::config::backup::{self, Backup, BackupError};
use serde_json::json;
use std::fs::{self, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

pub(crate) async fn run(context: &Context, args: HubArgs) -> Result<Exit, CommandError> {
    match args.noun {
        HubNoun::Backup(args) => save(context, &args).await,
        HubNoun::Restore(args) => restore(context, &args).await,
    }
}

/// A copy of the database that is gone when this is.
struct Copy(PathBuf);

impl Copy {
    async fn make(hub: &Hub) -> Result<Self, CommandError> {
        let path = hub.dir.state().join(".backup.sqlite");
        // What a backup left that was killed: we have the inventory's lock, so nobody uses it.
        let _stale = fs::remove_file(&path);
        let mut options = OpenOptions::new();
        // ORDER: private before there is anything in it.
        let made = options.write(true).create_new(true).mode(0o600).open(&path);
        made.map_err(|source| {
            let verb = "written";
            of_backup(BackupError::Io {
                path: path.clone(),
                verb,
                source,
            })
        })?;
        let copy = Self(path);
        hub.store.copy_to(&copy.0).await.map_err(store_error)?;
        Ok(copy)
    }
}

impl Drop for Copy {
    fn drop(&mut self) {
        // The next backup removes it otherwise.
        let _gone = fs::remove_file(&self.0);
    }
}

async fn save(context: &Context, args: &HubBackupArgs) -> Result<Exit, CommandError> {
    let hub = Hub::open(context).await?;
    // The key is made when it is needed first; a backup without it could not be restored.
    hub.identity()?;
    let _no_edit = hub.edit("hub backup")?;
    let copy = Copy::make(&hub).await?;
    let parts = backup::parts(&hub.dir, &copy.0, args.depot).map_err(of_backup)?;
    let total: u64 = parts.iter().map(|part| part.bytes).sum();
    let listed: Vec<_> = parts
        .iter()
        .map(|part| (part.name.clone(), part.bytes))
        .collect();
    if args.dry_run {
        show(context, &args.file, &listed, json!({"dry_run": true}));
        return Ok(Exit::Done);
    }
    let file = args.file.clone();
    let written = tokio::task::spawn_blocking(move || backup::write(&parts, &file)).await;
    written
        .map_err(|error| CommandError::bug(format!("Writing a backup stopped: {error}")))?
        .map_err(of_backup)?;
    if context.ui.is_json() {
        show(context, &args.file, &listed, json!({}));
    }
    context.ui.status(format!(
        "Wrote {}, {}, to {}. Whoever has it is this hub: keep it as you keep keys.",
        counted(listed.len() as u64, "file", "files"),
        bytes(total),
        args.file.display()
    ));
    Ok(Exit::Done)
}

async fn restore(context: &Context, args: &HubRestoreArgs) -> Result<Exit, CommandError> {
    let dir = context.hub_dir();
    // One that was interrupted goes on.
    if !dir.restoring().exists() {
        for there in [
            dir.inventory().to_owned(),
            dir.database(),
            dir.identity().join("key.pem"),
        ] {
            if there.exists() {
                let message = format!("There is a hub already: {}", there.display());
                return Err(CommandError::new(Code::AlreadyInitialised, message));
            }
        }
    }
    let backup = Backup::open(&args.file).map_err(of_backup)?;
    if args.dry_run {
        show(context, &args.file, &backup.parts, json!({"dry_run": true}));
        return Ok(Exit::Done);
    }
    backup.unpack(&dir).map_err(of_backup)?;
    context.ui.status(format!(
        "Restored {} from {}. What members know better is read back from them:",
        counted(backup.parts.len() as u64, "file", "files"),
        args.file.display()
    ));
    Ok(match recover::run(context).await? {
        // The hub is there, and knows that it has to ask again.
        Exit::Failed => Exit::Partial,
        other => other,
    })
}

fn show(context: &Context, file: &Path, parts: &[(String, u64)], more: serde_json::Value) {
    let total: u64 = parts.iter().map(|(_, bytes)| bytes).sum();
    if context.ui.is_json() {
        let names: Vec<_> = parts.iter().map(|(name, _)| name).collect();
        let mut shape = json!({"file": file.display().to_string(), "parts": names, "bytes": total});
        if let (Some(shape), Some(more)) = (shape.as_object_mut(), more.as_object()) {
            shape.extend(more.clone());
        }
        context.ui.json(&ResultLine::new(shape));
        return;
    }
    for (name, size) in parts {
        context.ui.out(format!("{:>10}  {name}", bytes(*size)));
    }
}

fn of_backup(error: BackupError) -> CommandError {
    let code = match &error {
        BackupError::Damaged { .. } => Code::BackupDamaged,
        BackupError::Exposed { .. } => Code::SecretExposed,
        BackupError::InTheWay { .. } | BackupError::Io { .. } => Code::OutputFailed,
        BackupError::Config(_) => {
            let BackupError::Config(inner) = error else {
                return CommandError::bug("an error changed its kind");
            };
            return config_error(inner);
        }
    };
    let shown = CommandError::from_error(code, &error);
    match &error {
        BackupError::Exposed { path, .. } => {
            shown.hint(format!("chmod 600 {}, if nobody read it", path.display()))
        }
        _ => shown,
    }
}
