//! What a backup holds, and what isn't one.

use super::*;

fn hub(root: &Path) -> HubDir {
    let dir = HubDir::new(Some(root));
    dir.create().unwrap();
    fs::write(dir.inventory(), "[hub]\nname = \"hub\"\n").unwrap();
    fs::write(dir.identity().join("key.pem"), "a key").unwrap();
    fs::write(dir.identity().join("cert.pem"), "a certificate").unwrap();
    fs::write(dir.secrets().join("db1"), "hunter2").unwrap();
    fs::write(dir.secrets().join(".half.tmp"), "on its way").unwrap();
    fs::write(root.join("copy"), "a database").unwrap();
    fs::create_dir_all(dir.depot().join("manifests")).unwrap();
    fs::create_dir_all(dir.depot().join("objects/ab")).unwrap();
    fs::write(dir.depot().join("manifests/ab"), "a list").unwrap();
    fs::write(dir.depot().join("objects/ab/abcd"), "a pack").unwrap();
    dir
}

fn saved(root: &Path, depot: bool) -> PathBuf {
    let dir = hub(root);
    let out = root.join("backup.tar");
    let parts = parts(&dir, &root.join("copy"), depot).unwrap();
    write(&parts, &out).unwrap();
    out
}

#[test]
fn what_was_saved_comes_back_with_the_modes_that_it_needs() {
    let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let out = saved(here.path(), true);
    assert_eq!(fs::metadata(&out).unwrap().mode() & 0o777, 0o600);
    let dir = HubDir::new(Some(there.path()));
    Backup::open(&out).unwrap().unpack(&dir).unwrap();
    let read = |path: PathBuf| fs::read_to_string(path).unwrap();
    assert_eq!(read(dir.database()), "a database");
    assert_eq!(read(dir.secrets().join("db1")), "hunter2");
    assert_eq!(read(dir.depot().join("objects/ab/abcd")), "a pack");
    assert!(!dir.secrets().join(".half.tmp").exists() && !dir.restoring().exists());
    for (path, mode) in [
        (dir.database(), 0o600),
        (dir.identity(), 0o700),
        (dir.identity().join("key.pem"), 0o600),
        (dir.secrets().join("db1"), 0o600),
    ] {
        assert_eq!(
            fs::metadata(&path).unwrap().mode() & 0o777,
            mode,
            "{path:?}"
        );
    }
}

#[test]
fn without_the_depot_only_lists_are_saved() {
    let here = tempfile::tempdir().unwrap();
    let backup = Backup::open(&saved(here.path(), false)).unwrap();
    let has = |name: &str| backup.parts.iter().any(|(part, _)| part == name);
    assert!(has("state/depot/manifests/ab") && !has("state/depot/objects/ab/abcd"));
}

#[test]
fn any_bit_and_any_byte_less_is_noticed_before_anything_is_written() {
    let here = tempfile::tempdir().unwrap();
    let out = saved(here.path(), true);
    let whole = fs::read(&out).unwrap();
    // What pads a tar has no meaning.
    let used = whole.iter().rposition(|&byte| byte != 0).unwrap() + 1;
    for cut in (0..used).step_by(97) {
        fs::write(&out, &whole[..cut]).unwrap();
        assert!(Backup::open(&out).is_err(), "cut at {cut}");
    }
    let mut unnoticed = 0;
    for at in (0..used).step_by(61) {
        let mut changed = whole.clone();
        changed[at] ^= 1;
        fs::write(&out, &changed).unwrap();
        // Owners and times in a tar's headers are checked by the header's own sum.
        unnoticed += usize::from(Backup::open(&out).is_ok() && changed[at] != 1);
    }
    assert_eq!(unnoticed, 0);
}

#[test]
fn a_backup_that_others_can_read_and_one_with_an_odd_name_are_refused() {
    let here = tempfile::tempdir().unwrap();
    let out = saved(here.path(), false);
    fs::set_permissions(&out, Permissions::from_mode(0o640)).unwrap();
    assert!(matches!(
        Backup::open(&out),
        Err(BackupError::Exposed { .. })
    ));
    for name in [
        "../fanout.toml",
        "/etc/passwd",
        "state//x",
        "state/../../x",
        "",
        ".",
    ] {
        assert!(!is_plain(name), "{name}");
    }
    assert!(is_plain("state/secrets/db1"));
}

#[test]
fn only_an_older_backup_is_replaced() {
    let here = tempfile::tempdir().unwrap();
    let out = saved(here.path(), false);
    let parts = parts(&hub(here.path()), &here.path().join("copy"), false).unwrap();
    write(&parts, &out).unwrap();
    fs::write(&out, "my letters").unwrap();
    assert!(matches!(
        write(&parts, &out),
        Err(BackupError::InTheWay { .. })
    ));
    assert_eq!(fs::read(&out).unwrap(), b"my letters");
}

#[test]
fn a_platform_is_outdated_until_it_was_recovered() {
    let here = tempfile::tempdir().unwrap();
    let dir = hub(here.path());
    let names = ["wiki", "shop"].map(|name| name.parse::<PlatformName>().unwrap());
    assert!(restored(&dir).unwrap().is_empty());
    save(&dir, &names.iter().cloned().collect()).unwrap();
    recovered(&dir, &names[0]).unwrap();
    recovered(&dir, &names[0]).unwrap();
    assert_eq!(
        restored(&dir).unwrap().iter().collect::<Vec<_>>(),
        [&names[1]]
    );
}
