//! Bytes as one piece: serde would take them one by one, which at the speed of a disk is felt. What
//! is written is the same, length and bytes.

use serde::de::{Error, Visitor};
use serde::{Deserializer, Serializer};
use std::fmt;

pub(super) fn serialize<S: Serializer>(bytes: &[u8], to: S) -> Result<S::Ok, S::Error> {
    to.serialize_bytes(bytes)
}

pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u8>, D::Error> {
    struct Bytes;
    impl Visitor<'_> for Bytes {
        type Value = Vec<u8>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("bytes")
        }

        fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<Vec<u8>, E> {
            Ok(bytes.to_vec())
        }
    }
    from.deserialize_bytes(Bytes)
}

#[cfg(test)]
mod tests {
    use crate::wire::{Reply, Request, decode, encode};
    use proptest::prelude::*;

    #[test]
    fn a_part_is_its_variant_its_length_its_bytes_and_the_flag() {
        let reply = Reply::Lent {
            part: b"abc".to_vec(),
            last: true,
        };
        let bytes = encode(&reply).unwrap();
        assert_eq!(bytes, [19, 3, b'a', b'b', b'c', 1]);
        assert_eq!(decode::<Reply>(&bytes).unwrap(), reply);
    }

    proptest! {
        /// Other parts are written byte by byte: the form is the same.
        #[test]
        fn in_one_piece_or_byte_by_byte_is_the_same(part: Vec<u8>, last: bool) {
            let listed = encode(&Request::Listings { part: part.clone(), last }).unwrap();
            let lent = encode(&Reply::Lent { part, last }).unwrap();
            prop_assert_eq!(&listed[1..], &lent[1..]);
            prop_assert!(decode::<Reply>(&lent).is_ok());
        }

        #[test]
        fn a_damaged_part_is_an_error_and_no_panic(mut bytes: Vec<u8>) {
            bytes.insert(0, 19);
            let _any = decode::<Reply>(&bytes);
        }
    }
}
