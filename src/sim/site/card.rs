//! The network card of a site's stack: whole IP packets in two bounded queues.

use std::collections::VecDeque;

use smoltcp::phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::time::Instant;

/// In each direction. What comes when a queue is full is lost, as on a real card.
pub(super) const MAX_WAITING_PACKETS: usize = 64;
/// The default MTU of a realm's tunnel.
const MTU_BYTES: usize = 1420;

#[derive(Default)]
pub(super) struct Card {
    incoming: VecDeque<Vec<u8>>,
    outgoing: VecDeque<Vec<u8>>,
}

impl Card {
    pub(super) fn receive(&mut self, packet: Vec<u8>) {
        if self.incoming.len() < MAX_WAITING_PACKETS {
            self.incoming.push_back(packet);
        }
    }

    pub(super) fn take_outgoing(&mut self) -> Option<Vec<u8>> {
        self.outgoing.pop_front()
    }

    fn is_full(&self) -> bool {
        self.outgoing.len() >= MAX_WAITING_PACKETS
    }
}

impl Device for Card {
    type RxToken<'a> = Received;
    type TxToken<'a> = Sending<'a>;

    fn receive(&mut self, _: Instant) -> Option<(Received, Sending<'_>)> {
        if self.is_full() {
            return None;
        }
        Some((Received(self.incoming.pop_front()?), Sending(&mut self.outgoing)))
    }

    fn transmit(&mut self, _: Instant) -> Option<Sending<'_>> {
        (!self.is_full()).then_some(Sending(&mut self.outgoing))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ip;
        capabilities.max_transmission_unit = MTU_BYTES;
        capabilities
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_queues_are_bounded() {
        let mut card = Card::default();
        for _ in 0..2 * MAX_WAITING_PACKETS {
            card.receive(vec![0; 20]);
            if let Some(token) = card.transmit(Instant::ZERO) {
                token.consume(20, |_| ());
            }
        }
        assert_eq!((card.incoming.len(), card.outgoing.len()), (MAX_WAITING_PACKETS, MAX_WAITING_PACKETS));
        assert!(Device::receive(&mut card, Instant::ZERO).is_none(), "an answer would find no room");
        assert!(card.take_outgoing().is_some());
        assert!(Device::receive(&mut card, Instant::ZERO).is_some());
    }
}
