//! policy: a session of the current generation, else grants. Default deny.
//!
//! Drops: NotGranted, NoSession, SessionTableFull, SessionQuotaExceeded, NaptFiltered, NaptExhausted, NaptTableFull,
//! NaptPortNotServed. The sender is told when a host's ports are used up.

use crate::nat::napt::Napt;
use crate::nat::{Flow, Pass, Sessions, Ticket};
use crate::net::policy::protocol;
use crate::packet::batch::BATCH_PACKETS;
use crate::packet::{Batch, DropReason, Meta};
use crate::wire::headers::Transport;
use crate::wire::icmp::Report;
use crate::wire::tcp::Segment;

use super::napt;
use super::quoted::quoted;
use super::snapshot::Snapshot;

/// The stage, with the room that it needs for a batch.
#[derive(Debug)]
pub(super) struct Police {
    /// A packet's place in the batch, and what finds its session.
    tickets: Vec<(usize, Ticket)>,
    passed: Vec<(usize, Pass)>,
}

impl Police {
    pub fn new() -> Self {
        Police { tickets: Vec::with_capacity(BATCH_PACKETS), passed: Vec::with_capacity(BATCH_PACKETS) }
    }

    /// Which packets of the batch have passed, by place, and their sessions.
    pub fn passed(&self) -> &[(usize, Pass)] {
        &self.passed
    }

    /// `report` is called for every packet whose sender is to be told, with the packet as it was sent.
    pub fn run(
        &mut self,
        batch: &mut Batch,
        snapshot: &Snapshot,
        sessions: &mut Sessions,
        napt: &mut Napt,
        now_secs: u32,
        mut report: impl FnMut(&Meta, &[u8], Report),
    ) {
        self.tickets.clear();
        self.passed.clear();
        for place in 0..batch.len() {
            let (meta, bytes) = batch.packet_mut(place);
            // Every realm may talk to the IX itself; `local` knows what it offers.
            if !meta.is_live() || meta.destination.realm.is_ix() {
                continue;
            }
            if meta.headers.transport == Transport::IcmpError {
                if !belongs_to_a_session(meta, bytes, snapshot, sessions, napt, now_secs) {
                    meta.drop(DropReason::NoSession);
                }
                continue;
            }
            match Flow::of(&meta.headers, meta.source, meta.destination) {
                Some(flow) => {
                    let flow = flow.to_port(meta.shown.destination_port);
                    self.tickets.push((place, ticket(meta, bytes, &flow, sessions)));
                }
                None => meta.drop(DropReason::NotGranted),
            }
        }
        sessions.fetch(&self.tickets);
        for (place, ticket) in &self.tickets {
            let (meta, bytes) = batch.packet_mut(*place);
            let admitted = if meta.by_binding {
                napt::admit(ticket, snapshot, sessions, napt, now_secs)
            } else {
                sessions.admit(ticket, snapshot.generation, now_secs, |opening| grants(snapshot, opening))
            };
            let shown = match admitted {
                Ok(pass) if napt::is_open(meta) => napt::show_source(meta, ticket, sessions, napt).map(|()| pass),
                Err(DropReason::NaptFiltered) if napt::is_open(meta) => {
                    Err(napt::knock(meta, ticket, snapshot, sessions, napt, now_secs))
                }
                verdict => verdict,
            };
            match shown {
                Ok(pass) => self.passed.push((*place, pass)),
                Err(reason) => {
                    if matches!(reason, DropReason::NaptExhausted | DropReason::NaptTableFull) {
                        report(meta, bytes, Report::Prohibited);
                    }
                    meta.drop(reason);
                }
            }
        }
        napt::release(sessions, napt);
    }
}

fn ticket(meta: &Meta, bytes: &[u8], flow: &Flow, sessions: &Sessions) -> Ticket {
    let ticket = sessions.ticket(flow);
    if flow.protocol != protocol::TCP {
        return ticket;
    }
    let segment = bytes.get(meta.headers.transport_offset..meta.headers.total_bytes).and_then(Segment::parse);
    let ticket = segment.map_or(ticket, |segment| ticket.with_segment(segment));
    // After a restart nobody knows the port of a pool that the middle of a connection went by.
    if napt::is_open(meta) { ticket.not_in_mid_stream() } else { ticket }
}

/// Does the configuration let this flow's source open it?
pub(super) fn grants(snapshot: &Snapshot, flow: &Flow) -> bool {
    let (from, to) = (flow.source, flow.destination);
    snapshot.policy.evaluate(from.realm, to.realm, to.address, flow.protocol, to.port)
}

/// An ICMP error passes when the packet that it quotes belongs to a session. One opened by this very batch, further
/// ahead in it, is not seen yet: nobody can have an error about it already.
fn belongs_to_a_session(
    meta: &Meta,
    bytes: &[u8],
    snapshot: &Snapshot,
    sessions: &Sessions,
    napt: &Napt,
    now_secs: u32,
) -> bool {
    let Some(quoted) = quoted(meta, bytes, &snapshot.mapping, napt) else { return false };
    sessions.contains(&quoted.flow, snapshot.generation, now_secs, |opening| grants(snapshot, opening))
}
