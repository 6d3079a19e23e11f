//! Metadata there and back, on every kind of entry.

use super::{Place, demand_root, name};
use crate::fs::FileKind;
use crate::fs::meta::{Apply, Unkept, Wanted, apply_meta, meta_of};
use crate::fs::owner::Principals;
use crate::fs::xattr::{Target, XattrPolicy, read_xattrs, read_xattrs_at};
use std::sync::Arc;
use sync_proto::entry::{Time, Xattrs};

const ACL: &[u8] = b"user::rwx,user:root:r-x,user:#4000000:rw-,group::r--,mask::rwx,other::---";
const MTIME: Time = Time {
    seconds: 1_234_567_890,
    nanoseconds: 123_456_789,
};

fn xattrs(pairs: &[(&[u8], &[u8])]) -> Option<Arc<Xattrs>> {
    Some(Arc::new(
        pairs
            .iter()
            .map(|(name, value)| ((*name).into(), (*value).into()))
            .collect(),
    ))
}

fn wanted(mode: u32) -> Wanted {
    Wanted {
        uid: 12_345,
        gid: 23_456,
        mode,
        mtime: Some(MTIME),
        xattrs: None,
    }
}

fn how(policy: XattrPolicy, principals: &Principals) -> Apply<'_> {
    Apply {
        policy,
        principals,
        is_fresh: false,
    }
}

/// Applies to `entry` and checks that everything arrived, twice: the second time nothing changes.
fn assert_arrives(place: &Place, entry: &str, wanted: &Wanted, policy: XattrPolicy) {
    let principals = Principals::by_name();
    let entry = name(entry);
    let apply = || {
        let target = Target::entry(&place.dir, &entry).unwrap();
        apply_meta(&target, wanted, how(policy, &principals)).unwrap()
    };
    assert_eq!(apply(), [], "{entry:?}");
    let stat = place.dir.stat(&entry).unwrap().unwrap();
    assert_eq!((stat.uid, stat.gid), (wanted.uid, wanted.gid), "{entry:?}");
    assert_eq!(Some(stat.mtime), wanted.mtime, "{entry:?}");
    assert_eq!(stat.permissions(), wanted.mode, "{entry:?}");
    let read = read_xattrs_at(&place.dir, &entry, policy, &principals).unwrap();
    assert_eq!(read.as_ref(), wanted.xattrs.as_deref(), "{entry:?}");

    // What a manifest would say about it leads back to the same wish.
    let meta = meta_of(&stat, read, &principals);
    assert_eq!(Wanted::resolve(&meta, &principals).as_ref(), Ok(wanted));

    assert_eq!(apply(), [], "{entry:?}");
    let again = place.dir.stat(&entry).unwrap().unwrap();
    assert_eq!(
        (again.raw_mode, again.mtime),
        (stat.raw_mode, stat.mtime),
        "{entry:?}"
    );
}

#[test]
fn metadata_arrives_on_every_kind_of_entry() {
    demand_root();
    let place = Place::new();
    let dir = &place.dir;
    drop(dir.create_file(&name("file"), 0o600).unwrap());
    drop(dir.create_dir(&name("dir"), 0o700).unwrap());
    dir.mknod(&name("fifo"), FileKind::Fifo, 0o600, (0, 0))
        .unwrap();
    dir.mknod(&name("device"), FileKind::CharDevice, 0o600, (1, 3))
        .unwrap();
    dir.symlink(b"dangling", &name("symlink")).unwrap();

    let all = xattrs(&[
        (b"system.posix_acl_access", ACL),
        (b"trusted.fanout", b"t"),
        (b"user.empty", b""),
        (b"user.fanout", b"a\0b\xff"),
    ]);
    let mut file = wanted(0o6770);
    file.xattrs = all;
    assert_arrives(&place, "file", &file, XattrPolicy::Privileged);
    let mut directory = wanted(0o1770);
    directory.xattrs = xattrs(&[
        (b"system.posix_acl_access", ACL),
        (b"system.posix_acl_default", ACL),
        (b"user.fanout", b"d"),
    ]);
    assert_arrives(&place, "dir", &directory, XattrPolicy::Ordinary);
    assert_arrives(&place, "fifo", &wanted(0o622), XattrPolicy::Ordinary);
    assert_arrives(&place, "device", &wanted(0o666), XattrPolicy::Ordinary);
    let mut symlink = wanted(0o777);
    symlink.xattrs = xattrs(&[(b"trusted.fanout", b"of the symlink itself")]);
    assert_arrives(&place, "symlink", &symlink, XattrPolicy::Privileged);
}

