//! Packs, segments, batches of deltas, recipes and chunk lists.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use sync_proto::delta::apply_delta;
use sync_proto::delta::batch::parse_batch;
use sync_proto::delta::chunk::ChunkList;
use sync_proto::delta::recipe::Recipe;
use sync_proto::pack::segment::decode_segment;
use sync_proto::pack::{PackDecoder, unpack};

fuzz_target!(|bytes: &[u8]| {
    let mut decoder = PackDecoder::new();
    let _ = unpack(bytes, &mut decoder);
    let _ = decode_segment(bytes, &mut decoder);
    if let Ok(deltas) = parse_batch(&Bytes::copy_from_slice(bytes)) {
        let base = vec![7; 4096];
        for delta in deltas {
            let _ = apply_delta(&base, &delta, delta.new_bytes(), delta.content(), &mut decoder);
        }
    }
    let _ = Recipe::parse(bytes);
    let _ = ChunkList::parse(bytes);
});
