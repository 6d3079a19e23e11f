//! The rules of the house that a compiler doesn't check: layers, doors, file lengths, and that
//! nothing lies about unused. Reads the source as text; comments, strings and unit tests don't
//! count.

use crate::support::source_code::{
    SourceFile, declaring_file, imported_modules, is_within, root, rust_files,
};
use std::collections::BTreeSet;
use std::fs;

/// Top-level modules and their layers. An import points to a lower layer, or, among the plain
/// types of layer 0, to another one of it.
const LAYERS: [(&str, u8); 17] = [
    ("cli", 4),
    ("dashboard", 4),
    ("orchestrate", 3),
    ("agent", 3),
    ("bootstrap", 3),
    ("schedule", 3),
    ("engine", 2),
    ("services", 2),
    ("config", 2),
    ("fs", 1),
    ("net", 1),
    ("store", 1),
    ("proc", 1),
    ("model", 0),
    ("clock", 0),
    ("codes", 0),
    ("main", 5),
];

/// Imports within a layer: what servers shall have is rendered from the inventory's types.
const BESIDE: [(&str, &str); 1] = [("services", "config")];

/// The doors: paths, and the modules that alone may name them. Of several that fit a path the
/// longest decides. Trees that others write to are touched through `fs` only; with `std::fs` some
/// modules keep files of fanout's own (keys, locks, the inventory, what `--output` names).
const DOORS: [(&str, &[&str]); 31] = [
    ("rustix", &["fs"]),
    ("rustix::net", &["net"]),
    ("rustix::termios", &["cli/ui"]),
    ("rustix::process", &["fs", "net", "proc", "store"]),
    ("nix", &["fs"]),
    ("std::fs", &["fs", "net", "store", "config", "cli"]),
    ("tokio::fs", &["fs"]),
    ("quinn", &["net"]),
    ("rustls", &["net"]),
    ("reqwest", &["net"]),
    ("minijinja", &["services"]),
    ("rcgen", &["net"]),
    ("x509_parser", &["net"]),
    ("tokio_rustls", &["net"]),
    ("tokio::net", &["net"]),
    ("std::net::TcpListener", &["net"]),
    ("std::net::TcpStream", &["net"]),
    ("std::net::UdpSocket", &["net"]),
    ("std::os::unix::net", &["net"]),
    ("sqlx", &["store", "services/database/sql"]),
    ("std::process::Command", &["proc"]),
    ("tokio::process", &["proc"]),
    ("clap", &["cli"]),
    ("clap_complete", &["cli"]),
    ("clap_mangen", &["cli"]),
    ("indicatif", &["cli"]),
    ("console", &["cli"]),
    ("println!", &["cli/ui"]),
    ("eprintln!", &["cli/ui"]),
    ("print!", &["cli/ui"]),
    ("eprint!", &["cli/ui"]),
];
/// Plain types and constants behind a door, which open nothing by themselves.
const HARMLESS: [&str; 2] = ["std::fs::File", "rustix::io::Errno"];

/// What the protocol crate may not depend on, and what its code may not name: I/O, clocks,
/// randomness, async, and fanout.
const NOT_IN_PROTO_MANIFEST: [&str; 8] = [
    "tokio", "quinn", "rustix", "sqlx", "rand", "jiff", "nix", "rustls",
];
const NOT_IN_PROTO_CODE: [&str; 9] = [
    "std::fs",
    "std::net",
    "std::process",
    "std::thread",
    "std::env",
    "std::time::Instant",
    "std::time::SystemTime",
    "std::io::stdin",
    "fanout",
];

/// No file is longer, in lines.
const LONGEST: usize = 800;

#[test]
fn imports_point_down_and_layer_one_never_imports_itself() {
    let mut problems = Vec::new();
    for file in rust_files("src") {
        let Some((from, level)) = layer_of(&file) else {
            continue;
        };
        for to in imported_modules(&file) {
            let Some((_, other)) = LAYERS.iter().find(|(name, _)| *name == to) else {
                continue;
            };
            let is_excepted = BESIDE.contains(&(from.as_str(), to.as_str()));
            let down = *other < level || (level == 0 && *other == 0) || is_excepted;
            if to != from && !down {
                problems.push(format!(
                    "{}: {from} (L{level}) imports {to} (L{other})",
                    file.name
                ));
            }
        }
    }
    assert_none(problems);
}

