//! Paths of an application that belong to the member: uploads, what it generates, and its settings.

use super::detect::below;
use super::{AppDriver, AppSite, Files, stubs};
use sync_proto::path::RelPath;

/// A directory of uploads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UploadPath {
    /// Relative to the tree's root.
    pub path: RelPath,
    /// Directories right below it that every member makes for itself: compiled templates and other
    /// caches, which another member would only be confused by.
    pub skip: Vec<String>,
}

/// Where a site's visitors and editors put files. They are on all members, as its `uploads` says.
pub fn upload_paths(site: &AppSite) -> Vec<UploadPath> {
    let docroot = docroot(&site.docroot);
    let (paths, skip): (Vec<String>, &[&str]) = match site.driver {
        AppDriver::Wordpress => {
            let path = match &site.dir {
                Some(dir) => format!("wp-content/uploads/{dir}"),
                None => "wp-content/uploads".to_owned(),
            };
            (vec![path], &[])
        }
        AppDriver::Mediawiki => (vec!["images".into()], &["tmp", "lockdir"]),
        AppDriver::Drupal | AppDriver::Drupal7 => {
            let dir = site.site_dir();
            let both = vec![format!("sites/{dir}/files"), format!("sites/{dir}/private")];
            (both, &["php", "tmp"])
        }
        AppDriver::Php | AppDriver::Static | AppDriver::Command => (Vec::new(), &[]),
    };
    paths
        .iter()
        .filter_map(|path| {
            Some(UploadPath {
                path: RelPath::parse(below(&docroot, path).as_bytes()).ok()?,
                skip: skip.iter().map(|&name| name.to_owned()).collect(),
            })
        })
        .collect()
}

/// Directories that the site's own user writes into, relative to the tree's root. Those of uploads
/// are among them.
pub fn written_dirs(site: &AppSite) -> Vec<RelPath> {
    let docroot = docroot(&site.docroot);
    let further: &[&str] = match site.driver {
        AppDriver::Mediawiki => &["cache"],
        _ => &[],
    };
    let further = further
        .iter()
        .filter_map(|path| RelPath::parse(below(&docroot, path).as_bytes()).ok());
    let uploads = upload_paths(site).into_iter().map(|upload| upload.path);
    uploads.chain(further).collect()
}

/// The preserve rules that an application needs whatever its source holds.
pub fn preserve(driver: AppDriver, docroot: &RelPath) -> Vec<String> {
    let paths: &[&str] = match driver {
        AppDriver::Wordpress => &["wp-content/uploads", "wp-content/cache"],
        AppDriver::Mediawiki => &["images", "cache"],
        AppDriver::Drupal | AppDriver::Drupal7 => &["sites/*/files", "sites/*/private"],
        AppDriver::Php | AppDriver::Static | AppDriver::Command => &[],
    };
    paths.iter().map(|path| rule(docroot, path)).collect()
}

/// All preserve rules of an application: those, and its settings files where the source has none.
/// `dirs` are the directories of its sites, where it knows several.
pub fn preserve_owned(
    driver: AppDriver,
    docroot: &RelPath,
    source: &dyn Files,
    dirs: &[&str],
) -> Vec<String> {
    let mut rules = preserve(driver, docroot);
    let at = self::docroot(docroot);
    let is_absent = |file: &str| source.head(&below(&at, file), 1).is_none();
    let files: Vec<String> = match driver {
        AppDriver::Wordpress => vec!["wp-config.php".into()],
        AppDriver::Mediawiki => vec!["LocalSettings.php".into()],
        AppDriver::Drupal | AppDriver::Drupal7 => {
            let of = |dir: &&str| format!("sites/{dir}/settings.php");
            let mut files: Vec<String> = dirs.iter().map(of).collect();
            if is_absent(&of(&"default")) && files.iter().all(|file| is_absent(file)) {
                // Those of sites to come as well.
                rules.push(rule(docroot, "sites/*/settings.php"));
                files.clear();
            }
            files.push("sites/sites.php".into());
            files
        }
        AppDriver::Php | AppDriver::Static | AppDriver::Command => Vec::new(),
    };
    let absent = files.iter().filter(|file| is_absent(file));
    rules.extend(absent.map(|file| rule(docroot, file)));
    rules
}

/// The file of an application that includes its settings, relative to the tree's root.
pub(super) fn settings_file(site: &AppSite) -> Option<String> {
    let stub = stubs(site, &[]).into_iter().find(|stub| stub.includes)?;
    Some(stub.path)
}

pub(super) fn docroot(path: &RelPath) -> String {
    String::from_utf8_lossy(path.as_bytes()).into_owned()
}

/// An anchored pattern for `path` below a document root, whose own name is meant literally.
fn rule(docroot: &RelPath, path: &str) -> String {
    let mut text = String::new();
    for c in self::docroot(docroot).chars() {
        if matches!(c, '*' | '?' | '[' | '\\') {
            text.push('\\');
        }
        text.push(c);
    }
    format!("/{}", below(&text, path))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::services::app::detect::tests::Tree;
    use crate::services::app::example;
    use sync_proto::filter::Preserve;

    const ALL: [AppDriver; 7] = [
        AppDriver::Drupal,
        AppDriver::Drupal7,
        AppDriver::Wordpress,
        AppDriver::Mediawiki,
        AppDriver::Php,
        AppDriver::Static,
        AppDriver::Command,
    ];

    #[test]
    fn every_path_that_a_site_writes_is_preserved() {
        for driver in ALL {
            for (docroot, dir) in [("", None), ("web", Some("shop")), ("a[b]*", None)] {
                let mut site = example(driver);
                site.docroot = RelPath::parse(docroot.as_bytes()).unwrap();
                site.dir = dir.map(str::to_owned);
                let rules = Preserve::parse(&preserve(driver, &site.docroot)).unwrap();
                for path in written_dirs(&site) {
                    assert!(rules.covers(&path).is_some(), "{driver:?} {path:?}");
                }
            }
        }
    }

    #[test]
    fn a_settings_file_of_the_source_stays_the_sources() {
        let none = Tree::of(&[]);
        let own = Tree::of(&[("wp-config.php", "<?php")]);
        let root = RelPath::root();
        let has = |tree: &Tree| {
            let rules = preserve_owned(AppDriver::Wordpress, &root, tree, &[]);
            rules.contains(&"/wp-config.php".to_owned())
        };
        assert!(has(&none));
        assert!(!has(&own));
        // Of several sites, each has its own.
        let dirs = ["a.example", "b.example"];
        let settings = |tree: &Tree| {
            let rules = preserve_owned(AppDriver::Drupal7, &root, tree, &dirs);
            let rules = rules.into_iter();
            let rules: Vec<String> = rules.filter(|it| it.ends_with("settings.php")).collect();
            rules
        };
        assert_eq!(settings(&none), ["/sites/*/settings.php"]);
        let one = Tree::of(&[("sites/a.example/settings.php", "<?php")]);
        assert_eq!(settings(&one), ["/sites/b.example/settings.php"]);
        let default = Tree::of(&[("sites/default/settings.php", "<?php")]);
        assert_eq!(settings(&default).len(), 2);
    }
}
