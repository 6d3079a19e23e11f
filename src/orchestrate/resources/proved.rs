//! A member that serves its sites as it should: asked after everything that could have changed it.

use crate::model::ServerName;
use crate::orchestrate::resource::{Applied, Difference, Resource, Work};
use crate::orchestrate::rotation::Sites;

/// The proof of one member.
pub struct Proved {
    /// The sites.
    pub sites: Sites,
    /// The member.
    pub server: ServerName,
}

impl Resource for Proved {
    fn describe(&self) -> String {
        "proof".into()
    }

    fn member(&self) -> Option<&ServerName> {
        Some(&self.server)
    }

    fn follows(&self) -> bool {
        true
    }

    fn inspect(&self) -> Work<'_, Difference> {
        Box::pin(async { Ok(Difference::default()) })
    }

    fn apply(&self) -> Work<'_, Applied> {
        Box::pin(async {
            self.sites.prove(std::slice::from_ref(&self.server)).await?;
            Ok(Applied {
                message: "every site answers".into(),
                ..Applied::default()
            })
        })
    }

    fn undo<'a>(&'a self, _note: &'a str) -> Work<'a, ()> {
        Box::pin(async { Ok(()) })
    }
}
