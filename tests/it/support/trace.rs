//! What a program asks of the kernel: system calls as strace writes them down, with the files that
//! they are about.
//!
//! Only calls that name a file or a descriptor are traced. Clocks, memory and locks depend on the
//! moment, and so does how often a socket is asked; calls about one tree don't.

use super::env::{FANOUT, World};
use super::run::{self, Output};
use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::Path;
use std::time::Duration;

/// The words that run a program under strace. Where it is `detached`, the process that is started
/// is the program itself.
pub(crate) fn words(file: &Path, detached: bool) -> Vec<&str> {
    let file = file.to_str().expect("a readable path");
    let mut words = vec!["strace", "-f", "-qq", "-y", "-s", "0"];
    words.extend(detached.then_some("-D"));
    words.extend(["-e", "signal=none", "-e", "trace=%file,%desc", "-o", file]);
    words
}

/// Pushes a platform with `--json` and traces what the hub does.
#[track_caller]
pub(crate) fn push(world: &World, name: &str, file: &Path) -> Output {
    let words = words(file, false);
    let mut command = world.bare_command_of(words[0]);
    command.args(&words[1..]).arg(FANOUT);
    command.args(["push", "platform", name, "--json"]);
    command.env("FANOUT_DIR", world.hub_dir());
    // Every call is stopped twice.
    run::run_within(&mut command, b"", Duration::from_secs(180))
}

/// One call.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) name: String,
    /// The line, with `/proc/self/fd/N` followed to where it led.
    line: String,
    /// What the first descriptor is.
    file: Option<String>,
    /// Whether the line is where the call begins; the end of one that was overtaken by another
    /// thread's is a line of its own.
    begins: bool,
}

/// Calls in their order.
#[derive(Debug, Default)]
pub(crate) struct Trace {
    calls: Vec<Call>,
}

impl Trace {
    /// What was written to `file` from the byte `start` on.
    #[track_caller]
    pub(crate) fn read(file: &Path, start: usize) -> Self {
        let text = fs::read_to_string(file).expect("the trace");
        let mut open = HashMap::new();
        let calls = text[start..].lines();
        let calls = calls.filter_map(|line| Call::parse(line, &mut open));
        Self {
            calls: calls.collect(),
        }
    }

    /// Which calls are about something with `part` in its path, by their names.
    pub(crate) fn about(&self, part: &str) -> BTreeMap<&str, u32> {
        let mut counts = BTreeMap::new();
        // Only a debug build asks whether a descriptor is open before it closes it.
        let is_ours = |call: &&Call| call.begins && call.name != "fcntl";
        let about = |call: &&Call| is_ours(call) && call.line.contains(part);
        for call in self.calls.iter().filter(about) {
            *counts.entry(call.name.as_str()).or_default() += 1;
        }
        counts
    }

    /// How often each file below `root` was opened and how often it was read, without directories.
    pub(crate) fn content_reads(&self, root: &Path) -> BTreeMap<String, (u32, u32)> {
        const READS: [&str; 9] = [
            "read",
            "pread64",
            "readv",
            "preadv",
            "preadv2",
            "mmap",
            "sendfile",
            "splice",
            "copy_file_range",
        ];
        let below = format!("{}/", root.display());
        let mut counts = BTreeMap::<String, (u32, u32)>::new();
        for call in &self.calls {
            let opened = call.opened().filter(|path| path.starts_with(&below));
            if let Some(path) = opened {
                counts.entry(path[below.len()..].to_owned()).or_default().0 += 1;
            }
            let read = call.file.as_deref().filter(|path| path.starts_with(&below));
            if let Some(path) = read
                && call.begins
                && READS.contains(&call.name.as_str())
            {
                counts.entry(path[below.len()..].to_owned()).or_default().1 += 1;
            }
        }
        // Directories are opened and never read.
        counts.retain(|path, _| root.join(path).is_file());
        counts
    }
}

impl Call {
    /// `1234 openat2(7</tree>, "name", ...) = 8</tree/name>`, the same cut in two by other threads
    /// (`<unfinished ...>`, `<... openat2 resumed>`), or no call at all.
    fn parse(line: &str, open: &mut HashMap<String, String>) -> Option<Self> {
        let rest = line.split_once(' ')?.1.trim_start();
        let (name, begins) = match rest.strip_prefix("<... ") {
            Some(resumed) => (resumed.split_once(' ')?.0, false),
            None => (rest.split_once('(')?.0, true),
        };
        if !name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        {
            return None;
        }
        let descriptors = descriptors(rest);
        let file = descriptors.first().map(|(_, path)| (*path).to_owned());
        for (number, path) in descriptors {
            open.insert(number.to_owned(), path.to_owned());
        }
        let mut line = rest.to_owned();
        if let Some((_, after)) = rest.split_once("\"/proc/self/fd/") {
            // The descriptor itself, or a name below the directory that it is.
            let number = after.split(['"', '/']).next().unwrap_or_default();
            line.extend(open.get(number).into_iter().flat_map(|path| ["  ", path]));
        }
        Some(Self {
            name: name.to_owned(),
            line,
            file,
            begins,
        })
    }

    /// What the call has opened.
    fn opened(&self) -> Option<&str> {
        if !self.name.starts_with("open") {
            return None;
        }
        let (_, result) = self.line.rsplit_once(" = ")?;
        Some(descriptors(result).first()?.1)
    }
}

/// Every `7</a/path>` in a line.
fn descriptors(line: &str) -> Vec<(&str, &str)> {
    let mut found = Vec::new();
    for (at, _) in line.match_indices("</") {
        let before = &line[..at];
        let digits = before.len() - before.trim_end_matches(|c: char| c.is_ascii_digit()).len();
        if let Some(end) = line[at..].find('>')
            && digits > 0
        {
            found.push((&before[at - digits..], &line[at + 1..at + end]));
        }
    }
    found
}

#[test]
fn a_line_of_a_trace_is_understood() {
    let text = "\
12 openat2(7</t/src>, \"a\", {flags=O_RDONLY}, 24) = 8</t/src/a>
13 openat2(7</t/src>, \"b\", {flags=O_RDONLY}, 24 <unfinished ...>
12 pread64(8</t/src/a>, \"\"..., 100, 0)  = 100
13 <... openat2 resumed>)             = 9</t/src/b>
13 llistxattr(\"/proc/self/fd/9\", NULL, 0) = 0
13 lgetxattr(\"/proc/self/fd/7/b\", \"user.a\", NULL, 0) = 0
12 fcntl(8</t/src/a>, F_GETFD)        = 0
12 close(8</t/src/a>)                 = 0
12 futex(0x7f, FUTEX_WAKE)            = 1
12 +++ exited with 0 +++
";
    let dir = tempfile::tempdir().unwrap();
    let (file, root) = (dir.path().join("trace"), dir.path().join("src"));
    let text = text.replace("/t/src", root.to_str().unwrap());
    fs::write(&file, text).unwrap();
    fs::create_dir(&root).unwrap();
    fs::write(root.join("a"), "a").unwrap();
    fs::write(root.join("b"), "b").unwrap();
    let trace = Trace::read(&file, 0);
    let calls = trace.about("/src");
    let expected = [
        ("close", 1),
        ("lgetxattr", 1),
        ("llistxattr", 1),
        ("openat2", 2),
        ("pread64", 1),
    ];
    assert_eq!(calls, expected.into());
    let reads = [("a".to_owned(), (1, 1)), ("b".to_owned(), (1, 0))];
    assert_eq!(trace.content_reads(&root), reads.into());
}
