//! Makes a site's PHP-FPM forget its compiled code, by a request to the pool's own socket: for
//! pools that don't look at the times of files.

use super::Apps;
use super::site::LocalSite;
use crate::codes::{Code, Problem};
use crate::engine::member::refusal::of_fs;
use crate::fs::Dir;
use crate::fs::durable::write_atomically;
use crate::net::fcgi;
use std::path::Path;
use std::time::Duration;
use sync_proto::path::Name;

/// Where PHP-FPM keeps its sockets.
const SOCKETS: &str = "/run/php";
/// How long a pool may take.
const LIMIT: Duration = Duration::from_secs(10);
const SCRIPT: &str = "<?php\n\
    // Asked for by fanout over the pool's own socket; no web server leads here.\n\
    header('Content-Type: text/plain');\n\
    echo function_exists('opcache_reset') && opcache_reset() ? 'reset' : 'none';\n";

impl Apps {
    /// True if the pool has forgotten; false if it has no pool, or nothing to forget.
    pub(super) async fn reset_opcache(&self, site: &LocalSite) -> Result<bool, Problem> {
        forget(&crate::services::web::pool_name(&site.app.uri)).await
    }
}

/// Has every pool of ours here forget; how many had something to forget.
pub(in crate::agent::services) async fn forget_all() -> Result<u32, Problem> {
    let mut count = 0;
    for name in crate::fs::system::names(Path::new(SOCKETS)) {
        if let Some(pool) = name.strip_suffix(".sock")
            && crate::services::web::is_pool_name(pool)
        {
            count += u32::from(forget(pool).await?);
        }
    }
    Ok(count)
}

async fn forget(pool: &str) -> Result<bool, Problem> {
    let socket = Path::new(SOCKETS).join(format!("{pool}.sock"));
    let name = Name::parse(format!("{pool}.sock").as_bytes())
        .map_err(|error| Problem::from_error(Code::Bug, &error))?;
    let is_there = Dir::open_absolute(Path::new(SOCKETS))
        .and_then(|dir| dir.stat(&name))
        .is_ok_and(|stat| stat.is_some());
    if !is_there {
        return Ok(false);
    }
    // A file that every user may read, in a directory of the moment.
    let scratch = Dir::open_absolute(Path::new("/tmp")).map_err(|error| of_fs(&error))?;
    let name = format!("fanout-{:032x}", rand::random::<u128>());
    let name =
        Name::parse(name.as_bytes()).map_err(|error| Problem::from_error(Code::Bug, &error))?;
    let dir = scratch
        .create_dir(&name, 0o755)
        .map_err(|error| of_fs(&error))?;
    let file = Name::parse(b"reset.php").map_err(|error| Problem::from_error(Code::Bug, &error))?;
    let path = format!("/tmp/{name}/reset.php");
    let asked = async {
        write_atomically(&dir, &file, SCRIPT.as_bytes(), 0o644).map_err(|e| of_fs(&e))?;
        fcgi::get(&socket, &path, LIMIT)
            .await
            .map_err(|error| Problem::from_error(Code::AppFailed, &error))
    };
    let answer = asked.await;
    scratch.remove_tree(&name).map_err(|error| of_fs(&error))?;
    let body = answer?;
    Ok(body.ends_with(b"reset"))
}
