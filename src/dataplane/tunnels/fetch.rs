//! What the packets of a batch need of their tunnels, brought into the processor's cache for all of them at once. With thousands of
//! tunnels next to nothing of a packet's is there, and one by one each packet would wait for one line after the other.

use std::hint::black_box;

use super::Tunnels;
use crate::ipsec::Slot;
use crate::net::{Port, TunnelId};
use crate::packet::Datagram;
use crate::packet::batch::BATCH_PACKETS;

/// Fewer stay there by themselves.
const MANY: usize = 128;

/// Whose a packet is.
#[derive(Clone, Copy)]
enum Whose {
    Nobody,
    WireGuard(TunnelId),
    Esp(Slot),
}

impl Tunnels {
    /// Before datagrams are opened: which tunnels they are probably of, `None` for those of which it is not worth while to know.
    pub fn fetch_opening(&self, datagrams: &[Datagram<'_>]) -> [Option<TunnelId>; BATCH_PACKETS] {
        let mut tunnels = [None; BATCH_PACKETS];
        if self.path_mtus.len() < MANY {
            return tunnels;
        }
        let mut whose = [Whose::Nobody; BATCH_PACKETS];
        for (whose, datagram) in whose.iter_mut().zip(datagrams) {
            *whose = self.sender_of(datagram);
        }
        let mut touched = 0;
        for (whose, tunnel) in whose.iter().zip(&mut tunnels) {
            match (whose, &self.ipsec) {
                (Whose::WireGuard(id), _) => {
                    touched ^= self.wireguard.touch(*id);
                    *tunnel = Some(*id);
                }
                (Whose::Esp(slot), Some(ipsec)) => {
                    let found = ipsec.esp.touch(*slot);
                    touched ^= found.map_or(0, |(_, read)| read);
                    *tunnel = found.map(|(id, _)| id);
                }
                _ => {}
            }
        }
        if let Some(ipsec) = &self.ipsec {
            touched ^= tunnels.iter().flatten().fold(0, |sum, tunnel| sum ^ ipsec.esp.touch_tunnel(*tunnel));
        }
        black_box(touched);
        tunnels
    }

    /// Before packets are sealed, to these tunnels; those of one behind one another.
    pub fn fetch_sealing(&self, tunnels: impl Iterator<Item = TunnelId>) {
        if self.path_mtus.len() < MANY {
            return;
        }
        let (mut whose, mut count, mut last) = ([Whose::Nobody; BATCH_PACKETS], 0, TunnelId::NONE);
        for tunnel in tunnels.take(BATCH_PACKETS) {
            if tunnel != last {
                whose[count] = match &self.ipsec {
                    Some(ipsec) if ipsec.serves(tunnel) => ipsec.esp.slot_to(tunnel).map_or(Whose::Nobody, Whose::Esp),
                    _ => Whose::WireGuard(tunnel),
                };
                (count, last) = (count + 1, tunnel);
            }
        }
        let touch = |whose: &Whose| match (whose, &self.ipsec) {
            (Whose::WireGuard(tunnel), _) => self.wireguard.touch(*tunnel),
            (Whose::Esp(slot), Some(ipsec)) => ipsec.esp.touch(*slot).map_or(0, |(_, read)| read),
            _ => 0,
        };
        black_box(whose[..count].iter().map(touch).fold(0, |sum, read| sum ^ read));
    }

    #[inline]
    fn sender_of(&self, datagram: &Datagram<'_>) -> Whose {
        match (datagram.path.port, &self.ipsec) {
            (Port::WireGuard, _) => self.wireguard.tunnel_of(datagram.bytes).map_or(Whose::Nobody, Whose::WireGuard),
            (Port::IkeNatT | Port::RawEsp, Some(ipsec)) => {
                ipsec.esp.slot_of(datagram.bytes).map_or(Whose::Nobody, Whose::Esp)
            }
            _ => Whose::Nobody,
        }
    }
}
