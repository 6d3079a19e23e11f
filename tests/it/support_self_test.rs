//! The ground itself: a snapshot sees what it should, rsync agrees with it, worlds of hosts work.

use crate::support::acl::Acl;
use crate::support::awkward::{
    awkward_tree, linked_special_files, privileged_attributes, root_only,
};
use crate::support::netns::Lab;
use crate::support::random::{apply_all, tree_changes, tree_spec};
use crate::support::run::{USUAL_TIME, run, start, wait_until};
use crate::support::snapshot::{Compare, Snapshot, allocated_bytes, diff};
use crate::support::sshd::Sshd;
use crate::support::tree::{Tree, set_mtime};
use crate::support::{corpus, debian, is_root, oracle, root_or_skip};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use std::fs;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

fn written(tree: &Tree) -> tempfile::TempDir {
    let place = tempfile::tempdir().unwrap();
    tree.write_to(place.path());
    place
}

#[test]
fn a_tree_is_the_same_wherever_it_is_written() {
    let (first, second) = (written(&awkward_tree()), written(&awkward_tree()));
    let (first, second) = (Snapshot::read(first.path()), Snapshot::read(second.path()));
    Compare::exact().without_root().assert_same(&first, &second);
    assert!(first.len() > 600, "{}", first.len());
    let deepest = first
        .paths()
        .map(|path| path.split(|&byte| byte == b'/').count())
        .max();
    assert!(deepest > Some(200), "{deepest:?}");
}

#[test]
fn a_snapshot_sees_each_attribute_change() {
    let base = || {
        Tree::new()
            .file("file", "content")
            .xattr("user.a", "1")
            .dir("dir")
            .symlink("link", "target")
            .fifo("pipe")
            .file("one", "x")
            .hard_link("two", "one")
            .dir("")
    };
    let acl = Acl::of_mode(0o644).user(4_000, 4).mask(4);
    let mut changed = vec![
        (
            "content",
            Tree::new().file("file", "CONTENT").xattr("user.a", "1"),
        ),
        (
            "size",
            Tree::new().file("file", "content!").xattr("user.a", "1"),
        ),
        (
            "mode",
            Tree::new()
                .file("file", "content")
                .xattr("user.a", "1")
                .mode(0o600),
        ),
        (
            "time",
            Tree::new()
                .file("file", "content")
                .xattr("user.a", "1")
                .mtime(1, 0),
        ),
        (
            "attribute",
            Tree::new().file("file", "content").xattr("user.a", "2"),
        ),
        ("no attribute", Tree::new().file("file", "content")),
        (
            "ACL",
            Tree::new()
                .file("file", "content")
                .xattr("user.a", "1")
                .acl(&acl),
        ),
        ("default ACL", Tree::new().dir("dir").default_acl(&acl)),
        ("directory mode", Tree::new().dir("dir").mode(0o700)),
        ("directory time", Tree::new().dir("dir").mtime(1, 0)),
        ("target", Tree::new().symlink("link", "another")),
        (
            "link time",
            Tree::new().symlink("link", "target").mtime(1, 0),
        ),
        ("kind", Tree::new().socket("pipe")),
        ("unlinked", Tree::new().file("one", "x").file("two", "x")),
        ("added", Tree::new().file("new", "")),
        ("root mode", Tree::new().dir("").mode(0o700)),
        ("root time", Tree::new().dir("").mtime(1, 0)),
    ];
    if is_root() {
        let file = || Tree::new().file("file", "content").xattr("user.a", "1");
        changed.push(("user", file().owner(1, 0)));
        changed.push(("group", file().owner(0, 1)));
        changed.push((
            "link owner",
            Tree::new().symlink("link", "target").owner(1, 0),
        ));
        changed.push(("device", Tree::new().char_device("pipe", 1, 3)));
    }
    let before = written(&base());
    let before = Snapshot::read(before.path());
    for (what, change) in changed {
        let after = written(&base().overwritten_by(&change));
        let lines = diff(&before, &Snapshot::read(after.path()));
        assert!(!lines.is_empty(), "no difference seen: {what}");
    }
}

