//! An upstream's answer, in the asker's own terms.
//!
//! ```text
//!   b's resolver says       img.b.local.  A      192.168.1.20      b's own address
//!   a, who is granted it    img.b.local.  A      100.64.2.20       b's alias in a's view
//!   b itself                img.b.local.  A      192.168.1.20      unchanged
//!   c, who is not           img.b.local.  NODATA + EDE 18
//! ```
//!
//! What an address means is decided by who said it. Of a realm's resolver it is that realm's native address, or one that
//! the realm sees somebody else under; it goes through the mapping and past the grants, or it is left out with a
//! [`Note`]. Of an outside upstream it is a public address: private ones are left out (DNS rebinding), and those of an
//! attached IPv6 network need a grant. Types that could carry an address in a form that is not understood here are left
//! out too, so that none of another realm's addresses leaves by a side door.

use std::iter;
use std::net::{IpAddr, Ipv4Addr};

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::rdata::svcb::{IpHint, Mandatory, SVCB, SvcParamKey, SvcParamValue};
use hickory_proto::rr::rdata::{A, AAAA, HTTPS};
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};

use super::message::ede;
use super::resolve::Asker;
use super::zone::{ADDRESS_TTL_SECS, NEGATIVE_TTL_SECS, Zone};
use crate::net::RealmId;
use crate::net::mapping::Located;
use crate::net::special_purpose::{refusal, refusal4};

/// Names on the way from the one that was asked for to its addresses. More are a loop or a joke.
pub(super) const MAX_CHAIN: usize = 12;
/// Records taken from each section of an answer.
const MAX_RECORDS: usize = 256;
/// The longest time for which a name's absence is remembered (RFC 2308 section 5 recommends hours; here somebody may be
/// waiting for a host that was just added).
const MAX_NEGATIVE_TTL_SECS: u32 = 300;

/// Why something is missing in an answer.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Note {
    /// There is an address, and no grant leads to it.
    NotGranted,
    /// There is an address, and the asker's view has none for it.
    NotMapped,
    /// An outside upstream answered with an inside address.
    Rebinding,
    /// The chain of aliases has no end.
    Loop,
    /// The chain of aliases leads to a name that nobody here is asked for.
    NoRoute,
    /// No resolver answered in time.
    NoAnswer,
    /// No resolver could be reached, or none gave an answer that can be used.
    Unusable,
    /// More is being asked than there is room for.
    Busy,
    /// The asker is the resolver that would be asked.
    Circle,
}

impl Note {
    /// RFC 8914 section 4.
    pub(super) fn code(self) -> u16 {
        match self {
            Note::NotGranted => ede::PROHIBITED,
            Note::NotMapped | Note::Rebinding => ede::FILTERED,
            Note::Loop | Note::Busy | Note::Circle => ede::OTHER,
            Note::NoRoute | Note::NoAnswer => ede::NO_REACHABLE_AUTHORITY,
            Note::Unusable => ede::NETWORK_ERROR,
        }
    }

    /// For the person who wonders why. Names no address and no realm but the asker's.
    pub(super) fn text(self, zone: &Zone, asker: RealmId) -> String {
        let realm = zone.realm_name(asker);
        match self {
            Note::NotGranted => format!("An address is left out: no grant lets realm {realm} reach it."),
            Note::NotMapped => format!("A record is left out: realm {realm} has no address for what it names."),
            Note::Rebinding => "A private address is left out: an outside resolver may not name one.".to_owned(),
            Note::Loop => "The name's aliases do not come to an end.".to_owned(),
            Note::NoRoute => "The name is an alias of one that no resolver is configured for.".to_owned(),
            Note::NoAnswer => "None of the domain's resolvers answered in time.".to_owned(),
            Note::Unusable => "None of the domain's resolvers could be reached or gave a usable answer.".to_owned(),
            Note::Busy => "Too many names are being asked for; try again.".to_owned(),
            Note::Circle => "This resolver is the one that would be asked for the name.".to_owned(),
        }
    }
}

/// What was asked upstream.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    pub(super) name: Name,
    /// Of the question that went out.
    pub(super) record_type: RecordType,
    /// Of the question that came in: not the same when addresses of one IP version are made from the other's.
    pub(super) wanted: RecordType,
    pub(super) dnssec_ok: bool,
}

/// How far an answer leads.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum End {
    /// To the records that were asked for, or to what is left of them.
    Answered,
    /// There are none.
    Negative(ResponseCode),
    /// To another name, which is to be looked up anew.
    Alias(Name),
    Loop,
}

