//! How an agent and a hub meet: a token that a person carries from one to the other.
//!
//! Format, version 1: `fanout1-` and lower-case base32 (RFC 4648, no padding) of
//!
//! | bytes | what |
//! |---|---|
//! | 32 | the agent's key: the hub pins it, so no other machine can answer |
//! | 32 | the seed of a one-time key: the agent accepts it once, until it expires |
//! | 2 | the agent's UDP port, big endian; 0 if it isn't said |
//! | 4 | the first bytes of the BLAKE3 of all before: typing errors, not attacks |
//!
//! The agent keeps the public half only, as a [`JoinGrant`]. Who holds the token *is* the hub until
//! then, so its text appears in no `Debug` output and no error.

use std::{
    fmt,
    time::{Duration, SystemTime},
};

use data_encoding::BASE32_NOPAD;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::{
    identity::{Identity, IdentityError, random_seed},
    key::NodeKey,
};

const PREFIX: &str = "fanout1-";
const BODY_BYTES: usize = 32 + 32 + 2;
const CHECK_BYTES: usize = 4;

/// How long a token is good if nobody says otherwise.
pub const LIFETIME: Duration = Duration::from_secs(3600);

/// A token, to be shown to a person exactly once.
#[derive(Clone)]
pub struct Token {
    text: String,
}

/// What the agent remembers of a token. Contains no secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct JoinGrant {
    /// The one-time key.
    pub key: NodeKey,
    /// When it ends, in seconds since 1970.
    pub expires_unix_s: u64,
}

/// What the hub reads from a token.
#[derive(Debug, Clone)]
pub struct Invitation {
    /// The agent; no other peer will do.
    pub agent: NodeKey,
    /// Its UDP port, if the token says so.
    pub port: Option<u16>,
    /// The one-time identity to connect with.
    pub identity: Identity,
}

/// Why a text is not a token. Says nothing of its content.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum TokenError {
    /// It begins with something else.
    #[error("A token begins with {PREFIX:?}")]
    Prefix,
    /// It was made by a later fanout.
    #[error("This token has a format that this version doesn't know")]
    Version,
    /// Cut off, or mistyped.
    #[error("The token is damaged: copy it again, all of it")]
    Damaged,
    /// The seed gave no key, or there was no randomness to make one.
    #[error("The token's key could not be used")]
    Key(#[from] IdentityError),
}

impl Token {
    /// Makes a token for `agent`, which listens on `port`, and the grant that the agent keeps.
    pub fn mint(
        agent: NodeKey,
        port: Option<u16>,
        lifetime: Duration,
    ) -> Result<(Self, JoinGrant), TokenError> {
        let seed = random_seed()?;
        let once = Identity::from_seed(&seed)?;
        let mut bytes = Vec::with_capacity(BODY_BYTES + CHECK_BYTES);
        bytes.extend_from_slice(agent.as_bytes());
        bytes.extend_from_slice(&seed);
        bytes.extend_from_slice(&port.unwrap_or(0).to_be_bytes());
        bytes.extend_from_slice(&checksum(&bytes));
        let text = format!(
            "{PREFIX}{}",
            BASE32_NOPAD.encode(&bytes).to_ascii_lowercase()
        );
        Ok((
            Self { text },
            JoinGrant::until(once.key(), SystemTime::now() + lifetime),
        ))
    }

