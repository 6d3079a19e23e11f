//! Reading, copying and durable writing.

use super::{Place, beside, name, symlink, until_met};
use crate::fs::FileKind;
use crate::fs::clone::{copy_content, write_sparse};
use crate::fs::durable::{CheckedError, read_checked, write_atomically, write_checked};
use crate::fs::lock::{Lock, LockError};
use crate::fs::read::{FsClock, ReadError, hash_file, is_settled, read_range, read_small};
use std::fs;
use std::os::unix::fs::{FileExt, MetadataExt};
use sync_proto::digest::Digest;
use sync_proto::entry::Time;

#[test]
fn files_of_all_sizes_hash_as_blake3_says() {
    let place = Place::new();
    let entry = name("file");
    let buffer = 256 * 1024;
    for size in [
        0,
        1,
        4_096,
        buffer - 1,
        buffer,
        buffer + 1,
        17 * 1024 * 1024 + 5,
    ] {
        let content: Vec<u8> = (0..size).map(|at| (at % 251) as u8).collect();
        fs::write(place.path("file"), &content).unwrap();
        let stat = place.dir.stat(&entry).unwrap().unwrap();
        let hashed = hash_file(&place.dir, &entry, &stat).unwrap();
        assert_eq!(hashed.digest, Digest::of(&content), "{size}");
        assert_eq!(hashed.stat.size, size as u64);
        let (read, _) = read_small(&place.dir, &entry, Some(&stat), size as u64).unwrap();
        assert_eq!(read, content);
    }
}

#[test]
fn a_file_that_is_not_the_known_one_is_not_hashed() {
    let place = Place::new();
    let entry = name("file");
    fs::write(place.path("file"), "one").unwrap();
    let stat = place.dir.stat(&entry).unwrap().unwrap();
    fs::write(place.path("other"), "two").unwrap();
    place
        .dir
        .rename_to(&name("other"), &place.dir, &entry)
        .unwrap();
    let changed = hash_file(&place.dir, &entry, &stat).unwrap_err();
    assert!(matches!(changed, ReadError::Changed { .. }), "{changed:?}");
    let large = read_small(&place.dir, &entry, None, 2).unwrap_err();
    assert!(
        matches!(large, ReadError::TooLarge { limit_bytes: 2, .. }),
        "{large:?}"
    );

    for replace in ["absent", "symlink", "fifo", "directory"] {
        place.dir.remove_tree(&entry).unwrap();
        match replace {
            "symlink" => symlink(&place.outside().join("secret"), place.path("file")),
            "fifo" => place
                .dir
                .mknod(&entry, FileKind::Fifo, 0o600, (0, 0))
                .unwrap(),
            "directory" => drop(place.dir.create_dir(&entry, 0o700).unwrap()),
            _ => {}
        }
        let vanished = hash_file(&place.dir, &entry, &stat).unwrap_err();
        assert!(
            matches!(vanished, ReadError::Vanished { .. }),
            "{replace}: {vanished:?}"
        );
    }
}

#[test]
fn a_torn_file_is_never_returned() {
    let place = Place::new();
    let entry = name("file");
    let size = 2 * 1024 * 1024;
    let versions = [vec![b'a'; size], vec![b'b'; size + 1]];
    fs::write(place.path("file"), &versions[0]).unwrap();
    let (mut whole, mut torn) = (0, 0);
    let rival = || {
        for version in &versions {
            fs::write(place.path("file"), version).unwrap();
            std::thread::sleep(std::time::Duration::from_millis(3));
        }
    };
    beside(rival, || {
        until_met(300, || {
            let stat = place.dir.stat(&entry).unwrap().unwrap();
            match hash_file(&place.dir, &entry, &stat) {
                Ok(hashed) => {
                    // Half a version may hold still for a moment, two halves of two never.
                    let len = hashed.stat.size as usize;
                    let is_one = |letter| Digest::of(&vec![letter; len]) == hashed.digest;
                    assert!(is_one(b'a') || is_one(b'b'), "torn: {:?}", hashed.stat);
                    whole += 1;
                }
                Err(ReadError::Changed { .. }) => torn += 1,
                Err(error) => panic!("{error:?}"),
            }
            whole > 0 && torn > 0
        });
    });
}

