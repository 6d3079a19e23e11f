//! Uploads of several members: delivered from the one that they are pinned to, hostile names and
//! peers included; and shares that are proved to be one.

use super::ground::{Ground, PLATFORM, SITE};
use crate::support::root_or_skip;
use fanout::codes::Code;
use fanout::orchestrate::uploads::{Brought, Pinned, prove_share};
use fanout::services::app::UploadPath;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use sync_proto::digest::Digest;
use sync_proto::path::RelPath;
use sync_proto::wire::TreeKey;
use sync_proto::wire::service::{AppDriver, UploadAnswer, UploadFile, UploadPlace, UploadRequest};

const PLACE: &str = "wp-content/uploads";

/// Members with a small platform that was pushed.
fn ground(members: usize) -> Ground {
    let ground = Ground::start(members, AppDriver::Wordpress);
    let tree = ground.world.dir().join("small");
    std::fs::create_dir_all(tree.join("wp-content/themes")).unwrap();
    std::fs::write(tree.join("index.php"), "<?php\n").unwrap();
    ground.push(&tree, &["/wp-content/uploads"]);
    let uploads = uploads_of(&ground, 0);
    std::fs::create_dir(&uploads).unwrap();
    chown(&uploads, Some(33), Some(33)).unwrap();
    ground
}

fn uploads_of(ground: &Ground, index: usize) -> PathBuf {
    ground.live(index).join(PLACE)
}

/// Brings the second member what the first one has.
fn bring(ground: &Ground) -> Brought {
    let to = ground.world.agent_name(1).parse().unwrap();
    ground.wire().with(async |servers, store, tree| {
        let pinned = Pinned {
            servers: Arc::new(servers),
            store: Arc::new(store),
            site: SITE.parse().unwrap(),
            tree,
            paths: vec![UploadPath {
                path: RelPath::parse(PLACE.as_bytes()).unwrap(),
                skip: vec!["php".into()],
            }],
            pinned: "web1".parse().unwrap(),
        };
        pinned.bring(&to).await.unwrap()
    })
}

/// Every file below a directory, ours excepted.
fn files(root: &Path) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut all = Vec::new();
    for entry in walkdir::WalkDir::new(root)
        .sort_by_file_name()
        .follow_root_links(true)
    {
        let entry = entry.unwrap();
        if entry.file_type().is_file() && !entry.file_name().as_bytes().starts_with(b".fanout-") {
            let path = entry.path().strip_prefix(root).unwrap();
            let path = path.as_os_str().as_bytes().to_vec();
            all.push((path, std::fs::read(entry.path()).unwrap()));
        }
    }
    all
}

