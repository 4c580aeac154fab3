//! What a signature is made over: records in canonical form and order (RFC 4034 section 6).

use hickory_proto::ProtoError;
use hickory_proto::rr::{DNSClass, Name, RData, Record};
use hickory_proto::serialize::binary::{BinEncodable, BinEncoder, NameEncoding};

use super::key::{ALGORITHM, SigningKey};
use crate::dns::key::NameKey;
use crate::dns::zone::original_ttl_secs;

/// From when to when, in seconds since 1970 (modulo 2^32, RFC 4034 section 3.1.5).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Validity {
    pub inception: u32,
    pub expiration: u32,
}

/// The RDATA of the RRSIG but for the signature (RFC 4034 section 3.1).
pub(super) fn rrsig_head(record: &Record, signer: &Name, key: &SigningKey, validity: Validity) -> Vec<u8> {
    let mut head = Vec::with_capacity(64);
    head.extend_from_slice(&u16::from(record.record_type()).to_be_bytes());
    head.extend_from_slice(&[ALGORITHM, label_count(&record.name)]);
    head.extend_from_slice(&original_ttl_secs(record.record_type()).to_be_bytes());
    head.extend_from_slice(&validity.expiration.to_be_bytes());
    head.extend_from_slice(&validity.inception.to_be_bytes());
    head.extend_from_slice(&key.tag().to_be_bytes());
    push_name(&mut head, signer);
    head
}

/// The root is not counted, and a leading `*` would not be either, but there are no wildcards here.
fn label_count(name: &Name) -> u8 {
    name.iter().len() as u8
}

/// RFC 4034 section 3.1.8.1: the RRSIG's RDATA without the signature, then every record of the set. All have the name
/// and type of the first.
pub(super) fn signed_data(head: &[u8], set: &[&Record]) -> Result<Vec<u8>, ProtoError> {
    let mut data = head.to_vec();
    let Some(first) = set.first() else { return Ok(data) };
    let mut owner = Vec::new();
    push_name(&mut owner, &first.name);
    let mut all = set.iter().map(|record| canonical_rdata(&record.data)).collect::<Result<Vec<_>, _>>()?;
    all.sort_unstable(); // section 6.3
    all.dedup();
    for rdata in all {
        data.extend_from_slice(&owner);
        data.extend_from_slice(&u16::from(first.record_type()).to_be_bytes());
        data.extend_from_slice(&u16::from(DNSClass::IN).to_be_bytes());
        data.extend_from_slice(&original_ttl_secs(first.record_type()).to_be_bytes());
        data.extend_from_slice(&(rdata.len() as u16).to_be_bytes());
        data.extend_from_slice(&rdata);
    }
    Ok(data)
}

/// Names inside are written out, in lower case (RFC 4034 section 6.2).
fn canonical_rdata(data: &RData) -> Result<Vec<u8>, ProtoError> {
    let mut bytes = Vec::new();
    let mut encoder = BinEncoder::new(&mut bytes);
    encoder.set_canonical_form(true);
    encoder.set_name_encoding(NameEncoding::UncompressedLowercase);
    data.emit(&mut encoder)?;
    Ok(bytes)
}

fn push_name(out: &mut Vec<u8>, name: &Name) {
    out.extend_from_slice(NameKey::new(name).as_bytes());
    out.push(0);
}

/// Records of the same name and type.
pub(super) fn sets(records: &[Record]) -> Vec<Vec<&Record>> {
    let mut sets: Vec<Vec<&Record>> = Vec::new();
    for record in records {
        let same = |set: &&mut Vec<&Record>| set[0].record_type() == record.record_type() && set[0].name == record.name;
        match sets.iter_mut().find(same) {
            Some(set) => set.push(record),
            None => sets.push(vec![record]),
        }
    }
    sets
}
