//! translate: addresses, checksums (incremental), the packet inside ICMP errors, MSS, hop limit.
//!
//! Drops: NoSession (an ICMP error whose quote cannot be read; `police` has let none through).

use crate::nat::napt::Napt;
use crate::nat::rewrite;
use crate::net::mapping::Mapping;
use crate::packet::{Batch, DropReason, Meta, Shown};
use crate::wire::headers::Transport;

use super::napt;
use super::quoted::quoted;

pub(super) fn translate(batch: &mut Batch, mapping: &Mapping, napt: &Napt) {
    for (meta, bytes) in batch.live_mut() {
        if meta.destination.realm.is_ix() {
            continue;
        }
        if meta.headers.transport == Transport::IcmpError {
            translate_error(meta, bytes, mapping, napt);
        } else {
            rewrite::clamp_mss(bytes, &meta.headers, meta.max_mss_bytes);
            rewrite::rewrite(bytes, &meta.headers, &meta.shown);
        }
    }
}

fn translate_error(meta: &mut Meta, bytes: &mut [u8], mapping: &Mapping, napt: &Napt) {
    let Some(quoted) = quoted(meta, bytes, mapping, napt) else { return meta.drop(DropReason::NoSession) };
    let Some((receiver, receiver_port)) = napt::outside_of(&quoted.flow, quoted.receiver, mapping, napt) else {
        return meta.drop(DropReason::NoSession);
    };
    if napt::is_open(meta) {
        // A router or host without a port of its own: from where the packet was sent to (RFC 5508 REQ-5 d).
        meta.shown.source = receiver;
    }
    rewrite::rewrite(bytes, &meta.headers, &meta.shown);
    // The error is for the packet's sender: it sees its own address as native, the receiver's as its view has it.
    let shown = Shown {
        source: mapping.native_of(quoted.sender),
        destination: receiver,
        source_port: quoted.sender_port,
        destination_port: receiver_port,
    };
    rewrite::rewrite_quoted(bytes, &meta.headers, &shown);
}
