//! `fanout explain`: what an error code means, and which rule decided about a path.

use super::explain_path;
use crate::cli::Context;
use crate::cli::args::{ExplainArgs, ExplainTarget};
use crate::cli::error::CommandError;
use crate::cli::json::{CodeLine, CodesLine};
use crate::cli::table::{Align, Table};
use crate::codes::{Code, Exit};

pub(crate) async fn run(context: &Context, args: ExplainArgs) -> Result<Exit, CommandError> {
    let Some(target) = args.target else {
        list_codes(context);
        return Ok(Exit::Done);
    };
    let target = ExplainTarget::parse(&target)
        .map_err(|error| CommandError::from_error(Code::UnknownCode, &error))?;
    match target {
        ExplainTarget::Code(code) => explain_code(context, code),
        ExplainTarget::Path(path) => {
            explain_path::run(context, &path, args.platform.as_deref()).await?;
        }
    }
    Ok(Exit::Done)
}

fn explain_code(context: &Context, code: Code) {
    if context.ui.is_json() {
        context.ui.json(&CodeLine::new(code));
    } else {
        context.ui.out(code.page().trim_end());
    }
}

fn list_codes(context: &Context) {
    if context.ui.is_json() {
        context.ui.json(&CodesLine::all());
        return;
    }
    let mut table = Table::new(&[
        ("code", Align::Left),
        ("exit", Align::Right),
        ("what it is", Align::Left),
    ]);
    for code in Code::all() {
        table.row([
            code.id(),
            code.exit().number().to_string(),
            code.title().to_owned(),
        ]);
    }
    context.ui.out(table);
}
