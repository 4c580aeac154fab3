//! Which port a frame belongs to: interface and tags, found in one step whatever a frame says.
//!
//! Only what is configured is in the table, so nobody outside decides what shares a place, and the longest way through it is
//! fixed with the configuration.

use crate::net::{InterfaceId, TunnelId, VlanTags};

#[derive(Debug)]
pub(super) struct Places {
    /// A power of two, at least twice as many as there are ports.
    slots: Box<[Option<(u64, TunnelId)>]>,
}

impl Default for Places {
    fn default() -> Self {
        Places::new(&[])
    }
}

impl Places {
    /// Of several ports in one place, the first has it.
    pub fn new(ports: &[(InterfaceId, VlanTags, TunnelId)]) -> Self {
        let mut places = Places { slots: vec![None; (ports.len() * 2).next_power_of_two().max(2)].into() };
        for (interface, tags, tunnel) in ports {
            let key = key(*interface, *tags);
            let slot = places.slot(key);
            places.slots[slot].get_or_insert((key, *tunnel));
        }
        places
    }

    #[inline]
    pub fn find(&self, interface: InterfaceId, tags: VlanTags) -> Option<TunnelId> {
        self.slots[self.slot(key(interface, tags))].map(|(_, tunnel)| tunnel)
    }

    /// Where the key is, or the empty place where it would be.
    #[inline]
    fn slot(&self, key: u64) -> usize {
        let mask = self.slots.len() - 1;
        let mut slot = (key.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as usize & mask;
        while self.slots[slot].is_some_and(|(there, _)| there != key) {
            slot = (slot + 1) & mask;
        }
        slot
    }
}

fn key(interface: InterfaceId, tags: VlanTags) -> u64 {
    let tag = |vlan: Option<u16>| vlan.map_or(0, |vlan| u64::from(vlan) + 1);
    u64::from(interface.0) << 40 | tag(tags.service) << 20 | tag(tags.customer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_place_has_its_own_port_and_no_other() {
        let tags = |service, customer| VlanTags { service, customer };
        let mut all = Vec::new();
        for interface in 0..3 {
            for vlan in [None, Some(1), Some(2), Some(4094)] {
                for service in [None, Some(1), Some(2), Some(4094)] {
                    all.push((InterfaceId(interface), tags(service, vlan), TunnelId(all.len() as u32)));
                }
            }
        }
        let places = Places::new(&all);
        for (interface, tags, tunnel) in &all {
            assert_eq!(places.find(*interface, *tags), Some(*tunnel));
        }
        assert_eq!(places.find(InterfaceId(3), tags(None, None)), None);
        assert_eq!(places.find(InterfaceId(0), tags(Some(1), Some(3))), None);
        assert_eq!(Places::default().find(InterfaceId(0), tags(None, None)), None);
    }

    #[test]
    fn of_two_ports_in_one_place_the_first_has_it() {
        let here = |tunnel| (InterfaceId(1), VlanTags::default(), TunnelId(tunnel));
        assert_eq!(Places::new(&[here(5), here(4)]).find(InterfaceId(1), VlanTags::default()), Some(TunnelId(5)));
    }
}