#[derive(Clone, Debug)]
pub(super) struct Rewritten {
    pub(super) answers: Vec<Record>,
    pub(super) authorities: Vec<Record>,
    pub(super) additionals: Vec<Record>,
    pub(super) note: Option<Note>,
    pub(super) end: End,
}

/// Who asks, and who said it.
#[derive(Clone, Copy)]
pub(super) struct Lens<'a> {
    pub(super) asker: Asker<'a>,
    /// `None`: an upstream outside all realms.
    pub(super) owner: Option<RealmId>,
    pub(super) zone: &'a Zone,
}

/// `stays` says whether an alias's target is still the same upstream's business.
pub(super) fn rewrite(message: &Message, asked: &Asked, lens: Lens<'_>, stays: impl Fn(&Name) -> bool) -> Rewritten {
    if lens.is_own() {
        return unchanged(message);
    }
    let mut out =
        Rewritten { answers: Vec::new(), authorities: Vec::new(), additionals: Vec::new(), note: None, end: End::Loop };
    let mut name = asked.name.clone();
    for step in 0..MAX_CHAIN {
        let at_name = || in_class(&message.answers).filter(|record| record.name == name);
        if at_name().any(|record| record.record_type() == asked.record_type) {
            out.take_set(at_name(), asked, lens);
            out.take_additionals(message, lens, &stays);
            out.end = End::Answered;
            return out;
        }
        let alias = at_name().find_map(|record| match &record.data {
            RData::CNAME(target) => Some((record.clone(), target.0.clone())),
            _ => None,
        });
        let Some((record, target)) = alias else {
            let soa = in_class(&message.authorities).any(|record| record.record_type() == RecordType::SOA);
            out.end = match message.metadata.response_code {
                // The upstream gave the alias and not what is behind it.
                ResponseCode::NoError if step > 0 && !soa => End::Alias(name),
                code => End::Negative(code),
            };
            out.take_authorities(message, asked, lens);
            return out;
        };
        let signatures = at_name().filter(|record| is_signature_of(record, RecordType::CNAME));
        out.answers.push(record);
        out.answers.extend(signatures.filter(|_| asked.dnssec_ok && lens.owner.is_none()).take(4).cloned());
        name = target;
        if !stays(&name) {
            out.end = End::Alias(name);
            return out;
        }
    }
    out
}

/// The realm's own resolver answers the realm: whatever it says, without what belongs to the hop.
fn unchanged(message: &Message) -> Rewritten {
    let copy = |section: &[Record]| in_class(section).take(MAX_RECORDS).cloned().collect();
    let code = message.metadata.response_code;
    Rewritten {
        answers: copy(&message.answers),
        authorities: copy(&message.authorities),
        additionals: copy(&message.additionals),
        note: None,
        end: match message.answers.is_empty() || code != ResponseCode::NoError {
            true => End::Negative(code),
            false => End::Answered,
        },
    }
}

fn in_class(section: &[Record]) -> impl Iterator<Item = &Record> + Clone {
    section.iter().filter(|record| record.dns_class == DNSClass::IN)
}

/// RFC 4034 section 3.1: the type that is covered comes first.
fn is_signature_of(record: &Record, covered: RecordType) -> bool {
    match &record.data {
        RData::Unknown { code: RecordType::RRSIG, rdata } => {
            rdata.anything.first_chunk().is_some_and(|covers| u16::from_be_bytes(*covers) == u16::from(covered))
        }
        _ => false,
    }
}

