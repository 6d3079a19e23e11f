//! Password files of basic authentication, as nginx and apache both read them.
//!
//! SHA-512 crypt with a salt that follows from the password itself and its site: the same secret
//! gives the same file on every member and in every plan, and two sites with one password don't
//! show it.

use super::RenderError;
use super::text::Plain;
use crate::model::SiteUri;
use sha2::{Digest as _, Sha512};
use std::fmt::Write as _;
use sync_proto::digest::Digest;

/// The fewest that the format allows: every request pays for them.
const ROUNDS: usize = 1000;
const ALPHABET: &[u8; 64] = b"./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// The password file of a site from lines `USER:PASSWORD`. A password that is hashed already (it
/// begins with `$` or `{`) is taken as it is.
///
/// # Errors
/// A line that isn't of that form. The line is never repeated.
pub fn passwords(uri: &SiteUri, lines: &str) -> Result<Vec<u8>, RenderError> {
    let mut file = String::new();
    for line in lines.lines().filter(|line| !line.trim().is_empty()) {
        let pair = line
            .split_once(':')
            .filter(|(_, password)| !password.is_empty());
        let Some((user, password)) = pair else {
            return Err(RenderError::Template {
                name: format!("auth of {uri}"),
                detail: "a line isn't of the form USER:PASSWORD".into(),
            });
        };
        let user = Plain::parse("the user", user).map_err(|source| RenderError::Text {
            site: uri.to_string(),
            source,
        })?;
        let hashed = match password.starts_with(['$', '{']) {
            true => password.to_owned(),
            false => crypt(password.as_bytes(), &salt(uri, user.as_str(), password)),
        };
        // Writing into a string can't fail.
        let _infallible = writeln!(file, "{user}:{hashed}");
    }
    Ok(file.into_bytes())
}

fn salt(uri: &SiteUri, user: &str, password: &str) -> String {
    let hash = Digest::of(format!("fanout basic auth\0{uri}\0{user}\0{password}").as_bytes());
    let characters = hash.as_bytes().iter().take(16);
    characters
        .map(|byte| char::from(ALPHABET[usize::from(byte & 63)]))
        .collect()
}

/// SHA-512 crypt, as Drepper specified it.
fn crypt(password: &[u8], salt: &str) -> String {
    let salt_bytes = salt.as_bytes();
    let sum = |parts: &[&[u8]]| {
        let mut hash = Sha512::new();
        for part in parts {
            hash.update(part);
        }
        <[u8; 64]>::from(hash.finalize())
    };
    let repeated = |block: &[u8; 64], length: usize| -> Vec<u8> {
        block.iter().copied().cycle().take(length).collect()
    };
    let other = sum(&[password, salt_bytes, password]);
    let mut first = Sha512::new();
    first.update(password);
    first.update(salt_bytes);
    first.update(repeated(&other, password.len()));
    let mut bits = password.len();
    while bits > 0 {
        match bits & 1 {
            1 => first.update(other),
            _ => first.update(password),
        }
        bits >>= 1;
    }
    let mut result = <[u8; 64]>::from(first.finalize());
    let passwords = sum(&vec![password; password.len()]);
    let passwords = repeated(&passwords, password.len());
    let salts = sum(&vec![salt_bytes; 16 + usize::from(result[0])]);
    let salts = repeated(&salts, salt_bytes.len());
    for round in 0..ROUNDS {
        let mut hash = Sha512::new();
        let odd = round % 2 == 1;
        match odd {
            true => hash.update(&passwords),
            false => hash.update(result),
        }
        if round % 3 != 0 {
            hash.update(&salts);
        }
        if round % 7 != 0 {
            hash.update(&passwords);
        }
        match odd {
            true => hash.update(result),
            false => hash.update(&passwords),
        }
        result = hash.finalize().into();
    }
    format!("$6$rounds={ROUNDS}${salt}${}", encoded(&result))
}

fn encoded(result: &[u8; 64]) -> String {
    let mut text = String::new();
    let mut push = |mut bits: u32, count: usize| {
        for _ in 0..count {
            text.push(char::from(ALPHABET[(bits & 63) as usize]));
            bits >>= 6;
        }
    };
    let (mut a, mut b, mut c) = (0, 21, 42);
    for _ in 0..21 {
        let byte = |index: usize| u32::from(result[index]);
        push(byte(a) << 16 | byte(b) << 8 | byte(c), 4);
        (a, b, c) = (b + 1, c + 1, a + 1);
    }
    push(u32::from(result[63]), 2);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_those_of_the_specification() {
        // From the test vectors of the specification, with the fewest rounds (10 become 1000).
        assert_eq!(
            crypt(b"the minimum number is still observed", "roundstoolow"),
            "$6$rounds=1000$roundstoolow$kUMsbe306n21p9R.FRkW3IGn.S9NPN0x50YhH1xhLsPuWGsUSklZt58jaTfF4ZEQpyUNGc0dqbpBYYBaHHrsX."
        );
    }

    #[test]
    fn the_same_secret_gives_the_same_file_and_other_sites_another() {
        let uri: SiteUri = "a.example".parse().unwrap();
        let file = passwords(&uri, "ann:secret\n\nbob:$apr1$x$y\n").unwrap();
        assert_eq!(
            file,
            passwords(&uri, "ann:secret\n\nbob:$apr1$x$y\n").unwrap()
        );
        assert_ne!(
            file,
            passwords(&"b.example".parse().unwrap(), "ann:secret\n").unwrap()
        );
        let text = String::from_utf8(file).unwrap();
        assert!(
            !text.contains("secret") && text.contains("bob:$apr1$x$y\n"),
            "{text}"
        );
    }

    #[test]
    fn a_line_without_a_password_is_refused_and_not_repeated() {
        let uri: SiteUri = "a.example".parse().unwrap();
        for bad in ["hunter2", "ann:"] {
            let error = passwords(&uri, bad).unwrap_err().to_string();
            assert!(
                !error.contains("hunter2") && !error.contains("ann"),
                "{error}"
            );
        }
    }
}
