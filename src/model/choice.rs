//! Settings and results that are one word out of a few.

use super::serde_as_text;
use std::fmt;
use std::str::FromStr;
use sync_proto::path::escape;
use thiserror::Error;

/// A word that is none of those on offer.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("`{found}` is not a {what}: use {choices}")]
pub struct UnknownChoice {
    what: &'static str,
    found: String,
    choices: String,
}

macro_rules! choice {
    ($(#[$doc:meta])* $type:ident, $what:literal {
        $($(#[$variant_doc:meta])* $variant:ident = $word:literal,)*
    }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum $type {
            $($(#[$variant_doc])* $variant,)*
        }

        impl $type {
            /// All of them, in order.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The word used in the inventory, on the command line, in JSON and in the database.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $word,)*
                }
            }
        }

        impl FromStr for $type {
            type Err = UnknownChoice;
            fn from_str(text: &str) -> Result<Self, UnknownChoice> {
                match text {
                    $($word => Ok(Self::$variant),)*
                    _ => Err(UnknownChoice {
                        what: $what,
                        found: escape(text.as_bytes()),
                        choices: [$(concat!("`", $word, "`"),)*].join(", "),
                    }),
                }
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.as_str())
            }
        }

        serde_as_text!($type, "enum": [$($word,)*]);
    };
}

choice!(
    /// How a tree lies on a member's disk.
    Layout, "layout" {
        /// Generations are complete directories beside the root; the root is a symbolic link.
        Switched = "switched",
        /// The root is a directory, changed entry by entry by a journal.
        InPlace = "in-place",
    }
);

choice!(
    /// What `resync` does about drift.
    ResyncMode, "resync mode" {
        /// Repair exactly what drifted.
        Repair = "repair",
        /// Report it and change nothing.
        Report = "report",
    }
);

choice!(
    /// How the hub reaches an agent.
    Transport, "transport" {
        /// QUIC, and over SSH where UDP doesn't get through.
        Auto = "auto",
        /// QUIC only.
        Quic = "quic",
        /// Over the system's ssh only.
        Ssh = "ssh",
    }
);

choice!(
    /// How closely a member looks at its tree.
    VerifyLevel, "verify level" {
        /// At its last commit record only.
        Index = "index",
        /// At every entry's stat, against its index.
        Stat = "stat",
        /// At every byte.
        Content = "content",
    }
);

choice!(
    /// A kind of work on a server's services that its administrator lets an agent do for a hub.
    Offer, "service to offer" {
        /// Configuration of the web server and of PHP-FPM.
        Web = "web",
        /// Accounts and databases of the local database server.
        Db = "db",
        /// Configuration and run-time control of the load balancer.
        Balancer = "balancer",
        /// Actions of an application, as its site's own user.
        App = "app",
        /// Installing what a role needs.
        Setup = "setup",
    }
);

choice!(
    /// The web server of a member.
    WebKind, "web server" {
        /// nginx without TLS.
        Nginx = "nginx",
        /// nginx with TLS.
        NginxSsl = "nginx_ssl",
        /// apache without TLS.
        Apache = "apache",
        /// apache with TLS.
        ApacheSsl = "apache_ssl",
    }
);

choice!(
    /// The kind of a database server.
    DbKind, "database server" {
        /// MariaDB or MySQL.
        Mysql = "mysql",
    }
);

choice!(
    /// How the hub reaches a database server.
    DbVia, "way to a database server" {
        /// Over TCP, from the hub.
        Tcp = "tcp",
        /// Through the agent on its machine.
        Agent = "agent",
    }
);

choice!(
    /// The kind of a load balancer.
    BalancerKind, "balancer" {
        /// HAProxy, rendered and driven at run time.
        Haproxy = "haproxy",
        /// nginx with upstreams.
        Nginx = "nginx",
        /// Somebody else's: members are drained by their health endpoint.
        External = "external",
    }
);

choice!(
    /// Where TLS ends.
    BalancerTls, "TLS mode of a balancer" {
        /// At the balancer.
        Terminate = "terminate",
        /// At the members.
        Passthrough = "passthrough",
    }
);

choice!(
    /// Whether a site is served over TLS.
    SiteTls, "TLS mode of a site" {
        /// Without TLS.
        Off = "off",
        /// With and without.
        Optional = "optional",
        /// With TLS only; plain requests are redirected.
        Required = "required",
    }
);

choice!(
    /// The application that a platform is.
    AppKind, "application" {
        /// Drupal 7, or 8 and later: told apart by its files.
        Drupal = "drupal",
        /// WordPress.
        Wordpress = "wordpress",
        /// MediaWiki.
        Mediawiki = "mediawiki",
        /// PHP without an installer.
        Php = "php",
        /// Files only.
        Static = "static",
        /// Anything else, through commands that the member's administrator named.
        Command = "command",
    }
);

choice!(
    /// What a push does about pending schema updates of its sites.
    UpdateMode, "update mode" {
        /// Maintenance pages, switch, update once, open again.
        Maintenance = "maintenance",
        /// Update with the new code before the switch: the old code must cope with the new schema.
        Expand = "expand",
        /// Switch, then update.
        After = "after",
        /// No update now.
        None = "none",
    }
);

choice!(
    /// What became of one member in a task.
    Outcome, "outcome" {
        /// It is at the new generation.
        Committed = "committed",
        /// It was there already.
        UpToDate = "up-to-date",
        /// It was ready, and the task was called off: it is as before.
        Aborted = "aborted",
        /// It could not take part: it is as before.
        Failed = "failed",
        /// It is not at the desired generation.
        Stale = "stale",
        /// It voted, and then contact or its disk was lost: it settles before it serves again.
        InDoubt = "in-doubt",
    }
);

choice!(
    /// Entries that a tree holds only where its platform allows them.
    SpecialFile, "kind of special file" {
        /// Set-user-id and set-group-id bits on regular files.
        Setuid = "setuid",
        /// Block and character devices.
        Devices = "devices",
        /// Named pipes and sockets.
        Fifos = "fifos",
    }
);

impl WebKind {
    /// It can serve TLS.
    pub const fn has_tls(self) -> bool {
        matches!(self, Self::NginxSsl | Self::ApacheSsl)
    }
}

impl Outcome {
    /// The member is at the generation that the task wanted.
    pub const fn is_good(self) -> bool {
        matches!(self, Self::Committed | Self::UpToDate)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_choice_reads_back_from_its_word() {
        assert!(Layout::ALL.iter().all(|c| c.as_str().parse() == Ok(*c)));
        assert!(ResyncMode::ALL.iter().all(|c| c.as_str().parse() == Ok(*c)));
        assert!(Transport::ALL.iter().all(|c| c.as_str().parse() == Ok(*c)));
        assert!(
            VerifyLevel::ALL
                .iter()
                .all(|c| c.as_str().parse() == Ok(*c))
        );
        assert!(Outcome::ALL.iter().all(|c| c.as_str().parse() == Ok(*c)));
        assert!(
            SpecialFile::ALL
                .iter()
                .all(|c| c.as_str().parse() == Ok(*c))
        );
    }

    #[test]
    fn json_uses_the_same_words() {
        let json = serde_json::to_string(&[Outcome::UpToDate, Outcome::InDoubt]).unwrap();
        assert_eq!(json, r#"["up-to-date","in-doubt"]"#);
        let back: Vec<Outcome> = serde_json::from_str(&json).unwrap();
        assert_eq!(back, [Outcome::UpToDate, Outcome::InDoubt]);
    }

    #[test]
    fn an_unknown_word_is_answered_with_the_known_ones() {
        assert_eq!(
            "inplace".parse::<Layout>().unwrap_err().to_string(),
            "`inplace` is not a layout: use `switched`, `in-place`"
        );
    }
}
