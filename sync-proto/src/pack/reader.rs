//! Reading of untrusted bytes, shared by all content formats.
//!
//! Invariant: nothing is read past the end, and a number has exactly one encoding.

use super::codec::Codec;
use crate::digest::Digest;
use thiserror::Error;

/// Why some bytes are not what they should be.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum FormatError {
    /// The bytes end before the structure does.
    #[error("The data ends early")]
    Truncated,
    /// The magic number is another one.
    #[error("The data is of another kind")]
    WrongMagic,
    /// A version that this build doesn't read.
    #[error("Version {0} of the format is unknown")]
    UnknownVersion(u8),
    /// A byte that selects a variant has no meaning.
    #[error("Unknown {what} {code}")]
    UnknownCode {
        /// What the byte selects.
        what: &'static str,
        /// The byte.
        code: u8,
    },
    /// A declared number is over the receiver's limit.
    #[error("{what}: {value} is over the limit of {limit}")]
    OverLimit {
        /// What is counted.
        what: &'static str,
        /// The number declared.
        value: u64,
        /// The receiver's limit.
        limit: u64,
    },
    /// Two parts contradict each other, or an encoding isn't the canonical one.
    #[error("Contradiction: {0}")]
    Inconsistent(&'static str),
    /// There is more after the end.
    #[error("{0} bytes follow the end")]
    TrailingBytes(usize),
    /// The payload doesn't decompress to the declared length.
    #[error("The payload doesn't decompress to its declared length")]
    BadCompression,
}

/// Checks a declared number against a limit of ours.
pub(crate) fn within(what: &'static str, value: u64, limit: u64) -> Result<u64, FormatError> {
    if value > limit {
        return Err(FormatError::OverLimit { what, value, limit });
    }
    Ok(value)
}

/// Reads fields off the front of untrusted bytes. Numbers are little-endian.
#[derive(Clone, Copy)]
pub(crate) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    /// Checks magic number and version.
    pub(crate) fn open(bytes: &'a [u8], magic: [u8; 4], version: u8) -> Result<Self, FormatError> {
        let mut reader = Self(bytes);
        if reader.array()? != magic {
            return Err(FormatError::WrongMagic);
        }
        match reader.byte()? {
            found if found == version => Ok(reader),
            found => Err(FormatError::UnknownVersion(found)),
        }
    }

    pub(crate) fn remaining_bytes(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn take(&mut self, count: usize) -> Result<&'a [u8], FormatError> {
        let (front, rest) = self
            .0
            .split_at_checked(count)
            .ok_or(FormatError::Truncated)?;
        self.0 = rest;
        Ok(front)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], FormatError> {
        let (front, rest) = self.0.split_first_chunk().ok_or(FormatError::Truncated)?;
        self.0 = rest;
        Ok(*front)
    }

    pub(crate) fn byte(&mut self) -> Result<u8, FormatError> {
        Ok(self.array::<1>()?[0])
    }

    pub(crate) fn codec(&mut self) -> Result<Codec, FormatError> {
        Codec::from_byte(self.byte()?)
    }

    pub(crate) fn u32(&mut self) -> Result<u32, FormatError> {
        self.array().map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self) -> Result<u64, FormatError> {
        self.array().map(u64::from_le_bytes)
    }

    pub(crate) fn digest(&mut self) -> Result<Digest, FormatError> {
        self.array().map(Digest::from_bytes)
    }

    /// An unsigned LEB128 number in its shortest form; any other form is refused, so that equal
    /// values have equal bytes.
    pub(crate) fn varint(&mut self) -> Result<u64, FormatError> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7F);
            if bits << shift >> shift != bits || (byte == 0 && shift > 0) {
                break;
            }
            value |= bits << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(FormatError::Inconsistent("a number that isn't canonical"))
    }

    pub(crate) fn finish(&self) -> Result<(), FormatError> {
        match self.0.len() {
            0 => Ok(()),
            length => Err(FormatError::TrailingBytes(length)),
        }
    }
}

/// Appends an unsigned LEB128 number.
pub(crate) fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_number_has_exactly_one_encoding(value: u64, noise: [u8; 11]) {
            let mut out = Vec::new();
            put_varint(&mut out, value);
            let mut reader = Reader(&out);
            prop_assert_eq!(reader.varint(), Ok(value));
            prop_assert_eq!(reader.finish(), Ok(()));

            let mut reader = Reader(&noise);
            if let Ok(value) = reader.varint() {
                let used = noise.len() - reader.remaining_bytes();
                let mut again = Vec::new();
                put_varint(&mut again, value);
                prop_assert_eq!(&again[..], &noise[..used]);
            }
        }
    }
}
