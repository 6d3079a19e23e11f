//! Applications, their uploads and their shares: a hub that may ask for them, and asks for what lies
//! elsewhere.

use super::peer::{Comes, play, runtime};
use super::services::{CONTROL, EVERYTHING, Hub, app, asks, names, prepare};
use super::victim::{SMALL_GROWTH_KIB, Victim};
use crate::support::root_or_skip;
use fanout::config::HubDir;
use fanout::store::Store;
use std::fs;
use sync_proto::digest::Digest;
use sync_proto::wire::service::{
    AppAction, AppDriver, AppTarget, UploadAnswer, UploadFile, UploadPlace, UploadRequest,
};
use sync_proto::wire::{ServiceAnswer as Answer, ServiceRequest as Service, TreeKey};

fn tree_of_site(victim: &Victim) -> TreeKey {
    let dir = HubDir::new(Some(&victim.world.hub_dir()));
    runtime().block_on(async {
        let store = Store::open(&dir.database()).await.unwrap();
        let platform = store.platform(&"site".parse().unwrap()).await.unwrap();
        *platform.unwrap().tree.as_bytes()
    })
}

/// Applications and their uploads stay in their tree, whatever a path or a name says.
#[test]
fn sites_and_uploads_lead_nowhere_else() {
    if !root_or_skip("applications of other users") {
        return;
    }
    let mut victim = Victim::offering(EVERYTHING, &[], SMALL_GROWTH_KIB);
    let tree = tree_of_site(&victim);
    let prefix = victim.world.agent_prefix(0);
    let outside = prefix.join("etc");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("secret"), "secret").unwrap();
    let uploads = victim.world.live(0, "site").join("uploads");
    fs::create_dir(&uploads).unwrap();
    std::os::unix::fs::symlink(&outside, uploads.join("link")).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", uploads.join("passwd")).unwrap();

    let no_path = Comes::Refused("FX0312");
    let no_upload = Comes::Refused("FX0765");
    let unknown_tree = Comes::Refused("FX0322");
    let no_word = Comes::Refused("FX0009");
    let look = |what, comes, change: fn(&mut AppTarget)| {
        asks(what, app(tree, AppAction::Look, change), comes)
    };
    let place = |path: &[u8]| UploadPlace {
        tree,
        path: path.to_vec(),
    };
    let list = |what, path: &[u8], comes| {
        let list = UploadRequest::List {
            place: place(path),
            after: Vec::new(),
            skip: Vec::new(),
        };
        asks(what, Service::Uploads(list), comes)
    };
    let read = |what, path: &[u8]| {
        let read = UploadRequest::Read {
            place: place(b"uploads"),
            path: path.to_vec(),
            offset: 0,
        };
        asks(what, Service::Uploads(read), no_upload)
    };
    let write = |what, path: &[u8], (size, offset, bytes): (u64, u64, usize), comes| {
        let file = UploadFile {
            path: path.to_vec(),
            size,
            digest: Digest::of(b"something else"),
            mtime_s: 0,
            mode: 0o6777,
        };
        let write = UploadRequest::Write {
            place: place(b"uploads"),
            file,
            replaces: None,
            offset,
            bytes: vec![b'x'; bytes],
        };
        asks(what, Service::Uploads(write), comes)
    };
    let remove = |what, path: &[u8]| {
        let remove = UploadRequest::Remove {
            place: place(b"uploads"),
            path: path.to_vec(),
            digest: Digest::of(b"secret"),
        };
        asks(what, Service::Uploads(remove), no_upload)
    };
    let leave = |what, path: &[u8], code| {
        let leave = UploadRequest::Leave {
            path: path.to_vec(),
            nonce: [7; 16],
        };
        asks(what, Service::Uploads(leave), Comes::Refused(code))
    };
    let small = (3, 0, 3);
    let rows = vec![
        asks(
            "an application of no tree",
            app([9; 16], AppAction::Look, |_| {}),
            unknown_tree,
        ),
        look("a document root upwards", no_path, |it| {
            it.docroot = b"../../etc".to_vec();
        }),
        look("an absolute document root", no_path, |it| {
            it.docroot = b"/etc".to_vec();
        }),
        look("a site that is a path", no_word, |it| {
            it.site = "../../etc".into();
        }),
        look("a site with control characters", no_word, |it| {
            it.site = CONTROL.into();
        }),
        look("a site's directory upwards", no_path, |it| {
            it.dir = "..".into();
        }),
        look("a site's directory of two names", no_path, |it| {
            it.dir = "a/b".into();
        }),
        look("settings of another path", no_path, |it| {
            it.settings = "../../peers".into();
        }),
        look("settings with control characters", no_path, |it| {
            it.settings = CONTROL.into();
        }),
        look("root as a site's user", Comes::Refused("FX0321"), |it| {
            it.user = "root".into();
        }),
        look("nobody as a site's user", Comes::Refused("FX0212"), |it| {
            it.user = CONTROL.into();
        }),
        look("a PHP that is a path", no_word, |it| {
            it.php = "../../../tmp/php".into();
        }),
        asks(
            "a command that nobody named",
            app(tree, AppAction::Update, |it| it.driver = AppDriver::Command),
            Comes::Refused("FX0767"),
        ),
        asks(
            "a share that is an ordinary directory",
            app(tree, prepare(b"/etc"), |_| {}),
            Comes::Refused("FX0766"),
        ),
        asks(
            "a share with a way upwards",
            app(tree, prepare(b"/srv/../etc"), |_| {}),
            no_path,
        ),
        asks(
            "a relative share",
            app(tree, prepare(b"etc"), |_| {}),
            no_path,
        ),
        list("the root as uploads", b"", no_upload),
        list("uploads upwards", b"../../../etc", no_upload),
        list("absolute uploads", b"/etc", no_upload),
        list("uploads that nobody preserves", b"core", no_upload),
        list("uploads behind a symlink", b"uploads/link", no_upload),
        asks(
            "uploads of no tree",
            Service::Uploads(UploadRequest::List {
                place: UploadPlace {
                    tree: [9; 16],
                    path: b"uploads".to_vec(),
                },
                after: Vec::new(),
                skip: Vec::new(),
            }),
            unknown_tree,
        ),
        read("a file upwards", b"../index.php"),
        read("a file by its whole path", b"/etc/passwd"),
        read("a file behind a symlink", b"link/secret"),
        read("a part on its way", b".fanout-part-00"),
        read("a file with control characters", CONTROL.as_bytes()),
        write("a file written upwards", b"../x", small, no_upload),
        write(
            "a file written behind a symlink",
            b"link/x",
            small,
            no_upload,
        ),
        write("a name of ours", b"a/.fanout-x/y", small, no_upload),
        write("no name", b"", small, no_upload),
        write("more than it has", b"x", (3, 0, 4), no_upload),
        write("beyond its end", b"x", (3, u64::MAX, 3), no_upload),
        write("a part out of order", b"x", (9, 3, 3), no_upload),
        write("a file above 16 GiB", b"x", (1 << 35, 0, 3), no_upload),
        write(
            "a part above 512 KiB",
            b"x",
            (1 << 20, 0, 512 * 1024 + 1),
            no_upload,
        ),
        write("another content", b"x", small, Comes::Refused("FX0404")),
        remove("a removal upwards", b"../index.php"),
        remove("a removal behind a symlink", b"link/secret"),
        leave("a word in an ordinary directory", b"/etc", "FX0766"),
        leave("a word in the whole system", b"/", "FX0312"),
        leave("a word upwards", b"/srv/../etc", "FX0312"),
        leave(
            "a word at a path with control characters",
            b"/a\x1bb",
            "FX0312",
        ),
    ];
    play(&mut victim, rows);
    assert_eq!(names(&outside), ["secret"]);
    assert_eq!(fs::read(outside.join("secret")).unwrap(), b"secret");
    assert_eq!(names(&prefix), ["etc", "srv"]);
    assert_eq!(names(&uploads), ["link", "passwd"]);
}

