//! What nothing can be faster than: bare loops over the same tree on the same disks, one thread.

use crate::ground::{Ground, GroundSpec};
use crate::meter::Values;
use crate::race::Row;
use crate::sandbox::Sandbox;
use anyhow::{Context, Result};
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Timestamps, futimens, mkdirat, openat};
use rustix::fs::{renameat, statat};
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Instant;

/// What is read at a time: fits into the cache of a core.
const PIECE_BYTES: usize = 1 << 20;

/// Measures all loops.
pub(crate) fn run(sandbox: &Sandbox, spec: &GroundSpec, rounds: usize) -> Result<Vec<Row>> {
    let mut ground = Ground::new(sandbox, spec.clone())?;
    let mut rows: Vec<Row> = ["bare: stat walk", "bare: read", "bare: read, BLAKE3"]
        .into_iter()
        .chain([
            "bare: create, write, utimens",
            "bare: the same, temporary name",
        ])
        .map(|side| Row {
            side: side.to_owned(),
            runs: Vec::new(),
            too_slow: false,
        })
        .collect();
    for _ in 0..rounds {
        let source = ground.source();
        rows[0]
            .runs
            .push(timed(|| walk(&source, None, &mut |_, _, _| Ok(())))?);
        let mut buffer = vec![0; PIECE_BYTES];
        rows[1].runs.push(timed(|| {
            walk(&source, None, &mut |dir, name, _| {
                read(dir, name, &mut buffer, &mut |_| Ok(()))
            })
        })?);
        rows[2].runs.push(timed(|| {
            walk(&source, None, &mut |dir, name, _| {
                let mut hasher = blake3::Hasher::new();
                read(dir, name, &mut buffer, &mut |piece| {
                    hasher.update(piece);
                    Ok(())
                })?;
                std::hint::black_box(hasher.finalize());
                Ok(())
            })
        })?);
        for (row, scratch) in [(3, None), (4, Some(c".scratch"))] {
            ground.renew_disks()?;
            let to = ground.member_dir(1).join("bare");
            fs::create_dir(&to)?;
            rows[row].runs.push(timed(|| {
                walk(&source, Some(&to), &mut |dir, name, to| {
                    copy((dir, to.context("a target")?), name, scratch, &mut buffer)
                })
            })?);
        }
    }
    Ok(rows)
}

fn timed(act: impl FnOnce() -> Result<u64>) -> Result<Values> {
    let (start, cpu) = (Instant::now(), cpu_s()?);
    let files = act()?;
    let (wall, cpu) = (start.elapsed().as_secs_f64(), cpu_s()? - cpu);
    Ok(Values::from([
        ("wall_s", wall),
        ("cpu_s", cpu),
        ("hub_cpu_s", cpu),
        ("files_per_s", files as f64 / wall),
    ]))
}

/// This thread's time on a processor.
fn cpu_s() -> Result<f64> {
    let text = fs::read_to_string("/proc/thread-self/schedstat")?;
    let first = text.split(' ').next().context("an empty schedstat")?;
    Ok(first.parse::<f64>()? / 1e9)
}

type Visit<'a> = dyn FnMut(&OwnedFd, &std::ffi::CStr, Option<&OwnedFd>) -> Result<()> + 'a;

/// Lists and stats everything relative to directory descriptors; makes the same directories below
/// `to`, where there is one. Returns the number of files.
fn walk(from: &Path, to: Option<&Path>, file: &mut Visit<'_>) -> Result<u64> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let from = rustix::fs::open(from, flags, Mode::empty())?;
    let to = to
        .map(|to| rustix::fs::open(to, flags, Mode::empty()))
        .transpose()?;
    descend(&from, to.as_ref(), file)
}

fn descend(from: &OwnedFd, to: Option<&OwnedFd>, file: &mut Visit<'_>) -> Result<u64> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let mut files = 0;
    for entry in Dir::read_from(from)? {
        let entry = entry?;
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        let stat = statat(from, name, AtFlags::SYMLINK_NOFOLLOW)?;
        if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
            let child = openat(from, name, flags, Mode::empty())?;
            let made = match to {
                Some(to) => {
                    mkdirat(to, name, Mode::RWXU)?;
                    Some(openat(to, name, flags, Mode::empty())?)
                }
                None => None,
            };
            files += descend(&child, made.as_ref(), file)?;
        } else {
            file(from, name, to)?;
            files += 1;
        }
    }
    Ok(files)
}

/// Reads a file in pieces, as many as there are.
fn read(
    dir: &OwnedFd,
    name: &std::ffi::CStr,
    buffer: &mut [u8],
    piece: &mut dyn FnMut(&[u8]) -> Result<()>,
) -> Result<()> {
    let file = openat(dir, name, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    let mut file = File::from(file);
    loop {
        let bytes = file.read(buffer)?;
        if bytes == 0 {
            return Ok(());
        }
        piece(&buffer[..bytes])?;
    }
}

fn copy(
    (from, to): (&OwnedFd, &OwnedFd),
    name: &std::ffi::CStr,
    scratch: Option<&std::ffi::CStr>,
    buffer: &mut [u8],
) -> Result<()> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    let mode = Mode::from_raw_mode(0o644);
    let mut file = File::from(openat(to, scratch.unwrap_or(name), flags, mode)?);
    read(from, name, buffer, &mut |piece| Ok(file.write_all(piece)?))?;
    let time = rustix::fs::Timespec {
        tv_sec: 1_600_000_000,
        tv_nsec: 1,
    };
    let times = Timestamps {
        last_access: time,
        last_modification: time,
    };
    futimens(&file, &times)?;
    if let Some(scratch) = scratch {
        renameat(to, scratch, to, name)?;
    }
    Ok(())
}
