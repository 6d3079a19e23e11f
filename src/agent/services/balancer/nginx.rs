//! An nginx that balances here: who has left it, and whether it still works for them.

use super::{LONGEST_WAIT, LOOK, disk};
use crate::codes::{Code, Problem};
use crate::fs::{Dir, FsError, system};
use std::path::Path;
use std::time::{Duration, Instant};
use sync_proto::wire::service::{BalancerAnswer, BalancerRequest, BalancerState, Waited};

/// nginx can't be told anything: what it does is in its configuration. When the last worker with an
/// older one has ended, whoever left it is idle.
pub(super) async fn answer(request: BalancerRequest) -> Result<BalancerAnswer, Problem> {
    match request {
        BalancerRequest::State => Ok(BalancerAnswer::State(BalancerState {
            program: "nginx".into(),
            retiring_workers: retiring_workers().await?,
            ..BalancerState::default()
        })),
        BalancerRequest::AwaitIdle { within_ms, .. } => {
            let began = Instant::now();
            let within = Duration::from_millis(u64::from(within_ms)).min(LONGEST_WAIT);
            loop {
                let retiring = retiring_workers().await?;
                if retiring == 0 || began.elapsed() >= within {
                    return Ok(BalancerAnswer::Waited(Waited {
                        is_reached: retiring == 0,
                        is_lost: false,
                        elapsed_us: u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX),
                        sessions: retiring,
                        status: format!("{retiring} workers with an older configuration"),
                    }));
                }
                tokio::time::sleep(LOOK).await;
            }
        }
        BalancerRequest::Rotate { .. }
        | BalancerRequest::AwaitUp { .. }
        | BalancerRequest::CutOff { .. } => Err(Problem::new(
            Code::BalancerUnfit,
            "nginx balances here, and can't be told this while it runs",
        )),
    }
}

/// nginx's workers that only finish what they have.
async fn retiring_workers() -> Result<u32, Problem> {
    let count = || {
        let mut count = 0;
        let processes = Dir::open_absolute(Path::new("/proc"))?.list()?;
        for process in processes {
            let name = String::from_utf8_lossy(process.name.as_bytes()).into_owned();
            if !name.bytes().all(|it| it.is_ascii_digit()) {
                continue;
            }
            // One that ended meanwhile is none.
            let command = system::read_text(&Path::new("/proc").join(name).join("cmdline"));
            let is_one = |it: &String| it.starts_with("nginx: worker process is shutting down");
            count += u32::from(command.as_ref().is_ok_and(is_one));
        }
        Ok::<_, FsError>(count)
    };
    match tokio::task::spawn_blocking(count).await {
        Ok(Ok(count)) => Ok(count),
        Ok(Err(error)) => Err(disk(&error)),
        Err(error) => Err(Problem::from_error(Code::Bug, &error)),
    }
}
