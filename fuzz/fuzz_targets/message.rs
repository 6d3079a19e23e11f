//! Control messages and object headers in both directions.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sync_proto::wire::{ObjectHeader, Reply, Request, decode, encode};

fuzz_target!(|bytes: &[u8]| {
    if let Ok(request) = decode::<Request>(bytes) {
        if let Ok(again) = encode(&request) {
            assert_eq!(decode::<Request>(&again), Ok(request));
        }
    }
    if let Ok(Reply::Need { needs, .. }) = decode::<Reply>(bytes) {
        assert!(needs.iter(64).all(|(index, _)| index < 64));
    }
    let _ = decode::<ObjectHeader>(bytes);
});
