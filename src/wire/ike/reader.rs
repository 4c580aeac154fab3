//! A cursor over the bytes of one payload that knows where it is, for the error.

use super::{Malformed, ParseError};

#[derive(Clone)]
pub(super) struct Reader<'a> {
    payload: u8,
    offset: usize,
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// `offset`: where `bytes` begin in what the caller was handed.
    pub fn new(payload: u8, offset: usize, bytes: &'a [u8]) -> Self {
        Reader { payload, offset, rest: bytes }
    }

    pub fn offset(&self) -> usize {
        self.offset
    }

    pub fn remaining(&self) -> usize {
        self.rest.len()
    }

    pub fn fail(&self, why: Malformed) -> ParseError {
        ParseError::Malformed { payload: self.payload, offset: self.offset, why }
    }

    /// Fails with `why` unless `holds`.
    pub fn require(&self, holds: bool, why: Malformed) -> Result<(), ParseError> {
        if holds { Ok(()) } else { Err(self.fail(why)) }
    }

    pub fn take(&mut self, bytes: usize) -> Result<&'a [u8], ParseError> {
        let (taken, rest) = self.rest.split_at_checked(bytes).ok_or(self.fail(Malformed::Short))?;
        self.rest = rest;
        self.offset += bytes;
        Ok(taken)
    }

    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], ParseError> {
        let (taken, rest) = self.rest.split_first_chunk().ok_or(self.fail(Malformed::Short))?;
        self.rest = rest;
        self.offset += N;
        Ok(*taken)
    }

    pub fn u8(&mut self) -> Result<u8, ParseError> {
        self.array().map(|[byte]| byte)
    }

    pub fn u16(&mut self) -> Result<u16, ParseError> {
        self.array().map(u16::from_be_bytes)
    }

    pub fn u32(&mut self) -> Result<u32, ParseError> {
        self.array().map(u32::from_be_bytes)
    }

    pub fn u64(&mut self) -> Result<u64, ParseError> {
        self.array().map(u64::from_be_bytes)
    }

    /// The next `bytes` bytes as a reader of their own: an element inside a payload.
    pub fn part(&mut self, bytes: usize) -> Result<Reader<'a>, ParseError> {
        let offset = self.offset;
        Ok(Reader { payload: self.payload, offset, rest: self.take(bytes)? })
    }

    /// Everything that is left.
    pub fn rest(&mut self) -> Vec<u8> {
        let rest = std::mem::take(&mut self.rest);
        self.offset += rest.len();
        rest.to_vec()
    }

    pub fn finish(self) -> Result<(), ParseError> {
        self.require(self.rest.is_empty(), Malformed::Trailing)
    }
}
