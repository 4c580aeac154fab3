//! The packet walk. This is the list of stages, in their order, and there is no other.
//!
//! ```text
//! ingress    outer datagrams in stretches: whose, is the number new?         arrivals, ingress
//! decap      all opened at once; numbers used, packets into the batch        ingress, entry
//! answers    to probes of the tunnel's path go no further                   local
//! flows      known flows: as their packets before, and on to encap           flows
//! classify   realm of the tunnel; source must belong; canonicalise;
//!            fragments wait until their datagram is whole                   classify, fragment
//! policy     session of the current generation? else grants; a pool's port   police
//! route      owner realm -> tunnel, or the IX itself; hops, size            route
//! local      what is for the IX itself goes to its own stack                local
//! translate  addresses, checksums, IP version, ICMP errors' quotes, MSS      translate
//! encap      fragment, seal, straight into runs of datagrams                encap, fragment
//! egress     batches of datagrams                                           packet::Outbox, io
//! ```

use crate::host::Host;
use crate::nat::family::Identifications;
use crate::nat::napt::Napt;
use crate::nat::{Reassembler, Sessions};
use crate::net::Timestamp;
use crate::packet::{Batch, Outbox};

use super::carriers::Carriers;
use super::classify::{Tables, classify};
use super::counters::Counters;
use super::encap::encap;
use super::flows::Flows;
use super::fragment::Fragmenter;
use super::icmp_report::Reporter;
use super::local::{deliver, take_answers};
use super::parcel::Sealing;
use super::police::Police;
use super::route::route;
use super::snapshot::Snapshot;
use super::translate::translate;
use super::tunnels::Tunnels;

/// What the stages work on, besides the batch.
pub(super) struct Walk<'a> {
    pub snapshot: &'a Snapshot,
    pub carriers: &'a Carriers,
    pub tunnels: &'a mut Tunnels,
    pub flows: &'a mut Flows,
    pub police: &'a mut Police,
    pub sessions: &'a mut Sessions,
    pub identifications: &'a mut Identifications,
    pub reassembler: &'a mut Reassembler,
    pub fragmenter: &'a mut Fragmenter,
    pub napt: &'a mut Napt,
    pub host: &'a mut Host,
    pub reporter: &'a mut Reporter,
    pub outbox: &'a mut Outbox,
    /// Where packets go that somebody else is to seal. `None`: it is done here.
    pub sealing: Option<&'a mut Sealing>,
    pub counters: &'a mut Counters,
    pub now: Timestamp,
}

impl Walk<'_> {
    /// Walks a batch of packets fresh from their tunnels to its end. Afterwards no packet is live, and the batch is
    /// empty.
    pub fn run(self, batch: &mut Batch) {
        let Walk {
            snapshot,
            carriers,
            tunnels,
            flows,
            police,
            sessions,
            identifications,
            reassembler,
            fragmenter,
            napt,
            host,
            reporter,
            outbox,
            sealing,
            counters,
            now,
        } = self;
        let now_secs = now.as_secs();
        let (mapping, gateway) = (&snapshot.mapping, snapshot.service.gateway);

        take_answers(batch, tunnels, now);
        if flows.run(batch, sessions, tunnels, snapshot.generation, now_secs) {
            classify(batch, Tables { mapping, napt, gateway }, reassembler, now);
            police.run(batch, snapshot, sessions, napt, now_secs, |meta, packet, report| {
                reporter.prepare(meta, packet, report, snapshot, now_secs);
            });
            route(batch, carriers, tunnels, |meta, packet, report| {
                reporter.prepare(meta, packet, report, snapshot, now_secs);
            });
            deliver(batch, host, now);
            translate(batch, mapping, napt, identifications);
            flows.learn(batch, police.passed(), carriers, sessions);
        }
        encap(batch, tunnels, fragmenter, outbox, sealing, counters);

        reporter.send(tunnels, outbox, counters);
        counters.ended_all(batch.metas());
        batch.clear();
    }
}
