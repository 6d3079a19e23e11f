//! A platform's code on one server: at the generation that was decided last.
//!
//! Never publishes anything: a platform that was never pushed has nothing to bring.

use crate::codes::{Code as ErrorCode, Problem};
use crate::model::{PlatformName, ServerName};
use crate::orchestrate::resource::{Applied, Change, Difference, Resource, Sign, Work};
use crate::orchestrate::servers::Servers;
use std::sync::Arc;
use sync_proto::wire::TreeKey;

/// Brings servers to the desired generation of a platform; what a push leaves to its caller.
pub trait Bring: Send + Sync {
    /// Brings one server there; what came of it in a few words.
    fn bring<'a>(&'a self, platform: &'a PlatformName, server: &'a ServerName) -> Work<'a, String>;
}

/// The code of one platform on one server.
pub struct Code {
    /// The ways to the agents.
    pub servers: Arc<Servers>,
    /// How it is brought.
    pub by: Arc<dyn Bring>,
    /// The platform.
    pub platform: PlatformName,
    /// Its tree.
    pub tree: TreeKey,
    /// The serial that was decided last.
    pub desired: u64,
    /// The server.
    pub server: ServerName,
}

impl Resource for Code {
    fn describe(&self) -> String {
        format!("code of {}", self.platform)
    }

    fn member(&self) -> Option<&ServerName> {
        Some(&self.server)
    }

    fn inspect(&self) -> Work<'_, Difference> {
        Box::pin(async {
            let survey = match self.servers.survey(&self.server, self.tree).await {
                Ok(survey) => survey,
                // A hub that died has left its session behind: bringing the code takes it over,
                // and waits for one that is alive.
                Err(problem) if problem.code == ErrorCode::TaskLocked => {
                    let what = format!("generation unknown, in other hands -> #{}", self.desired);
                    return Ok(Difference {
                        changes: vec![Change::new(Sign::Change, what)],
                        seen: "in other hands".into(),
                        ..Difference::default()
                    });
                }
                Err(problem) => return Err(problem),
            };
            let changes = match survey.live {
                Some(live) if live == self.desired => Vec::new(),
                Some(live) => vec![Change::new(
                    Sign::Change,
                    format!("generation #{live} -> #{}", self.desired),
                )],
                None => vec![Change::new(
                    Sign::Add,
                    format!("generation #{}", self.desired),
                )],
            };
            Ok(Difference {
                changes,
                seen: format!("{:?}", survey.live),
                ..Difference::default()
            })
        })
    }

    fn apply(&self) -> Work<'_, Applied> {
        Box::pin(async {
            // Back to an older state is a rollback, and a decision of its own: nothing to undo.
            let message = self.by.bring(&self.platform, &self.server).await?;
            Ok(Applied {
                message,
                ..Applied::default()
            })
        })
    }

    fn undo<'a>(&'a self, _note: &'a str) -> Work<'a, ()> {
        Box::pin(async { Ok::<(), Problem>(()) })
    }
}
