//! `fanout explain PATH`: which rule decided about a path.
//!
//! Asks the rules alone, those that the hub ever sent included; no member is contacted.

use crate::cli::Context;
use crate::cli::error::CommandError;
use crate::cli::hub::{Hub, invalid};
use crate::cli::json::ResultLine;
use crate::cli::plan;
use crate::codes::Code;
use crate::config::Platform;
use serde_json::json;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use sync_proto::filter::{Side, Standing};
use sync_proto::path::{RelPath, escape};

pub(super) async fn run(
    context: &Context,
    path: &Path,
    name: Option<&str>,
) -> Result<(), CommandError> {
    let hub = Hub::open(context).await?;
    let found = match name {
        Some(name) => {
            let platform = hub.platform(name)?;
            let below = below(platform, path).unwrap_or_else(|| path.to_owned());
            vec![(platform, relative(&below)?)]
        }
        None => search(&hub, path)?,
    };
    let mut explained = Vec::new();
    for (platform, relative) in found {
        explained.push(explain(context, &hub, platform, &relative, path).await?);
    }
    if context.ui.is_json() {
        context
            .ui
            .json(&ResultLine::new(json!({ "explained": explained })));
    }
    Ok(())
}

/// Every platform that the path can belong to, with the path below its root.
fn search<'a>(hub: &'a Hub, path: &Path) -> Result<Vec<(&'a Platform, RelPath)>, CommandError> {
    let all: Vec<&Platform> = hub.inventory.platforms.values().collect();
    let mut found = Vec::new();
    for platform in &all {
        if let Some(below) = below(platform, path) {
            found.push((*platform, relative(&below)?));
        }
    }
    if found.is_empty() && path.is_relative() {
        // As it would be typed inside a tree: those whose source has it, or the only one.
        let holding = all
            .iter()
            .filter(|p| p.path.as_path().join(path).symlink_metadata().is_ok());
        for platform in holding {
            found.push((*platform, relative(path)?));
        }
        if found.is_empty() && all.len() == 1 {
            found.push((all[0], relative(path)?));
        }
    }
    if found.is_empty() {
        let names: Vec<&str> = all.iter().map(|p| p.name.as_str()).collect();
        return Err(CommandError::usage(format!(
            "{} lies in the source or below the root of no platform",
            path.display()
        ))
        .hint(format!(
            "--platform NAME says which is meant: {}",
            names.join(", ")
        )));
    }
    Ok(found)
}

/// The path below the platform's source or below its root on the members.
fn below(platform: &Platform, path: &Path) -> Option<std::path::PathBuf> {
    let absolute = std::path::absolute(path).ok()?;
    [&platform.path, &platform.root]
        .into_iter()
        .find_map(|top| absolute.strip_prefix(top.as_path()).ok())
        .map(Path::to_owned)
}

fn relative(path: &Path) -> Result<RelPath, CommandError> {
    let bytes = path.as_os_str().as_bytes();
    let bytes = bytes.strip_prefix(b"./").unwrap_or(bytes);
    let bytes = bytes.strip_prefix(b"/").unwrap_or(bytes);
    let bytes = bytes.strip_suffix(b"/").unwrap_or(bytes);
    RelPath::parse(bytes).map_err(|error| invalid(Code::Usage, &error))
}

async fn explain(
    context: &Context,
    hub: &Hub,
    platform: &Platform,
    path: &RelPath,
    typed: &Path,
) -> Result<serde_json::Value, CommandError> {
    let rules = plan::rules(hub, platform).await?;
    let there = platform
        .path
        .as_path()
        .join(std::ffi::OsStr::from_bytes(path.as_bytes()));
    let is_directory = match there.symlink_metadata() {
        Ok(found) => found.is_dir(),
        Err(_) => typed.as_os_str().as_bytes().ends_with(b"/"),
    };
    let side = |side| match rules.scope.of(side, path, is_directory) {
        Standing::Managed => "managed",
        Standing::Excluded(_) => "excluded",
        Standing::Preserved(_) => "preserved",
    };
    let line = rules.scope.explain(Side::Sender, path, is_directory);
    context
        .ui
        .status(format!("{} on {}:", platform.name, platform.on));
    if !context.ui.is_json() {
        context.ui.out(&line);
        if side(Side::Sender) != side(Side::Receiver) {
            let there = rules.scope.explain(Side::Receiver, path, is_directory);
            context.ui.out(format!("on the members: {there}"));
        }
    }
    if rules
        .narrowed
        .iter()
        .any(|rule| line.contains(&format!("`{rule}`")))
    {
        context.ui.hint(
            "that rule is not in the inventory any more; members keep to it until it is released",
        );
    }
    Ok(json!({
        "platform": platform.name.as_str(),
        "path": escape(path.as_bytes()),
        "on_hub": side(Side::Sender),
        "on_members": side(Side::Receiver),
        "text": line,
    }))
}