#[test]
fn comparing_overlooks_only_what_it_is_told_to() {
    let tree = || {
        Tree::new()
            .file("keep/a", "x")
            .dir("keep")
            .mtime(5, 0)
            .file("drop/b", "y")
    };
    let (a, b) = (written(&tree()), written(&tree()));
    fs::write(b.path().join("drop/b"), "other").unwrap();
    set_mtime(&b.path().join("keep"), 6, 0);
    let (a, b) = (Snapshot::read(a.path()), Snapshot::read(b.path()));
    assert_eq!(diff(&a, &b).len(), 3, "{:?}", diff(&a, &b));
    let compare = Compare::exact().without_path("drop");
    assert_eq!(
        compare.diff(&a, &b),
        ["keep: time 5.000000000 != 6.000000000"]
    );
    assert!(compare.without_directory_times().diff(&a, &b).is_empty());
}

#[test]
fn an_acl_written_here_is_the_one_that_setfacl_writes() {
    let acl = Acl::of_mode(0o640).user(4_000, 6).group(4_001, 5).mask(5);
    let place = written(&Tree::new().file("ours", "").acl(&acl).file("theirs", ""));
    let entries = "u::rw,u:4000:rw,g::r,g:4001:rx,m::rx,o::-";
    run(Command::new("setfacl")
        .args(["--set", entries])
        .arg(place.path().join("theirs")))
    .success();
    let snapshot = Snapshot::read(place.path());
    let xattrs = |name| &snapshot.entry(name).unwrap().xattrs;
    assert_eq!(xattrs("ours"), xattrs("theirs"));
    assert_eq!(
        snapshot.entry("ours").unwrap().mode,
        snapshot.entry("theirs").unwrap().mode
    );
}

#[test]
fn rsync_copies_the_awkward_tree_without_a_difference() {
    let mut tree = awkward_tree().and(linked_special_files());
    if is_root() {
        tree = tree.and(privileged_attributes());
    }
    let source = written(&tree);
    let copy = oracle::expected(source.path());
    Compare::exact().assert_same(&Snapshot::read(source.path()), &copy);
}

#[test]
fn sparse_files_have_holes() {
    let tree = Tree::new().sparse("sparse", 50_000_000, &[(1_000_000, b"x")]);
    let place = written(&tree);
    let allocated = allocated_bytes(&place.path().join("sparse"));
    assert!(allocated < 1_000_000, "{allocated}");
}

#[test]
fn random_trees_and_changes_survive_rsync() {
    let mut runner = TestRunner::new(Config {
        cases: 12,
        ..Config::default()
    });
    let strategy = (tree_spec(40), tree_changes(20));
    runner
        .run(&strategy, |(spec, changes)| {
            let place = tempfile::tempdir().unwrap();
            let (source, copy) = (place.path().join("source"), place.path().join("copy"));
            spec.write_to(&source);
            oracle::rsync_copy(&source, &copy, &[]);
            prop_assert_eq!(
                diff(&Snapshot::read(&source), &Snapshot::read(&copy)),
                [""; 0]
            );
            apply_all(&changes, &source);
            // Without --checksum rsync misses the change that keeps size and time.
            oracle::rsync_copy(&source, &copy, &["--checksum"]);
            prop_assert_eq!(
                diff(&Snapshot::read(&source), &Snapshot::read(&copy)),
                [""; 0]
            );
            Ok(())
        })
        .unwrap();
}

#[test]
fn a_generated_platform_depends_on_its_seed_only() {
    let place = tempfile::tempdir().unwrap();
    let make = |name, seed| {
        let directory = place.path().join(name);
        let size = corpus::generated_platform(&directory, 2_000, seed).unwrap();
        (size, Snapshot::read(&directory), directory)
    };
    let ((size, first, directory), (again, second, _), (_, other, _)) =
        (make("a", 7), make("b", 7), make("c", 8));
    assert_eq!(size, again);
    let compare = Compare::exact().without_directory_times();
    compare.assert_same(&first, &second);
    assert!(!compare.diff(&first, &other).is_empty());
    assert_eq!(size.files, 2_000);
    assert!((350..700).contains(&size.directories), "{size:?}");
    assert!(
        (7_000_000..14_000_000).contains(&size.content_bytes),
        "{size:?}"
    );
    let changed = corpus::next_release(&directory, 1).unwrap();
    assert!((40..200).contains(&changed), "{changed}");
    assert!(compare.diff(&first, &Snapshot::read(&directory)).len() >= changed);
}

