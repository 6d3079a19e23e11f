//! Filter rules: the first lines are rules, the last is a path.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sync_proto::filter::{Preserve, Rules, Scope, Side};
use sync_proto::path::RelPath;

fuzz_target!(|text: &str| {
    let mut lines: Vec<&str> = text.lines().collect();
    let Some(path) = lines.pop().and_then(|path| RelPath::parse(path.as_bytes()).ok()) else {
        return;
    };
    let exclude = Rules::parse(&lines).unwrap_or_default();
    let preserve = Preserve::parse(&lines).unwrap_or_default();
    assert_eq!(Rules::parse(&exclude.to_lines()).as_ref(), Ok(&exclude));
    let scope = Scope { exclude, preserve };
    for side in [Side::Sender, Side::Receiver] {
        let _ = scope.of(side, &path, false);
        let _ = scope.explain(side, &path, true);
    }
});
