//! A disk of its own for each machine: ext4 in a sparse image, on the sandbox's tmpfs or where `--on`
//! says.

use crate::shell::{run, wait_until};
use anyhow::{Context, Result};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tempfile::NamedTempFile;

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
}

impl Disk {
    /// Makes a new file system in an image in the directory `images`, and mounts it at `at`.
    pub(crate) fn make(images: &Path, at: &Path, spec: DiskSpec) -> Result<Self> {
        // Its name goes when this returns, and the image with its last use: the mount.
        let image = NamedTempFile::new_in(images).context("create an image")?;
        image.as_file().set_len(spec.mib * 1024 * 1024)?;
        fs::create_dir_all(at)?;
        let (image_path, at_path) = (text(image.path())?, text(at)?);
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
        Ok(Self { at: at.to_owned() })
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
    }
}

/// A path as a word of a command line.
pub(crate) fn text(path: &Path) -> Result<&str> {
    path.to_str().context("a readable path")
}
