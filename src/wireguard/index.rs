//! Receiver indices: which tunnel a message is for.
//!
//! WireGuard lets each side choose a 32-bit index per session, which the other side then writes into every message.
//! boringtun counts sessions in the low 8 bits and leaves us the upper 24, used like this:
//!
//! ```text
//! | incarnation, 8 | tunnel, 16 | session, 8 |
//! ```
//!
//! The incarnation changes whenever the tunnel starts anew (another key, removed and added again), so a message for
//! the tunnel that had this number before is an unknown session, and not a failed decryption of its successor's. After
//! 256 of them it comes round; then it is the keys that keep the two apart, as always.

use crate::net::TunnelId;

const TUNNEL_BITS: u32 = 16;
/// Tunnels that one endpoint can have.
pub const MAX_TUNNELS: usize = 1 << TUNNEL_BITS;

#[derive(Debug, Default)]
pub struct IndexTable {
    /// By tunnel: its current incarnation.
    incarnations: Vec<u8>,
}

impl IndexTable {
    /// A fresh index (24 bits) for a tunnel that starts anew; earlier ones become unknown.
    /// `None`: the tunnel's number is above [`MAX_TUNNELS`].
    pub fn renew(&mut self, tunnel: TunnelId) -> Option<u32> {
        if tunnel.index() >= MAX_TUNNELS {
            return None;
        }
        if self.incarnations.len() <= tunnel.index() {
            self.incarnations.resize(tunnel.index() + 1, 0);
        }
        let incarnation = &mut self.incarnations[tunnel.index()];
        *incarnation = incarnation.wrapping_add(1);
        Some(u32::from(*incarnation) << TUNNEL_BITS | tunnel.0)
    }

    /// The tunnel that a receiver index off the wire is for, whether or not it still exists.
    #[inline]
    pub fn tunnel_of(&self, receiver_index: u32) -> Option<TunnelId> {
        let index = receiver_index >> 8;
        let tunnel = TunnelId(index & (MAX_TUNNELS as u32 - 1));
        let incarnation = *self.incarnations.get(tunnel.index())?;
        (u32::from(incarnation) == index >> TUNNEL_BITS).then_some(tunnel)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_leads_to_its_tunnel_until_the_tunnel_starts_anew() {
        let mut table = IndexTable::default();
        let first = table.renew(TunnelId(7)).unwrap();
        let other = table.renew(TunnelId(3)).unwrap();
        for session in [0, 1, 255] {
            assert_eq!(table.tunnel_of(first << 8 | session), Some(TunnelId(7)));
            assert_eq!(table.tunnel_of(other << 8 | session), Some(TunnelId(3)));
        }
        let second = table.renew(TunnelId(7)).unwrap();
        assert_ne!(first, second);
        assert_eq!(table.tunnel_of(first << 8 | 1), None);
        assert_eq!(table.tunnel_of(second << 8 | 1), Some(TunnelId(7)));
    }

    #[test]
    fn indices_stay_within_24_bits_and_tunnels_within_the_bound() {
        let mut table = IndexTable::default();
        let last = TunnelId(MAX_TUNNELS as u32 - 1);
        for _ in 0..600 {
            assert!(table.renew(last).unwrap() < 1 << 24);
        }
        assert_eq!(table.renew(TunnelId(MAX_TUNNELS as u32)), None);
        assert_eq!(table.renew(TunnelId::NONE), None);
        assert_eq!(table.tunnel_of(u32::MAX), None);
    }
}
