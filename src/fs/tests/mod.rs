//! Tests against real directories, most of them with somebody else at work in the same place.

mod content;
mod deep;
mod dir;
mod meta;
mod race;
mod walk;

use super::Dir;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use sync_proto::path::{Name, RelPath};
use tempfile::TempDir;

/// A directory of the test's own, with a neighbour that must stay as it is.
struct Place {
    kept: TempDir,
    dir: Dir,
}

impl Place {
    fn new() -> Self {
        let kept = TempDir::new().unwrap();
        std::fs::create_dir(kept.path().join("tree")).unwrap();
        std::fs::create_dir(kept.path().join("outside")).unwrap();
        std::fs::write(kept.path().join("outside/secret"), "untouched").unwrap();
        let dir = Dir::open_absolute(&kept.path().join("tree")).unwrap();
        Self { kept, dir }
    }

    fn path(&self, below: &str) -> PathBuf {
        self.kept.path().join("tree").join(below)
    }

    fn outside(&self) -> PathBuf {
        self.kept.path().join("outside")
    }

    fn assert_outside_is_untouched(&self) {
        let names: Vec<_> = std::fs::read_dir(self.outside())
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        assert_eq!(names, ["secret"]);
        assert_eq!(
            std::fs::read_to_string(self.outside().join("secret")).unwrap(),
            "untouched"
        );
    }
}

/// Lets `rival` work again and again while `work` runs, however that ends.
fn beside<T>(mut rival: impl FnMut() + Send, work: impl FnOnce() -> T) -> T {
    struct Over<'a>(&'a AtomicBool);
    impl Drop for Over<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                rival();
            }
        });
        let _over = Over(&is_over);
        work()
    })
}

/// Repeats `work` at least `least` times, and on a busy machine until it says that it has met what
/// it is about. It fails if that doesn't happen at all.
fn until_met(least: usize, mut work: impl FnMut() -> bool) {
    let start = std::time::Instant::now();
    for round in 0.. {
        let is_met = work();
        if is_met && round >= least {
            return;
        }
        let elapsed = start.elapsed();
        assert!(
            elapsed.as_secs() < 60,
            "after {round} rounds nothing has been tested"
        );
    }
}

fn name(name: impl AsRef<[u8]>) -> Name {
    Name::parse(name.as_ref()).unwrap()
}

fn path(path: impl AsRef<[u8]>) -> RelPath {
    RelPath::parse(path.as_ref()).unwrap()
}

fn symlink(target: &Path, link: PathBuf) {
    std::os::unix::fs::symlink(target, link).unwrap();
}

/// Some of these tests are about what only root may do, and must not pass without having done it.
fn demand_root() {
    assert!(
        rustix::process::geteuid().is_root(),
        "this test gives files away and makes devices: run it as root"
    );
}
