//! classify: realm of the tunnel; the source must belong to it; both addresses become canonical.
//!
//! Fragments wait here until their datagram is whole ([`super::fragment`]).
//!
//! The family of a packet on its way out is that of its destination on its own wires. So an IPv4 host reaches an IPv6 one by
//! an alias, and is seen by it under its canonical address; and the other way round.
//!
//! Drops: InnerMalformed, OptionNotServed, SourceNotInRealm, DestinationNotUnicast, DestinationUnknown, NaptNoBinding,
//! NaptPortNotServed, SourceHasNoAlias, and those of fragments.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::nat::Reassembler;
use crate::nat::napt::Napt;
use crate::net::Timestamp;
use crate::net::mapping::{Located, Mapping};
use crate::packet::{Batch, DropReason, Meta, Shown};
use crate::wire::headers::{self, HeaderError, Headers, Transport};

use super::fragment::{self, Taken};
use super::napt;

/// What addresses mean. `gateway` is the IX's own address that reports errors.
#[derive(Clone, Copy)]
pub(super) struct Tables<'a> {
    pub mapping: &'a Mapping,
    pub napt: &'a Napt,
    pub gateway: Located,
}

pub(super) fn classify(batch: &mut Batch, tables: Tables<'_>, reassembler: &mut Reassembler, now: Timestamp) {
    for (meta, bytes) in batch.live_mut() {
        meta.clear_findings();
        let classified = match headers::parse(bytes) {
            Ok(headers) => classify_one(meta, bytes, headers, tables),
            Err(HeaderError::Fragment) => classify_fragment(meta, bytes, tables, reassembler, now),
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
    tables: Tables<'_>,
    reassembler: &mut Reassembler,
    now: Timestamp,
) -> Result<(), DropReason> {
    match fragment::take(meta, bytes, tables.mapping, reassembler, now)? {
        Taken::Kept => Ok(()),
        Taken::Unwrapped => classify_one(meta, bytes, headers::parse(bytes).map_err(reason_of)?, tables),
    }
}

#[inline]
fn classify_one(meta: &mut Meta, bytes: &[u8], headers: Headers, tables: Tables<'_>) -> Result<(), DropReason> {
    meta.headers = headers;
    meta.set_total_bytes(headers.total_bytes);
    match (meta.headers.source, meta.headers.destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => classify_v4(meta, bytes, source, destination, tables),
        (IpAddr::V6(source), IpAddr::V6(destination)) => classify_v6(meta, source, destination, tables),
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
    tables: Tables<'_>,
) -> Result<(), DropReason> {
    let Tables { mapping, napt, gateway } = tables;
    let native = mapping.locate_native4(meta.realm, source);
    meta.source = native.or_else(|| reporter(meta, gateway)).ok_or(DropReason::SourceNotInRealm)?;
    if destination.is_multicast() || destination.is_broadcast() || destination.is_unspecified() {
        return Err(DropReason::DestinationNotUnicast);
    }
    match mapping.locate_alias(meta.realm, destination) {
        Some(destination) => {
            meta.destination = destination;
            meta.shown.destination = mapping.native_of(destination);
        }
        None => napt::arrive(meta, bytes, destination, mapping, napt)?,
    }
    if meta.destination.realm.is_ix() {
        return to_the_ix(meta); // the IX's own stack speaks canonical addresses, in either family
    }
    meta.shown.source = shown_source(meta, tables)?;
    Ok(())
}

fn classify_v6(meta: &mut Meta, source: Ipv6Addr, destination: Ipv6Addr, tables: Tables<'_>) -> Result<(), DropReason> {
    let Tables { mapping, gateway, .. } = tables;
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
    meta.shown.source = shown_source(meta, tables)?;
    Ok(())
}

/// As the destination's realm sees the source, in the family of the destination. Where it sees it by a pool, the address is
/// left open until the packet is let through.
///
/// A router between may have no alias and yet be the one who knows that a packet is too big: then its error comes from the
/// IX's own address (RFC 7915 section 5.1, RFC 6791 section 3). Whose packet it was is judged by what it quotes.
#[inline]
fn shown_source(meta: &Meta, tables: Tables<'_>) -> Result<IpAddr, DropReason> {
    let Tables { mapping, napt, gateway } = tables;
    let (viewer, like) = (meta.destination.realm, meta.shown.destination);
    if let Some(source) = mapping.seen_by_like(viewer, meta.source, like) {
        return Ok(source);
    }
    if meta.headers.transport == Transport::IcmpError && !napt.shows(meta.source.realm, viewer) {
        return mapping.seen_by_like(viewer, gateway, like).ok_or(DropReason::SourceHasNoAlias);
    }
    napt::leave_open(meta, napt).map(|()| Shown::NOTHING.source)
}
