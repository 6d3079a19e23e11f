//! One question to all members of a platform at once.

use super::Context;
use super::error::CommandError;
use super::hub::Hub;
use super::plan::{self, Wish};
use super::progress::Progress;
use crate::codes::{Code, Problem};
use crate::config::Platform;
use crate::engine::event::MemberName;
use crate::engine::hub::preflight;
use crate::engine::hub::session::{Session, SessionError};
use crate::engine::hub::task::Task;
use crate::store::PlatformState;
use std::future::Future;
use std::time::Duration;

/// One answer for each member, in the order of the inventory.
pub(crate) type Answers<T> = Vec<(MemberName, Result<T, Problem>)>;

/// Asks every member of a platform.
pub(crate) async fn ask<T, F>(
    context: &Context,
    hub: &Hub,
    platform: &Platform,
    state: &PlatformState,
    question: impl Fn(Session) -> F,
) -> Result<Answers<T>, CommandError>
where
    F: Future<Output = Result<T, SessionError>> + Send + 'static,
    T: Send + 'static,
{
    let progress = Progress::new(&context.ui, platform.name.as_str());
    let engine = hub.engine(progress.sink());
    let task = plan::task(hub, platform, state, 0, &Wish::default(), &engine.events).await?;
    Ok(of_task(&engine, &task, None, question).await)
}

/// Asks every member of a task, each for at most `limit`.
pub(crate) async fn of_task<T, F>(
    engine: &preflight::Hub,
    task: &Task,
    limit: Option<Duration>,
    question: impl Fn(Session) -> F,
) -> Answers<T>
where
    F: Future<Output = Result<T, SessionError>> + Send + 'static,
    T: Send + 'static,
{
    // Connecting needs no answer yet, so all members are under way before the first is waited for.
    let mut connecting = Vec::new();
    for target in &task.targets {
        let (engine, task, target) = (engine.clone(), task.clone(), target.clone());
        connecting.push(tokio::spawn(async move {
            within(limit, preflight::connect(&engine, &task, &target)).await
        }));
    }
    let mut asking = Vec::new();
    for (target, connected) in task.targets.iter().zip(connecting) {
        let answer = match connected.await.unwrap_or_else(|error| Err(lost(&error))) {
            Ok(session) => {
                let asked = question(session);
                Ok(tokio::spawn(async move {
                    within(limit, async {
                        asked.await.map_err(|error| error.problem())
                    })
                    .await
                }))
            }
            Err(problem) => Err(problem),
        };
        asking.push((target.name.clone(), answer));
    }
    let mut answers = Vec::new();
    for (name, asked) in asking {
        let answer = match asked {
            Ok(asked) => asked.await.unwrap_or_else(|error| Err(lost(&error))),
            Err(problem) => Err(problem),
        };
        answers.push((name, answer));
    }
    answers
}

async fn within<T>(
    limit: Option<Duration>,
    work: impl Future<Output = Result<T, Problem>>,
) -> Result<T, Problem> {
    let Some(limit) = limit else {
        return work.await;
    };
    tokio::time::timeout(limit, work).await.unwrap_or_else(|_| {
        Err(Problem::new(
            Code::Unreachable,
            format!("No answer within {:.1} s", limit.as_secs_f32()),
        ))
    })
}

fn lost(error: &tokio::task::JoinError) -> Problem {
    Problem::from_error(Code::Bug, error)
}
