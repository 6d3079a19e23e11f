//! What every fault looks like.

use super::super::*;
use super::{SERVERS, documented};

fn faults(text: &str) -> String {
    match Inventory::parse(text, "fanout.toml") {
        Ok(inventory) => panic!("no fault found: {inventory:?}"),
        Err(invalid) => invalid.to_string(),
    }
}

#[test]
fn unknown_keys_in_every_table_are_reported_together() {
    let text = r#"
[hubb]
name = "production"

[servers.web1]
adress = "web1"
packs = ["front"]

[clusters.front]
memebrs = ["web1"]

[platforms.drupal]
on = "front"
path = "/srv/src/drupal"
root = "/srv/platforms/drupal"
colour = "blue"
"#;
    insta::assert_snapshot!(faults(text), @r#"
    Unknown key `hubb` in the inventory
     --> fanout.toml:2:2
      |
    2 | [hubb]
      |  ^^^^
      = hint: did you mean `hub`?

    Unknown key `adress` in the server `web1`
     --> fanout.toml:6:1
      |
    6 | adress = "web1"
      | ^^^^^^
      = hint: did you mean `address`?

    Unknown key `packs` in the server `web1`
     --> fanout.toml:7:1
      |
    7 | packs = ["front"]
      | ^^^^^
      = hint: this version of fanout doesn't know it yet

    Unknown key `memebrs` in the cluster `front`
      --> fanout.toml:10:1
       |
    10 | memebrs = ["web1"]
       | ^^^^^^^
       = hint: did you mean `members`?

    Unknown key `colour` in the platform `drupal`
      --> fanout.toml:16:1
       |
    16 | colour = "blue"
       | ^^^^^^
       = hint: the keys are app, delete_excluded, dirs, docroot, drift_ignore, exclude, files, follow, keep, layout, numeric_ids, on, owner, path, php, preserve, privileged_xattrs, require, resync, root, seed, special_files
    "#);
}

#[test]
fn faulty_values_are_reported_together() {
    let text = r#"
[servers.web1]
address = "web1:99999"
addresses = ["10.0.0.300"]
transport = "udp"
labels = ["e u"]

[servers."web 2"]
address = "web2"

[platforms.drupal]
on = "web1"
path = "src/drupal"
root = "/srv/../drupal"
layout = "inplace"
owner = "www-data"
dirs = "rwxr-xr-x"
keep = -1
numeric_ids = "yes"
special_files = ["sockets"]
"#;
    insta::assert_snapshot!(faults(text), @r#"
    `99999` is not a port: use a number from 1 to 65535
     --> fanout.toml:3:11
      |
    3 | address = "web1:99999"
      |           ^^^^^^^^^^^^

    Invalid IP address syntax
     --> fanout.toml:4:14
      |
    4 | addresses = ["10.0.0.300"]
      |              ^^^^^^^^^^^^

    `udp` is not a transport: use `auto`, `quic`, `ssh`
     --> fanout.toml:5:13
      |
    5 | transport = "udp"
      |             ^^^^^

    The label name `e u` may hold letters, digits, `-`, `_` and `.` only
     --> fanout.toml:6:11
      |
    6 | labels = ["e u"]
      |           ^^^^^

    The server name `web 2` may hold letters, digits, `-`, `_` and `.` only
     --> fanout.toml:8:10
      |
    8 | [servers."web 2"]
      |          ^^^^^^^

    `src/drupal` is a relative path
      --> fanout.toml:13:8
       |
    13 | path = "src/drupal"
       |        ^^^^^^^^^^^^

    The path `/srv/../drupal` holds `.`, `..` or `//`
      --> fanout.toml:14:8
       |
    14 | root = "/srv/../drupal"
       |        ^^^^^^^^^^^^^^^^

    `inplace` is not a layout: use `switched`, `in-place`
      --> fanout.toml:15:10
       |
    15 | layout = "inplace"
       |          ^^^^^^^^^

    `www-data` is not an owner: use `keep` or `USER:GROUP`
      --> fanout.toml:16:9
       |
    16 | owner = "www-data"
       |         ^^^^^^^^^^

    `rwxr-xr-x` is not a file mode: use three or four octal digits, such as `0644`
      --> fanout.toml:17:8
       |
    17 | dirs = "rwxr-xr-x"
       |        ^^^^^^^^^^^

    Invalid value: integer `-1`, expected u32
      --> fanout.toml:18:8
       |
    18 | keep = -1
       |        ^^

    Invalid type: string "yes", expected a boolean
      --> fanout.toml:19:15
       |
    19 | numeric_ids = "yes"
       |               ^^^^^

    `sockets` is not a kind of special file: use `setuid`, `devices`, `fifos`
      --> fanout.toml:20:18
       |
    20 | special_files = ["sockets"]
       |                  ^^^^^^^^^
    "#);
}

#[test]
fn broken_toml_is_reported_with_its_line() {
    insta::assert_snapshot!(faults("[servers.web1]\naddress = web1\n"), @r#"
    String values must be quoted, expected literal string
     --> fanout.toml:2:11
      |
    2 | address = web1
      |           ^^^^
    "#);
    insta::assert_snapshot!(faults("[servers.web1]\naddress = \"a\"\naddress = \"b\"\n"), @r#"
    Duplicate key
     --> fanout.toml:3:1
      |
    3 | address = "b"
      | ^^^^^^^
    "#);
    insta::assert_snapshot!(faults("servers = 5\n[hub]\n"), @r#"
    `servers` must be tables, such as [servers.NAME]
     --> fanout.toml:1:11
      |
    1 | servers = 5
      |           ^

    The hub needs `name`
     --> fanout.toml:2:2
      |
    2 | [hub]
      |  ^^^
    "#);
}

#[test]
fn members_that_make_no_sense_are_reported() {
    let text = r#"
[servers.web1]
address = "web1"

[clusters.web1]
members = ["web1"]

[clusters.front]
members = ["wbe1", "web1", "web1"]

[clusters.empty]
members = []

[clusters.a]
members = ["b"]

[clusters.b]
members = ["a", "web1"]

[clusters.small]
members = ["web1"]
commit = "quorum:2"
min_healthy = 0

[platforms.drupal]
on = "frnt"
path = "/srv/src/drupal"
root = "/srv/platforms/drupal"
"#;
    insta::assert_snapshot!(faults(text), @r#"
    `web1` is the name of a server and of a cluster
     --> fanout.toml:5:11
      |
    5 | [clusters.web1]
      |           ^^^^

    There is no server or cluster `wbe1`, which the cluster `front` names
     --> fanout.toml:9:12
      |
    9 | members = ["wbe1", "web1", "web1"]
      |            ^^^^^^
      = hint: did you mean `web1`?

    The cluster `front` lists `web1` twice
     --> fanout.toml:9:28
      |
    9 | members = ["wbe1", "web1", "web1"]
      |                            ^^^^^^

    The cluster `empty` has no members
      --> fanout.toml:12:11
       |
    12 | members = []
       |           ^^

    The cluster `a` contains itself: a -> b -> a
      --> fanout.toml:18:12
       |
    18 | members = ["a", "web1"]
       |            ^^^

    2 is more than the members of the cluster `small`: 1
      --> fanout.toml:22:10
       |
    22 | commit = "quorum:2"
       |          ^^^^^^^^^^

    `min_healthy` is at least 1
      --> fanout.toml:23:15
       |
    23 | min_healthy = 0
       |               ^

    There is no server or cluster `frnt`, which the platform `drupal` names
      --> fanout.toml:26:6
       |
    26 | on = "frnt"
       |      ^^^^^^
       = hint: did you mean `front`?
    "#);
}

#[test]
fn a_broken_server_is_not_reported_again_where_it_is_named() {
    let text = "[servers.web1]\naddress = 5\n[clusters.front]\nmembers = [\"web1\"]\n";
    let invalid = Inventory::parse(text, "fanout.toml").unwrap_err();
    assert_eq!(invalid.problems().len(), 1, "{invalid}");
}

#[test]
fn two_platforms_in_one_root_are_reported() {
    let text = format!(
        r#"{SERVERS}
[clusters.front]
members = ["web1", "web2"]
[platforms.a]
on = "front"
path = "/srv/src/a"
root = "/srv/www"
[platforms.b]
on = "web2"
path = "/srv/src/b"
root = "/srv/www/"
[platforms.c]
on = "web1"
path = "/srv/src/c"
root = "/srv/www/c"
[platforms.d]
on = "web2"
path = "/srv/src/d"
root = "/srv"
[platforms.e]
on = "web2"
path = "/srv/src/e"
root = "/opt/.a.fanout/gen"
"#
    );
    insta::assert_snapshot!(faults(&text), @r#"
    The root of `b` is the root of `a` (line 10) on the server `web2`
      --> fanout.toml:14:8
       |
    14 | root = "/srv/www/"
       |        ^^^^^^^^^^^

    The root of `c` lies inside the root of `a` (line 10) on the server `web1`
      --> fanout.toml:18:8
       |
    18 | root = "/srv/www/c"
       |        ^^^^^^^^^^^^

    The root of `d` lies above the root of `a` (line 10) on the server `web2`
      --> fanout.toml:22:8
       |
    22 | root = "/srv"
       |        ^^^^^^

    The root of `d` lies above the root of `b` (line 14) on the server `web2`
      --> fanout.toml:22:8
       |
    22 | root = "/srv"
       |        ^^^^^^

    A root can't lie in `.a.fanout`, where fanout keeps its own state
      --> fanout.toml:26:8
       |
    26 | root = "/opt/.a.fanout/gen"
       |        ^^^^^^^^^^^^^^^^^^^^
    "#);
}

#[test]
fn faulty_rules_come_with_the_corrected_line() {
    let text = format!(
        r#"{SERVERS}
[platforms.a]
on = "web1"
path = "/srv/src/a"
root = "/srv/www"
exclude = ["", "ok"]
preserve = ["/ok", "sites/*/files/", "/", "/a/../b"]   # uploads
keep = 0
files = "4755"
require = ["/index.php"]
drift_ignore = [
    {{ path = "robots.txt", member = "web2", reason = " ", until = 2027-01-31T10:00:00Z }},
    {{ path = "/robots.txt", member = "web1", reason = "known", until = 2027-01-31 }},
]
"#
    );
    insta::assert_snapshot!(faults(&text), @r#"
    A rule can't be empty
     --> fanout.toml:9:12
      |
    9 | exclude = ["", "ok"]
      |            ^^

    The preserve rule `sites/*/files/` must start with `/`, the root of the tree
      --> fanout.toml:10:20
       |
    10 | preserve = ["/ok", "sites/*/files/", "/", "/a/../b"]   # uploads
       |                    ^^^^^^^^^^^^^^^^
       = hint: write: preserve = ["/ok", "/sites/*/files/", "/", "/a/../b"]   # uploads

    The preserve rule `/` covers the whole tree
      --> fanout.toml:10:38
       |
    10 | preserve = ["/ok", "sites/*/files/", "/", "/a/../b"]   # uploads
       |                                      ^^^

    The preserve rule `/a/../b` holds `.` or `..`
      --> fanout.toml:10:43
       |
    10 | preserve = ["/ok", "sites/*/files/", "/", "/a/../b"]   # uploads
       |                                           ^^^^^^^^^

    `keep` is at least 1: the live generation
      --> fanout.toml:11:8
       |
    11 | keep = 0
       |        ^

    The mode of all files can't have set-user-id, set-group-id or sticky bits
      --> fanout.toml:12:9
       |
    12 | files = "4755"
       |         ^^^^^^

    `/index.php` is not a path relative to the source, such as index.php
      --> fanout.toml:13:12
       |
    13 | require = ["/index.php"]
       |            ^^^^^^^^^^^^

    The drift_ignore rule `robots.txt` must start with `/`, the root of the tree
      --> fanout.toml:15:14
       |
    15 |     { path = "robots.txt", member = "web2", reason = " ", until = 2027-01-31T10:00:00Z },
       |              ^^^^^^^^^^^^
       = hint: write: { path = "/robots.txt", member = "web2", reason = " ", until = 2027-01-31T10:00:00Z },

    The platform `a` has no member `web2`
      --> fanout.toml:15:37
       |
    15 |     { path = "robots.txt", member = "web2", reason = " ", until = 2027-01-31T10:00:00Z },
       |                                     ^^^^^^

    An ignored difference needs a reason
      --> fanout.toml:15:54
       |
    15 |     { path = "robots.txt", member = "web2", reason = " ", until = 2027-01-31T10:00:00Z },
       |                                                      ^^^

    `until` is a date, such as 2026-12-31
      --> fanout.toml:15:67
       |
    15 |     { path = "robots.txt", member = "web2", reason = " ", until = 2027-01-31T10:00:00Z },
       |                                                                   ^^^^^^^^^^^^^^^^^^^^
    "#);
}

#[test]
fn a_quoted_date_is_told_from_a_date() {
    let text = format!(
        r#"{SERVERS}
[platforms.a]
on = "web1"
path = "/srv/src/a"
root = "/srv/www"
drift_ignore = [{{ path = "/r", member = "web1", reason = "known", until = "2027-01-31" }}]
"#
    );
    insta::assert_snapshot!(faults(&text), @r#"
    A date is wanted here, and this is a string
     --> fanout.toml:9:75
      |
    9 | drift_ignore = [{ path = "/r", member = "web1", reason = "known", until = "2027-01-31" }]
      |                                                                           ^^^^^^^^^^^^
      = hint: write it without quotes, such as 2026-12-31
    "#);
}

#[test]
fn a_fault_in_a_table_of_a_table_is_found_there() {
    let text = format!(
        r#"{SERVERS}
[platforms.a]
on = "web1"
path = "/srv/src/a"
root = "/srv/www"
[[platforms.a.drift_ignore]]
path = "/robots.txt"
member = "web1"
until = 2027-01-31
[[platforms.a.drift_ignore]]
path = "/humans.txt"
member = "web1"
reason = "known"
unitl = 2027-01-31
"#
    );
    insta::assert_snapshot!(faults(&text), @r#"
    Missing key `reason`
     --> fanout.toml:9:1
      |
    9 | [[platforms.a.drift_ignore]]
      | ^^^^^^^^^^^^^^^^^^^^^^^^^^^^
    "#);
}

#[test]
fn secrets_are_refused_and_never_repeated() {
    let text = r#"
[servers.web1]
address = "web1"
password = "hunter2"
ssh = "admin:hunter2@web1"
transport = "ssh"
api-token = "hunter2"
"#;
    let message = faults(text);
    assert!(!message.contains("hunter2"), "{message}");
    insta::assert_snapshot!(message, @r#"
    `password` would put a secret into the server `web1`
     --> fanout.toml:4:1
      |
    4 | password...
      | ^^^^^^^^
      = hint: this file never holds secrets: they are referred to by name, as `secret:NAME`, or by file, as `file:PATH`

    An ssh destination never holds a password
     --> fanout.toml:5:7
      |
    5 | ssh =...
      |       ^
      = hint: use a key and an agent

    `api-token` would put a secret into the server `web1`
     --> fanout.toml:7:1
      |
    7 | api-token...
      | ^^^^^^^^^
      = hint: this file never holds secrets: they are referred to by name, as `secret:NAME`, or by file, as `file:PATH`
    "#);
}

#[test]
fn ssh_settings_without_ssh_are_reported() {
    let text = "[servers.web1]\naddress = \"web1\"\ntransport = \"ssh\"\nsudo = true\n";
    insta::assert_snapshot!(faults(text), @r#"
    The server `web1` is reached over ssh, but has no `ssh`
     --> fanout.toml:3:13
      |
    3 | transport = "ssh"
      |             ^^^^^
      = hint: add ssh = "user@host"

    `sudo` of the server `web1` means nothing without `ssh`
     --> fanout.toml:4:8
      |
    4 | sudo = true
      |        ^^^^
    "#);
}

#[test]
fn a_missing_or_undecodable_file_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("fanout.toml");
    let error = Inventory::load(&path).unwrap_err();
    assert!(error.to_string().starts_with("There is no inventory at /"));
    assert!(error.hint().unwrap().contains("fanout init"));
    std::fs::write(&path, b"[hub]\nname = \"\xff\"\n").unwrap();
    let error = Inventory::load(&path).unwrap_err().to_string();
    assert!(
        error.contains("isn't UTF-8") && error.contains("fanout.toml:2:9"),
        "{error}"
    );
}

proptest::proptest! {
    #[test]
    fn no_text_makes_the_parser_panic(text in "(\\[|\\]|=|\"|\n|servers|web1|platforms|\\.|[ -~ü])*") {
        let _checked = Inventory::parse(&text, "fanout.toml").map_err(|e| e.to_string());
        let _checked = AgentConfig::parse(&text, "agent.toml").map_err(|e| e.to_string());
    }

    #[test]
    fn no_damage_to_a_real_file_makes_the_parser_panic(at in 0usize..2_000, with in "[\"\\[\\]=\n,a5]{0,3}", less in 0usize..40) {
        let text = documented(0);
        let start = at.min(text.len());
        let end = (start + less).min(text.len());
        if text.is_char_boundary(start) && text.is_char_boundary(end) {
            let text = format!("{}{with}{}", &text[..start], &text[end..]);
            let _checked = Inventory::parse(&text, "fanout.toml").map_err(|e| e.to_string());
        }
    }
}
