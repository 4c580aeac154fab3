//! ICMP errors that the appliance itself sends: time exceeded and packet too big, back into the tunnel that the packet
//! came by, from the IX's own address as that realm sees it. Limited per realm and second (RFC 1812 section 4.3.2.8,
//! RFC 4443 section 2.4 f).

use crate::net::{RealmId, TunnelId};
use crate::packet::{Meta, Outbox};
use crate::wire::headers::Transport;
use crate::wire::icmp::{self, Report};

use super::counters::Counters;
use super::snapshot::Snapshot;
use super::tunnels::Tunnels;

/// The largest error there is: the IPv6 minimum MTU.
const MAX_ERROR_BYTES: usize = 1280;
/// Errors of one batch that are kept; what goes beyond is not reported.
const MAX_PENDING: usize = 16;

/// Builds errors while a stage looks at the packets, and sends them when it has finished.
#[derive(Debug)]
pub(super) struct Reporter {
    /// By realm number: a second, and how many errors were made for the realm in it.
    made: Vec<(u32, u32)>,
    pending: Vec<Pending>,
    buffers: Box<[[u8; MAX_ERROR_BYTES]; MAX_PENDING]>,
}

#[derive(Debug)]
struct Pending {
    tunnel: TunnelId,
    len: usize,
}

impl Reporter {
    pub fn new() -> Self {
        Reporter {
            made: Vec::new(),
            pending: Vec::with_capacity(MAX_PENDING),
            buffers: vec![[0; MAX_ERROR_BYTES]; MAX_PENDING].try_into().expect("as many as asked for"),
        }
    }

    /// Prepares the error about `packet`, when one is due and the realm has not had its share of this second.
    pub fn prepare(&mut self, meta: &Meta, packet: &[u8], report: Report, snapshot: &Snapshot, now_secs: u32) {
        if self.pending.len() == MAX_PENDING || !deserves_error(meta) {
            return;
        }
        // Only a host that exists in the realm's view may be quoted at; `classify` has made sure of the source.
        let to = meta.headers.source;
        let Some(source) = snapshot.service_seen_by(snapshot.service.gateway, meta.realm, to) else { return };
        if !self.take_allowance(meta.realm, snapshot.limits.icmp_errors_per_sec, now_secs) {
            return;
        }
        let original = &packet[..meta.headers.total_bytes];
        let buffer = &mut self.buffers[self.pending.len()];
        if let Some(len) = icmp::emit_error(buffer, report, source, to, original) {
            self.pending.push(Pending { tunnel: meta.ingress, len });
        }
    }

    /// Sends what was prepared.
    pub fn send(&mut self, tunnels: &mut Tunnels, outbox: &mut Outbox, counters: &mut Counters) {
        for (pending, buffer) in self.pending.drain(..).zip(self.buffers.iter()) {
            if tunnels.seal(pending.tunnel, RealmId::IX, &buffer[..pending.len], outbox).is_ok() {
                counters.sent(pending.tunnel, pending.len);
                counters.totals.originated += 1;
            }
        }
    }

    fn take_allowance(&mut self, realm: RealmId, per_sec: u32, now_secs: u32) -> bool {
        let index = usize::from(realm.0);
        if self.made.len() <= index {
            self.made.resize(index + 1, (0, 0));
        }
        let (second, count) = &mut self.made[index];
        if *second != now_secs {
            (*second, *count) = (now_secs, 0);
        }
        *count += 1;
        *count <= per_sec
    }
}

/// No error about an error (RFC 1122 section 3.2.2, RFC 4443 section 2.4 e).
fn deserves_error(meta: &Meta) -> bool {
    meta.headers.transport != Transport::IcmpError
}
