//! One call at a time: what each operation does, and what it refuses.

use super::{Place, demand_root, name, path, symlink};
use crate::fs::space::{space, trial_rename};
use crate::fs::xattr::Target;
use crate::fs::{Dir, FileKind, probe_openat2};
use rustix::io::Errno;
use std::fs;
use std::io::{Read as _, Write as _};
use std::path::Path;

#[test]
fn openat2_is_there() {
    assert_eq!(probe_openat2(), Ok(()));
}

#[test]
fn a_symlink_is_refused_wherever_it_stands_in_a_path() {
    let place = Place::new();
    fs::create_dir(place.path("real")).unwrap();
    symlink(&place.outside(), place.path("real/out"));
    symlink(Path::new("real"), place.path("alias"));

    for refused in ["real/out", "alias", "alias/out"] {
        let error = place.dir.open_dir_at(&path(refused)).unwrap_err();
        assert!(error.is_symlink(), "{refused}: {error:?}");
    }
    assert!(place.dir.open_dir(&name("alias")).unwrap_err().is_symlink());
    let real = place.dir.open_dir(&name("real")).unwrap();
    symlink(&place.outside().join("secret"), place.path("real/file"));
    assert!(real.open_file(&name("file")).unwrap_err().is_symlink());
    assert!(
        real.open_file_for_update(&name("file"))
            .unwrap_err()
            .is_symlink()
    );
    // A dangling symlink must not decide where a new file goes.
    symlink(&place.outside().join("new"), place.path("real/dangling"));
    assert!(real.create_file(&name("dangling"), 0o644).is_err());
    place.assert_outside_is_untouched();
}

#[test]
fn another_mount_is_refused() {
    let root = Dir::open_absolute(Path::new("/")).unwrap();
    let error = root.open_dir(&name("proc")).unwrap_err();
    assert!(error.is_other_mount(), "{error:?}");
    assert!(
        root.open_dir_at(&path("proc/self"))
            .unwrap_err()
            .is_other_mount()
    );
    assert!(root.open_entry(&name("proc")).unwrap_err().is_other_mount());
}

#[test]
fn the_configured_path_may_contain_symlinks_but_its_last_name_is_not_followed() {
    let place = Place::new();
    symlink(&place.outside(), place.path("way"));
    let (parent, last) = Dir::open_parent_of(&place.path("way/secret/")).unwrap();
    assert_eq!(last, name("secret"));
    assert!(parent.stat(&last).unwrap().unwrap().is_file());

    let (parent, last) = Dir::open_parent_of(&place.path("way")).unwrap();
    assert!(parent.stat(&last).unwrap().unwrap().is_symlink());
    assert!(parent.open_dir(&last).unwrap_err().is_symlink());

    for bad in ["/", "relative/name", "/a/..", ""] {
        assert!(Dir::open_parent_of(Path::new(bad)).is_err(), "{bad}");
    }
    assert!(Dir::open_absolute(Path::new("tmp")).is_err());
}

#[test]
fn new_entries_have_exactly_the_mode_that_was_asked_for() {
    let place = Place::new();
    for mode in [0o666, 0o777, 0o600, 0o400, 0o4755, 0o2711] {
        let entry = name(format!("file-{mode:o}"));
        drop(place.dir.create_file(&entry, mode).unwrap());
        let stat = place.dir.stat(&entry).unwrap().unwrap();
        assert_eq!(stat.permissions(), mode, "{mode:o}");

        let entry = name(format!("dir-{mode:o}"));
        let created = place.dir.create_dir(&entry, mode).unwrap();
        assert_eq!(created.stat_self().unwrap().permissions(), mode, "{mode:o}");
    }
}