/// A share may be wherever an administrator mounts one, but not where the system itself lies.
#[test]
fn no_share_lies_in_the_system_itself() {
    if !root_or_skip("mounting a file system") {
        return;
    }
    let mut victim = Victim::offering(EVERYTHING, &[], SMALL_GROWTH_KIB);
    let tree = tree_of_site(&victim);
    let leave = |path: &str| {
        Service::Uploads(UploadRequest::Leave {
            path: path.as_bytes().to_vec(),
            nonce: [7; 16],
        })
    };
    let prefix = victim.world.agent_prefix(0);
    let system = [
        "/boot/efi",
        "/dev/shm",
        "/etc/x",
        "/run",
        "/usr/lib",
        "/var/lib/fanout",
    ];
    let _mounted: Vec<Mounted> = system
        .iter()
        .chain(&["/mnt/files"])
        .map(|path| Mounted::at(prefix.join(&path[1..])))
        .collect();
    let not = Comes::Refused("FX0766");
    let mut rows = Vec::new();
    for path in system {
        rows.push(asks("a word in the system", leave(path), not));
        let share = app(tree, prepare(path.as_bytes()), |_| {});
        rows.push(asks("a share in the system", share, not));
    }
    play(&mut victim, rows);
    for path in system {
        let there = names(&prefix.join(&path[1..]));
        assert_eq!(there, Vec::<String>::new(), "in {path}");
    }
    let left = runtime().block_on(async {
        let mut hub = Hub::greeted(&victim, &victim.hub).await;
        hub.ask(leave("/mnt/files")).await
    });
    assert_eq!(left, Ok(Answer::Uploads(UploadAnswer::Done)));
}

/// A small file system of its own, until it is dropped.
struct Mounted(std::path::PathBuf);

impl Mounted {
    fn at(path: std::path::PathBuf) -> Self {
        fs::create_dir_all(&path).unwrap();
        let mut mount = std::process::Command::new("mount");
        mount
            .args(["-t", "tmpfs", "-o", "size=1m", "tmpfs"])
            .arg(&path);
        assert!(mount.status().unwrap().success());
        Self(path)
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let mut umount = std::process::Command::new("umount");
        let _left_to_the_namespace = umount.arg("-l").arg(&self.0).status();
    }
}