#[test]
fn every_top_level_module_has_a_layer() {
    let library = &SourceFile::read("src/lib.rs").code;
    let declared = library
        .lines()
        .filter_map(|line| line.trim().strip_prefix("pub mod "));
    let names = declared.map(|name| name.trim_end_matches(';'));
    let unknown = names.filter(|name| !LAYERS.iter().any(|(known, _)| known == name));
    assert_none(
        unknown
            .map(|name| format!("{name} has no layer in architecture.rs"))
            .collect(),
    );
}

#[test]
fn every_danger_has_one_door() {
    let mut problems = Vec::new();
    for file in rust_files("src")
        .into_iter()
        .filter(|file| !file.is_unit_tests())
    {
        let below = file.name.strip_prefix("src/").unwrap();
        for path in file
            .paths
            .iter()
            .filter(|path| !HARMLESS.contains(&path.as_str()))
        {
            let fitting = DOORS.iter().filter(|(door, _)| is_within(path, door));
            if let Some((_, allowed)) = fitting.max_by_key(|(door, _)| door.len())
                && !allowed.iter().any(|module| below.starts_with(module))
            {
                problems.push(format!(
                    "{}: {path} belongs to {}",
                    file.name,
                    allowed.join(", ")
                ));
            }
        }
    }
    assert_none(problems);
}

#[test]
fn the_protocol_crate_has_no_io_no_clock_and_no_chance() {
    let manifest = fs::read_to_string(root().join("sync-proto/Cargo.toml")).unwrap();
    let manifest: toml::Table = manifest.parse().unwrap();
    let mut problems = Vec::new();
    for section in ["dependencies", "build-dependencies"] {
        let names = manifest.get(section).and_then(|table| table.as_table());
        for name in names.into_iter().flat_map(toml::Table::keys) {
            if NOT_IN_PROTO_MANIFEST.contains(&name.as_str()) {
                problems.push(format!("sync-proto/Cargo.toml: {section} has {name}"));
            }
        }
    }
    for file in rust_files("sync-proto/src") {
        let named = NOT_IN_PROTO_CODE.iter().filter(|path| file.names(path));
        problems.extend(named.map(|path| format!("{}: names {path}", file.name)));
        if file.code.contains("async fn") || file.code.contains(".await") {
            problems.push(format!("{}: is async", file.name));
        }
    }
    assert_none(problems);
}

/// Its `diff` loops on a signature with blocks of nothing, and its plain `apply` has no bound: only
/// `delta/rsync.rs` calls it, with signatures of its own, after the lengths were checked.
#[test]
fn fast_rsync_sees_only_what_was_checked() {
    let mut problems = Vec::new();
    let files = ["src", "sync-proto/src"].into_iter().flat_map(rust_files);
    for file in files.filter(|file| file.names("fast_rsync")) {
        match file.name.as_str() {
            "sync-proto/src/delta/rsync.rs" => {
                let called = ["Signature::calculate(", "apply_limited(", "diff("];
                assert!(called.iter().all(|call| file.code.contains(call)));
                for unchecked in ["deserialize", " apply(base, &", "fast_rsync::apply("] {
                    if file.code.contains(unchecked) {
                        problems.push(format!("{}: calls {unchecked}", file.name));
                    }
                }
            }
            // The type of an error.
            "sync-proto/src/delta/mod.rs" => {
                assert_eq!(file.code.matches("fast_rsync::").count(), 1);
            }
            other => problems.push(format!("{other}: names fast_rsync")),
        }
    }
    assert_none(problems);
}

#[test]
fn no_file_is_too_long_to_read() {
    let too_long = ["src", "sync-proto/src", "tests"]
        .into_iter()
        .flat_map(rust_files);
    let too_long = too_long.filter(|file| file.lines > LONGEST);
    assert_none(
        too_long
            .map(|file| format!("{}: {} lines", file.name, file.lines))
            .collect(),
    );
}

#[test]
fn every_source_file_is_compiled() {
    let mut problems = Vec::new();
    for folder in ["src", "sync-proto/src", "tests/it"] {
        for file in rust_files(folder) {
            let Some(parent) = declaring_file(&file.path) else {
                continue;
            };
            let stem = file
                .path
                .file_stem()
                .unwrap()
                .to_string_lossy()
                .into_owned();
            let module = if stem == "mod" {
                let folder = file.path.parent().unwrap().file_name().unwrap();
                folder.to_string_lossy().into_owned()
            } else {
                stem
            };
            let parent = fs::read_to_string(&parent).unwrap_or_default();
            let declares = |line: &str| line.trim_end().ends_with(&format!("mod {module};"));
            if !parent.lines().any(declares) {
                problems.push(format!("{}: no `mod {module};` leads to it", file.name));
            }
        }
    }
    assert_none(problems);
}

