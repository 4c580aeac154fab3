//! classify: realm of the tunnel; the source must belong to it; both addresses become canonical.
//!
//! Drops: InnerMalformed, FragmentNotServed, ExtensionHeaderNotServed, SourceNotInRealm, DestinationNotUnicast,
//! DestinationUnknown, FamilyMismatch, SourceHasNoAlias.

use std::net::IpAddr;

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
        HeaderError::ExtensionHeader => DropReason::ExtensionHeaderNotServed,
    })?;
    let (source, destination) = (meta.headers.source, meta.headers.destination);
    meta.source = mapping.locate_native(meta.realm, source).ok_or(DropReason::SourceNotInRealm)?;
    if !is_unicast(destination) {
        return Err(DropReason::DestinationNotUnicast);
    }
    meta.destination = mapping.locate_seen_by(meta.realm, destination).ok_or(DropReason::DestinationUnknown)?;
    if meta.destination.realm.is_ix() {
        return Ok(()); // the IX's own stack speaks canonical addresses, in either family
    }
    meta.new_destination = mapping.native_of(meta.destination);
    if meta.new_destination.is_ipv4() != source.is_ipv4() {
        return Err(DropReason::FamilyMismatch);
    }
    meta.new_source = mapping.seen_by(meta.destination.realm, meta.source).ok_or(DropReason::SourceHasNoAlias)?;
    Ok(())
}

fn is_unicast(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => !address.is_multicast() && !address.is_broadcast() && !address.is_unspecified(),
        IpAddr::V6(address) => !address.is_multicast() && !address.is_unspecified() && !address.is_unicast_link_local(),
    }
}
