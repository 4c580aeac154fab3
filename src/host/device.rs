//! smoltcp's network card: one packet in at a time, a bounded queue of packets out.

use std::collections::VecDeque;

use smoltcp::phy::{Checksum, Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::time::Instant;

/// Whole IP packets, in memory.
pub(super) struct Wire {
    pub(super) incoming: Option<Vec<u8>>,
    pub(super) outgoing: VecDeque<Vec<u8>>,
    max_outgoing: usize,
    capabilities: DeviceCapabilities,
}

impl Wire {
    pub(super) fn new(mtu_bytes: usize, max_outgoing: usize) -> Self {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ip;
        capabilities.max_transmission_unit = mtu_bytes;
        // What comes in was verified under the addresses that it had on the wire, where its checksum means something.
        capabilities.checksum.tcp = Checksum::Tx;
        Wire { incoming: None, outgoing: VecDeque::new(), max_outgoing, capabilities }
    }

    pub(super) fn is_full(&self) -> bool {
        self.outgoing.len() >= self.max_outgoing
    }
}

impl Device for Wire {
    type RxToken<'a> = Received;
    type TxToken<'a> = Sending<'a>;

    /// Refuses while no answer could be sent; the caller looks at [`Wire::is_full`] before it puts a packet in.
    fn receive(&mut self, _: Instant) -> Option<(Received, Sending<'_>)> {
        if self.is_full() {
            return None;
        }
        Some((Received(self.incoming.take()?), Sending(&mut self.outgoing)))
    }

    fn transmit(&mut self, _: Instant) -> Option<Sending<'_>> {
        (!self.is_full()).then_some(Sending(&mut self.outgoing))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        self.capabilities.clone()
    }
}

pub(super) struct Received(Vec<u8>);

impl RxToken for Received {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(&self.0)
    }
}

pub(super) struct Sending<'a>(&'a mut VecDeque<Vec<u8>>);

impl TxToken for Sending<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        let mut packet = vec![0; len];
        let result = f(&mut packet);
        self.0.push_back(packet);
        result
    }
}
