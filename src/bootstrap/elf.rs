//! What an ELF executable needs of the C library, read from its own version table.
//!
//! Owns as much of the format as that takes (System V ABI; "Linux Standard Base Core
//! Specification", symbol versioning): 64-bit little-endian files with a section table, which is
//! every Linux target that we build for. Anything else is "unknown", never an error.

use super::probe::LibcVersion;

const MAGIC: &[u8] = b"\x7fELF";
const CLASS_64: u8 = 2;
const LITTLE_ENDIAN: u8 = 1;
/// `SHT_GNU_verneed`
const SECTION_OF_VERSION_NEEDS: u32 = 0x6fff_fffe;

/// The newest version of glibc that any symbol of the executable asks for; `None` if it asks for
/// none, as a static one, or if this is no such file.
pub(super) fn glibc_needed(file: &[u8]) -> Option<LibcVersion> {
    let is_ours = file.starts_with(MAGIC)
        && file.get(4) == Some(&CLASS_64)
        && file.get(5) == Some(&LITTLE_ENDIAN);
    if !is_ours {
        return None;
    }
    let table = usize_at(file, 40)?;
    let size = usize::from(u16_at(file, 58)?);
    let count = usize::from(u16_at(file, 60)?);
    let section = |index: usize| file.get(table.checked_add(index.checked_mul(size)?)?..);
    let needs = (0..count)
        .filter_map(section)
        .find(|header| u32_at(header, 4) == Some(SECTION_OF_VERSION_NEEDS))?;
    let content = |header: &[u8]| {
        let start = usize_at(header, 24)?;
        file.get(start..start.checked_add(usize_at(header, 32)?)?)
    };
    let names = content(section(u32_at(needs, 40)? as usize)?)?;
    versions(content(needs)?, u32_at(needs, 44)?, names)
        .filter_map(|name| std::str::from_utf8(name).ok()?.strip_prefix("GLIBC_"))
        .filter_map(|version| version.parse().ok())
        .max()
}

/// The names of all versions in the table: a chain of libraries, each with a chain of versions.
fn versions<'a>(
    table: &'a [u8],
    libraries: u32,
    names: &'a [u8],
) -> impl Iterator<Item = &'a [u8]> {
    let mut found = Vec::new();
    let mut library = Some(table);
    for _ in 0..libraries {
        let Some(entry) = library else { break };
        let mut version = follow(entry, 8);
        for _ in 0..u16_at(entry, 2).unwrap_or(0) {
            let Some(aux) = version else { break };
            found.extend(u32_at(aux, 8).and_then(|at| text_at(names, at as usize)));
            version = follow(aux, 12);
        }
        library = follow(entry, 12);
    }
    found.into_iter()
}

/// What the offset at `at` leads to, counted from the entry itself; zero ends a chain.
fn follow(entry: &[u8], at: usize) -> Option<&[u8]> {
    match u32_at(entry, at)? {
        0 => None,
        offset => entry.get(offset as usize..),
    }
}

fn text_at(names: &[u8], at: usize) -> Option<&[u8]> {
    names.get(at..)?.split(|&byte| byte == 0).next()
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn usize_at(bytes: &[u8], at: usize) -> Option<usize> {
    u64::from_le_bytes(*bytes.get(at..)?.first_chunk()?)
        .try_into()
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_very_program_says_what_it_needs() {
        let path = std::env::current_exe().unwrap();
        let file = std::fs::read(path).unwrap();
        let needed = glibc_needed(&file);
        if cfg!(all(target_env = "gnu", target_pointer_width = "64")) {
            let needed = needed.expect("a dynamic executable");
            // It runs here, so it can't need more than the newest there is.
            assert!(needed >= "2.2.5".parse().unwrap(), "{needed}");
            assert!(needed < "3.0".parse().unwrap(), "{needed}");
        }
    }

    #[test]
    fn no_cut_or_scribbled_file_is_more_than_unknown() {
        let path = std::env::current_exe().unwrap();
        let file = std::fs::read(path).unwrap();
        for end in [0, 3, 5, 41, 60, 64, 4096, file.len() / 2] {
            assert_eq!(glibc_needed(&file[..end]), None, "{end}");
        }
        let mut scribbled = file[..64].to_vec();
        scribbled.resize(4096, 0xff);
        assert_eq!(glibc_needed(&scribbled), None);
        scribbled[40..48].copy_from_slice(&64_u64.to_le_bytes());
        assert_eq!(glibc_needed(&scribbled), None);
        assert_eq!(glibc_needed(b"#!/bin/sh\n"), None);
    }
}