impl Rewritten {
    /// The records of the type that was asked for, at the end of the chain.
    fn take_set<'a>(&mut self, at_name: impl Iterator<Item = &'a Record> + Clone, asked: &Asked, lens: Lens<'_>) {
        let mut is_as_signed = true;
        let is_other_version = asked.record_type != asked.wanted;
        if is_other_version && at_name.clone().any(|record| lens.leads_directly(record)) {
            return; // translation is for those who have no other way
        }
        for record in at_name.clone().filter(|record| record.record_type() == asked.record_type).take(MAX_RECORDS) {
            match lens.record(record, asked.wanted) {
                Ok(rewritten) => {
                    is_as_signed &= rewritten.data == record.data;
                    self.answers.push(rewritten);
                }
                Err(note) => {
                    is_as_signed = false;
                    self.leave_out(note);
                }
            }
        }
        if is_as_signed && asked.dnssec_ok && lens.owner.is_none() {
            let signatures = at_name.filter(|record| is_signature_of(record, asked.record_type));
            self.answers.extend(signatures.take(8).cloned());
        }
    }

    /// Addresses that save the asker a question. What cannot be shown is left out without a word: nobody asked for it.
    fn take_additionals(&mut self, message: &Message, lens: Lens<'_>, stays: &impl Fn(&Name) -> bool) {
        let useful = in_class(&message.additionals)
            .filter(|record| matches!(record.record_type(), RecordType::A | RecordType::AAAA) && stays(&record.name));
        self.additionals.extend(useful.take(MAX_RECORDS).filter_map(|r| lens.record(r, r.record_type()).ok()));
    }

    /// Of a negative answer: its SOA, and outside all realms the proofs that go with it.
    fn take_authorities(&mut self, message: &Message, asked: &Asked, lens: Lens<'_>) {
        let proves = |record: &Record| {
            let proof = matches!(record.record_type(), RecordType::NSEC | RecordType::NSEC3 | RecordType::RRSIG);
            proof && asked.dnssec_ok && lens.owner.is_none()
        };
        let kept = in_class(&message.authorities)
            .filter(|record| record.record_type() == RecordType::SOA || proves(record))
            .take(MAX_RECORDS);
        self.authorities.extend(kept.cloned().map(|mut record| {
            // RFC 2308 section 5.
            let minimum = if let RData::SOA(soa) = &record.data { soa.minimum } else { u32::MAX };
            record.ttl = record.ttl.min(minimum).min(MAX_NEGATIVE_TTL_SECS);
            record
        }));
    }

    fn leave_out(&mut self, note: Note) {
        self.note = self.note.into_iter().chain([note]).min();
    }
}

impl Lens<'_> {
    fn is_own(self) -> bool {
        self.owner == Some(self.asker.realm)
    }

    /// One record as the asker may have it.
    pub(super) fn record(self, record: &Record, wanted: RecordType) -> Result<Record, Note> {
        let wants_v4 = wanted == RecordType::A;
        let data = match &record.data {
            RData::A(a) => address_record(self.address(a.0.into(), wants_v4)?),
            RData::AAAA(a) => address_record(self.address(a.0.into(), wants_v4)?),
            RData::SVCB(svcb) => RData::SVCB(self.service(svcb)),
            RData::HTTPS(https) => RData::HTTPS(HTTPS(self.service(&https.0))),
            other if self.owner.is_none() || is_free_of_addresses(other) => other.clone(),
            _ => return Err(Note::NotMapped),
        };
        let mut rewritten = record.clone();
        rewritten.data = data;
        if rewritten.data != record.data {
            // The mapping may change with the next configuration.
            rewritten.ttl = rewritten.ttl.min(ADDRESS_TTL_SECS);
        }
        Ok(rewritten)
    }

    /// What the asker may open a connection to, in the IP version that it wants.
    pub(super) fn address(self, addr: IpAddr, wants_v4: bool) -> Result<IpAddr, Note> {
        let Some(owner) = self.owner else {
            return self.public(addr).and_then(|addr| match addr.is_ipv4() == wants_v4 {
                true => Ok(addr),
                false => Err(Note::NotMapped),
            });
        };
        if self.is_own() {
            return Ok(addr);
        }
        let mapping = self.asker.mapping;
        let at = mapping.locate_native(owner, addr).or_else(|| mapping.locate_seen_by(owner, addr));
        let at = at.ok_or(Note::NotMapped)?;
        match self.asker.reaches(at) {
            true => self.seen(at, wants_v4).ok_or(Note::NotMapped),
            false => Err(Note::NotGranted),
        }
    }

    /// Whether the asker has an address of this host's own IP version, and may open a connection to it.
    fn leads_directly(self, record: &Record) -> bool {
        match &record.data {
            RData::A(a) => self.address(a.0.into(), true).is_ok(),
            RData::AAAA(a) => self.address(a.0.into(), false).is_ok(),
            _ => false,
        }
    }

    /// By the rules of the internal zone.
    fn seen(self, at: Located, wants_v4: bool) -> Option<IpAddr> {
        self.asker.addresses_of(iter::once(at)).into_iter().find(|addr| addr.is_ipv4() == wants_v4)
    }

    /// An address that an outside upstream gave.
    fn public(self, addr: IpAddr) -> Result<IpAddr, Note> {
        let is_inside = match embedded_v4(addr) {
            Some(v4) => refusal4(v4).is_some() || self.zone.alias4.iter().any(|pool| pool.contains(&v4)),
            None => refusal(addr).is_some(),
        };
        if is_inside {
            return Err(Note::Rebinding);
        }
        let IpAddr::V6(v6) = addr else { return Ok(addr) };
        let mapping = self.asker.mapping;
        if mapping.space6().contains(v6) {
            return Err(Note::Rebinding);
        }
        match mapping.locate_canonical(v6.into()) {
            Some(at) if !self.asker.reaches(at) => Err(Note::NotGranted),
            _ => Ok(addr),
        }
    }

    /// RFC 9460 section 7.3. A hint that is left out costs a lookup; a key that is missing must not stay mandatory
    /// (section 8).
    fn service(self, svcb: &SVCB) -> SVCB {
        let hints = svcb.svc_params.iter().flat_map(|(_, value)| match value {
            SvcParamValue::Ipv4Hint(hint) => hint.0.iter().map(|a| IpAddr::V4(a.0)).collect(),
            SvcParamValue::Ipv6Hint(hint) => hint.0.iter().map(|a| IpAddr::V6(a.0)).collect(),
            _ => Vec::new(),
        });
        let hints: Vec<IpAddr> = hints.take(MAX_RECORDS).collect();
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for hint in hints {
            let both = [self.address(hint, true), self.address(hint, false)];
            for addr in both.into_iter().flatten() {
                match addr {
                    IpAddr::V4(addr) if !v4.contains(&A(addr)) => v4.push(A(addr)),
                    IpAddr::V6(addr) if !v6.contains(&AAAA(addr)) => v6.push(AAAA(addr)),
                    _ => {}
                }
            }
        }
        let is_hint = |key: &SvcParamKey| matches!(key, SvcParamKey::Ipv4Hint | SvcParamKey::Ipv6Hint);
        let mut params: Vec<_> = svcb.svc_params.iter().filter(|(key, _)| !is_hint(key)).cloned().collect();
        if !v4.is_empty() {
            params.push((SvcParamKey::Ipv4Hint, SvcParamValue::Ipv4Hint(IpHint(v4))));
        }
        if !v6.is_empty() {
            params.push((SvcParamKey::Ipv6Hint, SvcParamValue::Ipv6Hint(IpHint(v6))));
        }
        let there: Vec<SvcParamKey> = params.iter().map(|(key, _)| *key).collect();
        params.retain_mut(|(_, value)| match value {
            SvcParamValue::Mandatory(Mandatory(keys)) => {
                keys.retain(|key| there.contains(key));
                !keys.is_empty()
            }
            _ => true,
        });
        // In the order of their numbers (RFC 9460 section 2.2).
        params.sort_by_key(|(key, _)| u16::from(*key));
        SVCB::new(svcb.svc_priority, svcb.target_name.clone(), params)
    }
}

