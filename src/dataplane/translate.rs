//! translate: addresses, checksums (incremental), the packet inside ICMP errors, MSS, hop limit.
//!
//! Drops: NoSession (an ICMP error whose quote cannot be read; `police` has let none through).

use crate::nat::rewrite;
use crate::net::mapping::Mapping;
use crate::packet::{Batch, DropReason, Meta, Shown};
use crate::wire::headers::Transport;

use super::quoted::quoted;

pub(super) fn translate(batch: &mut Batch, mapping: &Mapping) {
    for (meta, bytes) in batch.live_mut() {
        if meta.destination.realm.is_ix() {
            continue;
        }
        if meta.headers.transport == Transport::IcmpError {
            translate_error(meta, bytes, mapping);
        } else {
            rewrite::clamp_mss(bytes, &meta.headers, meta.max_mss_bytes);
            rewrite::rewrite(bytes, &meta.headers, &meta.shown);
        }
    }
}

fn translate_error(meta: &mut Meta, bytes: &mut [u8], mapping: &Mapping) {
    let Some(quoted) = quoted(meta, bytes, mapping) else { return meta.drop(DropReason::NoSession) };
    let Some(receiver) = mapping.seen_by(quoted.sender.realm, quoted.receiver) else {
        return meta.drop(DropReason::NoSession);
    };
    rewrite::rewrite(bytes, &meta.headers, &meta.shown);
    // The error is for the packet's sender: it sees its own address as native, the receiver's as its view has it.
    rewrite::rewrite_quoted(bytes, &meta.headers, &Shown::addresses(mapping.native_of(quoted.sender), receiver));
}
