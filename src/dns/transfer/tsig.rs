//! TSIG (RFC 8945): who asked, and that nobody changed what is answered.
//!
//! ```text
//!   request        MAC over  the message, the record's variables
//!   first answer   MAC over  the request's MAC, the message, the record's variables
//!   later answers  MAC over  the MAC before, the message, time and fudge        (section 5.3.1)
//! ```

use aws_lc_rs::hmac::{self, HMAC_SHA256, HMAC_SHA384, HMAC_SHA512};
use hickory_proto::rr::{DNSClass, Name, RecordType};
use hickory_proto::serialize::binary::{BinDecodable, BinDecoder, DecodeError};

use super::TransferKey;
use crate::dns::key::NameKey;

/// How far the two clocks may be apart (section 10 recommends it).
const FUDGE_SECS: u16 = 300;
/// Section 5.2.2.1: shorter MACs are malformed, whatever the algorithm.
const MIN_MAC_BYTES: usize = 10;
const HEADER_BYTES: usize = 12;

/// Section 6; the names are domain names.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Algorithm {
    HmacSha256,
    HmacSha384,
    HmacSha512,
}

impl Algorithm {
    pub(super) fn hmac(self) -> hmac::Algorithm {
        match self {
            Algorithm::HmacSha256 => HMAC_SHA256,
            Algorithm::HmacSha384 => HMAC_SHA384,
            Algorithm::HmacSha512 => HMAC_SHA512,
        }
    }

    /// In canonical wire form, without the root.
    fn wire(self) -> &'static [u8] {
        match self {
            Algorithm::HmacSha256 => b"\x0bhmac-sha256",
            Algorithm::HmacSha384 => b"\x0bhmac-sha384",
            Algorithm::HmacSha512 => b"\x0bhmac-sha512",
        }
    }
}

/// Why a request does not count (section 5.2).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Refusal {
    /// FORMERR.
    Malformed,
    BadSig,
    BadKey,
    /// The MAC was good.
    BadTime(KeyAt),
    /// Shorter than we take, and so not looked at.
    BadTrunc,
}

/// Index into the keys.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct KeyAt(usize);

impl Refusal {
    /// Section 3.
    fn code(self) -> u16 {
        match self {
            Refusal::Malformed => 0,
            Refusal::BadSig => 16,
            Refusal::BadKey => 17,
            Refusal::BadTime(_) => 18,
            Refusal::BadTrunc => 22,
        }
    }
}

/// The record of a request.
pub(super) struct Tsig {
    name: Name,
    algorithm: Name,
    time_secs: u64,
    fudge_secs: u16,
    mac: Vec<u8>,
    original_id: u16,
    error: u16,
    other: Vec<u8>,
    /// Where it begins in the message.
    begin: usize,
}

impl Tsig {
    /// Behind name and type (section 4.2).
    pub fn read(name: Name, begin: usize, decoder: &mut BinDecoder<'_>) -> Result<Self, DecodeError> {
        let mut number = || Ok::<u16, DecodeError>(decoder.read_u16()?.unverified(/* any is read */));
        let (class, ttl) = (number()?, [number()?, number()?]);
        let length = usize::from(number()?);
        let end = decoder.index() + length;
        let algorithm = Name::read(decoder)?;
        let mut number = || Ok::<u64, DecodeError>(decoder.read_u16()?.unverified(/* any is read */).into());
        let time_secs = number()? << 32 | number()? << 16 | number()?;
        let fudge_secs = number()? as u16;
        let mac = read_counted(decoder)?;
        let mut number = || Ok::<u16, DecodeError>(decoder.read_u16()?.unverified(/* any is read */));
        let (original_id, error) = (number()?, number()?);
        let other = read_counted(decoder)?;
        if decoder.index() != end || class != u16::from(DNSClass::ANY) || ttl != [0, 0] {
            return Err(DecodeError::InsufficientBytes);
        }
        Ok(Tsig { name, algorithm, time_secs, fudge_secs, mac, original_id, error, other, begin })
    }

    /// In the order of section 5.2: key, MAC, time. `message` is the one that it was read from.
    pub fn verify<'k>(
        &self,
        message: &[u8],
        keys: &'k [TransferKey],
        unix_secs: u64,
    ) -> Result<&'k TransferKey, Refusal> {
        let algorithm = NameKey::new(&self.algorithm);
        let name = NameKey::new(&self.name);
        let is_meant = |key: &TransferKey| {
            NameKey::new(&key.name).as_bytes() == name.as_bytes() && key.algorithm.wire() == algorithm.as_bytes()
        };
        let at = keys.iter().position(is_meant).ok_or(Refusal::BadKey)?;
        let key = &keys[at];
        let whole = key.algorithm.hmac().tag_len();
        if self.mac.len() > whole || self.mac.len() < MIN_MAC_BYTES.max(whole / 2) {
            return Err(Refusal::Malformed);
        }
        if self.mac.len() < whole {
            return Err(Refusal::BadTrunc);
        }
        let mut data = self.message_without(message).ok_or(Refusal::Malformed)?;
        data.extend_from_slice(&variables(key, self.time_secs, self.fudge_secs, self.error, &self.other));
        hmac::verify(&key.secret, &data, &self.mac).map_err(|_| Refusal::BadSig)?;
        match unix_secs.abs_diff(self.time_secs) <= self.fudge_secs.into() {
            true => Ok(key),
            false => Err(Refusal::BadTime(KeyAt(at))),
        }
    }

    /// The message as it was before the record was added (section 4.3.2).
    fn message_without(&self, message: &[u8]) -> Option<Vec<u8>> {
        let mut data = message.get(..self.begin)?.to_vec();
        let header: &mut [u8; HEADER_BYTES] = data.first_chunk_mut()?;
        header[..2].copy_from_slice(&self.original_id.to_be_bytes());
        let additionals = u16::from_be_bytes([header[10], header[11]]).checked_sub(1)?;
        header[10..].copy_from_slice(&additionals.to_be_bytes());
        Some(data)
    }

    /// Adds to an error message the record that says why (section 5.3.2): without a MAC, since there is no key that both
    /// sides are known to have, except where the time is wrong.
    pub fn refuse(&self, bytes: &mut Vec<u8>, refusal: Refusal, keys: &[TransferKey], unix_secs: u64) {
        let mut record = Answered {
            name: NameKey::new(&self.name).as_bytes().to_vec(),
            algorithm: NameKey::new(&self.algorithm).as_bytes().to_vec(),
            time_secs: unix_secs,
            error: refusal.code(),
            other: Vec::new(),
            mac: Vec::new(),
        };
        if let Refusal::BadTime(KeyAt(at)) = refusal
            && let Some(key) = keys.get(at)
        {
            // Section 5.2.3: the client's time, and ours beside it.
            record.time_secs = self.time_secs;
            record.other = unix_secs.to_be_bytes()[2..].to_vec();
            let mut data = counted(&self.mac);
            data.extend_from_slice(bytes);
            data.extend_from_slice(&variables(key, record.time_secs, FUDGE_SECS, record.error, &record.other));
            record.mac = hmac::sign(&key.secret, &data).as_ref().to_vec();
        }
        record.append_to(bytes);
    }
}