#[test]
fn a_range_ends_with_the_file() {
    let place = Place::new();
    fs::write(place.path("file"), "0123456789").unwrap();
    let file = place.dir.open_file(&name("file")).unwrap();
    assert_eq!(read_range(&file, 3, 4).unwrap(), b"3456");
    assert_eq!(read_range(&file, 8, 4).unwrap(), b"89");
    assert_eq!(read_range(&file, 10, 4).unwrap(), b"");
}

#[test]
fn a_fresh_file_is_not_settled_and_an_old_one_is() {
    let place = Place::new();
    let clock = FsClock::open(&place.dir).unwrap();
    fs::write(place.path("file"), "x").unwrap();
    let stat = place.dir.stat(&name("file")).unwrap().unwrap();
    let now = clock.now().unwrap();
    assert!(now >= stat.ctime);
    assert!(!is_settled(stat.ctime, now));
    std::thread::sleep(std::time::Duration::from_millis(60));
    assert!(stat.ctime.nanoseconds == 0 || is_settled(stat.ctime, clock.now().unwrap()));
    assert!(
        place.dir.list().unwrap().len() == 1,
        "the clock leaves no name behind"
    );

    let time = |seconds, nanoseconds| Time {
        seconds,
        nanoseconds,
    };
    // A file system with whole seconds needs whole seconds of distance.
    assert!(!is_settled(time(100, 0), time(102, 0)));
    assert!(is_settled(time(100, 0), time(102, 1)));
    // The clock was set back: nothing is settled.
    assert!(!is_settled(time(100, 5), time(50, 5)));
}

#[test]
fn a_copy_keeps_content_and_holes() {
    let place = Place::new();
    let from = place.dir.create_file(&name("from"), 0o600).unwrap();
    let len: u64 = 20 * 1024 * 1024 + 17;
    from.write_all_at(b"begin", 0).unwrap();
    from.write_all_at(&[7; 100_000], 5_000_000).unwrap();
    from.set_len(len).unwrap();
    let to = place.dir.create_file(&name("to"), 0o600).unwrap();
    assert_eq!(copy_content(&from, &to, len).unwrap().len_bytes, len);
    assert_eq!(
        fs::read(place.path("to")).unwrap(),
        fs::read(place.path("from")).unwrap()
    );
    let blocks = |file: &fs::File| file.metadata().unwrap().blocks();
    assert!(
        blocks(&to) <= blocks(&from) + 8,
        "{} {}",
        blocks(&to),
        blocks(&from)
    );

    let dense = place.dir.create_file(&name("dense"), 0o600).unwrap();
    dense.write_all_at(&[9; 300_000], 0).unwrap();
    for (asked, got) in [
        (300_000, 300_000),
        (100_000, 100_000),
        (400_000, 300_000),
        (0, 0),
    ] {
        let to = place
            .dir
            .create_file(&name(format!("to-{asked}")), 0o600)
            .unwrap();
        let copied = copy_content(&dense, &to, asked).unwrap();
        assert_eq!(copied.len_bytes, got);
        assert_eq!(to.metadata().unwrap().len(), got);
    }
}

#[test]
fn a_copy_between_file_systems_works_too() {
    let place = Place::new();
    let memory = tempfile::TempDir::new_in("/dev/shm").unwrap();
    let content: Vec<u8> = (0..1_000_000_u32).map(|at| (at % 253) as u8).collect();
    fs::write(memory.path().join("from"), &content).unwrap();
    let from = fs::File::open(memory.path().join("from")).unwrap();
    let to = place.dir.create_file(&name("to"), 0o600).unwrap();
    copy_content(&from, &to, content.len() as u64).unwrap();
    assert_eq!(fs::read(place.path("to")).unwrap(), content);
}

