//! A small disk of its own: an ext4 file system in a file, mounted as long as it is needed. Needs
//! root.

use super::run::run;
use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What ext4 puts a file's bytes in.
const BLOCK_BYTES: usize = 4096;

/// What a disk has only so much of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Resource {
    Bytes,
    Inodes,
}

/// What uses up a disk, until it is dropped.
pub(crate) struct Filled(PathBuf);

impl Drop for Filled {
    fn drop(&mut self) {
        let _gone_with_the_disk = fs::remove_dir_all(&self.0);
    }
}

/// A mounted file system, unmounted when dropped.
pub(crate) struct SmallDisk {
    image: PathBuf,
    mounted: PathBuf,
    /// How it is mounted, besides by a loop device.
    mount_options: &'static str,
    outages: usize,
}

impl SmallDisk {
    /// Makes one in the file `image`, with these options of `mkfs.ext4`, and mounts it.
    #[track_caller]
    pub(crate) fn mount(at: PathBuf, image: &Path, size_bytes: u64, options: &[&str]) -> Self {
        Self::mount_with(at, image, size_bytes, options, "rw")
    }

    /// The same, with options of `mount` too.
    #[track_caller]
    pub(crate) fn mount_with(
        at: PathBuf,
        image: &Path,
        size_bytes: u64,
        options: &[&str],
        mount_options: &'static str,
    ) -> Self {
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
            mount_options,
            outages: 0,
        };
        disk.mount_again();
        disk
    }

    fn mount_again(&self) {
        let mut mount = Command::new("mount");
        let options = format!("loop,{}", self.mount_options);
        mount.args(["-o", &options]).arg(&self.image);
        run(mount.arg(&self.mounted)).success();
    }

    /// Puts the existing directory `at` on a disk of its own. Nobody may use it meanwhile.
    #[track_caller]
    pub(crate) fn under(at: &Path, size_bytes: u64, mount_options: &'static str) -> Self {
        let (image, aside) = (at.with_extension("img"), at.with_extension("aside"));
        fs::rename(at, &aside).expect("move it aside");
        let disk = Self::mount_with(at.to_owned(), &image, size_bytes, &[], mount_options);
        let mut copy = Command::new("cp");
        run(copy.arg("-a").arg(aside.join(".")).arg(at)).success();
        fs::remove_dir_all(aside).expect("remove what was copied");
        disk
    }

    /// Makes everything on it durable.
    pub(crate) fn sync(&self) {
        run(Command::new("sync").arg("-f").arg(&self.mounted)).success();
    }

    /// The power goes, now: what the file system had handed to the disk by this moment is all that
    /// there is afterwards. Nothing may have a file open here.
    #[track_caller]
    pub(crate) fn lose_power(&mut self) {
        self.outages += 1;
        let found = self.image.with_extension(format!("img{}", self.outages));
        let mut copy = Command::new("cp");
        run(copy.arg("--sparse=always").arg(&self.image).arg(&found)).success();
        // This writes the rest out, but not into the copy.
        run(Command::new("umount").arg(&self.mounted)).success();
        fs::remove_file(&self.image).expect("remove the image");
        self.image = found;
        self.mount_again();
    }

    /// Uses up every free byte or inode, but for what root alone may use; gives them back when
    /// dropped.
    #[track_caller]
    pub(crate) fn fill(&self, what: Resource) -> Filled {
        let filled = Filled(self.mounted.join("filler"));
        fs::create_dir(&filled.0).expect("make room for what fills it");
        match what {
            Resource::Bytes => {
                let mut file = File::create(filled.0.join("large")).expect("a file");
                for piece in [1 << 20, 4096, 1] {
                    while file.write_all(&vec![1; piece]).is_ok() {}
                }
                // Delayed allocation finds out later.
                let _full = file.sync_all();
                while file.write_all(&[1; 4096]).is_ok() {}
            }
            Resource::Inodes => {
                let mut nth = 0;
                while File::create(filled.0.join(nth.to_string())).is_ok() {
                    nth += 1;
                }
            }
        }
        filled
    }

    /// The file system finds itself damaged and goes on read-only, whoever has files open in it.
    #[track_caller]
    pub(crate) fn fail_read_only(&self) {
        let text = fs::read_to_string("/proc/self/mountinfo").expect("the mounts");
        let mounted = self.mounted.to_str().expect("a readable path");
        let line = text
            .lines()
            .rfind(|line| line.split(' ').nth(4) == Some(mounted));
        let device = line.and_then(|line| line.split(' ').rfind(|word| word.starts_with("/dev/")));
        let device = device.expect("its device").trim_start_matches("/dev/");
        let switch = format!("/sys/fs/ext4/{device}/trigger_fs_error");
        fs::write(switch, "a test").expect("make it fail");
    }

    /// Its administrator repairs it. Nothing may have a file open here.
    #[track_caller]
    pub(crate) fn repair(&self) {
        run(Command::new("umount").arg(&self.mounted)).success();
        let mut check = Command::new("e2fsck");
        let output = run(check.args(["-f", "-y"]).arg(&self.image));
        assert!(matches!(output.code, Some(0 | 1)), "{}", output.describe());
        self.mount_again();
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
