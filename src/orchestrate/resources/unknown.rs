//! What nobody knows about a server: it keeps an apply from guessing.

use crate::codes::Problem;
use crate::model::ServerName;
use crate::orchestrate::resource::{Applied, Difference, Resource, Work};

/// A part of a server's work that can't even be planned.
pub struct Unknown {
    /// What it would have been.
    pub what: &'static str,
    /// The server.
    pub server: ServerName,
    /// Why not.
    pub problem: Problem,
}

impl Resource for Unknown {
    fn describe(&self) -> String {
        self.what.into()
    }

    fn member(&self) -> Option<&ServerName> {
        Some(&self.server)
    }

    fn inspect(&self) -> Work<'_, Difference> {
        Box::pin(async { Err(self.problem.clone()) })
    }

    fn apply(&self) -> Work<'_, Applied> {
        Box::pin(async { Err(self.problem.clone()) })
    }

    fn undo<'a>(&'a self, _note: &'a str) -> Work<'a, ()> {
        Box::pin(async { Ok(()) })
    }
}
