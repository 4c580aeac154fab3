//! classify: realm of the tunnel; the source must belong to it; both addresses become canonical.
//!
//! Drops: InnerMalformed, FragmentNotServed, OptionNotServed, SourceNotInRealm, DestinationNotUnicast,
//! DestinationUnknown, FamilyMismatch, SourceHasNoAlias.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::net::mapping::Mapping;
use crate::packet::{Batch, DropReason, Meta};
use crate::wire::headers::{self, HeaderError};

pub(super) fn classify(batch: &mut Batch, mapping: &Mapping) {
    for (meta, bytes) in batch.live_mut() {
        if let Err(reason) = classify_one(meta, bytes, mapping) {
            meta.drop(reason);
        }
    }
}

fn classify_one(meta: &mut Meta, bytes: &[u8], mapping: &Mapping) -> Result<(), DropReason> {
    meta.headers = headers::parse(bytes).map_err(|error| match error {
        HeaderError::Malformed => DropReason::InnerMalformed,
        HeaderError::Fragment => DropReason::FragmentNotServed,
        HeaderError::Option => DropReason::OptionNotServed,
    })?;
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
    translated(meta, mapping)
}

fn classify_v6(meta: &mut Meta, source: Ipv6Addr, destination: Ipv6Addr, mapping: &Mapping) -> Result<(), DropReason> {
    meta.source = mapping.locate_native6(meta.realm, source).ok_or(DropReason::SourceNotInRealm)?;
    if destination.is_multicast() || destination.is_unspecified() || destination.is_unicast_link_local() {
        return Err(DropReason::DestinationNotUnicast);
    }
    meta.destination = mapping.locate_canonical(destination.into()).ok_or(DropReason::DestinationUnknown)?;
    translated(meta, mapping)
}

/// The addresses that the destination realm is to see.
#[inline]
fn translated(meta: &mut Meta, mapping: &Mapping) -> Result<(), DropReason> {
    if meta.destination.realm.is_ix() {
        return Ok(()); // the IX's own stack speaks canonical addresses, in either family
    }
    meta.new_destination = mapping.native_of(meta.destination);
    if meta.new_destination.is_ipv6() != meta.headers.is_v6() {
        return Err(DropReason::FamilyMismatch);
    }
    meta.new_source = mapping.seen_by(meta.destination.realm, meta.source).ok_or(DropReason::SourceHasNoAlias)?;
    Ok(())
}
