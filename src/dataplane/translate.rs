//! translate: addresses, checksums (incremental), IP version, the packet inside ICMP errors, MSS, hop limit.
//!
//! Drops: NoSession (an ICMP error whose quote cannot be read; `police` has let none through), NotTranslatable,
//! InnerTooLong.

use crate::nat::family::{self, Identifications, Untranslatable};
use crate::nat::rewrite;
use crate::net::mapping::Mapping;
use crate::packet::{Batch, DropReason, Meta, Shown};
use crate::wire::headers::Transport;

use super::quoted::quoted;
use super::route::max_packet_bytes;

pub(super) fn translate(batch: &mut Batch, mapping: &Mapping, identifications: &mut Identifications) {
    for (meta, slot) in batch.live_slots_mut() {
        if meta.destination.realm.is_ix() {
            continue;
        }
        let outcome = if meta.crosses_families() {
            translate_family(meta, slot, mapping, identifications)
        } else if meta.headers.transport == Transport::IcmpError {
            translate_error(meta, slot, mapping)
        } else {
            rewrite::clamp_mss(slot, &meta.headers, meta.max_mss_bytes);
            rewrite::rewrite(slot, &meta.headers, &meta.shown);
            Ok(())
        };
        if let Err(reason) = outcome {
            meta.drop(reason);
        }
    }
}

fn translate_error(meta: &Meta, slot: &mut [u8], mapping: &Mapping) -> Result<(), DropReason> {
    let known_by = known_by(meta, slot, mapping).ok_or(DropReason::NoSession)?;
    rewrite::rewrite(slot, &meta.headers, &meta.shown);
    rewrite::rewrite_quoted(slot, &meta.headers, &known_by);
    Ok(())
}

/// The error is for the packet's sender: it sees its own address as native, the receiver's as its view has it.
fn known_by(meta: &Meta, slot: &[u8], mapping: &Mapping) -> Option<Shown> {
    let quoted = quoted(meta, slot, mapping)?;
    let sender = mapping.native_of(quoted.sender);
    let receiver = mapping.seen_by_like(quoted.sender.realm, quoted.receiver, sender)?;
    Some(Shown::addresses(sender, receiver))
}

/// Afterwards `meta.headers` tells where the message lies in the packet that leaves.
fn translate_family(
    meta: &mut Meta,
    slot: &mut [u8],
    mapping: &Mapping,
    identifications: &mut Identifications,
) -> Result<(), DropReason> {
    let (headers, shown) = (&meta.headers, &meta.shown);
    let total_bytes = if headers.transport == Transport::IcmpError {
        let known_by = known_by(meta, slot, mapping).ok_or(DropReason::NoSession)?;
        family::translate_error(slot, headers, shown, &known_by, max_packet_bytes(meta), identifications)
    } else {
        rewrite::clamp_mss(slot, headers, meta.max_mss_bytes);
        family::translate(slot, headers, shown, meta.reassembled, identifications)
    };
    let total_bytes = total_bytes.map_err(|untranslatable| match untranslatable {
        Untranslatable::NoCounterpart | Untranslatable::Malformed => DropReason::NotTranslatable,
        Untranslatable::TooLong => DropReason::InnerTooLong,
    })?;
    meta.set_total_bytes(total_bytes);
    meta.headers.source = meta.shown.source;
    meta.headers.destination = meta.shown.destination;
    meta.headers.transport_offset = family::header_bytes(meta.headers.is_v6());
    Ok(())
}
