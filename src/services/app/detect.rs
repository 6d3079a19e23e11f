//! Which application a tree is, in which version, and where its documents begin: by files that
//! only it has, read and never run.

use super::AppDriver;
use sync_proto::path::RelPath;

/// Bytes of a file that a version is looked for in.
const READ_BYTES: usize = 64 * 1024;
/// Where documents begin in the trees that people publish, relative to the root.
const DOCROOTS: [&str; 7] = [
    "",
    "web",
    "docroot",
    "html",
    "public",
    "public_html",
    "htdocs",
];

/// A tree that can be looked into.
pub trait Files {
    /// The beginning of the regular file at this path, at most so many bytes; `None` if there is no
    /// such file.
    fn head(&self, path: &str, limit_bytes: usize) -> Option<Vec<u8>>;
}

/// What a tree is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Detected {
    /// How it is handled.
    pub driver: AppDriver,
    /// Its version, where the application says one; else empty.
    pub version: String,
    /// Where its documents begin.
    pub docroot: RelPath,
}

/// The application that a tree is; `None` for one without anything to serve.
pub fn detect(files: &dyn Files) -> Option<Detected> {
    let at = |driver: AppDriver, docroot: &str, version: String| {
        Some(Detected {
            driver,
            version,
            docroot: RelPath::parse(docroot.as_bytes()).ok()?,
        })
    };
    for docroot in DOCROOTS {
        for driver in [
            AppDriver::Wordpress,
            AppDriver::Drupal,
            AppDriver::Drupal7,
            AppDriver::Mediawiki,
        ] {
            if let Some(version) = version(driver, docroot, files) {
                return at(driver, docroot, version);
            }
        }
    }
    for (file, driver) in [
        ("index.php", AppDriver::Php),
        ("index.html", AppDriver::Static),
    ] {
        for docroot in DOCROOTS {
            if files.head(&below(docroot, file), 1).is_some() {
                return at(driver, docroot, String::new());
            }
        }
    }
    None
}

/// The version that an application's code says it has, if it is that application.
pub fn version(driver: AppDriver, docroot: &str, files: &dyn Files) -> Option<String> {
    let (file, before) = match driver {
        AppDriver::Wordpress => ("wp-includes/version.php", "$wp_version = "),
        AppDriver::Drupal => ("core/lib/Drupal.php", "const VERSION = "),
        AppDriver::Drupal7 => ("includes/bootstrap.inc", "define('VERSION', "),
        AppDriver::Mediawiki => ("includes/Defines.php", "define( 'MW_VERSION', "),
        AppDriver::Php | AppDriver::Static | AppDriver::Command => return None,
    };
    let text = files.head(&below(docroot, file), READ_BYTES)?;
    let text = String::from_utf8_lossy(&text);
    let quoted = text.split_once(before)?.1;
    let quote = quoted.chars().next().filter(|c| matches!(c, '\'' | '"'))?;
    let version = quoted.get(1..)?.split(quote).next()?;
    let is_version = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '+');
    (!version.is_empty() && version.len() < 32 && version.chars().all(is_version))
        .then(|| version.to_owned())
}

pub(super) fn below(docroot: &str, path: &str) -> String {
    match docroot {
        "" => path.to_owned(),
        docroot => format!("{docroot}/{path}"),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use std::collections::BTreeMap;

    pub(crate) struct Tree(pub(crate) BTreeMap<String, String>);

    impl Tree {
        pub(crate) fn of(files: &[(&str, &str)]) -> Self {
            let own = |(path, text): &(&str, &str)| ((*path).to_owned(), (*text).to_owned());
            Self(files.iter().map(own).collect())
        }
    }

    impl Files for Tree {
        fn head(&self, path: &str, limit_bytes: usize) -> Option<Vec<u8>> {
            let text = self.0.get(path)?.as_bytes();
            Some(text[..text.len().min(limit_bytes)].to_vec())
        }
    }

    fn found(files: &[(&str, &str)]) -> Option<(AppDriver, String, String)> {
        let it = detect(&Tree::of(files))?;
        let docroot = String::from_utf8_lossy(it.docroot.as_bytes()).into_owned();
        Some((it.driver, it.version, docroot))
    }

    #[test]
    fn applications_are_told_by_files_that_only_they_have() {
        let of = |driver, version: &str, docroot: &str| {
            Some((driver, version.to_owned(), docroot.to_owned()))
        };
        assert_eq!(
            found(&[("wp-includes/version.php", "<?php\n$wp_version = '6.1.9';\n")]),
            of(AppDriver::Wordpress, "6.1.9", "")
        );
        assert_eq!(
            found(&[(
                "web/core/lib/Drupal.php",
                "class Drupal {\n  const VERSION = '10.2.0-dev';"
            )]),
            of(AppDriver::Drupal, "10.2.0-dev", "web")
        );
        assert_eq!(
            found(&[("includes/bootstrap.inc", "define('VERSION', '7.105');")]),
            of(AppDriver::Drupal7, "7.105", "")
        );
        assert_eq!(
            found(&[("includes/Defines.php", "define( 'MW_VERSION', '1.39.17' );")]),
            of(AppDriver::Mediawiki, "1.39.17", "")
        );
        assert_eq!(
            found(&[("public/index.php", "<?php")]),
            of(AppDriver::Php, "", "public")
        );
        assert_eq!(found(&[("index.html", "")]), of(AppDriver::Static, "", ""));
        assert_eq!(found(&[("README", "")]), None);
    }

    #[test]
    fn what_only_looks_like_a_version_is_none() {
        for text in [
            "$wp_version = ''",
            "$wp_version = '6.1'.$x",
            "$wp_version = \"<script>\"",
            "$wp_version = x",
        ] {
            let tree = Tree::of(&[("wp-includes/version.php", text)]);
            let version = version(AppDriver::Wordpress, "", &tree);
            assert!(
                version.is_none() || version.as_deref() == Some("6.1"),
                "{text}"
            );
        }
    }
}
