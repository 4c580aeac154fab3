//! classify: realm of the tunnel; the source must belong to it; both addresses become canonical.
//!
//! Drops: InnerMalformed, FragmentNotServed, OptionNotServed, SourceNotInRealm, DestinationNotUnicast,
//! DestinationUnknown, NaptNoBinding, NaptPortNotServed, FamilyMismatch, SourceHasNoAlias.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::nat::napt::Napt;
use crate::net::mapping::{Located, Mapping};
use crate::packet::{Batch, DropReason, Meta};
use crate::wire::headers::{self, HeaderError, Transport};

use super::napt;

/// `gateway` is the IX's own address that reports errors.
pub(super) fn classify(batch: &mut Batch, mapping: &Mapping, napt: &Napt, gateway: Located) {
    for (meta, bytes) in batch.live_mut() {
        if let Err(reason) = classify_one(meta, bytes, mapping, napt, gateway) {
            meta.drop(reason);
        }
    }
}

fn classify_one(
    meta: &mut Meta,
    bytes: &[u8],
    mapping: &Mapping,
    napt: &Napt,
    gateway: Located,
) -> Result<(), DropReason> {
    meta.headers = headers::parse(bytes).map_err(|error| match error {
        HeaderError::Malformed => DropReason::InnerMalformed,
        HeaderError::Fragment => DropReason::FragmentNotServed,
        HeaderError::Option => DropReason::OptionNotServed,
    })?;
    match (meta.headers.source, meta.headers.destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            classify_v4(meta, bytes, source, destination, mapping, napt, gateway)
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => classify_v6(meta, source, destination, mapping, gateway),
        _ => Err(DropReason::InnerMalformed), // no header holds two families
    }
}

/// A router in a realm may have an address outside of the realm's networks, and yet be the one to know that a packet came no
/// further. Then its error comes from the IX's own address (RFC 6791 section 3). Whether it is about a packet that went its way
/// is judged by what it quotes.
fn reporter(meta: &Meta, gateway: Located) -> Option<Located> {
    (meta.headers.transport == Transport::IcmpError).then_some(gateway)
}

/// The IX itself speaks with the realm's own hosts only.
fn to_the_ix(meta: &Meta) -> Result<(), DropReason> {
    if meta.source.realm.is_ix() { Err(DropReason::SourceNotInRealm) } else { Ok(()) }
}

/// The commonest way by far: kept apart, so that it works on plain integers.
#[inline]
fn classify_v4(
    meta: &mut Meta,
    bytes: &[u8],
    source: Ipv4Addr,
    destination: Ipv4Addr,
    mapping: &Mapping,
    napt: &Napt,
    gateway: Located,
) -> Result<(), DropReason> {
    let native = mapping.locate_native4(meta.realm, source);
    meta.source = native.or_else(|| reporter(meta, gateway)).ok_or(DropReason::SourceNotInRealm)?;
    if destination.is_multicast() || destination.is_broadcast() || destination.is_unspecified() {
        return Err(DropReason::DestinationNotUnicast);
    }
    match mapping.locate_alias(meta.realm, destination) {
        Some(destination) => {
            meta.destination = destination;
            // Only IPv4 hosts have aliases, and their canonical addresses end in their own.
            meta.shown.destination = IpAddr::V4(Ipv4Addr::from_bits(destination.canonical.0 as u32));
        }
        None => napt::arrive(meta, bytes, destination, mapping, napt)?,
    }
    if meta.destination.realm.is_ix() {
        return to_the_ix(meta); // the IX's own stack speaks canonical addresses, in either family
    }
    match mapping.seen_by4(meta.destination.realm, meta.source) {
        Some(alias) => meta.shown.source = IpAddr::V4(alias),
        None => napt::leave_open(meta, napt)?,
    }
    Ok(())
}

fn classify_v6(
    meta: &mut Meta,
    source: Ipv6Addr,
    destination: Ipv6Addr,
    mapping: &Mapping,
    gateway: Located,
) -> Result<(), DropReason> {
    let native = mapping.locate_native6(meta.realm, source);
    meta.source = native.or_else(|| reporter(meta, gateway)).ok_or(DropReason::SourceNotInRealm)?;
    if destination.is_multicast() || destination.is_unspecified() || destination.is_unicast_link_local() {
        return Err(DropReason::DestinationNotUnicast);
    }
    meta.destination = mapping.locate_canonical(destination.into()).ok_or(DropReason::DestinationUnknown)?;
    if meta.destination.realm.is_ix() {
        return to_the_ix(meta);
    }
    meta.shown.destination = mapping.native_of(meta.destination);
    if meta.shown.destination.is_ipv4() {
        return Err(DropReason::FamilyMismatch);
    }
    if meta.source.realm.is_ix() {
        meta.shown.source = meta.source.canonical.addr().into();
        return Ok(());
    }
    meta.shown.source = mapping.seen_by(meta.destination.realm, meta.source).ok_or(DropReason::SourceHasNoAlias)?;
    Ok(())
}
