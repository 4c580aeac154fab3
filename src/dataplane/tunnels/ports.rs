//! Plain ports among the tunnels: what the kernel says of interfaces, and what their links carry.
//!
//! A port's MTU is what is configured, or less where the interface itself carries less. Nothing probes it: whoever is behind the
//! carrier's router hears of narrower links from that router.

use super::{FRAME_OVERHEAD_BYTES, Tunnels};
use crate::dataplane::snapshot::Snapshot;
use crate::link::PortConfig;
use crate::link::endpoint::Lost;
use crate::net::{InterfaceId, LinkReport, MAX_INTERFACES, Mac, Path, RealmId, Timestamp, TunnelId};
use crate::packet::batch::MAX_PACKET_BYTES;
use crate::packet::{DropReason, Opened, Outbox};

/// What the kernel says that interfaces carry.
#[derive(Default)]
pub(super) struct LinkMtus {
    by_interface: [Option<u32>; MAX_INTERFACES],
    ports: Vec<(TunnelId, InterfaceId)>,
}

impl LinkMtus {
    fn of(&self, interface: InterfaceId) -> Option<u32> {
        *self.by_interface.get(interface.index())?
    }
}

impl Tunnels {
    pub(super) fn configure_ports(&mut self, ports: Vec<PortConfig>, now: Timestamp) {
        self.link_mtus.ports = ports.iter().map(|port| (port.tunnel, port.interface)).collect();
        self.link.configure(ports, now);
        for (tunnel, interface) in &self.link_mtus.ports {
            self.path_mtus.note_link(*tunnel, self.link_mtus.of(*interface), now);
        }
    }

    /// Interface numbers that mean something else in `next`, which has been adopted, than in `before`: until the kernel has told,
    /// they are down.
    pub fn forget_interfaces(&mut self, before: &Snapshot, next: &Snapshot, now: Timestamp) {
        let at = |snapshot: &Snapshot, number: usize| snapshot.interfaces.get(number).cloned().flatten();
        for number in 0..before.interfaces.len().min(MAX_INTERFACES) {
            if at(before, number).is_some() && at(before, number) != at(next, number) {
                let interface = InterfaceId(number as u8);
                if at(next, number).is_some() {
                    self.link.forget_interface(interface);
                }
                self.note_link(LinkReport { interface, is_up: false, mac: Mac::default(), mtu_bytes: 0 }, now);
            }
        }
    }

    /// The kernel says how an interface is.
    pub fn handle_link(&mut self, report: LinkReport, outbox: &mut Outbox, now: Timestamp) {
        self.note_link(report, now);
        self.link.handle_timeout(outbox, now);
    }

    fn note_link(&mut self, report: LinkReport, now: Timestamp) {
        let Some(mtu) = self.link_mtus.by_interface.get_mut(report.interface.index()) else { return };
        *mtu = (report.mtu_bytes > 0).then_some(report.mtu_bytes);
        self.link.handle_link(report, now);
        for (tunnel, _) in self.link_mtus.ports.iter().filter(|(_, interface)| *interface == report.interface) {
            self.path_mtus.note_link(*tunnel, self.link_mtus.of(report.interface), now);
        }
    }

    /// Opens a frame or a packet of a TUN device, into `out` where it holds a packet.
    #[inline]
    pub fn open_frame(
        &mut self,
        path: &Path,
        bytes: &[u8],
        out: &mut [u8],
        outbox: &mut Outbox,
        now: Timestamp,
    ) -> Opened {
        match bytes.len() > MAX_PACKET_BYTES + FRAME_OVERHEAD_BYTES {
            true => Opened::dropped(DropReason::InnerTooLong),
            false => self.link.open(path.port, bytes, out, outbox, now),
        }
    }

    /// Packets by one port, behind one another; `each` is told what became of each.
    #[inline]
    pub fn seal_by_port<'p>(
        &mut self,
        tunnel: TunnelId,
        packets: impl Iterator<Item = (RealmId, &'p [u8])>,
        outbox: &mut Outbox,
        each: impl FnMut(Result<(), DropReason>),
    ) {
        self.link.seal_all(tunnel, packets, outbox, each);
    }

    /// Packets that were taken for sent and came to nothing.
    pub fn poll_lost(&mut self) -> Option<Lost> {
        self.link.poll_lost()
    }
}