#[test]
fn every_module_says_what_it_owns() {
    let files = ["src", "sync-proto/src", "tests/it"]
        .into_iter()
        .flat_map(rust_files);
    let silent = files.filter(|file| !file.is_unit_tests() && !file.text.starts_with("//!"));
    assert_none(
        silent
            .map(|file| format!("{}: does not begin with //!", file.name))
            .collect(),
    );
}

/// Rows of the table end with their number, exit and page.
#[test]
fn every_error_code_has_a_page_and_every_page_a_code() {
    let table = SourceFile::read("src/codes/table.rs");
    let mut problems = Vec::new();
    let mut pages = BTreeSet::new();
    for line in table
        .text
        .lines()
        .filter(|line| line.trim().starts_with("row(C::"))
    {
        let number = line
            .split(',')
            .nth(1)
            .and_then(|number| number.trim().parse::<u32>().ok());
        let page = format!("FX{:04}.md", number.expect("a number in every row"));
        if !line.contains(&format!("docs/errors/{page}\"")) {
            problems.push(format!("not with its own page, {page}: {}", line.trim()));
        }
        pages.insert(page);
    }
    assert!(
        pages.len() > 50,
        "this test no longer understands src/codes/table.rs"
    );
    for entry in fs::read_dir(root().join("docs/errors")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if name.starts_with("FX") && !pages.remove(&name) {
            problems.push(format!("docs/errors/{name} belongs to no code"));
        }
    }
    problems.extend(
        pages
            .into_iter()
            .map(|page| format!("docs/errors/{page} is missing")),
    );
    assert_none(problems);
}

#[test]
fn nothing_is_left_to_do_in_the_code() {
    let mut problems = Vec::new();
    for file in ["src", "sync-proto/src"].into_iter().flat_map(rust_files) {
        for (number, line) in file.text.lines().enumerate() {
            if ["todo!(", "unimplemented!(", "FIXME", "XXX"]
                .iter()
                .any(|mark| line.contains(mark))
            {
                problems.push(format!("{}:{}: {}", file.name, number + 1, line.trim()));
            }
        }
    }
    assert_none(problems);
}

#[test]
fn the_reader_of_this_test_sees_what_is_written() {
    let code = "use crate::fs::dir;\n// use crate::net;\nlet x = \"crate::store\";\n\
        use crate::{config, proc::{a, b}, model as m};\nfn f() { crate::engine::run() }\n\
        use std::{io, fs as disk};\n#[cfg(test)]\nmod tests { use crate::cli; }\n";
    let file = SourceFile::parse("src/agent/x.rs", code);
    let imported: Vec<_> = imported_modules(&file).into_iter().collect();
    assert_eq!(imported, ["config", "engine", "fs", "model", "proc"]);
    assert!(file.names("std::fs") && file.names("std::io") && !file.names("crate::store"));
    assert!(!SourceFile::parse("x", "eprintln!(1)").names("println!"));
    assert!(SourceFile::parse("x", "println!(1)").names("println!"));
    assert!(!SourceFile::parse("x", "use unix::fs; crate::nix::a; my_rustix::b").names("rustix"));
    assert!(!SourceFile::parse("x", "use crate::nix::a;").names("nix"));
    let outward = SourceFile::parse("src/fs/dir.rs", "use super::super::net;\nuse super::walk;");
    assert!(imported_modules(&outward).contains("net"));
}

/// The top-level module of a file below `src`, with its layer; the library's root has none.
fn layer_of(file: &SourceFile) -> Option<(String, u8)> {
    let below = file.name.strip_prefix("src/")?;
    let module = below.split('/').next()?.trim_end_matches(".rs");
    let (name, level) = LAYERS.iter().find(|(name, _)| *name == module)?;
    Some(((*name).to_owned(), *level))
}

#[track_caller]
fn assert_none(problems: Vec<String>) {
    assert!(
        problems.is_empty(),
        "{} problems:\n  {}",
        problems.len(),
        problems.join("\n  ")
    );
}