/// The answers to one request, each signed over the one before.
pub(super) struct Chain {
    key: TransferKey,
    /// The MAC before: at first the request's.
    previous: Vec<u8>,
    is_first: bool,
}

impl Chain {
    pub fn new(key: &TransferKey, request: &Tsig) -> Self {
        Chain { key: key.clone(), previous: request.mac.clone(), is_first: true }
    }

    /// Adds the record to a whole message.
    pub fn seal(&mut self, bytes: &mut Vec<u8>, unix_secs: u64) {
        let mut data = counted(&self.previous);
        data.extend_from_slice(bytes);
        match self.is_first {
            true => data.extend_from_slice(&variables(&self.key, unix_secs, FUDGE_SECS, 0, &[])),
            false => data.extend_from_slice(&timers(unix_secs, FUDGE_SECS)),
        }
        let mac = hmac::sign(&self.key.secret, &data).as_ref().to_vec();
        self.previous.clone_from(&mac);
        self.is_first = false;
        let record = Answered {
            name: NameKey::new(&self.key.name).as_bytes().to_vec(),
            algorithm: self.key.algorithm.wire().to_vec(),
            time_secs: unix_secs,
            error: 0,
            other: Vec::new(),
            mac,
        };
        record.append_to(bytes);
    }
}

/// The record of an answer. Names are in wire form, without the root.
struct Answered {
    name: Vec<u8>,
    algorithm: Vec<u8>,
    time_secs: u64,
    error: u16,
    other: Vec<u8>,
    mac: Vec<u8>,
}

impl Answered {
    /// `bytes` begins with a header whose id is the request's.
    fn append_to(&self, bytes: &mut Vec<u8>) {
        let Some(header) = bytes.first_chunk_mut::<HEADER_BYTES>() else { return };
        let id = [header[0], header[1]];
        let additionals = u16::from_be_bytes([header[10], header[11]]).saturating_add(1);
        header[10..].copy_from_slice(&additionals.to_be_bytes());
        let mut rdata = self.algorithm.clone();
        rdata.push(0);
        rdata.extend_from_slice(&timers(self.time_secs, FUDGE_SECS));
        rdata.extend_from_slice(&counted(&self.mac));
        rdata.extend_from_slice(&id);
        rdata.extend_from_slice(&self.error.to_be_bytes());
        rdata.extend_from_slice(&counted(&self.other));
        bytes.extend_from_slice(&self.name);
        bytes.push(0);
        bytes.extend_from_slice(&u16::from(RecordType::TSIG).to_be_bytes());
        bytes.extend_from_slice(&u16::from(DNSClass::ANY).to_be_bytes());
        bytes.extend_from_slice(&[0; 4]); // TTL
        bytes.extend_from_slice(&counted(&rdata));
    }
}

/// Section 4.3.3.
fn variables(key: &TransferKey, time_secs: u64, fudge_secs: u16, error: u16, other: &[u8]) -> Vec<u8> {
    let mut data = NameKey::new(&key.name).as_bytes().to_vec();
    data.push(0);
    data.extend_from_slice(&u16::from(DNSClass::ANY).to_be_bytes());
    data.extend_from_slice(&[0; 4]); // TTL
    data.extend_from_slice(key.algorithm.wire());
    data.push(0);
    data.extend_from_slice(&timers(time_secs, fudge_secs));
    data.extend_from_slice(&error.to_be_bytes());
    data.extend_from_slice(&counted(other));
    data
}

/// 48 bits of time, 16 of fudge.
fn timers(time_secs: u64, fudge_secs: u16) -> [u8; 8] {
    (time_secs << 16 | u64::from(fudge_secs)).to_be_bytes()
}

/// With two bytes of length before.
fn counted(bytes: &[u8]) -> Vec<u8> {
    let mut counted = (bytes.len() as u16).to_be_bytes().to_vec();
    counted.extend_from_slice(bytes);
    counted
}

fn read_counted(decoder: &mut BinDecoder<'_>) -> Result<Vec<u8>, DecodeError> {
    let length = decoder.read_u16()?.unverified(/* more than there is is refused by the next line */);
    Ok(decoder.read_slice(length.into())?.unverified(/* any is read */).to_vec())
}
