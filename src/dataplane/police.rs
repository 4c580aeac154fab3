//! policy: a session of the current generation, else grants. Default deny.
//!
//! Drops: NotGranted, NoSession, SessionTableFull, SessionQuotaExceeded.

use crate::nat::{Flow, Sessions};
use crate::packet::{Batch, DropReason, Meta};
use crate::wire::headers::Transport;

use super::quoted::quoted;
use super::snapshot::Snapshot;

pub(super) fn police(batch: &mut Batch, snapshot: &Snapshot, sessions: &mut Sessions, now_secs: u32) {
    for (meta, bytes) in batch.live_mut() {
        if meta.destination.realm.is_ix() {
            continue; // every realm may talk to the IX itself; `local` knows what it offers
        }
        let verdict = if meta.headers.transport == Transport::IcmpError {
            admit_error(meta, bytes, snapshot, sessions, now_secs)
        } else {
            admit(meta, snapshot, sessions, now_secs)
        };
        if let Err(reason) = verdict {
            meta.drop(reason);
        }
    }
}

fn admit(meta: &Meta, snapshot: &Snapshot, sessions: &mut Sessions, now_secs: u32) -> Result<(), DropReason> {
    let flow = Flow::of(&meta.headers, meta.source, meta.destination).ok_or(DropReason::NotGranted)?;
    sessions.admit(&flow, snapshot.generation, now_secs, |opening| grants(snapshot, opening))
}

/// Does the configuration let this flow's source open it?
pub(super) fn grants(snapshot: &Snapshot, flow: &Flow) -> bool {
    let (from, to) = (flow.source, flow.destination);
    snapshot.policy.evaluate(from.realm, to.realm, to.address, flow.protocol, to.port)
}

/// An ICMP error passes when the packet that it quotes belongs to a session.
fn admit_error(
    meta: &Meta,
    bytes: &[u8],
    snapshot: &Snapshot,
    sessions: &Sessions,
    now_secs: u32,
) -> Result<(), DropReason> {
    let quoted = quoted(meta, bytes, &snapshot.mapping).ok_or(DropReason::NoSession)?;
    if sessions.contains(&quoted.flow, now_secs) { Ok(()) } else { Err(DropReason::NoSession) }
}