fn address_record(addr: IpAddr) -> RData {
    match addr {
        IpAddr::V4(addr) => RData::A(A(addr)),
        IpAddr::V6(addr) => RData::AAAA(AAAA(addr)),
    }
}

/// Types that hold names, texts and keys. What is not listed may hold an address (APL, WKS, IPSECKEY, AMTRELAY, L32 ...).
fn is_free_of_addresses(data: &RData) -> bool {
    /// RP, LOC, SPF, URI.
    const NUMBERS: [u16; 4] = [17, 29, 99, 256];
    match data {
        RData::CNAME(_) | RData::NS(_) | RData::MX(_) | RData::PTR(_) | RData::SRV(_) | RData::NAPTR(_) => true,
        RData::TXT(_) | RData::HINFO(_) | RData::SOA(_) | RData::CAA(_) | RData::CERT(_) | RData::CSYNC(_) => true,
        RData::TLSA(_) | RData::SMIMEA(_) | RData::SSHFP(_) | RData::OPENPGPKEY(_) => true,
        RData::Unknown { code, .. } => match code {
            RecordType::DNAME | RecordType::DS | RecordType::CDS | RecordType::DNSKEY | RecordType::CDNSKEY => true,
            code => NUMBERS.contains(&u16::from(*code)),
        },
        _ => false,
    }
}

/// The IPv4 address that an address is, or leads to through a NAT64 (64:ff9b::/96, RFC 6052).
fn embedded_v4(addr: IpAddr) -> Option<Ipv4Addr> {
    const NAT64: u128 = 0x0064_ff9b << 96;
    match addr {
        IpAddr::V4(addr) => Some(addr),
        IpAddr::V6(addr) => (addr.to_bits() >> 32 == NAT64 >> 32).then(|| Ipv4Addr::from_bits(addr.to_bits() as u32)),
    }
}

/// For answers that have no SOA to say it.
pub(super) const EMPTY_TTL_SECS: u32 = NEGATIVE_TTL_SECS;
