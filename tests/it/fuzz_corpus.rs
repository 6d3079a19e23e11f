//! What the fuzzers found interesting, and what they once found broken, through the same functions.

use crate::support::source_code::root;
use std::fs;

#[path = "../../fuzz/src/lib.rs"]
#[allow(
    dead_code,
    let_underscore_drop,
    unreachable_pub,
    reason = "another crate's library, with its own lints"
)]
mod targets;

#[test]
fn everything_in_the_corpora_is_borne() {
    for (name, target) in targets::TARGETS {
        let corpus = root().join("fuzz/corpus").join(name);
        let mut files: Vec<_> = fs::read_dir(&corpus)
            .unwrap_or_else(|error| panic!("{}: {error}", corpus.display()))
            .map(|entry| entry.unwrap().path())
            .collect();
        files.sort();
        assert!(!files.is_empty(), "{name} has no corpus");
        for file in files {
            let bytes = fs::read(&file).unwrap();
            if std::panic::catch_unwind(|| target(&bytes)).is_err() {
                panic!("{} breaks {name}", file.display());
            }
        }
    }
}

#[test]
fn every_target_is_built_and_the_corpora_are_small() {
    let manifest = fs::read_to_string(root().join("fuzz/Cargo.toml")).unwrap();
    for (name, _) in targets::TARGETS {
        assert!(manifest.contains(&format!("name = \"{name}\"")), "{name}");
        let source = root().join(format!("fuzz/fuzz_targets/{name}.rs"));
        let source = fs::read_to_string(source).unwrap();
        assert!(source.contains(&format!("fanout_fuzz::{name}(")), "{name}");
    }
    let corpus = walkdir::WalkDir::new(root().join("fuzz/corpus"));
    let files = corpus.into_iter().map(|entry| entry.unwrap());
    let bytes: u64 = files
        .filter(|entry| entry.file_type().is_file())
        .map(|entry| entry.metadata().unwrap().len())
        .sum();
    assert!(bytes < 300 * 1024, "{bytes} bytes of corpora");
}
