//! classify: realm of the tunnel; the source must belong to it; both addresses become canonical.
//!
//! Fragments wait here until their datagram is whole ([`super::fragment`]).
//!
//! The family of a packet on its way out is that of its destination on its own wires. So an IPv4 host reaches an IPv6 one by
//! an alias, and is seen by it under its canonical address; and the other way round.
//!
//! Drops: InnerMalformed, OptionNotServed, SourceNotInRealm, DestinationNotUnicast, DestinationUnknown, SourceHasNoAlias, and
//! those of fragments.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::nat::Reassembler;
use crate::net::Timestamp;
use crate::net::mapping::{Located, Mapping};
use crate::packet::{Batch, DropReason, Meta};
use crate::wire::headers::{self, HeaderError, Headers, Transport};

use super::fragment::{self, Taken};

/// `gateway` is the IX's own address that reports errors.
pub(super) fn classify(
    batch: &mut Batch,
    mapping: &Mapping,
    gateway: Located,
    reassembler: &mut Reassembler,
    now: Timestamp,
) {
    for (meta, bytes) in batch.live_mut() {
        let classified = match headers::parse(bytes) {
            Ok(headers) => classify_one(meta, headers, mapping, gateway),
            Err(HeaderError::Fragment) => classify_fragment(meta, bytes, mapping, gateway, reassembler, now),
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
    gateway: Located,
    reassembler: &mut Reassembler,
    now: Timestamp,
) -> Result<(), DropReason> {
    match fragment::take(meta, bytes, mapping, reassembler, now)? {
        Taken::Kept => Ok(()),
        Taken::Unwrapped => classify_one(meta, headers::parse(bytes).map_err(reason_of)?, mapping, gateway),
    }
}

#[inline]
fn classify_one(meta: &mut Meta, headers: Headers, mapping: &Mapping, gateway: Located) -> Result<(), DropReason> {
    meta.headers = headers;
    match (meta.headers.source, meta.headers.destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => classify_v4(meta, source, destination, mapping, gateway),
        (IpAddr::V6(source), IpAddr::V6(destination)) => classify_v6(meta, source, destination, mapping, gateway),
        _ => Err(DropReason::InnerMalformed), // no header holds two families
    }
}

/// The commonest way by far: kept apart, so that it works on plain integers.
#[inline]
fn classify_v4(
    meta: &mut Meta,
    source: Ipv4Addr,
    destination: Ipv4Addr,
    mapping: &Mapping,
    gateway: Located,
) -> Result<(), DropReason> {
    meta.source = mapping.locate_native4(meta.realm, source).ok_or(DropReason::SourceNotInRealm)?;
    if destination.is_multicast() || destination.is_broadcast() || destination.is_unspecified() {
        return Err(DropReason::DestinationNotUnicast);
    }
    meta.destination = mapping.locate_alias(meta.realm, destination).ok_or(DropReason::DestinationUnknown)?;
    if meta.destination.realm.is_ix() {
        return Ok(()); // the IX's own stack speaks canonical addresses, in either family
    }
    meta.shown.destination = mapping.native_of(meta.destination);
    meta.shown.source = shown_source(meta, mapping, gateway)?;
    Ok(())
}

fn classify_v6(
    meta: &mut Meta,
    source: Ipv6Addr,
    destination: Ipv6Addr,
    mapping: &Mapping,
    gateway: Located,
) -> Result<(), DropReason> {
    meta.source = mapping.locate_native6(meta.realm, source).ok_or(DropReason::SourceNotInRealm)?;
    if destination.is_multicast() || destination.is_unspecified() || destination.is_unicast_link_local() {
        return Err(DropReason::DestinationNotUnicast);
    }
    meta.destination = mapping.locate_canonical(destination.into()).ok_or(DropReason::DestinationUnknown)?;
    if meta.destination.realm.is_ix() {
        return Ok(());
    }
    meta.shown.destination = mapping.native_of(meta.destination);
    meta.shown.source = shown_source(meta, mapping, gateway)?;
    Ok(())
}

/// As the destination's realm sees the source, in the family of the destination.
///
/// A router between may have no alias and yet be the one who knows that a packet is too big: then its error comes from the
/// IX's own address (RFC 7915 section 5.1, RFC 6791 section 3). Whose packet it was is judged by what it quotes.
#[inline]
fn shown_source(meta: &Meta, mapping: &Mapping, gateway: Located) -> Result<IpAddr, DropReason> {
    let (viewer, like) = (meta.destination.realm, meta.shown.destination);
    match mapping.seen_by_like(viewer, meta.source, like) {
        Some(source) => Ok(source),
        None if meta.headers.transport == Transport::IcmpError => {
            mapping.seen_by_like(viewer, gateway, like).ok_or(DropReason::SourceHasNoAlias)
        }
        None => Err(DropReason::SourceHasNoAlias),
    }
}