#[test]
fn metadata_arrives_through_an_open_descriptor() {
    demand_root();
    let place = Place::new();
    let principals = Principals::by_name();
    let file = place.dir.create_file(&name("file"), 0o600).unwrap();
    let mut wanted = wanted(0o4750);
    wanted.xattrs = xattrs(&[(b"user.a", b"1")]);
    let target = Target::open(&file);
    let fresh = Apply {
        is_fresh: true,
        ..how(XattrPolicy::Ordinary, &principals)
    };
    assert_eq!(apply_meta(&target, &wanted, fresh), Ok(vec![]));
    let stat = target.stat().unwrap();
    assert_eq!(
        (stat.permissions(), stat.mtime, stat.uid),
        (0o4750, MTIME, 12_345)
    );
    let read = read_xattrs(&target, XattrPolicy::Ordinary, &principals).unwrap();
    assert_eq!(read.as_ref(), wanted.xattrs.as_deref());
}

#[test]
fn what_is_too_much_is_removed_and_what_is_not_ours_stays() {
    demand_root();
    let place = Place::new();
    drop(place.dir.create_file(&name("file"), 0o600).unwrap());
    let mut rich = wanted(0o770);
    rich.xattrs = xattrs(&[
        (b"system.posix_acl_access", ACL),
        (b"trusted.keep", b"k"),
        (b"user.old", b"o"),
    ]);
    assert_arrives(&place, "file", &rich, XattrPolicy::Privileged);
    // The ACL's mask must not survive as group bits.
    assert_arrives(&place, "file", &wanted(0o640), XattrPolicy::Ordinary);
    let principals = Principals::by_name();
    let left = read_xattrs_at(
        &place.dir,
        &name("file"),
        XattrPolicy::Privileged,
        &principals,
    );
    assert_eq!(
        left.unwrap().as_ref(),
        xattrs(&[(b"trusted.keep", b"k")]).as_deref()
    );
    let ignored = read_xattrs_at(&place.dir, &name("file"), XattrPolicy::Ignore, &principals);
    assert_eq!(ignored, Ok(None));
}

#[test]
fn times_may_lie_before_1970_and_in_the_future() {
    demand_root();
    let place = Place::new();
    drop(place.dir.create_file(&name("file"), 0o600).unwrap());
    for seconds in [-1, 0, 4_102_444_800] {
        let mut wanted = wanted(0o600);
        wanted.mtime = Some(Time {
            seconds,
            nanoseconds: 999_999_999,
        });
        assert_arrives(&place, "file", &wanted, XattrPolicy::Ordinary);
    }
}

#[test]
fn without_privilege_the_rest_is_kept_and_no_setuid_bit_goes_to_the_wrong_owner() {
    demand_root();
    let place = Place::new();
    let nobody = rustix::fs::Uid::from_raw(65_534);
    rustix::fs::fchown(&place.dir, Some(nobody), None).unwrap();
    // Credentials belong to a thread, as far as the kernel is concerned.
    let unkept = std::thread::scope(|scope| {
        let unprivileged = scope.spawn(|| {
            rustix::thread::set_thread_res_uid(nobody, nobody, nobody).unwrap();
            let file = place.dir.create_file(&name("file"), 0o600).unwrap();
            let mut wanted = wanted(0o6755);
            wanted.xattrs = xattrs(&[(b"trusted.t", b"1"), (b"user.u", b"1")]);
            let principals = Principals::by_name();
            let how = how(XattrPolicy::Privileged, &principals);
            apply_meta(&Target::open(&file), &wanted, how).unwrap()
        });
        unprivileged.join().unwrap()
    });
    let expected = [
        Unkept::Owner,
        Unkept::Group,
        Unkept::Mode,
        Unkept::Xattr((*b"trusted.t").into()),
    ];
    assert_eq!(unkept, expected);
    let stat = place.dir.stat(&name("file")).unwrap().unwrap();
    assert_eq!(stat.permissions(), 0o755);
    assert_eq!(stat.mtime, MTIME);
    let principals = Principals::by_name();
    let read = read_xattrs_at(
        &place.dir,
        &name("file"),
        XattrPolicy::Ordinary,
        &principals,
    );
    assert_eq!(
        read.unwrap().as_ref(),
        xattrs(&[(b"user.u", b"1")]).as_deref()
    );
}

#[test]
fn an_acl_for_somebody_unknown_is_an_error() {
    let place = Place::new();
    let file = place.dir.create_file(&name("file"), 0o600).unwrap();
    let stat = Target::open(&file).stat().unwrap();
    let wanted = Wanted {
        uid: stat.uid,
        gid: stat.gid,
        mode: 0o640,
        mtime: None,
        xattrs: xattrs(&[(
            b"system.posix_acl_access",
            b"user::rw-,user:no-such-user-here:r--,group::r--,mask::r--,other::---",
        )]),
    };
    let principals = Principals::by_name();
    let how = how(XattrPolicy::Ordinary, &principals);
    let error = apply_meta(&Target::open(&file), &wanted, how).unwrap_err();
    assert!(error.to_string().contains("no-such-user-here"), "{error}");
}
