//! `fanout generations`, `pin`, `unpin` and `mark-bad`: what was published, and what becomes of it.

use crate::cli::Context;
use crate::cli::args::{
    GenerationsArgs, GenerationsNoun, MarkBadArgs, MarkBadNoun, PinArgs, PinNoun, PinPlatformArgs,
};
use crate::cli::error::CommandError;
use crate::cli::hub::{Hub, store_error};
use crate::cli::human;
use crate::cli::json::ResultLine;
use crate::cli::table::{Align, Table};
use crate::codes::{Code, Exit};
use crate::model::Serial;
use crate::store::{Generation, MemberState};
use serde_json::{Value, json};

pub(crate) async fn list(context: &Context, args: GenerationsArgs) -> Result<Exit, CommandError> {
    let GenerationsNoun::Platform(args) = args.noun;
    let hub = Hub::open(context).await?;
    let platform = hub.platform(&args.name)?;
    let state = hub.state(&platform.name).await?;
    let generations = hub
        .store
        .generations(&platform.name)
        .await
        .map_err(store_error)?;
    let members = hub
        .store
        .members(&platform.name)
        .await
        .map_err(store_error)?;
    if context.ui.is_json() {
        let shapes: Vec<Value> = generations
            .iter()
            .map(|generation| shape(generation, state.desired, &members))
            .collect();
        context.ui.json(&ResultLine::new(json!({
            "platform": args.name,
            "desired": state.desired.map(|serial| serial.0),
            "generations": shapes,
        })));
        return Ok(Exit::Done);
    }
    if generations.is_empty() {
        context
            .ui
            .status(format!("{} was never pushed.", args.name));
        return Ok(Exit::Done);
    }
    let mut table = Table::new(&[
        ("generation", Align::Right),
        ("label", Align::Left),
        ("entries", Align::Right),
        ("content", Align::Right),
        ("committed", Align::Left),
        ("author", Align::Left),
        ("members", Align::Left),
        ("", Align::Left),
    ]);
    for generation in &generations {
        table.row([
            generation.serial.to_string(),
            generation.label.clone().unwrap_or_else(|| "-".into()),
            human::count(generation.entries),
            human::bytes(generation.content_bytes),
            generation.committed.to_string(),
            generation.author.clone(),
            at(generation.serial, &members).join(","),
            marks(generation, state.desired).join(", "),
        ]);
    }
    context.ui.out(table);
    Ok(Exit::Done)
}

fn marks(generation: &Generation, desired: Option<Serial>) -> Vec<&'static str> {
    [
        (desired == Some(generation.serial), "desired"),
        (generation.pinned, "pinned"),
        (generation.bad, "bad"),
    ]
    .into_iter()
    .filter_map(|(holds, word)| holds.then_some(word))
    .collect()
}

fn at(serial: Serial, members: &[MemberState]) -> Vec<&str> {
    let there = members
        .iter()
        .filter(|member| member.serial == Some(serial));
    there.map(|member| member.server.as_str()).collect()
}

fn shape(generation: &Generation, desired: Option<Serial>, members: &[MemberState]) -> Value {
    json!({
        "generation": generation.serial.0,
        "label": generation.label,
        "author": generation.author,
        "created": generation.created.utc(),
        "committed": generation.committed.utc(),
        "source": generation.source,
        "entries": generation.entries,
        "content_bytes": generation.content_bytes,
        "desired": desired == Some(generation.serial),
        "pinned": generation.pinned,
        "bad": generation.bad,
        "members": at(generation.serial, members),
    })
}

pub(crate) async fn pin(
    context: &Context,
    args: PinArgs,
    pinned: bool,
) -> Result<Exit, CommandError> {
    let PinNoun::Platform(PinPlatformArgs { name, serial }) = args.noun;
    let hub = Hub::open(context).await?;
    let platform = hub.platform(&name)?;
    let serial = Serial(serial);
    hub.store
        .pin_generation(&platform.name, serial, pinned)
        .await
        .map_err(store_error)?;
    if context.ui.is_json() {
        context.ui.json(&ResultLine::new(
            json!({"platform": name, "generation": serial.0, "pinned": pinned}),
        ));
    }
    context.ui.status(if pinned {
        format!("{name} {serial} is kept until it is unpinned.")
    } else {
        format!("{name} {serial} may be collected again.")
    });
    Ok(Exit::Done)
}

pub(crate) async fn mark_bad(context: &Context, args: MarkBadArgs) -> Result<Exit, CommandError> {
    let MarkBadNoun::Platform(args) = args.noun;
    let PinPlatformArgs { name, serial } = args.generation;
    let hub = Hub::open(context).await?;
    let platform = hub.platform(&name)?;
    let serial = Serial(serial);
    hub.store
        .mark_generation(&platform.name, serial, true)
        .await
        .map_err(store_error)?;
    let what = match &args.reason {
        Some(reason) => format!("marked {serial} bad: {reason}"),
        None => format!("marked {serial} bad"),
    };
    super::record(&hub, "mark-bad", &platform.name, Exit::Done, &what).await?;
    if context.ui.is_json() {
        context.ui.json(&ResultLine::new(
            json!({"platform": name, "generation": serial.0, "bad": true, "reason": args.reason}),
        ));
    }
    context.ui.status(format!(
        "{name} {serial} is bad: a rollback passes over it."
    ));
    let state = hub.state(&platform.name).await?;
    if state.desired == Some(serial) {
        context.ui.warning(
            &crate::codes::Problem::new(
                Code::GenerationBad,
                format!("{serial} is what the members of {name} are to have"),
            )
            .with_hint(format!("`fanout rollback platform {name}` leaves it")),
        );
    }
    Ok(Exit::Done)
}
