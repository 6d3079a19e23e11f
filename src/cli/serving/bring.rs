//! Code to one member, by the engine's own task.

use crate::cli::Context;
use crate::cli::args::{MemberArgs, TaskArgs};
use crate::cli::hub::Hub;
use crate::cli::plan::Wish;
use crate::cli::work::{self, Aim};
use crate::codes::{Exit, Problem};
use crate::engine::event::TaskKind;
use crate::model::{PlatformName, ServerName};
use crate::orchestrate::Work;
use crate::orchestrate::resources::code::Bring;

/// Brings members to the desired generation as `fanout resync` does.
pub(super) struct Resync {
    context: Context,
}

impl Resync {
    pub(super) fn new(context: &Context) -> Self {
        Self {
            context: context.clone(),
        }
    }

    async fn resync(
        &self,
        platform: &PlatformName,
        server: &ServerName,
    ) -> Result<String, Problem> {
        let of = |error: crate::cli::error::CommandError| error.problem().clone();
        let hub = Hub::open(&self.context).await.map_err(of)?;
        let platform = hub.platform(platform.as_str()).map_err(of)?;
        let wish = Wish {
            members: MemberArgs {
                limit: vec![server.to_string()],
                skip: Vec::new(),
            },
            task: TaskArgs {
                // Another member of the same platform may be on its way.
                wait: true,
                ..TaskArgs::default()
            },
            ..Wish::default()
        };
        let kind = TaskKind::Resync;
        let done = work::carry_out(
            &self.context,
            &hub,
            platform,
            kind,
            wish,
            Aim::Desired,
            None,
        );
        let outcome = done.await.map_err(of)?;
        let report = &outcome.report;
        let failed = report.refusals.first().cloned().or_else(|| {
            let mut members = report.members.iter();
            members.find_map(|member| member.problem.clone())
        });
        match failed {
            Some(problem) if outcome.exit != Exit::Done => Err(problem),
            _ => Ok(report
                .generation
                .map_or_else(String::new, |serial| format!("at #{serial}"))),
        }
    }
}

impl Bring for Resync {
    fn bring<'a>(&'a self, platform: &'a PlatformName, server: &'a ServerName) -> Work<'a, String> {
        Box::pin(self.resync(platform, server))
    }
}
