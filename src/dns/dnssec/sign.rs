//! Signing a reply, and remembering signatures.

use std::collections::HashMap;
use std::mem;

use aws_lc_rs::digest::{Context, SHA256};
use hickory_proto::op::ResponseCode;
use hickory_proto::rr::rdata::NULL;
use hickory_proto::rr::{Name, RData, Record, RecordType};

use super::canonical::{self, Validity};
use super::key::{SIGNATURE_BYTES, SigningKey};
use super::{NXNAME, nsec};
use crate::dns::key::NameKey;
use crate::dns::message::{Reply, Request, ede};
use crate::dns::resolve::{Asker, Outcome};
use crate::dns::zone::{NEGATIVE_TTL_SECS, Zone};
use crate::net::RealmId;

/// Signatures made in one period are the same ...
const PERIOD_SECS: u64 = 86_400;
/// ... valid from a little earlier, for validators whose clocks are slow ...
const EARLIER_SECS: u64 = 3_600;
/// ... to the end of the following period: between one and two days are left when an answer is given.
const LATER_SECS: u64 = 2 * PERIOD_SECS;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SignatureLimits {
    /// Signatures remembered.
    pub entries: usize,
    /// Made per second for one realm; each takes some tens of microseconds of the packet path's time.
    pub per_sec_per_realm: u32,
}

/// Since the start.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct SignatureCounts {
    pub made: u64,
    /// Found among those made before.
    pub reused: u64,
    /// Answers that were SERVFAIL instead, because the realm had used up its share of the second.
    pub refused: u64,
}

/// Signatures that were made, in two halves: when the younger is full it becomes the older, and what was in that is
/// forgotten. What is asked for again moves to the younger.
#[derive(Debug)]
pub struct Signatures {
    limits: SignatureLimits,
    young: HashMap<Digest, Signature>,
    old: HashMap<Digest, Signature>,
    /// Made in this second, by realm: no more of these than there are realms.
    spent: HashMap<RealmId, (u64, u32)>,
    counts: SignatureCounts,
}

/// SHA-256 of the public key and of the data: whatever has the same has the same signature, in every view.
type Digest = [u8; 32];
type Signature = [u8; SIGNATURE_BYTES];

/// Why there is no signature.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Unsigned {
    TooMany,
    Failed,
}

impl Signatures {
    pub fn new(limits: SignatureLimits) -> Self {
        Signatures {
            limits,
            young: HashMap::new(),
            old: HashMap::new(),
            spent: HashMap::new(),
            counts: SignatureCounts::default(),
        }
    }

    pub fn counts(&self) -> SignatureCounts {
        self.counts
    }

    /// How many are remembered.
    pub fn len(&self) -> usize {
        self.young.len() + self.old.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Adds what a validator needs to the parts of a reply that are this zone's, when the asker wants it and the zone has a
    /// key. `unix_secs`: the date.
    pub(in crate::dns) fn sign(
        &mut self,
        zone: &Zone,
        asker: Asker<'_>,
        unix_secs: u64,
        request: &Request,
        reply: &mut Reply,
    ) {
        let Some(key) = zone.key.as_deref().filter(|_| request.is_dnssec_ok()) else { return };
        let mut signer = Signer { signatures: self, zone, key, realm: asker.realm, unix_secs };
        match signer.sign(asker, request, reply) {
            Ok(()) => {}
            Err(Unsigned::TooMany) => {
                self.counts.refused += 1;
                reply.fail(ede::OTHER, || "Too many new signatures in a second.".to_owned());
            }
            Err(Unsigned::Failed) => reply.fail(ede::OTHER, || "The answer cannot be signed.".to_owned()),
        }
    }

    fn find(&mut self, digest: &Digest) -> Option<Signature> {
        if let Some(signature) = self.young.get(digest) {
            return Some(*signature);
        }
        let signature = self.old.remove(digest)?;
        self.insert(*digest, signature);
        Some(signature)
    }

    fn insert(&mut self, digest: Digest, signature: Signature) {
        if self.young.len() >= self.limits.entries.div_ceil(2) {
            self.old = mem::take(&mut self.young);
        }
        self.young.insert(digest, signature);
    }

    fn may_make_one(&mut self, realm: RealmId, unix_secs: u64) -> bool {
        let (second, count) = self.spent.entry(realm).or_insert((unix_secs, 0));
        if *second != unix_secs {
            (*second, *count) = (unix_secs, 0);
        }
        let may = *count < self.limits.per_sec_per_realm;
        *count += u32::from(may);
        may
    }
}

/// One reply's signing.
struct Signer<'a> {
    signatures: &'a mut Signatures,
    zone: &'a Zone,
    key: &'a SigningKey,
    realm: RealmId,
    unix_secs: u64,
}

