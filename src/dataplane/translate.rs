//! translate: addresses, checksums (incremental), IP version, the packet inside ICMP errors, MSS, hop limit.
//!
//! Drops: NoSession (an ICMP error whose quote cannot be read; `police` has let none through), InnerMalformed (an ICMP error
//! that is damaged), NotTranslatable, InnerTooLong.

use crate::nat::family::{self, Identifications, Untranslatable};
use crate::nat::napt::Napt;
use crate::nat::rewrite;
use crate::net::mapping::Mapping;
use crate::net::policy::protocol;
use crate::packet::{Batch, DropReason, Meta, Shown};
use crate::wire::checksum;
use crate::wire::headers::Transport;

use super::napt;
use super::quoted::quoted;
use super::route::max_packet_bytes;

pub(super) fn translate(batch: &mut Batch, mapping: &Mapping, napt: &Napt, identifications: &mut Identifications) {
    for (meta, slot) in batch.live_slots_mut() {
        if meta.destination.realm.is_ix() {
            continue;
        }
        let outcome = if is_damaged_error(meta, slot) {
            Err(DropReason::InnerMalformed)
        } else if meta.crosses_families() {
            translate_family(meta, slot, mapping, napt, identifications)
        } else if meta.headers.transport == Transport::IcmpError {
            translate_error(meta, slot, mapping, napt)
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

/// The checksum of an error is computed afresh behind its quote, and would say of a damaged one that it is whole (RFC 5508
/// REQ-3). Other checksums are corrected, and what was wrong stays wrong.
fn is_damaged_error(meta: &Meta, slot: &[u8]) -> bool {
    let headers = &meta.headers;
    if headers.transport != Transport::IcmpError {
        return false;
    }
    let Some(message) = slot.get(headers.transport_offset..headers.total_bytes) else { return true };
    match headers.is_v6() {
        true => checksum::transport_checksum(headers.source, headers.destination, protocol::ICMPV6, message) != Some(0),
        false => checksum::checksum(message) != 0,
    }
}

fn translate_error(meta: &mut Meta, slot: &mut [u8], mapping: &Mapping, napt: &Napt) -> Result<(), DropReason> {
    let total_bytes = rewrite::cut_extensions(slot, &meta.headers);
    meta.set_total_bytes(total_bytes);
    let known_by = known_by(meta, slot, mapping, napt).ok_or(DropReason::NoSession)?;
    rewrite::rewrite(slot, &meta.headers, &meta.shown);
    rewrite::rewrite_quoted(slot, &meta.headers, &known_by);
    Ok(())
}

/// The packet that an error is about, as its sender knows it: it sees its own address as native, the receiver's as its view
/// has it, and the error comes from where the packet was sent to when whoever reports has no address of its own there.
fn known_by(meta: &mut Meta, slot: &[u8], mapping: &Mapping, napt: &Napt) -> Option<Shown> {
    let quoted = quoted(meta, slot, mapping, napt)?;
    let (receiver, receiver_port) = napt::outside_of(&quoted, mapping, napt)?;
    if napt::is_open(meta) {
        // A router or host without a port of its own (RFC 5508 REQ-5 d).
        meta.shown.source = receiver;
    }
    Some(Shown {
        source: mapping.native_of(quoted.sender),
        destination: receiver,
        source_port: quoted.sender_port,
        destination_port: receiver_port,
    })
}

/// Afterwards `meta.headers` tells where the message lies in the packet that leaves.
fn translate_family(
    meta: &mut Meta,
    slot: &mut [u8],
    mapping: &Mapping,
    napt: &Napt,
    identifications: &mut Identifications,
) -> Result<(), DropReason> {
    let total_bytes = if meta.headers.transport == Transport::IcmpError {
        let known_by = known_by(meta, slot, mapping, napt).ok_or(DropReason::NoSession)?;
        family::translate_error(slot, &meta.headers, &meta.shown, &known_by, max_packet_bytes(meta), identifications)
    } else {
        rewrite::clamp_mss(slot, &meta.headers, meta.max_mss_bytes);
        family::translate(slot, &meta.headers, &meta.shown, meta.reassembled, identifications)
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
