//! A site's address, and what becomes of its uploads.

use super::{ServerName, serde_as_text};
use std::fmt;
use std::str::FromStr;
use sync_proto::path::escape;
use thiserror::Error;

/// The longest host name that DNS allows, in bytes.
const MAX_HOST_BYTES: usize = 253;
/// The longest path of a site in a subdirectory, in bytes.
const MAX_PATH_BYTES: usize = 63;
/// The longest address, in bytes: it is part of file names, which end at 255, with what is put before
/// and behind it.
const MAX_BYTES: usize = 200;

/// Why some text is not a site's address.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error(
    "`{0}` is not a site: use a host name in lower case, such as `www.example.com`, or \
     `www.example.com/shop` for a site in a subdirectory; {MAX_BYTES} characters at most"
)]
pub struct SiteUriError(String);

/// A site's address: a host name in lower case and, for a site in a subdirectory, one path
/// component. Safe in file names, configuration files and SQL comments by construction.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SiteUri {
    text: Box<str>,
    host_bytes: usize,
}

impl SiteUri {
    /// As text: `www.example.com` or `www.example.com/shop`.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The host name.
    pub fn host(&self) -> &str {
        self.text.get(..self.host_bytes).unwrap_or_default()
    }

    /// The path component of a site in a subdirectory.
    pub fn subdirectory(&self) -> Option<&str> {
        self.text.get(self.host_bytes + 1..)
    }

    /// A name for files that is different for every site: `www.example.com` or
    /// `www.example.com+shop`.
    pub fn file_name(&self) -> String {
        self.text.replace('/', "+")
    }
}

/// Is this a host name in lower case, as a web server compares it?
fn is_host(text: &str) -> bool {
    let label = |label: &str| {
        let ends_well = |c: Option<char>| c.is_some_and(|c| c != '-');
        (1..=63).contains(&label.len())
            && label
                .chars()
                .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
            && ends_well(label.chars().next())
            && ends_well(label.chars().last())
    };
    text.len() <= MAX_HOST_BYTES && text.split('.').all(label)
}

impl FromStr for SiteUri {
    type Err = SiteUriError;
    fn from_str(text: &str) -> Result<Self, SiteUriError> {
        let error = || SiteUriError(escape(text.as_bytes()));
        let (host, path) = match text.split_once('/') {
            Some((host, path)) => (host, Some(path)),
            None => (text, None),
        };
        let is_path = |path: &str| {
            (1..=MAX_PATH_BYTES).contains(&path.len())
                && path
                    .chars()
                    .all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'))
        };
        if text.len() > MAX_BYTES || !is_host(host) || path.is_some_and(|path| !is_path(path)) {
            return Err(error());
        }
        Ok(Self {
            text: text.into(),
            host_bytes: host.len(),
        })
    }
}

impl fmt::Display for SiteUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.text)
    }
}

impl AsRef<str> for SiteUri {
    fn as_ref(&self) -> &str {
        &self.text
    }
}

// Equal addresses are equal text, so maps may be asked by text.
impl std::borrow::Borrow<str> for SiteUri {
    fn borrow(&self) -> &str {
        &self.text
    }
}

serde_as_text!(SiteUri, "pattern": "^[a-z0-9][a-z0-9.-]*(/[A-Za-z0-9_-]+)?$");

/// Why some text does not say what becomes of uploads.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("`{0}` says nothing about uploads: use `mount:/PATH`, `pin:SERVER` or `external`")]
pub struct UploadsError(String);

/// What becomes of files that visitors upload to a site on several members.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Uploads {
    /// They lie on a share that every member has mounted at this absolute path.
    Mount(super::AbsPath),
    /// Writes go to one member, whose files are fanned out.
    Pin(ServerName),
    /// The application keeps them elsewhere.
    External,
}

impl FromStr for Uploads {
    type Err = UploadsError;
    fn from_str(text: &str) -> Result<Self, UploadsError> {
        let error = || UploadsError(escape(text.as_bytes()));
        match text.split_once(':') {
            Some(("mount", path)) => path.parse().map(Self::Mount).map_err(|_| error()),
            Some(("pin", server)) => server.parse().map(Self::Pin).map_err(|_| error()),
            None if text == "external" => Ok(Self::External),
            _ => Err(error()),
        }
    }
}

impl fmt::Display for Uploads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mount(path) => write!(f, "mount:{}", path.as_str()),
            Self::Pin(server) => write!(f, "pin:{server}"),
            Self::External => f.write_str("external"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_site_is_a_host_and_perhaps_a_subdirectory() {
        let plain: SiteUri = "www.example.com".parse().unwrap();
        assert_eq!(
            (plain.host(), plain.subdirectory()),
            ("www.example.com", None)
        );
        let below: SiteUri = "example.com/shop".parse().unwrap();
        assert_eq!(below.host(), "example.com");
        assert_eq!(below.subdirectory(), Some("shop"));
        assert_eq!(below.file_name(), "example.com+shop");
    }

    #[test]
    fn nothing_that_could_break_out_of_a_configuration_file_is_a_site() {
        for bad in [
            "",
            "WWW.example.com",
            "a b",
            "a;b",
            "a{b",
            "a\nb",
            "a\"b",
            "a$b",
            "-a.example",
            "a..b",
            "a/b/c",
            "a/",
            "a/..",
            "*.example.com",
            "a:80",
        ] {
            assert!(bad.parse::<SiteUri>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_site_fits_into_a_file_name() {
        let host = [["a"; 63].concat(), ["b"; 63].concat(), ["c"; 63].concat()].join(".");
        assert!(
            format!("{host}/{}", "d".repeat(8))
                .parse::<SiteUri>()
                .is_ok()
        );
        assert!(
            format!("{host}/{}", "d".repeat(9))
                .parse::<SiteUri>()
                .is_err()
        );
        assert!(
            format!("{host}.{}", "d".repeat(60))
                .parse::<SiteUri>()
                .is_err()
        );
    }

    #[test]
    fn upload_policies_read_back_from_what_they_show() {
        for text in ["mount:/mnt/files", "pin:web1", "external"] {
            assert_eq!(text.parse::<Uploads>().unwrap().to_string(), text);
        }
        assert!("collect".parse::<Uploads>().is_err());
    }
}
