//! One configuration in two steps: [`Staged`] has it tested on every server before [`Live`] switches to
//! it on any.

use super::configuration::Configuration;
use crate::model::ServerName;
use crate::orchestrate::resource::{Applied, Difference, Resource, Sign, Work};
use std::sync::Arc;

/// A configuration that lies on its server and passes its test there, beside the live one.
pub struct Staged(pub Arc<Configuration>);

impl Resource for Staged {
    fn describe(&self) -> String {
        "configuration".into()
    }

    fn member(&self) -> Option<&ServerName> {
        Some(&self.0.server)
    }

    fn inspect(&self) -> Work<'_, Difference> {
        Box::pin(async { self.0.compare().await.clone() })
    }

    fn apply(&self) -> Work<'_, Applied> {
        Box::pin(self.0.stage())
    }

    fn undo<'a>(&'a self, note: &'a str) -> Work<'a, ()> {
        Box::pin(self.0.revert(note))
    }
}

/// What [`Live`] is called.
pub const ACTIVATION: &str = "activation";

/// A configuration that its server's programs have read, and are proved to serve.
pub struct Live(pub Arc<Configuration>);

impl Resource for Live {
    fn describe(&self) -> String {
        ACTIVATION.into()
    }

    fn member(&self) -> Option<&ServerName> {
        Some(&self.0.server)
    }

    fn inspect(&self) -> Work<'_, Difference> {
        Box::pin(async {
            let staged = self.0.compare().await.as_ref();
            let acts = |it: &Difference| it.changes.iter().any(|it| it.sign != Sign::Unlisted);
            Ok(Difference {
                // What isn't known is said once.
                is_pending: staged.is_ok_and(|it| acts(it) || self.0.is_unconfirmed()),
                ..Difference::default()
            })
        })
    }

    fn apply(&self) -> Work<'_, Applied> {
        Box::pin(self.0.activate())
    }

    fn undo<'a>(&'a self, note: &'a str) -> Work<'a, ()> {
        Box::pin(self.0.revert(note))
    }
}
