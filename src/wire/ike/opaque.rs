//! Payloads that are bytes and nothing else here: Vendor ID (RFC 7296 section 3.12) and EAP (section 3.16).

use super::reader::Reader;

pub(super) fn parse(mut body: Reader<'_>) -> Vec<u8> {
    body.rest()
}

pub(super) fn emit(bytes: &[u8], out: &mut Vec<u8>) {
    out.extend(bytes);
}