#[test]
fn a_default_acl_is_not_inherited() {
    let place = Place::new();
    // user::rwx, user:1234:rwx, group::rwx, mask::rwx, other::rwx
    let entries: [(u16, u32); 5] = [
        (1, u32::MAX),
        (2, 1234),
        (4, u32::MAX),
        (16, u32::MAX),
        (32, u32::MAX),
    ];
    let mut acl = 2_u32.to_le_bytes().to_vec();
    for (tag, id) in entries {
        acl.extend(tag.to_le_bytes());
        acl.extend(7_u16.to_le_bytes());
        acl.extend(id.to_le_bytes());
    }
    let default = b"system.posix_acl_default";
    Target::open(&place.dir).set_xattr(default, &acl).unwrap();

    let file = place.dir.create_file(&name("file"), 0o640).unwrap();
    let dir = place.dir.create_dir(&name("dir"), 0o750).unwrap();
    let has = |fd: &dyn std::os::fd::AsFd, which: &[u8]| {
        rustix::fs::fgetxattr_query(fd.as_fd(), which).is_ok()
    };
    assert!(!has(&file, b"system.posix_acl_access"));
    assert!(!has(&dir, b"system.posix_acl_access"));
    assert!(!has(&dir, default));
    let permissions = |entry| place.dir.stat(&name(entry)).unwrap().unwrap().permissions();
    assert_eq!(permissions("file"), 0o640);
    assert_eq!(permissions("dir"), 0o750);
}

#[test]
fn a_taken_name_is_never_reused() {
    let place = Place::new();
    let taken = name("taken");
    drop(place.dir.create_file(&taken, 0o600).unwrap());
    assert!(
        place
            .dir
            .create_file(&taken, 0o600)
            .unwrap_err()
            .is_exists()
    );
    assert!(place.dir.create_dir(&taken, 0o700).unwrap_err().is_exists());
    assert!(place.dir.symlink(b"x", &taken).unwrap_err().is_exists());
    let other = name("other");
    drop(place.dir.create_file(&other, 0o600).unwrap());
    let dir = &place.dir;
    assert!(
        dir.rename_noreplace(&other, dir, &taken)
            .unwrap_err()
            .is_exists()
    );
    assert!(dir.hard_link(dir, &other, &taken).unwrap_err().is_exists());
}

#[test]
fn only_regular_files_are_opened_and_a_pipe_keeps_nobody_waiting() {
    let place = Place::new();
    let fifo = name("fifo");
    place
        .dir
        .mknod(&fifo, FileKind::Fifo, 0o644, (0, 0))
        .unwrap();
    place
        .dir
        .mknod(&name("socket"), FileKind::Socket, 0o644, (0, 0))
        .unwrap();
    drop(place.dir.create_dir(&name("dir"), 0o755).unwrap());
    for kind in ["fifo", "socket", "dir"] {
        let error = place.dir.open_file(&name(kind)).unwrap_err();
        assert!(error.is_wrong_kind(), "{kind}: {error:?}");
        let error = place.dir.open_file_for_update(&name(kind)).unwrap_err();
        assert!(error.is_wrong_kind(), "{kind}: {error:?}");
    }
    assert!(
        place
            .dir
            .open_file(&name("absent"))
            .unwrap_err()
            .is_not_found()
    );
    assert!(place.dir.try_open_dir(&name("absent")).unwrap().is_none());
    assert!(
        place
            .dir
            .try_open_dir_at(&path("absent/below"))
            .unwrap()
            .is_none()
    );
    assert_eq!(
        place.dir.try_open_dir(&fifo).unwrap_err().source,
        Errno::NOTDIR
    );
}

#[test]
fn every_kind_can_be_made_and_is_recognised() {
    demand_root();
    let place = Place::new();
    let dir = &place.dir;
    dir.mknod(&name("char"), FileKind::CharDevice, 0o600, (1, 3))
        .unwrap();
    dir.mknod(&name("block"), FileKind::BlockDevice, 0o600, (7, 200))
        .unwrap();
    dir.mknod(&name("fifo"), FileKind::Fifo, 0o600, (0, 0))
        .unwrap();
    dir.mknod(&name("socket"), FileKind::Socket, 0o600, (0, 0))
        .unwrap();
    dir.symlink(b"no where\n\xff", &name("symlink")).unwrap();
    drop(dir.create_dir(&name("dir"), 0o700).unwrap());
    drop(dir.create_file(&name("file"), 0o600).unwrap());
    dir.hard_link(dir, &name("symlink"), &name("linked"))
        .unwrap();
    assert!(
        dir.mknod(&name("x"), FileKind::Directory, 0o700, (0, 0))
            .is_err()
    );

    let stat = |entry: &str| dir.stat(&name(entry)).unwrap().unwrap();
    assert_eq!(stat("char").device(), (1, 3));
    assert_eq!(stat("block").device(), (7, 200));
    assert_eq!(dir.read_link(&name("linked")).unwrap(), b"no where\n\xff");
    assert!(stat("linked").same_inode(&stat("symlink")));
    let listed = dir.list().unwrap();
    assert_eq!(listed.len(), 8);
    for entry in listed {
        let kind = dir.stat(&entry.name).unwrap().unwrap().kind();
        assert_eq!(entry.kind, kind, "{:?}", entry.name);
        assert_ne!(kind, FileKind::Unknown);
    }
}