#[test]
fn a_full_generated_platform_is_as_large_as_promised() {
    let place = tempfile::tempdir().unwrap();
    let size = corpus::generated_platform(place.path(), corpus::FULL_FILES, 1).unwrap();
    assert_eq!(size.files, corpus::FULL_FILES);
    assert!((4_000..6_000).contains(&size.directories), "{size:?}");
    assert!(
        (85_000_000..115_000_000).contains(&size.content_bytes),
        "{size:?}"
    );
}

#[test]
fn programs_are_watched_and_ended() {
    let mut script = Command::new("sh");
    let mut running = start(
        script.args(["-c", "read line; echo got $line; sleep 600"]),
        b"it\n",
    );
    running.wait_for("got it", USUAL_TIME);
    assert!(running.is_running());
    running.kill();
    assert!(!running.is_running());
    assert_eq!(running.output().text(), "got it\n");
}

#[test]
fn netns_hosts_write_nothing_here_and_take_their_processes_along() {
    if !root_or_skip("a test host") {
        return;
    }
    let lab = Lab::new();
    let host = lab.host("web1").with_fanout().start();
    let marker = format!("/usr/local/fanout-marker-{}", std::process::id());
    host.write(&marker, "x");
    assert_eq!(host.run(&["cat", &marker]).success().text(), "x");
    assert!(!Path::new(&marker).exists());
    assert_eq!(host.run(&["hostname"]).success().text(), "web1\n");
    assert_eq!(
        host.run(&["sh", "-c", "ls -A ~; pwd"]).success().text(),
        "/root\n"
    );
    host.run(&["test", "-x", "/usr/local/bin/fanout"]).success();
    // A daemon that outlives the command that started it, but not its host.
    host.sh("setsid sleep 4321 >/dev/null 2>&1 &").success();
    let daemon_runs = || host_processes(host.init_pid()).contains("sleep");
    assert!(wait_until(USUAL_TIME, daemon_runs));
    let mut running = host.spawn(&["sh", "-c", "echo up; exec sleep 8765"]);
    running.wait_for("up", USUAL_TIME);
    running.kill();
    let sleepers = host
        .sh("cat /proc/[0-9]*/cmdline | tr '\\0' ' '")
        .success()
        .text();
    assert!(
        sleepers.contains("4321") && !sleepers.contains("sleep 8765"),
        "{sleepers}"
    );
    let inside = host.path("/");
    drop(host);
    assert!(!inside.exists());
}

#[test]
fn netns_rules_stop_udp_and_nothing_else() {
    if !root_or_skip("a test host") {
        return;
    }
    let lab = Lab::new();
    let (hub, web1) = (lab.plain_host("hub"), lab.plain_host("web1"));
    let udp_arrives = |to: IpAddr| {
        let any = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        let receiver = web1.in_network(|| UdpSocket::bind(any)).unwrap();
        let sender = hub.in_network(|| UdpSocket::bind(any)).unwrap();
        receiver
            .set_read_timeout(Some(Duration::from_millis(500)))
            .unwrap();
        let port = receiver.local_addr().unwrap().port();
        // A rule for what leaves or a network that is gone may refuse at once.
        let _sent = sender.send_to(b"x", (to, port));
        receiver.recv(&mut [0; 9]).is_ok()
    };
    let tcp_connects = || {
        let listener = web1.in_network(|| TcpListener::bind("0.0.0.0:0")).unwrap();
        let address = SocketAddr::new(web1.address(), listener.local_addr().unwrap().port());
        let limit = Duration::from_millis(500);
        hub.in_network(|| TcpStream::connect_timeout(&address, limit))
            .is_ok()
    };
    assert!(tcp_connects() && udp_arrives(web1.address()) && udp_arrives(web1.address6()));
    web1.drop_udp();
    assert!(tcp_connects() && !udp_arrives(web1.address()) && !udp_arrives(web1.address6()));
    web1.mend();
    assert!(udp_arrives(web1.address()));
    web1.cut();
    assert!(!tcp_connects() && !udp_arrives(web1.address()));
    web1.lose(0);
    assert!(tcp_connects() && udp_arrives(web1.address()));
    web1.lose(50);
    let arrived = (0..20).filter(|_| udp_arrives(web1.address())).count();
    assert!((1..20).contains(&arrived), "{arrived} of 20 at 50 % loss");
    web1.mend();
    web1.limit_rate(20);
    assert!(tcp_connects() && udp_arrives(web1.address()));
    assert!(
        UdpSocket::bind((web1.address(), 0)).is_err(),
        "the address is this machine's"
    );
}

