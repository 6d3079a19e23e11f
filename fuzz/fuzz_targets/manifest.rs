//! Whatever decodes as a manifest encodes to the same tree again, and nothing panics.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sync_proto::manifest::{Manifest, decode_directories, diff};
use sync_proto::wire::table::Collector;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(manifest) = Manifest::decode(bytes) {
        assert_eq!(Manifest::decode(&manifest.encode()).as_ref(), Ok(&manifest));
        assert!(diff(&manifest, &manifest).is_empty());
    }
    let _ = decode_directories(bytes);
    let mut collector = Collector::default();
    if collector.add(bytes).is_ok() {
        let _ = collector.rows();
    }
});
