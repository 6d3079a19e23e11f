//! Rust source read as text, for the tests of the architecture: which paths a file names, comments,
//! strings and unit tests not counted. No parser: enough for code that `cargo fmt` has seen.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// A source file, read as text.
pub(crate) struct SourceFile {
    pub(crate) path: PathBuf,
    /// The path below the repository, for messages.
    pub(crate) name: String,
    pub(crate) text: String,
    /// The text without comments, strings and unit tests.
    pub(crate) code: String,
    /// All paths that are named, groups in braces taken apart: `a::{b, c}` is `a::b` and `a::c`.
    pub(crate) paths: BTreeSet<String>,
    pub(crate) lines: usize,
}

impl SourceFile {
    pub(crate) fn read(name: &str) -> Self {
        let text = fs::read_to_string(root().join(name)).unwrap();
        Self::parse(name, &text)
    }

    pub(crate) fn parse(name: &str, text: &str) -> Self {
        let code = code_of(text);
        let (path, name, text) = (root().join(name), name.to_owned(), text.to_owned());
        let lines = text.lines().count();
        Self {
            path,
            name,
            paths: paths_of(&code),
            text,
            code,
            lines,
        }
    }

    /// True if the code names `path`, a macro (with its `!`) or something below that path.
    pub(crate) fn names(&self, path: &str) -> bool {
        self.paths.iter().any(|named| is_within(named, path))
    }

    /// True for files that hold nothing but unit tests.
    pub(crate) fn is_unit_tests(&self) -> bool {
        self.name.ends_with("/tests.rs")
            || self.name.contains("/tests/")
            || self.name.contains("/testing/")
    }
}

/// True if the path `named` is `path` or lies below it.
pub(crate) fn is_within(named: &str, path: &str) -> bool {
    named
        .strip_prefix(path)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

/// The part of a source file that counts: no comments, no strings, nothing after `#[cfg(test)]`
/// in front of a module.
fn code_of(text: &str) -> String {
    let end = ["#[cfg(test)]\nmod ", "#[cfg(all(test"]
        .iter()
        .filter_map(|mark| text.find(mark));
    let text = &text[..end.min().unwrap_or(text.len())];
    let mut code = String::new();
    for line in text.lines() {
        let mut rest = line;
        while let Some(quote) = rest.find(['"', '/']) {
            code.push_str(&rest[..quote]);
            rest = &rest[quote..];
            if rest.starts_with("//") {
                rest = "";
            } else if rest.starts_with('"') && !code.ends_with('\'') {
                let end = string_end(rest);
                code.push_str("\"\"");
                rest = &rest[end..];
            } else {
                code.push_str(&rest[..1]);
                rest = &rest[1..];
            }
        }
        code.push_str(rest);
        code.push('\n');
    }
    code
}

/// Where the string that `text` begins with ends, in bytes; the end of the line if it goes on.
fn string_end(text: &str) -> usize {
    let mut escaped = false;
    for (at, byte) in text.bytes().enumerate().skip(1) {
        match byte {
            b'\\' if !escaped => escaped = true,
            b'"' if !escaped => return at + 1,
            _ => escaped = false,
        }
    }
    text.len()
}

fn paths_of(code: &str) -> BTreeSet<String> {
    let is_word = |character: char| character.is_alphanumeric() || character == '_';
    let mut paths = BTreeSet::new();
    let mut rest = code;
    let mut before = ' ';
    while let Some(at) = rest.find(is_word) {
        if let Some(last) = rest[..at].chars().next_back() {
            before = last;
        }
        rest = &rest[at..];
        let end = rest.find(|character| !is_word(character) && character != ':');
        let word = &rest[..end.unwrap_or(rest.len())];
        let after = &rest[word.len()..];
        if after.starts_with('{') && word.ends_with("::") {
            let group = group_of(after);
            for member in members_of(group) {
                paths.extend(paths_of(&format!("{word}{member}")));
            }
            rest = &after[group.len() + 2..];
        } else {
            let path = word.trim_matches(':');
            let bang = if after.starts_with('!') && !after.starts_with("!=") {
                "!"
            } else {
                ""
            };
            // A lifetime or a field is no path.
            if before != '\'' && before != '.' {
                paths.insert(format!("{path}{bang}"));
            }
            rest = after;
        }
        before = ' ';
    }
    paths
}

/// What is between the brace that `text` begins with and the one that closes it.
fn group_of(text: &str) -> &str {
    let mut depth = 0;
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'{' => depth += 1,
            b'}' if depth == 1 => return &text[1..at],
            b'}' => depth -= 1,
            _ => {}
        }
    }
    // No `}`: not Rust. Leave room for the two braces that the caller skips.
    &text[1..text.len().saturating_sub(1).max(1)]
}

fn members_of(group: &str) -> Vec<&str> {
    let (mut members, mut depth, mut start) = (Vec::new(), 0, 0);
    for (at, byte) in group.bytes().enumerate() {
        match byte {
            b'{' => depth += 1,
            b'}' => depth -= 1,
            b',' if depth == 0 => {
                members.push(group[start..at].trim());
                start = at + 1;
            }
            _ => {}
        }
    }
    members.push(group[start..].trim());
    members.retain(|member| !member.is_empty());
    members
}

/// The top-level modules of the crate that a file names, by `crate::`, from the binary by
/// `fanout::`, or by enough `super`s.
pub(crate) fn imported_modules(file: &SourceFile) -> BTreeSet<String> {
    let module = file.name.strip_prefix("src/").unwrap_or(&file.name);
    let module = module.trim_end_matches(".rs").trim_end_matches("/mod");
    let depth = module.split('/').count();
    let outward = "super::".repeat(depth);
    let first = |rest: &str| rest.split("::").next().unwrap_or_default().to_owned();
    let prefixes = ["crate::", "fanout::", &outward];
    let below = |path: &String| {
        prefixes
            .iter()
            .find_map(|prefix| path.strip_prefix(prefix))
            .map(first)
    };
    file.paths.iter().filter_map(below).collect()
}

/// The file that has to declare the module in `path`; `None` for the roots of crates.
pub(crate) fn declaring_file(path: &Path) -> Option<PathBuf> {
    let folder = path.parent()?;
    let name = path.file_name()?.to_string_lossy();
    let is_crate_root = |folder: &Path| {
        ["lib.rs", "main.rs"]
            .iter()
            .any(|root| folder.join(root).is_file())
    };
    if ["lib.rs", "main.rs"].contains(&&*name) {
        return None;
    }
    let folder = if name == "mod.rs" {
        folder.parent()?
    } else {
        folder
    };
    if is_crate_root(folder) {
        let root = ["lib.rs", "main.rs"].map(|root| folder.join(root));
        return root.into_iter().find(|root| root.is_file());
    }
    let beside = folder.with_extension("rs");
    Some(if beside.is_file() {
        beside
    } else {
        folder.join("mod.rs")
    })
}

/// All Rust files below a folder of the repository.
pub(crate) fn rust_files(folder: &str) -> Vec<SourceFile> {
    let entries = walkdir::WalkDir::new(root().join(folder))
        .sort_by_file_name()
        .into_iter();
    let paths = entries.filter_map(|entry| entry.ok().map(walkdir::DirEntry::into_path));
    let files = paths.filter(|path| path.extension().is_some_and(|extension| extension == "rs"));
    let name = |path: PathBuf| {
        path.strip_prefix(root())
            .unwrap()
            .to_str()
            .unwrap()
            .to_owned()
    };
    files.map(|path| SourceFile::read(&name(path))).collect()
}

/// The repository.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}