#[test]
fn sparse_writing_gives_the_same_content_with_fewer_blocks() {
    let place = Place::new();
    let mut content = vec![0_u8; 3_000_000];
    content[1_500_000..1_500_100].fill(5);
    content[0] = 1;
    let file = place.dir.create_file(&name("file"), 0o600).unwrap();
    let mut at = 0;
    for piece in content.chunks(123_457) {
        write_sparse(&file, piece, at).unwrap();
        at += piece.len() as u64;
    }
    file.set_len(at).unwrap();
    assert_eq!(fs::read(place.path("file")).unwrap(), content);
    assert!(file.metadata().unwrap().blocks() * 512 < 3_000_000);
}

#[test]
fn an_atomic_write_replaces_and_leaves_nothing_beside() {
    let place = Place::new();
    let entry = name("record");
    write_atomically(&place.dir, &entry, b"old", 0o640).unwrap();
    write_atomically(&place.dir, &entry, b"new", 0o600).unwrap();
    assert_eq!(fs::read(place.path("record")).unwrap(), b"new");
    assert_eq!(
        place.dir.stat(&entry).unwrap().unwrap().permissions(),
        0o600
    );
    assert_eq!(place.dir.list().unwrap().len(), 1);

    // It can't replace a directory; the old entry stays, and no scratch file.
    drop(place.dir.create_dir(&name("dir"), 0o700).unwrap());
    assert!(write_atomically(&place.dir, &name("dir"), b"x", 0o600).is_err());
    assert_eq!(place.dir.list().unwrap().len(), 2);

    drop(place.dir.create_scratch_file(0o600).unwrap());
    assert_eq!(place.dir.list().unwrap().len(), 3);
    place.dir.remove_scratch_files().unwrap();
    assert_eq!(place.dir.list().unwrap().len(), 2);
}

#[test]
fn a_single_wrong_bit_is_damage() {
    let place = Place::new();
    let entry = name("index");
    assert_eq!(read_checked(&place.dir, &entry, 100), Ok(None));
    write_checked(&place.dir, &entry, b"content", 0o600).unwrap();
    assert_eq!(
        read_checked(&place.dir, &entry, 7),
        Ok(Some(b"content".to_vec()))
    );
    let too_large = read_checked(&place.dir, &entry, 6).unwrap_err();
    assert!(matches!(
        too_large,
        CheckedError::Read(ReadError::TooLarge { .. })
    ));

    let whole = fs::read(place.path("index")).unwrap();
    for at in 0..whole.len() {
        let mut bent = whole.clone();
        bent[at] ^= 1;
        fs::write(place.path("index"), bent).unwrap();
        let damaged = read_checked(&place.dir, &entry, 100).unwrap_err();
        assert!(matches!(damaged, CheckedError::Damaged { .. }), "{at}");
        fs::write(place.path("index"), &whole[..at]).unwrap();
        assert!(read_checked(&place.dir, &entry, 100).is_err(), "{at}");
    }
}

#[test]
fn a_lock_names_its_holder_and_ends_with_it() {
    let place = Place::new();
    let entry = name("lock");
    let held = Lock::try_acquire(&place.dir, &entry, "push 42, process 4711, a long line").unwrap();
    let error = Lock::try_acquire(&place.dir, &entry, "another").unwrap_err();
    let LockError::Held { holder } = error else {
        panic!("{error:?}");
    };
    assert_eq!(holder, "push 42, process 4711, a long line");
    drop(held);
    let held = Lock::try_acquire(&place.dir, &entry, "short").unwrap();
    let error = Lock::try_acquire(&place.dir, &entry, "another").unwrap_err();
    assert_eq!(error.to_string(), "Held by short");
    drop(held);
}