    /// The secret text.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Reads a token. White space around and within it, and capitals, are forgiven.
    pub fn parse(text: &str) -> Result<Invitation, TokenError> {
        // LIMIT: a token has 120 characters; line breaks of a terminal may add some.
        if text.len() > 1024 {
            return Err(TokenError::Damaged);
        }
        let text: String = text
            .split_whitespace()
            .collect::<String>()
            .to_ascii_lowercase();
        let Some(body) = text.strip_prefix(PREFIX) else {
            let later = text
                .strip_prefix("fanout")
                .and_then(|rest| rest.split_once('-'));
            let is_later = later.is_some_and(|(version, _)| version.parse::<u32>().is_ok());
            return Err(if is_later {
                TokenError::Version
            } else {
                TokenError::Prefix
            });
        };
        let bytes = BASE32_NOPAD
            .decode(body.to_ascii_uppercase().as_bytes())
            .map_err(|_| TokenError::Damaged)?;
        let (body, check) = bytes
            .split_at_checked(BODY_BYTES)
            .ok_or(TokenError::Damaged)?;
        if check != checksum(body) {
            return Err(TokenError::Damaged);
        }
        let (Some((agent, rest)), port) = (body.split_first_chunk::<32>(), &body[64..]) else {
            return Err(TokenError::Damaged);
        };
        let seed = rest.first_chunk::<32>().ok_or(TokenError::Damaged)?;
        let port = port
            .try_into()
            .map(u16::from_be_bytes)
            .map_err(|_| TokenError::Damaged)?;
        Ok(Invitation {
            agent: NodeKey::from_bytes(*agent),
            port: (port != 0).then_some(port),
            identity: Identity::from_seed(seed)?,
        })
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(secret)")
    }
}

impl JoinGrant {
    /// A grant for `key` that ends at `end`.
    pub fn until(key: NodeKey, end: SystemTime) -> Self {
        let since = end
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default();
        // Rounded up: a token never lives shorter than was said.
        Self {
            key,
            expires_unix_s: since.as_secs() + u64::from(since.subsec_nanos() > 0),
        }
    }

    /// When the grant ends. A time beyond what the system can express is the beginning of time.
    pub fn expires(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH
            .checked_add(Duration::from_secs(self.expires_unix_s))
            .unwrap_or(SystemTime::UNIX_EPOCH)
    }
}

fn checksum(bytes: &[u8]) -> [u8; CHECK_BYTES] {
    let digest = blake3::hash(bytes);
    let mut check = [0; CHECK_BYTES];
    check.copy_from_slice(&digest.as_bytes()[..CHECK_BYTES]);
    check
}

#[cfg(test)]
mod tests {
    use super::*;

    fn minted() -> (NodeKey, Token, JoinGrant) {
        let agent = Identity::generate().unwrap().key();
        let (token, grant) = Token::mint(agent, Some(4433), LIFETIME).unwrap();
        (agent, token, grant)
    }

    #[test]
    fn a_token_carries_the_agents_key_and_a_usable_identity() {
        let (agent, token, grant) = minted();
        let read = Token::parse(token.text()).unwrap();
        assert_eq!((read.agent, read.port), (agent, Some(4433)));
        assert_eq!(read.identity.key(), grant.key);
        assert_eq!(token.text().len(), 120);
        let folded = format!(" {}\n  {}\n", &token.text()[..50], &token.text()[50..]);
        assert_eq!(
            Token::parse(&folded.to_uppercase()).unwrap().identity.key(),
            grant.key
        );
    }

    #[test]
    fn every_changed_or_missing_character_is_noticed() {
        let (_, token, _) = minted();
        let text = token.text();
        for at in 0..text.len() {
            let other = if text.as_bytes()[at] == b'b' {
                "c"
            } else {
                "b"
            };
            let changed = format!("{}{other}{}", &text[..at], &text[at + 1..]);
            assert!(Token::parse(&changed).is_err(), "a change at {at} passed");
            assert!(Token::parse(&text[..at]).is_err(), "{at} characters passed");
        }
        assert!(matches!(
            Token::parse("fanout2-abc"),
            Err(TokenError::Version)
        ));
        assert!(matches!(Token::parse("hello"), Err(TokenError::Prefix)));
    }

    #[test]
    fn neither_side_of_a_token_shows_its_secret() {
        let (_, token, grant) = minted();
        let read = Token::parse(token.text()).unwrap();
        let seed = &token.text()[PREFIX.len() + 52..PREFIX.len() + 90];
        for shown in [
            format!("{token:?}"),
            format!("{read:?}"),
            format!("{grant:?}"),
        ] {
            assert!(!shown.contains(seed), "{shown}");
        }
    }
}
