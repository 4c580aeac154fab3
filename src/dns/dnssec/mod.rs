//! DNSSEC for the internal zone, signed as it is asked for (RFC 4033 to 4035).
//!
//! ```text
//!   asker sets DO ──> reply as without DNSSEC ──> one RRSIG per RRset of the zone ──> reply
//!                                             └─> negative: one NSEC for the very name, and its RRSIG
//! ```
//!
//! The zone differs for every asker, so there is nothing to sign beforehand. One key signs everything (a CSK, flags 257;
//! ECDSA P-256, algorithm 13 of RFC 6605); its DS is what operators put into validating resolvers as a trust anchor.
//! A signature depends on nothing but the key, the records and the day, so it is kept under the hash of these
//! ([`sign::Signatures`]): a name that is asked for often is signed once a day.
//!
//! Negative answers are compact denials of existence (RFC 9824): the NSEC has the name that was asked for, its next name is
//! the immediate successor, and a name that does not exist has the type NXNAME. No other name of the zone is ever told, and
//! a name that the asker has no grant for is denied by the very same records as one that does not exist. With DO such an
//! answer is NOERROR, unless the asker says that it understands (the CO flag).
//!
//! Not signed: the reverse zones. They lie below `in-addr.arpa` and `ip6.arpa`, have no DS, and so no validator expects it.

mod canonical;
mod key;
mod nsec;
mod sign;

#[cfg(test)]
mod tests;
#[cfg(test)]
mod validator;

pub use key::{KeyError, SigningKey, generate_key};
pub use sign::{SignatureCounts, SignatureLimits, Signatures};

/// RFC 9824 section 2: no such name. Only ever in an NSEC's types.
pub(super) const NXNAME: u16 = 128;