#[test]
fn pinned_uploads_are_on_every_member_and_survive_a_push_netns() {
    if !root_or_skip("hosts") {
        return;
    }
    let ground = ground(2);
    let (first, second) = (uploads_of(&ground, 0), uploads_of(&ground, 1));
    let big: Vec<u8> = (0..3_000_000_u32).map(|n| (n % 251) as u8).collect();
    let mut names: Vec<Vec<u8>> = vec![
        b"2026/11/cat.jpg".to_vec(),
        b"style.css".to_vec(),
        b"two words".to_vec(),
        b"line\nbreak".to_vec(),
        b"not \xff utf-8".to_vec(),
        b"-rf".to_vec(),
        b"back\\slash".to_vec(),
        "\u{202e}gpj.exe".as_bytes().to_vec(),
    ];
    names.push(vec![b'x'; 255]);
    for (number, name) in names.iter().enumerate() {
        let path = first.join(OsStr::from_bytes(name));
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, format!("content {number}")).unwrap();
    }
    std::fs::write(first.join("big.mp4"), &big).unwrap();
    std::fs::write(first.join("empty"), "").unwrap();
    std::fs::create_dir(first.join("php")).unwrap();
    std::fs::write(first.join("php/compiled.php"), "<?php").unwrap();
    symlink("/etc/passwd", first.join("link")).unwrap();

    let brought = bring(&ground);
    assert_eq!(brought.problems, []);
    assert_eq!(brought.written, names.len() as u64 + 2);
    let mut expected = files(&first);
    expected.retain(|(path, _)| path != b"php/compiled.php");
    assert_eq!(files(&second), expected);
    assert!(
        !second.join("link").is_symlink(),
        "a symlink is nobody's upload"
    );
    assert!(
        !second.join("php").exists(),
        "every member compiles for itself"
    );
    let brought = bring(&ground);
    assert_eq!((brought.written, brought.removed), (0, 0));

    // One changes and one goes on the pinned member; the other has a version of its own, and a file
    // that only it has.
    std::fs::write(first.join("style.css"), "new style").unwrap();
    std::fs::remove_file(first.join("two words")).unwrap();
    std::fs::write(first.join("both"), "theirs").unwrap();
    std::fs::write(second.join("both"), "ours").unwrap();
    std::fs::write(second.join("alone"), "only here").unwrap();
    std::fs::write(second.join("empty"), "changed here").unwrap();
    std::fs::remove_file(first.join("empty")).unwrap();
    let brought = bring(&ground);
    assert_eq!((brought.written, brought.removed), (2, 1), "{brought:?}");
    assert_eq!(brought.kept_aside.len(), 1, "{brought:?}");
    assert_eq!(
        std::fs::read(second.join("style.css")).unwrap(),
        b"new style"
    );
    assert_eq!(std::fs::read(second.join("both")).unwrap(), b"theirs");
    let kept = brought.kept_aside[0].rsplit('/').next().unwrap();
    assert_eq!(std::fs::read(second.join(kept)).unwrap(), b"ours");
    assert!(!second.join("two words").exists());
    assert_eq!(std::fs::read(second.join("alone")).unwrap(), b"only here");
    assert_eq!(
        std::fs::read(second.join("empty")).unwrap(),
        b"changed here",
        "what was changed there is nobody's to remove"
    );

    // New code, and the way back: uploads stay where they are.
    let source = ground.world.source(PLATFORM);
    std::fs::write(source.join("index.php"), "<?php // new\n").unwrap();
    ground.world.push(PLATFORM, &[]).success();
    let before = (files(&first), files(&second));
    ground
        .world
        .fanout(&["rollback", "platform", PLATFORM, "--yes"])
        .success();
    assert_eq!((files(&first), files(&second)), before);
    assert!(second.join("alone").exists());
    std::fs::write(first.join("after.txt"), "after").unwrap();
    assert_eq!(bring(&ground).written, 1);
    assert_eq!(std::fs::read(second.join("after.txt")).unwrap(), b"after");
    let owner = std::fs::metadata(second.join("after.txt")).unwrap();
    let root = std::fs::metadata(&second).unwrap();
    assert_eq!((owner.uid(), owner.gid()), (root.uid(), root.gid()));
}

