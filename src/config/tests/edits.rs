//! Edits keep what people wrote.

use super::super::document::Document;
use super::super::*;
use crate::clock::UnixMillis;
use crate::model::{CommitPolicy, Layout};
use crate::store::{Holder, Lock};
use std::fs;
use toml_edit::Value;

const TEXT: &str = r#"# Our web heads. Ask ops before you change this.

# The hub in the basement.
[hub]
name = "production" # not staging

# Bought in 2019.
[servers.web1]
address = "web1"   # rack 3
labels = ["eu"]

# General notes about clusters:
# keep them small.

# The public site.
[clusters.front]
members = [
    "web1", # the old one
]

[platforms.drupal]
on = "front"
path = "/srv/src/drupal"
root = "/srv/platforms/drupal"
# What visitors uploaded.
preserve = ["/web/sites/*/files/"]
# The end.
"#;

fn hub(text: &str) -> (tempfile::TempDir, HubDir) {
    let temporary = tempfile::tempdir().unwrap();
    let dir = HubDir::new(Some(temporary.path()));
    dir.create().unwrap();
    fs::write(dir.inventory(), text).unwrap();
    (temporary, dir)
}

fn holder() -> Holder {
    Holder::this_process("alice", "edit", UnixMillis(0))
}

fn server(address: &str) -> NewServer {
    NewServer {
        address: address.parse().unwrap(),
        addresses: Vec::new(),
        labels: Vec::new(),
        transport: None,
        ssh: None,
        sudo: false,
        web: WebSettings::default(),
        db: DbSettings::default(),
    }
}

