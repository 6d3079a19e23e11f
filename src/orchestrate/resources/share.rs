//! The share that a site's uploads lie on, as one member has it mounted.

use crate::codes::Problem;
use crate::model::{ServerName, SiteUri};
use crate::orchestrate::resource::{Applied, Difference, Resource, Work};
use crate::orchestrate::servers::Servers;
use crate::orchestrate::uploads::{mounted, prove_share};
use std::sync::Arc;

/// Whoever has a number on every machine: what is mounted doesn't depend on the user.
pub const ANYBODY: &str = "nobody";

/// One member's share, proved to be that of the others.
pub struct SharedUploads {
    /// The ways to the agents.
    pub servers: Arc<Servers>,
    /// The site.
    pub site: SiteUri,
    /// The member.
    pub server: ServerName,
    /// Where the share is mounted.
    pub path: String,
    /// The site's system user.
    pub user: String,
    /// All members that have the share, this one among them.
    pub members: Vec<ServerName>,
}

impl Resource for SharedUploads {
    fn describe(&self) -> String {
        format!("share of {}", self.site)
    }

    fn member(&self) -> Option<&ServerName> {
        Some(&self.server)
    }

    fn follows(&self) -> bool {
        true
    }

    fn inspect(&self) -> Work<'_, Difference> {
        Box::pin(async {
            let facts = mounted(&self.servers, &self.server, &self.path, ANYBODY).await?;
            Ok(Difference {
                seen: format!("{} {}", facts.kind, facts.source),
                ..Difference::default()
            })
        })
    }

    fn apply(&self) -> Work<'_, Applied> {
        Box::pin(async {
            let other = self.members.iter().find(|member| **member != self.server);
            let both: Vec<ServerName> = other.into_iter().chain([&self.server]).cloned().collect();
            let facts = prove_share(&self.servers, &self.path, &self.user, &both).await?;
            Ok(Applied {
                message: format!("{} at {}", facts.kind, self.path),
                ..Applied::default()
            })
        })
    }

    fn undo<'a>(&'a self, _note: &'a str) -> Work<'a, ()> {
        Box::pin(async { Ok::<(), Problem>(()) })
    }
}