impl Signer<'_> {
    fn sign(&mut self, asker: Asker<'_>, request: &Request, reply: &mut Reply) -> Result<(), Unsigned> {
        let question = &request.question;
        if request.is_compact_ok() {
            reply.set_compact_ok();
        }
        if reply.authorities.iter().any(|record| self.is_soa(record)) {
            let name = end_of_chain(question.name(), &reply.answers);
            let nsec = self.denial(asker, &name, reply.metadata.response_code);
            if reply.metadata.response_code == ResponseCode::NXDomain && !request.is_compact_ok() {
                reply.metadata.response_code = ResponseCode::NoError;
            }
            match question.query_type() {
                // It exists after all, now that it was asked for.
                RecordType::NSEC if reply.answers.is_empty() => {
                    reply.authorities.clear();
                    reply.answers.push(nsec);
                }
                // RFC 8482 section 4.1: one of them is enough.
                RecordType::RRSIG if reply.answers.is_empty() => {
                    reply.authorities.clear();
                    reply.answers.push(self.rrsig(&[&nsec])?);
                    return Ok(());
                }
                _ => reply.authorities.push(nsec),
            }
        }
        reply.answers = self.with_signatures(mem::take(&mut reply.answers))?;
        reply.authorities = self.with_signatures(mem::take(&mut reply.authorities))?;
        Ok(())
    }

    /// The SOA record of a negative answer out of the signed zone. Those of reverse zones are not.
    fn is_soa(&self, record: &Record) -> bool {
        record.record_type() == RecordType::SOA && self.zone.contains(&NameKey::new(&record.name))
    }

    /// The NSEC of a name without what it was asked for.
    fn denial(&self, asker: Asker<'_>, name: &Name, code: ResponseCode) -> Record {
        let key = NameKey::new(name);
        let mut types = vec![RecordType::RRSIG.into(), RecordType::NSEC.into()];
        match code {
            ResponseCode::NXDomain => types.push(NXNAME),
            _ => types.extend(self.types_at(asker, name)),
        }
        let rdata = NULL::with(nsec::rdata(&key, &self.zone.origin_key, &types));
        Record::from_rdata(name.clone(), NEGATIVE_TTL_SECS, RData::Unknown { code: RecordType::NSEC, rdata })
    }

    /// What the asker could have asked for.
    fn types_at(&self, asker: Asker<'_>, name: &Name) -> impl Iterator<Item = u16> {
        [RecordType::A, RecordType::AAAA, RecordType::NS, RecordType::SOA, RecordType::DNSKEY]
            .into_iter()
            .filter(move |record_type| matches!(self.zone.resolve(asker, name, *record_type), Outcome::Answer(_)))
            .map(u16::from)
    }

    /// Those of other zones stay as they are, and come first: no alias leads out of this zone.
    fn with_signatures(&mut self, records: Vec<Record>) -> Result<Vec<Record>, Unsigned> {
        let (ours, mut signed): (Vec<Record>, Vec<Record>) =
            records.into_iter().partition(|record| self.zone.contains(&NameKey::new(&record.name)));
        for set in canonical::sets(&ours) {
            signed.extend(set.iter().map(|record| (*record).clone()));
            signed.push(self.rrsig(&set)?);
        }
        Ok(signed)
    }

    /// Of records with one name and type.
    fn rrsig(&mut self, set: &[&Record]) -> Result<Record, Unsigned> {
        let first = set.first().ok_or(Unsigned::Failed)?;
        let mut rdata = canonical::rrsig_head(first, &self.zone.origin, self.key, validity(self.unix_secs));
        let data = canonical::signed_data(&rdata, set).map_err(|_| Unsigned::Failed)?;
        rdata.extend_from_slice(&self.signature(&data)?);
        let rdata = NULL::with(rdata);
        // RFC 4034 section 3: the TTL is that of the set.
        Ok(Record::from_rdata(first.name.clone(), first.ttl, RData::Unknown { code: RecordType::RRSIG, rdata }))
    }

    fn signature(&mut self, data: &[u8]) -> Result<Signature, Unsigned> {
        let mut context = Context::new(&SHA256);
        context.update(self.key.public());
        context.update(data);
        let digest: Digest = context.finish().as_ref().try_into().map_err(|_| Unsigned::Failed)?;
        if let Some(signature) = self.signatures.find(&digest) {
            self.signatures.counts.reused += 1;
            return Ok(signature);
        }
        if !self.signatures.may_make_one(self.realm, self.unix_secs) {
            return Err(Unsigned::TooMany);
        }
        let signature = self.key.sign(data).ok_or(Unsigned::Failed)?;
        self.signatures.counts.made += 1;
        self.signatures.insert(digest, signature);
        Ok(signature)
    }
}

/// Where the aliases lead that stand before the end of an answer.
fn end_of_chain(name: &Name, answers: &[Record]) -> Name {
    let mut name = name.clone();
    for record in answers {
        if let RData::CNAME(target) = &record.data
            && record.name == name
        {
            name = target.0.clone();
        }
    }
    name
}

pub(super) fn validity(unix_secs: u64) -> Validity {
    let start = unix_secs - unix_secs % PERIOD_SECS;
    // Serial numbers: the cut to 32 bits is meant (RFC 4034 section 3.1.5).
    Validity { inception: start.saturating_sub(EARLIER_SECS) as u32, expiration: (start + LATER_SECS) as u32 }
}