#[test]
fn names_are_bytes() {
    let place = Place::new();
    let odd: [&[u8]; 6] = [
        b"new\nline",
        b"\xff\xfe",
        &[b'x'; 255],
        b" ",
        b"-rf",
        b"\x01\\*",
    ];
    for bytes in odd {
        let mut file = place.dir.create_file(&name(bytes), 0o600).unwrap();
        file.write_all(bytes).unwrap();
    }
    let mut listed: Vec<_> = place
        .dir
        .list()
        .unwrap()
        .into_iter()
        .map(|l| l.name)
        .collect();
    listed.sort();
    let mut expected: Vec<_> = odd.iter().map(name).collect();
    expected.sort();
    assert_eq!(listed, expected);
    for bytes in odd {
        let mut content = Vec::new();
        place
            .dir
            .open_file(&name(bytes))
            .unwrap()
            .read_to_end(&mut content)
            .unwrap();
        assert_eq!(content, bytes);
    }
    let error = place.dir.open_dir(&name("new\nline")).unwrap_err();
    assert!(error.to_string().ends_with("new\\x0Aline`"), "{error}");
}

#[test]
fn listing_twice_gives_the_same() {
    let place = Place::new();
    for count in 0..2_000 {
        drop(
            place
                .dir
                .create_file(&name(format!("{count}")), 0o600)
                .unwrap(),
        );
    }
    assert_eq!(place.dir.list().unwrap().len(), 2_000);
    assert_eq!(place.dir.list().unwrap(), place.dir.list().unwrap());
}

#[test]
fn an_exchange_swaps_any_two_kinds() {
    let place = Place::new();
    let sub = place.dir.create_dir(&name("sub"), 0o755).unwrap();
    drop(place.dir.create_file(&name("file"), 0o600).unwrap());
    sub.symlink(b"target", &name("link")).unwrap();
    place
        .dir
        .exchange(&name("file"), &sub, &name("link"))
        .unwrap();
    assert_eq!(place.dir.read_link(&name("file")).unwrap(), b"target");
    assert!(sub.stat(&name("link")).unwrap().unwrap().is_file());
    let error = place
        .dir
        .exchange(&name("file"), &sub, &name("absent"))
        .unwrap_err();
    assert!(error.is_not_found());

    sub.rename_to(&name("link"), &place.dir, &name("file"))
        .unwrap();
    assert!(place.dir.stat(&name("file")).unwrap().unwrap().is_file());
    assert!(sub.list().unwrap().is_empty());
    sub.sync().unwrap();
    place.dir.syncfs().unwrap();
}

#[test]
fn a_trial_rename_tells_two_mounts_apart_and_leaves_no_trace() {
    let place = Place::new();
    let sub = place.dir.create_dir(&name("sub"), 0o755).unwrap();
    trial_rename(&place.dir, &sub).unwrap();
    trial_rename(&sub, &sub).unwrap();
    let memory = tempfile::TempDir::new_in("/dev/shm").unwrap();
    let memory = Dir::open_absolute(memory.path()).unwrap();
    let error = trial_rename(&place.dir, &memory).unwrap_err();
    assert!(error.is_other_mount(), "{error:?}");
    assert!(memory.list().unwrap().is_empty());
    assert!(sub.list().unwrap().is_empty());
    assert_eq!(place.dir.list().unwrap().len(), 1);
}

#[test]
fn the_space_that_is_left_is_a_number() {
    let space = space(&Place::new().dir).unwrap();
    assert!(
        space.free_bytes > 0 && space.block_bytes >= 512,
        "{space:?}"
    );
}
