//! classify: realm of the tunnel; the source must belong to it; both addresses become canonical.
//!
//! Fragments wait here until their datagram is whole ([`super::fragment`]).
//!
//! Drops: InnerMalformed, OptionNotServed, SourceNotInRealm, DestinationNotUnicast,
//! DestinationUnknown, FamilyMismatch, SourceHasNoAlias.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::nat::Reassembler;
use crate::net::Timestamp;
use crate::net::mapping::Mapping;
use crate::packet::{Batch, DropReason, Meta};
use crate::wire::headers::{self, HeaderError, Headers};

use super::fragment::{self, Taken};

pub(super) fn classify(batch: &mut Batch, mapping: &Mapping, reassembler: &mut Reassembler, now: Timestamp) {
    for (meta, bytes) in batch.live_mut() {
        let classified = match headers::parse(bytes) {
            Ok(headers) => classify_one(meta, headers, mapping),
            Err(HeaderError::Fragment) => classify_fragment(meta, bytes, mapping, reassembler, now),
            Err(error) => Err(reason_of(error)),
        };
        if let Err(reason) = classified {
            meta.drop(reason);
        }
    }
}

fn reason_of(error: HeaderError) -> DropReason {
    match error {
        HeaderError::Malformed => DropReason::InnerMalformed,
        HeaderError::Fragment => DropReason::FragmentInvalid, // one inside another
        HeaderError::Option => DropReason::OptionNotServed,
    }
}

#[cold]
fn classify_fragment(
    meta: &mut Meta,
    bytes: &mut [u8],
    mapping: &Mapping,
    reassembler: &mut Reassembler,
    now: Timestamp,
) -> Result<(), DropReason> {
    match fragment::take(meta, bytes, mapping, reassembler, now)? {
        Taken::Kept => Ok(()),
        Taken::Unwrapped => classify_one(meta, headers::parse(bytes).map_err(reason_of)?, mapping),
    }
}

#[inline]
fn classify_one(meta: &mut Meta, headers: Headers, mapping: &Mapping) -> Result<(), DropReason> {
    meta.headers = headers;
    match (meta.headers.source, meta.headers.destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => classify_v4(meta, source, destination, mapping),
        (IpAddr::V6(source), IpAddr::V6(destination)) => classify_v6(meta, source, destination, mapping),
        _ => Err(DropReason::InnerMalformed), // no header holds two families
    }
}

/// The commonest way by far: kept apart, so that it works on plain integers.
#[inline]
fn classify_v4(meta: &mut Meta, source: Ipv4Addr, destination: Ipv4Addr, mapping: &Mapping) -> Result<(), DropReason> {
    meta.source = mapping.locate_native4(meta.realm, source).ok_or(DropReason::SourceNotInRealm)?;
    if destination.is_multicast() || destination.is_broadcast() || destination.is_unspecified() {
        return Err(DropReason::DestinationNotUnicast);
    }
    meta.destination = mapping.locate_alias(meta.realm, destination).ok_or(DropReason::DestinationUnknown)?;
    if meta.destination.realm.is_ix() {
        return Ok(()); // the IX's own stack speaks canonical addresses, in either family
    }
    // Only IPv4 hosts have aliases, and their canonical addresses end in their own.
    let native = Ipv4Addr::from_bits(meta.destination.canonical.0 as u32);
    let alias = mapping.seen_by4(meta.destination.realm, meta.source).ok_or(DropReason::SourceHasNoAlias)?;
    meta.shown.destination = IpAddr::V4(native);
    meta.shown.source = IpAddr::V4(alias);
    Ok(())
}

fn classify_v6(meta: &mut Meta, source: Ipv6Addr, destination: Ipv6Addr, mapping: &Mapping) -> Result<(), DropReason> {
    meta.source = mapping.locate_native6(meta.realm, source).ok_or(DropReason::SourceNotInRealm)?;
    if destination.is_multicast() || destination.is_unspecified() || destination.is_unicast_link_local() {
        return Err(DropReason::DestinationNotUnicast);
    }
    meta.destination = mapping.locate_canonical(destination.into()).ok_or(DropReason::DestinationUnknown)?;
    if meta.destination.realm.is_ix() {
        return Ok(());
    }
    meta.shown.destination = mapping.native_of(meta.destination);
    if meta.shown.destination.is_ipv4() {
        return Err(DropReason::FamilyMismatch);
    }
    meta.shown.source = mapping.seen_by(meta.destination.realm, meta.source).ok_or(DropReason::SourceHasNoAlias)?;
    Ok(())
}
