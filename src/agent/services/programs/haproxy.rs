//! HAProxy: its file is tested by itself, and its master process reads it anew at a signal. Whether
//! it balances is asked through its own socket (`agent::services::balancer`).

use super::{Found, LOOK, PROOF, Staged, cleaned, fault, installed, running, tested};
use crate::agent::services::balancer::Haproxy;
use crate::codes::{Code, Problem};
use crate::fs::system;
use crate::proc::{Program, Tell, tell};
use crate::services::balancer::HAPROXY_FILE;
use std::path::{Path, PathBuf};
use std::time::Instant;
use sync_proto::wire::service::{ConfigArea, ProgramFacts};

const AREA: ConfigArea = ConfigArea::Haproxy;
/// Where a master process writes its id.
const PID_FILES: [&str; 2] = ["/run/haproxy.pid", "/var/run/haproxy.pid"];

fn found() -> Option<PathBuf> {
    installed(&["haproxy"])
}

fn process() -> Option<u32> {
    PID_FILES
        .iter()
        .find_map(|it| running(Path::new(it), "haproxy"))
}

pub(super) async fn facts(current: &Path) -> Option<ProgramFacts> {
    let binary = found()?;
    let output = Program::new(&binary).arg("-v").succeed().await.ok()?;
    let said = output.text();
    let version = said
        .split("version ")
        .nth(1)?
        .split([' ', '-'])
        .next()?
        .to_owned();
    let pid = process();
    let own = format!("{}/haproxy", current.display());
    let command = pid.map(|pid| system::read_text(Path::new(&format!("/proc/{pid}/cmdline"))));
    Some(ProgramFacts {
        version,
        binary: binary.display().to_string(),
        config: format!("{own}/{HAPROXY_FILE}"),
        is_included: command.is_some_and(|it| it.is_ok_and(|it| it.contains(&own))),
        is_running: pid.is_some(),
        ..ProgramFacts::default()
    })
}

pub(super) async fn test(staged: &Staged, so_far: &mut Found) -> Result<(), Problem> {
    let Some(binary) = found() else {
        so_far
            .faults
            .push(fault(AREA, "", "HAProxy isn't installed here"));
        return Ok(());
    };
    let own = staged.files.iter().filter(|(area, _)| *area == AREA);
    for (_, name) in own.filter(|(_, name)| name.ends_with(".cfg")) {
        let path = staged.copy.join("haproxy").join(name);
        let (passes, said) = tested(Program::new(&binary).arg("-c").arg("-f").arg(path)).await?;
        if !passes {
            so_far
                .faults
                .push(fault(AREA, name, cleaned(&said, staged)));
        }
    }
    Ok(())
}

/// Tells HAProxy to read its file, and waits until workers answer that have read it; false where it
/// doesn't run, which its own facts say. Members stay where they were put.
pub(super) async fn reload(data: &Path) -> Result<bool, Problem> {
    let Some(pid) = process() else {
        return Ok(false);
    };
    let haproxy = Haproxy::new(data);
    let before = haproxy.worker().await.ok();
    if before.is_some() {
        haproxy.save().await?;
    }
    tell(pid, Tell::Reload).map_err(|error| Problem::from_error(Code::ProgramFailed, &error))?;
    let started = Instant::now();
    while started.elapsed() < PROOF {
        // A reload that fails leaves the workers that are there.
        if let Ok(now) = haproxy.worker().await
            && before.as_ref() != Some(&now)
        {
            return Ok(true);
        }
        tokio::time::sleep(LOOK).await;
    }
    let message = "HAProxy was told to read its new configuration and goes on with the old one";
    Err(Problem::new(Code::NotProved, message))
}
