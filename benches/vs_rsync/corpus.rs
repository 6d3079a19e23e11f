//! What is transferred, the same on every machine and in every run, and how it changes.

use anyhow::{Context, Result};
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

const SEED: u64 = 42;
const EDITS: usize = 64;
const EDIT_BYTES: usize = 100;
const INSERT_BYTES: usize = 1_000;
const FILES_PER_DIRECTORY: usize = 100;
const MIB: u64 = 1 << 20;
/// Of a sparse file: so much of it begins with so many bytes of data.
const STRETCH_MIB: usize = 64;
const DATA_BYTES: usize = 4 << 20;

/// A tree to transfer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Corpus {
    /// The generated platform of `fanout demo`, of so many files.
    Platform { files: usize },
    /// Debian's package of this name.
    Debian(&'static str),
    /// One file of incompressible bytes.
    Large { mib: u64 },
    /// Very many very small files.
    Many { files: usize },
    /// So many very small files in one directory.
    Flat { files: usize },
    /// One file with holes: four MiB of incompressible bytes in every 64.
    Sparse { mib: u64 },
}

impl Corpus {
    /// Writes it to `at`, which doesn't exist.
    pub(crate) fn write(self, at: &Path) -> Result<()> {
        match self {
            Self::Platform { files } => {
                fanout::cli::demo::corpus::generated_platform(at, files, SEED)?;
                Ok(())
            }
            Self::Debian(name) => crate::debian::copy(name, at),
            Self::Large { mib } => {
                fs::create_dir(at)?;
                large(&at.join("image.bin"), mib)
            }
            Self::Many { files } => many(at, files, FILES_PER_DIRECTORY),
            Self::Flat { files } => many(at, files, files),
            Self::Sparse { mib } => {
                fs::create_dir(at)?;
                sparse(&at.join("image.bin"), mib)
            }
        }
    }

    /// Changes it: a release of about five files of a hundred, or scattered edits and an insert.
    pub(crate) fn change(self, at: &Path, round: u64) -> Result<()> {
        match self {
            Self::Large { .. } => edit(&at.join("image.bin"), SEED + round),
            Self::Sparse { mib } => edit_in_place(&at.join("image.bin"), mib, SEED + round),
            _ => {
                fanout::cli::demo::release::next_release(at, SEED + round)?;
                Ok(())
            }
        }
    }

    /// In words.
    pub(crate) fn describe(self) -> String {
        match self {
            Self::Platform { files } => format!("generated platform, {files} files"),
            Self::Debian(name) => format!("Debian's {name}"),
            Self::Large { mib } => format!("one file of {mib} MiB"),
            Self::Many { files } => format!("{files} files of 200 to 900 bytes"),
            Self::Flat { files } => format!("{files} such files in one directory"),
            Self::Sparse { mib } => format!("one file of {mib} MiB, a sixteenth of it data"),
        }
    }
}

/// xorshift64*.
struct Random(u64);

impl Random {
    fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, limit: usize) -> usize {
        ((self.next() >> 16) % limit.max(1) as u64) as usize
    }

    fn bytes(&mut self, count: usize) -> Vec<u8> {
        let words = count.div_ceil(8);
        let mut bytes: Vec<u8> = (0..words).flat_map(|_| self.next().to_le_bytes()).collect();
        bytes.truncate(count);
        bytes
    }
}

fn large(path: &Path, mib: u64) -> Result<()> {
    let mut random = Random::new(SEED);
    let mut file = File::create(path)?;
    for _ in 0..mib {
        file.write_all(&random.bytes(1024 * 1024))?;
    }
    Ok(())
}

/// Writes the next version under another name and renames it, as programs that save do.
fn edit(path: &Path, seed: u64) -> Result<()> {
    let mut random = Random::new(seed);
    let mut content = fs::read(path).context("read the large file")?;
    for _ in 0..EDITS {
        let at = random.below(content.len() - EDIT_BYTES);
        content[at..at + EDIT_BYTES].copy_from_slice(&random.bytes(EDIT_BYTES));
    }
    let at = random.below(content.len());
    let next = path.with_extension("new");
    let mut file = File::create(&next)?;
    file.write_all(&content[..at])?;
    file.write_all(&random.bytes(INSERT_BYTES))?;
    file.write_all(&content[at..])?;
    Ok(fs::rename(next, path)?)
}

/// The first bytes of every stretch of it are data, the rest are holes.
fn sparse(path: &Path, mib: u64) -> Result<()> {
    let mut random = Random::new(SEED);
    let file = File::create(path)?;
    file.set_len(mib * MIB)?;
    for start in (0..mib).step_by(STRETCH_MIB) {
        file.write_all_at(&random.bytes(DATA_BYTES), start * MIB)?;
    }
    Ok(())
}

/// Edits of the same length at places that hold data; an insert would have to write all of it.
fn edit_in_place(path: &Path, mib: u64, seed: u64) -> Result<()> {
    let mut random = Random::new(seed);
    let file = File::options().write(true).open(path)?;
    for _ in 0..EDITS {
        let stretch = random.below(mib as usize / STRETCH_MIB) * STRETCH_MIB;
        let at = random.below(DATA_BYTES - EDIT_BYTES) as u64;
        file.write_all_at(&random.bytes(EDIT_BYTES), stretch as u64 * MIB + at)?;
    }
    Ok(())
}

fn many(at: &Path, files: usize, in_directory: usize) -> Result<()> {
    let mut random = Random::new(SEED);
    let stock = random.bytes(64 * 1024);
    fs::create_dir(at)?;
    for number in 0..files {
        let directory = number / in_directory;
        let parent = at.join(format!("d{:03}/d{directory:05}", directory / 100));
        if number % in_directory == 0 {
            fs::create_dir_all(&parent)?;
        }
        let (from, length) = (random.below(60_000), 200 + random.below(700));
        let name = parent.join(format!("file{number:07}"));
        fs::write(name, &stock[from..from + length])?;
    }
    Ok(())
}
