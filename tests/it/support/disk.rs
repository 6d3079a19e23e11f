//! A small disk of its own: an ext4 file system in a file, mounted as long as it is needed. Needs
//! root.

use super::run::run;
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What ext4 puts a file's bytes in.
const BLOCK_BYTES: usize = 4096;

/// A mounted file system, unmounted when dropped.
pub(crate) struct SmallDisk {
    image: PathBuf,
    mounted: PathBuf,
}

impl SmallDisk {
    /// Makes one in the file `image`, with these options of `mkfs.ext4`, and mounts it.
    #[track_caller]
    pub(crate) fn mount(at: PathBuf, image: &Path, size_bytes: u64, options: &[&str]) -> Self {
        let file = File::create(image).expect("create the image");
        file.set_len(size_bytes).expect("size the image");
        let mut make = Command::new("mkfs.ext4");
        // Blocks of a known size, so that they are found again.
        make.args(["-q", "-F", "-b", "4096"]).args(options);
        run(make.arg(image)).success();
        fs::create_dir_all(&at).expect("create the mount point");
        let disk = Self {
            image: image.to_owned(),
            mounted: at,
        };
        disk.mount_again();
        disk
    }

    fn mount_again(&self) {
        let mut mount = Command::new("mount");
        mount.args(["-o", "loop"]).arg(&self.image);
        run(mount.arg(&self.mounted)).success();
    }

    /// What a failing disk does: the block that holds `block` changes by one bit, and no file knows
    /// it. Nothing may have a file open here.
    #[track_caller]
    pub(crate) fn rot(&self, block: &[u8]) {
        assert_eq!(block.len(), BLOCK_BYTES);
        run(Command::new("umount").arg(&self.mounted)).success();
        let file = OpenOptions::new().read(true).write(true).open(&self.image);
        let file = file.expect("open the image");
        let blocks = file.metadata().expect("its size").len() / BLOCK_BYTES as u64;
        let mut bytes = vec![0; BLOCK_BYTES];
        let found = (0..blocks).map(|nth| nth * BLOCK_BYTES as u64).find(|at| {
            file.read_exact_at(&mut bytes, *at).expect("read the image");
            bytes == block
        });
        let at = found.expect("the block is on the disk");
        file.write_all_at(&[block[0] ^ 1], at).expect("change it");
        drop(file);
        self.mount_again();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        run(Command::new("umount").arg("--lazy").arg(&self.mounted));
    }
}