#[test]
fn edits_keep_comments_order_and_style() {
    let (_temporary, dir) = hub(TEXT);
    let mut edit = Edit::open(&dir, &holder()).unwrap();
    let web2 = "web2".parse().unwrap();
    edit.add_server(&web2, &server("[::1]:4602")).unwrap();
    assert!(
        edit.append(Kind::Cluster, "front", "members", "web2")
            .unwrap()
    );
    assert!(
        !edit
            .append(Kind::Cluster, "front", "members", "web2")
            .unwrap()
    );
    edit.set(Kind::Server, "web1", "address", "web1:4601")
        .unwrap();
    edit.append(Kind::Platform, "drupal", "exclude", "*.orig")
        .unwrap();
    edit.append(Kind::Platform, "drupal", "preserve", "/private")
        .unwrap();
    edit.set(Kind::Platform, "drupal", "keep", 5).unwrap();
    let inventory = edit.save().unwrap();
    assert_eq!(inventory.cluster("front").unwrap().members.len(), 2);
    assert_eq!(inventory, Inventory::load(dir.inventory()).unwrap());
    insta::assert_snapshot!(fs::read_to_string(dir.inventory()).unwrap(), @r#"
    # Our web heads. Ask ops before you change this.

    # The hub in the basement.
    [hub]
    name = "production" # not staging

    # Bought in 2019.
    [servers.web1]
    address = "web1:4601"   # rack 3
    labels = ["eu"]

    [servers.web2]
    address = "[::1]:4602"

    # General notes about clusters:
    # keep them small.

    # The public site.
    [clusters.front]
    members = [
        "web1", # the old one
        "web2",
    ]

    [platforms.drupal]
    on = "front"
    path = "/srv/src/drupal"
    root = "/srv/platforms/drupal"
    # What visitors uploaded.
    preserve = ["/web/sites/*/files/", "/private"]
    exclude = ["*.orig"]
    keep = 5
    # The end.
    "#);
}

#[test]
fn removing_takes_the_comment_above_and_leaves_the_notes_further_up() {
    let (_temporary, dir) = hub(TEXT);
    let mut edit = Edit::open(&dir, &holder()).unwrap();
    edit.remove(Kind::Cluster, "front").unwrap();
    edit.set(Kind::Platform, "drupal", "on", "web1").unwrap();
    assert!(
        edit.take_out(Kind::Platform, "drupal", "preserve", "/web/sites/*/files/")
            .unwrap()
    );
    assert!(
        !edit
            .take_out(Kind::Platform, "drupal", "exclude", "x")
            .unwrap()
    );
    assert!(edit.unset(Kind::Server, "web1", "labels").unwrap());
    edit.save().unwrap();
    insta::assert_snapshot!(fs::read_to_string(dir.inventory()).unwrap(), @r#"
    # Our web heads. Ask ops before you change this.

    # The hub in the basement.
    [hub]
    name = "production" # not staging

    # Bought in 2019.
    [servers.web1]
    address = "web1"   # rack 3

    # General notes about clusters:
    # keep them small.

    [platforms.drupal]
    on = "web1"
    path = "/srv/src/drupal"
    root = "/srv/platforms/drupal"
    # What visitors uploaded.
    preserve = []
    # The end.
    "#);
}

#[test]
fn what_would_not_load_again_is_not_saved() {
    let (_temporary, dir) = hub(TEXT);
    let mut edit = Edit::open(&dir, &holder()).unwrap();
    edit.remove(Kind::Server, "web1").unwrap();
    let error = edit.save().unwrap_err();
    assert!(matches!(error, ConfigError::Invalid(_)), "{error}");
    assert!(
        error
            .to_string()
            .contains("There is no server or cluster `web1`"),
        "{error}"
    );
    assert_eq!(fs::read_to_string(dir.inventory()).unwrap(), TEXT);
}

#[test]
fn names_that_are_taken_or_unknown_are_refused() {
    let (_temporary, dir) = hub(TEXT);
    let mut edit = Edit::open(&dir, &holder()).unwrap();
    let web1 = "web1".parse().unwrap();
    let error = edit.add_server(&web1, &server("web1")).unwrap_err();
    assert_eq!(
        error.to_string(),
        "There is a server `web1` in the inventory already"
    );
    let error = edit.remove(Kind::Platform, "durpal").unwrap_err();
    assert_eq!(error.hint().unwrap(), "did you mean `drupal`?");
    let error = edit
        .append(Kind::Server, "web1", "address", "x")
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "`address` of the server `web1` is not a list"
    );
}

#[test]
fn a_second_edit_waits_and_an_editor_is_not_overwritten() {
    let (_temporary, dir) = hub(TEXT);
    let mut edit = Edit::open(&dir, &holder()).unwrap();
    assert!(matches!(
        Lock::acquire(&dir.inventory_lock(), &holder()),
        Err(LockError::Held { .. })
    ));
    edit.set(Kind::Server, "web1", "address", "web9").unwrap();
    fs::write(dir.inventory(), format!("{TEXT}# by hand\n")).unwrap();
    let error = edit.save().unwrap_err();
    assert!(
        matches!(error, ConfigError::ChangedMeanwhile { .. }),
        "{error}"
    );
    assert!(
        fs::read_to_string(dir.inventory())
            .unwrap()
            .ends_with("# by hand\n")
    );
    Edit::open(&dir, &holder()).unwrap();
}

#[test]
fn a_new_inventory_grows_by_edits_alone() {
    let temporary = tempfile::tempdir().unwrap();
    let dir = HubDir::new(Some(temporary.path()));
    dir.create().unwrap();
    Edit::create(&dir, "my \"hub\"", &holder()).unwrap();
    let error = Edit::create(&dir, "again", &holder()).unwrap_err();
    assert!(matches!(error, ConfigError::FileExists { .. }), "{error}");
    let mut edit = Edit::open(&dir, &holder()).unwrap();
    let mut web1 = server("127.0.0.1:4601");
    web1.labels = vec!["eu".parse().unwrap()];
    web1.ssh = Some("admin@web1".parse().unwrap());
    web1.sudo = true;
    edit.add_server(&"web1".parse().unwrap(), &web1).unwrap();
    let front = NewCluster {
        members: vec!["web1".into()],
        settings: ClusterSettings {
            commit: Some(CommitPolicy::All),
            min_healthy: Some(1),
            balancer: None,
        },
    };
    edit.add_cluster(&"front".parse().unwrap(), &front).unwrap();
    let drupal = NewPlatform {
        on: "front".into(),
        path: "/srv/src/drupal".parse().unwrap(),
        root: "/srv/platforms/drupal".parse().unwrap(),
        layout: Some(Layout::InPlace),
        owner: None,
        exclude: Some(vec![".git".into(), "it's \"x\" \\".into()]),
        preserve: vec!["/files".into()],
        keep: None,
        resync: None,
        app: AppSettings::default(),
    };
    edit.add_platform(&"drupal".parse().unwrap(), &drupal)
        .unwrap();
    let inventory = edit.save().unwrap();
    assert_eq!(inventory.hub, "my \"hub\"");
    assert_eq!(
        inventory.platform("drupal").unwrap().exclude[1],
        "it's \"x\" \\"
    );
    insta::assert_snapshot!(fs::read_to_string(dir.inventory()).unwrap(), @r#"
    # What fanout keeps identical, and where. `fanout add` and `fanout edit` keep comments.

    [hub]
    name = 'my "hub"'

    [servers.web1]
    address = "127.0.0.1:4601"
    labels = ["eu"]
    ssh = "admin@web1"
    sudo = true

    [clusters.front]
    members = ["web1"]
    commit = "all"
    min_healthy = 1

    [platforms.drupal]
    on = "front"
    path = "/srv/src/drupal"
    root = "/srv/platforms/drupal"
    layout = "in-place"
    exclude = [".git", '''it's "x" \''']
    preserve = ["/files"]
    "#);
}

proptest::proptest! {
    #[test]
    fn an_entry_that_was_added_and_taken_out_again_leaves_no_trace(
        base in 0usize..7,
        texts in proptest::collection::btree_set("[a-z]{1,5}", 1..5),
    ) {
        let base = [
            "[]",
            "[\"X\"]",
            "[ \"X\", \"Y\" ]",
            "[\n  \"X\",\n]",
            "[\n  \"X\", # one\n  # above\n  \"Y\", # two\n]",
            "[\n  \"X\",\n  \"Y\", # two\n  # last\n]",
            "[\"X\", \"Y\",]",
        ][base];
        let base = format!("[platforms.a]\npreserve = {base} # all\n");
        let mut document = Document::parse(&base).unwrap();
        let at = (Kind::Platform, "a", "preserve");
        for text in &texts {
            document.append(at.0, at.1, at.2, text).unwrap();
        }
        let mut document = Document::parse(&document.to_string()).unwrap();
        for text in &texts {
            proptest::prop_assert!(document.take_out(at.0, at.1, at.2, text).unwrap());
        }
        let after = document.to_string();
        proptest::prop_assert_eq!(after, base);
    }

    #[test]
    fn what_was_added_and_removed_again_leaves_no_trace(
        names in proptest::collection::btree_map("[a-z][a-z0-9]{0,6}x", 0u8..3, 1..8),
        base in 0usize..4,
    ) {
        let base = [TEXT, "", "[hub]\nname = \"x\"", "# only a comment\n"][base];
        let mut document = Document::parse(base).unwrap();
        let kinds = [Kind::Server, Kind::Cluster, Kind::Platform];
        for (name, kind) in &names {
            let keys = vec![("address".into(), Value::from("web1"))];
            document.add(kinds[usize::from(*kind)], name, keys).unwrap();
        }
        let full = document.to_string();
        for name in names.keys() {
            let header = format!(".{name}]\n");
            proptest::prop_assert!(full.contains(&header));
        }
        let mut again = Document::parse(&full).unwrap();
        for (name, kind) in &names {
            document.remove(kinds[usize::from(*kind)], name).unwrap();
            again.remove(kinds[usize::from(*kind)], name).unwrap();
        }
        let (document, again) = (document.to_string(), again.to_string());
        proptest::prop_assert_eq!(document.trim_end(), base.trim_end());
        proptest::prop_assert_eq!(again.trim_end(), base.trim_end());
    }
}
