//! Changing `fanout.toml`: one writer at a time, checked before it is saved, replaced as a whole.

use super::document::{Document, Kind, NewCluster, NewPlatform, NewServer};
use super::inventory::Inventory;
use super::{ConfigError, HubDir, file};
use crate::model::{ClusterName, PlatformName, ServerName};
use crate::store::{Holder, Lock};
use std::path::{Path, PathBuf};
use std::time::Duration;
use toml_edit::Value;

/// How long an edit waits for another one: an edit takes milliseconds.
const WAIT: Duration = Duration::from_secs(5);

/// An edit in progress. Holds the lock until it is saved or dropped.
#[derive(Debug)]
pub struct Edit {
    path: PathBuf,
    before: String,
    document: Document,
    inventory: Inventory,
    _lock: Lock,
}

impl Edit {
    /// Writes a new inventory that names the hub and nothing else.
    ///
    /// # Errors
    /// [`ConfigError::FileExists`] if there is one.
    pub fn create(dir: &HubDir, hub: &str, holder: &Holder) -> Result<Inventory, ConfigError> {
        let path = dir.inventory();
        let _lock = Lock::wait(&dir.inventory_lock(), holder, WAIT)?;
        match file::read(path, "inventory") {
            Err(ConfigError::Missing { .. }) => {}
            Err(error) => return Err(error),
            Ok(_) => {
                return Err(ConfigError::FileExists {
                    path: path.to_owned(),
                });
            }
        }
        let text = format!(
            "# What fanout keeps identical, and where. `fanout add` and `fanout edit` keep comments.\n\n\
             [hub]\nname = {}\n",
            Value::from(hub)
        );
        let inventory = Inventory::parse(&text, &path.display().to_string())?;
        file::replace(path, text.as_bytes(), 0o644)?;
        Ok(inventory)
    }

    /// Takes the lock and reads the inventory, which must be without faults.
    pub fn open(dir: &HubDir, holder: &Holder) -> Result<Self, ConfigError> {
        let lock = Lock::wait(&dir.inventory_lock(), holder, WAIT)?;
        let path = dir.inventory().to_owned();
        let bytes = file::read(&path, "inventory")?;
        let inventory = Inventory::from_bytes(&bytes, &path.display().to_string())?;
        let before = String::from_utf8_lossy(&bytes).into_owned();
        let document = Document::parse(&before).map_err(|error| unreadable(&path, &error))?;
        Ok(Self {
            path,
            before,
            document,
            inventory,
            _lock: lock,
        })
    }

    /// The inventory as it was when the edit began.
    pub fn inventory(&self) -> &Inventory {
        &self.inventory
    }

    /// Adds a server.
    pub fn add_server(&mut self, name: &ServerName, new: &NewServer) -> Result<(), ConfigError> {
        self.document.add(Kind::Server, name.as_str(), new.keys())
    }

    /// Adds a cluster.
    pub fn add_cluster(&mut self, name: &ClusterName, new: &NewCluster) -> Result<(), ConfigError> {
        self.document.add(Kind::Cluster, name.as_str(), new.keys())
    }

    /// Adds a platform.
    pub fn add_platform(
        &mut self,
        name: &PlatformName,
        new: &NewPlatform,
    ) -> Result<(), ConfigError> {
        self.document.add(Kind::Platform, name.as_str(), new.keys())
    }

    /// Removes a table with the comment right above it. Nothing else is changed: what still
    /// refers to it makes [`Edit::save`] refuse.
    pub fn remove(&mut self, kind: Kind, name: &str) -> Result<(), ConfigError> {
        self.document
            .remove(kind, name)
            .map_err(|error| self.suggesting(error))
    }

    /// Sets a key.
    pub fn set(
        &mut self,
        kind: Kind,
        name: &str,
        key: &str,
        value: impl Into<Value>,
    ) -> Result<(), ConfigError> {
        self.document
            .set(kind, name, key, value.into())
            .map_err(|error| self.suggesting(error))
    }

    /// Removes a key, so that its default holds. False if it wasn't there.
    pub fn unset(&mut self, kind: Kind, name: &str, key: &str) -> Result<bool, ConfigError> {
        self.document
            .unset(kind, name, key)
            .map_err(|error| self.suggesting(error))
    }

    /// Adds a text to a list, such as a member or a rule. False if it is in there already.
    pub fn append(
        &mut self,
        kind: Kind,
        name: &str,
        key: &str,
        text: &str,
    ) -> Result<bool, ConfigError> {
        self.document
            .append(kind, name, key, text)
            .map_err(|error| self.suggesting(error))
    }

    /// Takes a text out of a list. False if it wasn't in there.
    pub fn take_out(
        &mut self,
        kind: Kind,
        name: &str,
        key: &str,
        text: &str,
    ) -> Result<bool, ConfigError> {
        self.document
            .take_out(kind, name, key, text)
            .map_err(|error| self.suggesting(error))
    }

    /// The text as it would be saved.
    pub fn text(&self) -> String {
        self.document.to_string()
    }

    /// The inventory as it would be, or every fault that the edit would bring.
    pub fn check(&self) -> Result<Inventory, ConfigError> {
        let file = self.path.display().to_string();
        Ok(Inventory::parse(&self.text(), &file)?)
    }

    /// Checks the result and replaces the file. Nothing is written if it has a fault, or if
    /// somebody without a lock (an editor) saved the file meanwhile.
    pub fn save(self) -> Result<Inventory, ConfigError> {
        let inventory = self.check()?;
        let text = self.text();
        if text != self.before {
            // RACE: an editor that saves between this look and the rename loses its change.
            if file::read(&self.path, "inventory")? != self.before.as_bytes() {
                return Err(ConfigError::ChangedMeanwhile { path: self.path });
            }
            file::replace(&self.path, text.as_bytes(), 0o644)?;
        }
        Ok(inventory)
    }

    /// The document knows that a name is unknown; the inventory knows which one is close.
    fn suggesting(&self, error: ConfigError) -> ConfigError {
        match error {
            ConfigError::Unknown { kind, name, .. } => {
                let found = match kind {
                    Kind::Server => self.inventory.server(&name).err(),
                    Kind::Cluster => self.inventory.cluster(&name).err(),
                    Kind::Platform => self.inventory.platform(&name).err(),
                };
                found.unwrap_or(ConfigError::Unknown {
                    kind,
                    name,
                    closest: None,
                })
            }
            other => other,
        }
    }
}

/// Both parsers read the same language, so this is not expected after the first one agreed.
fn unreadable(path: &Path, error: &toml_edit::TomlError) -> ConfigError {
    ConfigError::Read {
        path: path.to_owned(),
        source: std::io::Error::other(error.message().to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::UnixMillis;
    use crate::model::{CommitPolicy, Layout};
    use std::fs;

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
            Err(crate::store::LockError::Held { .. })
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
            commit: Some(CommitPolicy::All),
            min_healthy: Some(1),
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
                let keys = vec![("address", Value::from("web1"))];
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
}
