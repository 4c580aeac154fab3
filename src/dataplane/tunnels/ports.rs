//! Plain ports among the tunnels: what the kernel says of interfaces, and what their links carry.
//!
//! A port's MTU is what is configured, or less where the interface itself carries less. Nothing probes it: whoever is behind the
//! carrier's router hears of narrower links from that router.

use super::Tunnels;
use crate::dataplane::snapshot::Snapshot;
use crate::link::PortConfig;
use crate::link::endpoint::Lost;
use crate::net::{InterfaceId, LinkReport, MAX_INTERFACES, Mac, Timestamp, TunnelId};
use crate::packet::Outbox;

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
    /// Interface numbers that mean something else in `next` than in `snapshot`: until the kernel has told, they are down.
    pub fn forget_interfaces(&mut self, snapshot: &Snapshot, next: &Snapshot, now: Timestamp) {
        let name = |snapshot: &Snapshot, number: usize| Some(snapshot.interfaces.get(number)?.as_ref()?.name.clone());
        for number in 0..snapshot.interfaces.len().min(MAX_INTERFACES) {
            if name(snapshot, number).is_some_and(|before| Some(before) != name(next, number)) {
                let interface = InterfaceId(number as u8);
                self.link_mtus.by_interface[number] = None;
                self.link.handle_link(LinkReport { interface, is_up: false, mac: Mac::default(), mtu_bytes: 0 }, now);
            }
        }
    }

    pub(super) fn configure_ports(&mut self, ports: Vec<PortConfig>, now: Timestamp) {
        self.link_mtus.ports = ports.iter().map(|port| (port.tunnel, port.interface)).collect();
        self.link.configure(ports, now);
        for (tunnel, interface) in &self.link_mtus.ports {
            self.path_mtus.note_link(*tunnel, self.link_mtus.of(*interface), now);
        }
    }

    /// The kernel says how an interface is.
    pub fn handle_link(&mut self, report: LinkReport, outbox: &mut Outbox, now: Timestamp) {
        let Some(mtu) = self.link_mtus.by_interface.get_mut(report.interface.index()) else { return };
        *mtu = (report.mtu_bytes > 0).then_some(report.mtu_bytes);
        self.link.handle_link(report, now);
        for (tunnel, _) in self.link_mtus.ports.iter().filter(|(_, interface)| *interface == report.interface) {
            self.path_mtus.note_link(*tunnel, self.link_mtus.of(report.interface), now);
        }
        self.link.handle_timeout(outbox, now);
    }

    /// Packets that were taken for sent and came to nothing.
    pub fn poll_lost(&mut self) -> Option<Lost> {
        self.link.poll_lost()
    }
}
