//! What the agent says about itself and its machine.

use crate::config::AgentConfig;
use crate::fs::read::read_range;
use crate::fs::{Dir, FsError, owner};
use std::path::Path;
use sync_proto::path::Name;
use sync_proto::wire::Facts;

/// The facts that every hub hears.
pub fn facts(config: &AgentConfig) -> Facts {
    let kernel = kernel().unwrap_or_else(|_| "unknown".into());
    Facts {
        name: config.name.to_string(),
        software: concat!("fanout ", env!("CARGO_PKG_VERSION")).into(),
        system: format!("Linux {kernel} {}", std::env::consts::ARCH),
        privileged: owner::is_privileged(),
        allow: config
            .allow
            .iter()
            .map(|allowed| allowed.as_str().as_bytes().to_vec())
            .collect(),
    }
}

fn kernel() -> Result<String, FsError> {
    let dir = Dir::open_absolute(Path::new("/proc/sys/kernel"))?;
    let name = Name::parse(b"osrelease").map_err(|_| FsError::bad_name(b"osrelease"))?;
    let bytes = read_range(&dir.open_file(&name)?, 0, 128)?;
    Ok(String::from_utf8_lossy(&bytes).trim().to_owned())
}
