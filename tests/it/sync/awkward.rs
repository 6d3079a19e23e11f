//! Every kind of entry and every awkward name, and directories with the names of data.

use crate::support::awkward::{awkward_names, awkward_tree, look_alikes, privileged_attributes};
use crate::support::env::World;
use crate::support::snapshot::Compare;
use crate::support::task::{in_both_layouts, put, site};
use crate::support::tree::Tree;
use crate::support::{is_root, root_or_skip};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

const SPECIAL: &str = r#"special_files = ["setuid", "devices", "fifos"]"#;

in_both_layouts!(
    an_awkward_tree_arrives_exactly_and_is_clean,
    awkward_names_are_escaped_in_drift_and_repaired,
    nothing_is_left_out_because_of_how_it_is_called,
    special_files_are_refused_until_the_platform_allows_them,
    privileged_attributes_travel_where_the_platform_says_so,
);

fn an_awkward_tree_arrives_exactly_and_is_clean(layout: &str) {
    let world = World::with_site(2, &awkward_tree(), &["--layout", layout]);
    world.configure("platforms.site", &[SPECIAL, "exclude = []"]);
    // Sockets with several names and the like are not in this tree.
    world.push("site", &[]).all("committed");
    world.assert_delivered("site");
    world.assert_clean("site");
    let again = world.push("site", &[]).all("up-to-date");
    assert_eq!(again.content_bytes(), 0);
    // Every directory is touched: times and modes of all of them are set anew.
    let source = world.source("site");
    for name in ["names/file", "names/dir", "kinds", "times", "acls/dir"] {
        put(&source.join(name).join("added later"), "x");
    }
    fs::remove_file(source.join("kinds/linked/second")).unwrap();
    fs::remove_dir_all(source.join("long")).unwrap();
    world
        .push("site", &["--allow-delete", "1000"])
        .all("committed");
    world.assert_delivered("site");
    world.assert_clean("site");
}

fn awkward_names_are_escaped_in_drift_and_repaired(layout: &str) {
    let world = World::with_site(1, &awkward_names(), &["--layout", layout]);
    world.configure("platforms.site", &["exclude = []"]);
    world.push("site", &[]).all("committed");
    let live = world.live(0, "site");
    for name in [
        &b"new\nline"[..],
        b"invalid \xff\xfe utf-8",
        b"escape \x1b[31mred\x1b[0m",
    ] {
        let name = Path::new(std::ffi::OsStr::from_bytes(name));
        fs::remove_file(live.join("names/file").join(name)).unwrap();
    }
    let output = world.verify("site", &[]).exits(2);
    let drift = output.drift("web1");
    for path in [
        r"names/file/new\x0Aline missing",
        r"names/file/invalid \xFF\xFE utf-8 missing",
        r"names/file/escape \x1B[31mred\x1B[0m missing",
    ] {
        assert!(
            drift.iter().any(|line| line == path),
            "{path} not in {drift:?}"
        );
    }
    let shown = world.fanout(&["verify", "platform", "site"]).exits(2);
    let said = shown.everything_said();
    assert!(
        !said.contains("\x1b[31mred"),
        "a terminal was sent an escape sequence"
    );
    world.resync(&[]).all("committed");
    world.assert_delivered("site");
}

fn nothing_is_left_out_because_of_how_it_is_called(layout: &str) {
    let source = look_alikes()
        .file("sites/default/files/in the code.txt", "x")
        .file("files/a.php", "x")
        .file("private/b.php", "x")
        .file("tmp/c.php", "x")
        .file("CVS/Root", "x")
        .file("node_modules/d/e.js", "x")
        .file("core", "a file with the name of a dump")
        .file("x.orig", "x")
        .file(".env", "x")
        .file("backup.sql", "x");
    let world = World::with_site(2, &source, &["--layout", layout]);
    let output = world.push("site", &[]).all("committed");
    let said = output.everything_said();
    assert!(
        said.contains(".env") && said.contains("backup.sql"),
        "no warning\n{said}"
    );
    world.assert_delivered("site");
    world.assert_clean("site");
}

fn special_files_are_refused_until_the_platform_allows_them(layout: &str) {
    let mut sources = vec![
        ("setuid, devices", site().fifo("run/queue")),
        ("setuid, devices", site().socket("run/socket")),
        ("fifos, devices", site().file("bin/tool", "x").mode(0o4755)),
    ];
    if is_root() {
        sources.push(("setuid, fifos", site().char_device("dev/null", 1, 3)));
    }
    for (others, source) in &sources {
        let world = World::with_site(1, source, &["--layout", layout]);
        let output = world.push("site", &[]).refused("FX0109");
        let said = output.everything_said();
        assert!(
            ["run/queue", "run/socket", "bin/tool", "dev/null"]
                .iter()
                .any(|path| said.contains(path)),
            "the refusal names no path\n{said}"
        );
        let live = world.live(0, "site");
        assert!(!live.exists() || fs::read_dir(live).unwrap().count() == 0);
        // Another kind that is allowed lets this one pass no more.
        let others = others.replace(", ", "\", \"");
        world.configure(
            "platforms.site",
            &[&format!("special_files = [\"{others}\"]")],
        );
        world.push("site", &[]).refused("FX0109");
    }
    let all = sources
        .into_iter()
        .fold(Tree::new(), |all, (_, one)| all.overwritten_by(&one));
    let world = World::with_site(1, &all, &["--layout", layout]);
    world.configure("platforms.site", &[SPECIAL]);
    world.push("site", &[]).all("committed");
    world.assert_delivered("site");
}

fn privileged_attributes_travel_where_the_platform_says_so(layout: &str) {
    if !root_or_skip("setting trusted attributes") {
        return;
    }
    let source = site().and(privileged_attributes());
    let world = World::with_site(1, &source, &["--layout", layout]);
    world.push("site", &[]).all("committed");
    let compare = Compare::exact()
        .without_xattrs("trusted.")
        .without_xattrs("security.");
    world.assert_delivered_but("site", &compare);
    let live = world.snapshot(0, "site");
    let capable = live.entry("privileged/capable").unwrap();
    assert!(capable.xattrs.is_empty(), "{:?}", capable.xattrs);
    world.configure("platforms.site", &["privileged_xattrs = true"]);
    world.push("site", &[]).all("committed");
    world.assert_delivered("site");
    world.assert_clean("site");
}
