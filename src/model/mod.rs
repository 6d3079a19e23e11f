//! Plain domain types: names, addresses, policies, outcomes. No I/O, no clock.
//!
//! Every type here is made by parsing and can't hold an invalid value, so nothing below or beside
//! checks again. All text forms are what the inventory, the command line, JSON and the state
//! database use; there is one spelling per thing.

mod address;
mod choice;
mod count;
mod ids;
mod name;
mod path;
mod policy;
mod sealed;
mod seconds;
mod secret;
mod select;
mod site;
mod size;
mod who;

pub use address::{Address, AddressError, DEFAULT_PORT, SshDestination};
pub use choice::{
    AppKind, BalancerKind, BalancerTls, DbKind, DbVia, Layout, Offer, Outcome, ResyncMode, SiteTls,
    SpecialFile, Transport, UnknownChoice, UpdateMode, VerifyLevel, WebKind,
};
pub use count::{count, counted};
pub use ids::{IdError, Serial, TreeId};
pub use ipnet::IpNet;
pub use name::{BalancerName, ClusterName, Label, NameError, PlatformName, SecretName, ServerName};
pub use path::{AbsPath, AbsPathError};
pub use policy::{CommitPolicy, Mode, OwnerPolicy, PolicyError};
pub use sealed::Secret;
pub use seconds::{Seconds, SecondsError};
pub use secret::{SecretRef, SecretRefError};
pub use select::{Member, Selection, Selector, SelectorError};
pub use site::{SiteUri, SiteUriError, Uploads, UploadsError};
pub use size::{ByteSize, SizeError};
pub use who::Who;

/// Serde by way of `FromStr` and `Display`, and a JSON schema that says "a string".
macro_rules! serde_as_text {
    ($type:ident, $($schema:tt)*) => {
        impl serde::Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                to.collect_str(self)
            }
        }

        impl<'de> serde::Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                // A visitor, so that the deserializer knows which value the error is about.
                struct Text;
                impl serde::de::Visitor<'_> for Text {
                    type Value = $type;
                    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                        f.write_str("a string")
                    }
                    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<$type, E> {
                        text.parse().map_err(E::custom)
                    }
                }
                from.deserialize_str(Text)
            }
        }

        impl schemars::JsonSchema for $type {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($type).into()
            }
            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({ "type": "string", $($schema)* })
            }
        }
    };
}
pub(crate) use serde_as_text;
