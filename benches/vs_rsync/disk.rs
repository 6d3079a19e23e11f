//! A disk of its own for each machine: ext4 in a sparse image on the sandbox's tmpfs.

use crate::shell::{run, wait_until};
use anyhow::{Context, Result};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What a disk shall be like.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DiskSpec {
    pub(crate) mib: u64,
    /// Blocks of 1 KiB and an inode for each, for very many very small files.
    pub(crate) small_blocks: bool,
}

/// A mounted disk. Dropping it takes it away with everything on it.
pub(crate) struct Disk {
    at: PathBuf,
    image: PathBuf,
}

impl Disk {
    /// Makes a new file system and mounts it at `at`.
    pub(crate) fn make(at: &Path, spec: DiskSpec) -> Result<Self> {
        let image = at.with_extension("img");
        let file = File::create(&image).context("create an image")?;
        file.set_len(spec.mib * 1024 * 1024)?;
        fs::create_dir_all(at)?;
        let (image_path, at_path) = (text(&image)?, text(at)?);
        // Nothing is left for a kernel thread to initialise later, in somebody's timed part.
        let lazy = "lazy_itable_init=0,lazy_journal_init=1";
        let blocks: &[&str] = if spec.small_blocks {
            &["-b", "1024", "-i", "1024"]
        } else {
            &["-b", "4096"]
        };
        let words = ["mkfs.ext4", "-q", "-F", "-m", "0", "-E", lazy];
        run(&[&words[..], blocks, &[image_path]].concat())?;
        run(&["mount", "-o", "loop,noatime", image_path, at_path])?;
        Ok(Self {
            at: at.to_owned(),
            image,
        })
    }

    /// Where it is mounted.
    pub(crate) fn at(&self) -> &Path {
        &self.at
    }

    /// Writes back what is dirty, so that it doesn't happen in somebody's timed part.
    pub(crate) fn settle(&self) -> Result<()> {
        Ok(rustix::fs::syncfs(File::open(&self.at)?)?)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let Ok(at) = text(&self.at) else { return };
        let gone = wait_until(Duration::from_secs(3), || run(&["umount", at]).is_ok());
        if !gone {
            let _as_good_as_gone = run(&["umount", "--lazy", at]);
        }
        let _gone = fs::remove_file(&self.image);
    }
}

/// A path as a word of a command line.
pub(crate) fn text(path: &Path) -> Result<&str> {
    path.to_str().context("a readable path")
}
