//! The one directory that everything of the demo is in, and that is gone afterwards.

use crate::cli::error::CommandError;
use crate::cli::human;
use crate::codes::{Code, Problem};
use crate::fs::{Dir, FsError, space};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use sync_proto::path::Name;

/// LIMIT: how long a process that was killed just now may still get in the way of removing.
const PATIENCE: Duration = Duration::from_secs(10);

/// A new directory among the system's temporary ones.
pub(super) struct Place {
    parent: Dir,
    name: Name,
    path: PathBuf,
}

impl Place {
    pub(super) fn create() -> Result<Self, CommandError> {
        let above = std::env::temp_dir();
        let parent = Dir::open_absolute(&above).map_err(refused)?;
        let name = format!("fanout-demo-{:08x}", rand::random::<u32>());
        let path = above.join(&name);
        let name = Name::parse(name.as_bytes())
            .map_err(|error| CommandError::from_error(Code::Bug, &error))?;
        parent.create_dir(&name, 0o700).map_err(refused)?;
        Ok(Self { parent, name, path })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// One empty directory a member, for rsync.
    pub(super) fn make_copies(&self, members: u16) -> Result<Vec<PathBuf>, CommandError> {
        let directory = |dir: &Dir, name: &str| {
            let name = Name::parse(name.as_bytes())
                .map_err(|error| CommandError::from_error(Code::Bug, &error))?;
            dir.create_dir(&name, 0o755).map_err(refused)
        };
        let own = self.parent.open_dir(&self.name).map_err(refused)?;
        let rsync = directory(&own, "rsync")?;
        (1..=members)
            .map(|number| {
                let name = format!("web{number}");
                directory(&rsync, &name)?;
                Ok(self.path.join("rsync").join(name))
            })
            .collect()
    }

    /// Refuses where the members' trees, rsync's, the source and the depot have no room.
    pub(super) fn check_space(
        &self,
        content_bytes: u64,
        files: u64,
        members: u16,
    ) -> Result<(), CommandError> {
        let space = space::space(&self.parent).map_err(refused)?;
        // Two generations a member, since not every file system shares what didn't change.
        let trees = u64::from(members) * 3 + 3;
        let needed = trees * (content_bytes + files * space.block_bytes / 2);
        if space.free_bytes >= needed {
            return Ok(());
        }
        Err(CommandError::new(
            Code::DiskFull,
            format!(
                "The demo needs about {} in {}, which has {}",
                human::bytes(needed),
                std::env::temp_dir().display(),
                human::bytes(space.free_bytes)
            ),
        )
        .hint("Set TMPDIR to a directory with more room, or use fewer --members or --files"))
    }

    /// Removes everything. What processes still leave behind while they end is removed too.
    pub(super) async fn remove(&self) -> Result<(), CommandError> {
        let start = Instant::now();
        loop {
            match self.parent.remove_tree(&self.name) {
                Ok(()) => return Ok(()),
                Err(error) if start.elapsed() > PATIENCE => return Err(refused(error)),
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    }
}

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
fn refused(error: FsError) -> CommandError {
    let code = if error.is_no_space() {
        Code::DiskFull
    } else if error.is_permission() {
        Code::PermissionDenied
    } else {
        Code::DiskError
    };
    Problem::from_error(code, &error).into()
}