#[test]
fn nothing_outside_preserved_directories_can_be_reached_netns() {
    if !root_or_skip("hosts") {
        return;
    }
    let ground = ground(1);
    let uploads = uploads_of(&ground, 0);
    symlink("/etc", uploads.join("etc")).unwrap();
    std::fs::write(uploads.join("mine"), "mine").unwrap();
    let place = |tree: TreeKey, path: &str| UploadPlace {
        tree,
        path: path.as_bytes().to_vec(),
    };
    let file = |path: &[u8], content: &[u8]| UploadFile {
        path: path.to_vec(),
        size: content.len() as u64,
        digest: Digest::of(content),
        mtime_s: 1_700_000_000,
        mode: 0o6777,
    };
    let write = |at: &str, path: &[u8], content: &[u8]| {
        let (file, at, content) = (file(path, content), at.to_owned(), content.to_vec());
        ground.uploads(0, move |tree| UploadRequest::Write {
            place: place(tree, &at),
            file,
            replaces: None,
            offset: 0,
            bytes: content,
        })
    };
    for at in [
        "",
        "wp-content",
        "wp-content/themes",
        "../..",
        "/etc",
        "index.php",
    ] {
        let error = write(at, b"x.php", b"x").unwrap_err();
        assert_eq!(error.code, Code::UploadsRefused, "{at}: {error}");
    }
    for path in [
        &b"../x"[..],
        b"/etc/x",
        b"a/../../x",
        b"",
        b"etc/x",
        b"a//b",
        b"nul\0",
        b".fanout-part-x",
        b"a/.fanout-kept-x",
    ] {
        let error = write(PLACE, path, b"x").unwrap_err();
        assert_eq!(error.code, Code::UploadsRefused, "{path:?}: {error}");
    }
    assert!(!ground.host().path("/etc/x").exists());

    // Another content than the digest says, and parts that don't fit.
    let lie = UploadFile {
        digest: Digest::of(b"something else"),
        ..file(b"lie", b"x")
    };
    let error = ground
        .uploads(0, |tree| UploadRequest::Write {
            place: place(tree, PLACE),
            file: lie,
            replaces: None,
            offset: 0,
            bytes: b"x".to_vec(),
        })
        .unwrap_err();
    assert_eq!(error.code, Code::ContentMismatch, "{error}");
    for (offset, bytes) in [(5, &b"x"[..]), (u64::MAX, b"x"), (0, b"too long for it")] {
        let file = file(b"part", b"four");
        let error = ground.uploads(0, |tree| UploadRequest::Write {
            place: place(tree, PLACE),
            file,
            replaces: None,
            offset,
            bytes: bytes.to_vec(),
        });
        assert_eq!(error.unwrap_err().code, Code::UploadsRefused);
    }
    let remove = |digest| {
        ground.uploads(0, move |tree| UploadRequest::Remove {
            place: place(tree, PLACE),
            path: b"mine".to_vec(),
            digest,
        })
    };
    assert_eq!(
        remove(Digest::of(b"theirs")),
        Ok(UploadAnswer::Removed { gone: false })
    );
    assert_eq!(files(&uploads), [(b"mine".to_vec(), b"mine".to_vec())]);
    // A file arrives without the right to be run, and without set-id bits.
    write(PLACE, b"sub/ok.php", b"<?php").unwrap();
    let mode = std::fs::metadata(uploads.join("sub/ok.php"))
        .unwrap()
        .mode();
    assert_eq!(mode & 0o7777, 0o664);
    assert_eq!(
        remove(Digest::of(b"mine")),
        Ok(UploadAnswer::Removed { gone: true })
    );
}

#[test]
fn a_share_is_proved_by_a_word_and_another_one_is_found_out_netns() {
    if !root_or_skip("hosts") {
        return;
    }
    let ground = ground(2);
    let share = |index: usize, at: &str| {
        let dir = ground.world.dir().join(at);
        std::fs::create_dir_all(&dir).unwrap();
        let point = ground.world.agent_prefix(index).join("mnt/files");
        let (dir, point) = (dir.display().to_string(), point.display().to_string());
        let script = format!(
            "mkdir -p '{point}'; umount '{point}' 2>/dev/null || true; \
                              mount --bind '{dir}' '{point}'"
        );
        ground.world.agent_host(index).sh(&script).success();
    };
    let prove = || {
        let members = ["web1".parse().unwrap(), "web2".parse().unwrap()];
        ground.wire().with(async |servers, _store, _tree| {
            prove_share(&servers, "/mnt/files", "www-data", &members).await
        })
    };
    let error = prove().unwrap_err();
    assert_eq!(error.message, "web1: nothing is mounted at /mnt/files");
    share(0, "one");
    share(1, "one");
    let facts = prove().unwrap();
    assert!(facts.is_mount_point && facts.uid == 33, "{facts:?}");
    let left = std::fs::read_dir(ground.world.dir().join("one")).unwrap();
    assert_eq!(left.count(), 0, "the word is taken away again");
    share(1, "two");
    let error = prove().unwrap_err();
    assert_eq!(error.code, Code::ShareWrong);
    assert!(
        error
            .message
            .starts_with("/mnt/files on web2 is not what it is on web1"),
        "{error}"
    );
    // The same user with another number.
    ground
        .world
        .agent_host(1)
        .run(&["usermod", "-u", "4033", "www-data"])
        .success();
    let error = prove().unwrap_err();
    assert!(
        error
            .message
            .contains("`www-data` is 33:33 on web1 and 4033:33 on web2"),
        "{error}"
    );
}
