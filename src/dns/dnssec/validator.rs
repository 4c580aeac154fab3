//! A validator for tests, from the RFCs alone: it reads the wire by itself, shares no code with the signer, and verifies
//! with the library's public half.

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};

/// One record: names in wire form with the root, in lower case and written out.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Rr {
    pub section: usize,
    pub owner: Vec<u8>,
    pub rtype: u16,
    pub ttl: u32,
    pub rdata: Vec<u8>,
}

/// What a validated NSEC says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Denial {
    pub owner: Vec<u8>,
    pub next: Vec<u8>,
    pub types: Vec<u16>,
}

#[derive(Debug)]
pub struct Message<'a> {
    bytes: &'a [u8],
    pub rcode: u8,
    pub truncated: bool,
    pub rrs: Vec<Rr>,
}

fn number(bytes: &[u8], at: usize) -> usize {
    usize::from(bytes[at]) << 8 | usize::from(bytes[at + 1])
}

impl<'a> Message<'a> {
    pub fn read(bytes: &'a [u8]) -> Self {
        let mut message = Message { bytes, rcode: bytes[3] & 15, truncated: bytes[2] & 2 != 0, rrs: Vec::new() };
        let mut at = 12;
        for _ in 0..number(bytes, 4) {
            at = message.name(at).1 + 4;
        }
        for section in 0..3 {
            for _ in 0..number(bytes, 6 + 2 * section) {
                let (owner, after) = message.name(at);
                let rtype = number(bytes, after) as u16;
                let ttl = (number(bytes, after + 4) << 16 | number(bytes, after + 6)) as u32;
                let begin = after + 10;
                at = begin + number(bytes, after + 8);
                let rdata = match rtype {
                    2 | 5 | 12 => message.name(begin).0,
                    6 => {
                        let (mname, after) = message.name(begin);
                        let (rname, after) = message.name(after);
                        [&mname, &rname, &bytes[after..at]].concat()
                    }
                    _ => bytes[begin..at].to_vec(),
                };
                if rtype != 41 {
                    message.rrs.push(Rr { section, owner, rtype, ttl, rdata });
                }
            }
        }
        assert_eq!(at, bytes.len());
        message
    }

    fn name(&self, mut at: usize) -> (Vec<u8>, usize) {
        let (mut name, mut end) = (Vec::new(), None);
        loop {
            let len = usize::from(self.bytes[at]);
            if len >= 0xc0 {
                end = end.or(Some(at + 2));
                at = number(self.bytes, at) & 0x3fff;
                continue;
            }
            name.extend(self.bytes[at..=at + len].iter().map(u8::to_ascii_lowercase));
            at += 1 + len;
            if len == 0 {
                return (name, end.unwrap_or(at));
            }
        }
    }

    /// Every set of the zone but signatures has a signature that holds now. The NSECs among them.
    pub fn validate(&self, origin: &[u8], dnskey: &[u8], now: u32) -> Result<Vec<Denial>, String> {
        let mut denials = Vec::new();
        let ours = |rr: &&Rr| rr.owner.ends_with(origin) && rr.rtype != 46;
        for rr in self.rrs.iter().filter(ours) {
            let set: Vec<&Rr> = self
                .rrs
                .iter()
                .filter(|other| (other.section, &other.owner, other.rtype) == (rr.section, &rr.owner, rr.rtype))
                .collect();
            let covers = |sig: &&Rr| {
                sig.rtype == 46
                    && (sig.section, &sig.owner) == (rr.section, &rr.owner)
                    && number(&sig.rdata, 0) == usize::from(rr.rtype)
            };
            let sigs: Vec<&Rr> = self.rrs.iter().filter(covers).collect();
            let [sig] = sigs[..] else { return Err(format!("{} signatures for {rr:?}", sigs.len())) };
            check(sig, &set, origin, dnskey, now)?;
            if rr.rtype == 47 {
                denials.push(denial(rr));
            }
        }
        Ok(denials)
    }

    /// What the answer section has of a type.
    pub fn answers(&self, rtype: u16) -> Vec<Vec<u8>> {
        self.rrs.iter().filter(|rr| rr.section == 0 && rr.rtype == rtype).map(|rr| rr.rdata.clone()).collect()
    }
}

/// RFC 4035 section 5.3.
fn check(sig: &Rr, set: &[&Rr], origin: &[u8], dnskey: &[u8], now: u32) -> Result<(), String> {
    let rdata = &sig.rdata;
    let word = |at: usize| u32::from_be_bytes(rdata[at..at + 4].try_into().unwrap());
    let (algorithm, labels, ttl, expiration, inception) = (rdata[2], rdata[3], word(4), word(8), word(12));
    let tag = number(rdata, 16);
    let (signer, signature) = rdata[18..].split_at(origin.len());
    let (mut rest, mut count) = (&sig.owner[..], 0);
    while rest[0] != 0 {
        rest = &rest[1 + usize::from(rest[0])..];
        count += 1;
    }
    let sum: usize = dnskey.chunks(2).map(|pair| usize::from(pair[0]) << 8 | usize::from(pair[1])).sum();
    if algorithm != 13 || dnskey[..4] != [1, 1, 3, 13] || tag != (sum + (sum >> 16)) & 0xffff {
        return Err("another key".into());
    }
    if signer != origin || labels != count || set.iter().any(|rr| rr.ttl > ttl || rr.ttl != sig.ttl) {
        return Err(format!("another signer, number of labels or TTL: {sig:?} for {set:?}"));
    }
    if now < inception || now > expiration {
        return Err(format!("not in {inception}..{expiration}"));
    }
    let mut data = rdata[..18 + origin.len()].to_vec();
    let mut rdatas: Vec<&[u8]> = set.iter().map(|rr| &rr.rdata[..]).collect();
    rdatas.sort();
    for other in rdatas {
        data.extend(&sig.owner);
        data.extend(set[0].rtype.to_be_bytes());
        data.extend(1u16.to_be_bytes());
        data.extend(ttl.to_be_bytes());
        data.extend((other.len() as u16).to_be_bytes());
        data.extend(other);
    }
    let public = [&[4], &dnskey[4..]].concat();
    UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, public)
        .verify(&data, signature)
        .map_err(|_| format!("a bad signature of {set:?}"))
}

fn denial(rr: &Rr) -> Denial {
    let mut at = 0;
    while rr.rdata[at] != 0 {
        at += 1 + usize::from(rr.rdata[at]);
    }
    let (next, bitmap) = rr.rdata.split_at(at + 1);
    assert_eq!((bitmap[0], usize::from(bitmap[1])), (0, bitmap.len() - 2), "one window");
    let types = (0..8 * (bitmap.len() - 2)).filter(|bit| bitmap[2 + bit / 8] & (0x80 >> (bit % 8)) != 0);
    Denial { owner: rr.owner.clone(), next: next.to_vec(), types: types.map(|bit| bit as u16).collect() }
}