#[test]
fn netns_ssh_works_directly_and_through_a_jump_host() {
    if !root_or_skip("a test host") {
        return;
    }
    let lab = Lab::new();
    let hub = lab.host("hub").start();
    let jump = lab.host("jump").on("outer").on("inner").start();
    let web1 = lab.host("web1").on("inner").start();
    web1.add_user("admin", true);
    let (jump_sshd, web1_sshd) = (Sshd::start(&jump), Sshd::start(&web1));
    web1_sshd.admit_through(&jump_sshd, "root", &hub, "admin");
    let inner = SocketAddr::new(web1.address(), 22);
    let limit = Duration::from_millis(500);
    assert!(
        hub.in_network(|| TcpStream::connect_timeout(&inner, limit))
            .is_err()
    );
    hub.run(&["ssh", "-o", "BatchMode=yes", "root@jump", "hostname"])
        .success();
    let there = hub.run(&[
        "ssh",
        "-o",
        "BatchMode=yes",
        "admin@web1",
        "hostname; id -un",
    ]);
    assert_eq!(there.success().text(), "web1\nadmin\n");
    let as_root = hub.run(&["ssh", "-o", "BatchMode=yes", "admin@web1", "sudo -n id -un"]);
    assert_eq!(as_root.success().text(), "root\n");
    hub.run(&["ssh", "-o", "BatchMode=yes", "root@web1", "true"])
        .exits(255);
}

#[test]
fn debian_platforms_are_fetched_and_dereferenced() {
    let (wordpress, upgraded) = (debian::wordpress(), debian::wordpress_upgraded());
    let (before, after) = (Snapshot::read(&wordpress), Snapshot::read(&upgraded));
    assert!(
        before.len() > 2_000 && after.len() > 2_000,
        "{} {}",
        before.len(),
        after.len()
    );
    assert!(
        wordpress
            .join("wp-includes/ID3/getid3.php")
            .symlink_metadata()
            .unwrap()
            .is_file()
    );
    let version = |tree: &Path| fs::read_to_string(tree.join("wp-includes/version.php")).unwrap();
    let changed = Compare::exact().diff(&before, &after).len();
    assert!(changed > 50, "{changed}");
    eprintln!(
        "wordpress: {} entries, {} bytes; upgrade: {changed} differences, version {}",
        before.len(),
        before.content_bytes(),
        if version(&wordpress) == version(&upgraded) {
            "the same"
        } else {
            "another"
        }
    );
    let mediawiki = Snapshot::read(&debian::mediawiki());
    eprintln!(
        "mediawiki: {} entries, {} bytes",
        mediawiki.len(),
        mediawiki.content_bytes()
    );
    assert!(mediawiki.len() > 15_000, "{}", mediawiki.len());
}

#[test]
fn root_only_entries_need_root() {
    if !root_or_skip("making devices") {
        return;
    }
    let place = written(&root_only());
    assert!(Snapshot::read(place.path()).entry("root/null").is_some());
}

/// The names of the processes in the namespace of `init_pid`, by way of /proc.
fn host_processes(init_pid: u32) -> String {
    let own = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/pid")).ok();
    let wanted = own(&init_pid.to_string());
    let entries = fs::read_dir("/proc").unwrap().filter_map(Result::ok);
    let pids = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let inside = pids.filter(|pid| own(pid) == wanted && wanted.is_some());
    inside
        .filter_map(|pid| fs::read_to_string(format!("/proc/{pid}/comm")).ok())
        .collect()
}
