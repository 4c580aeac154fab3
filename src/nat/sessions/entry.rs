//! One session: its key, and what judging its packets needs, in one cache line. What keeps it alive stands apart (`life`).

use std::cmp::Ordering;
use std::hash::{Hash, Hasher};

use crate::nat::flow::{Asker, Flow, Side};
use crate::net::{Canonical, Generation, RealmId};

/// The sides that hold a NAPT binding.
pub(super) mod holds {
    pub const LOW: u8 = 1;
    pub const HIGH: u8 = 2;
}

/// A side without its address: realm and port.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Place {
    realm: RealmId,
    port: u16,
}

/// Both sides in a fixed order, flat, so that an entry fits a cache line.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Key {
    low: Canonical,
    high: Canonical,
    low_place: Place,
    high_place: Place,
    pub protocol: u8,
    /// For echo: whether the lower side asks.
    pub low_asks: Option<bool>,
}

impl Key {
    /// The key of a flow, and whether its source is the lower side. Where a host talks to itself, who asks is that.
    #[inline]
    pub fn of(flow: &Flow) -> (Key, bool) {
        let source_is_low = match flow.source.cmp(&flow.destination) {
            Ordering::Less => true,
            Ordering::Equal => flow.asker != Asker::Destination,
            Ordering::Greater => false,
        };
        let (low, high) = if source_is_low { (flow.source, flow.destination) } else { (flow.destination, flow.source) };
        let place = |side: Side| Place { realm: side.realm, port: side.port };
        let key = Key {
            low: low.address,
            high: high.address,
            low_place: place(low),
            high_place: place(high),
            protocol: flow.protocol,
            low_asks: match flow.asker {
                Asker::Neither => None,
                Asker::Source => Some(source_is_low),
                Asker::Destination => Some(!source_is_low),
            },
        };
        (key, source_is_low)
    }

    pub fn low(&self) -> Side {
        Side { address: self.low, realm: self.low_place.realm, port: self.low_place.port }
    }

    pub fn high(&self) -> Side {
        Side { address: self.high, realm: self.high_place.realm, port: self.high_place.port }
    }
}

impl Hash for Key {
    /// Few wide writes: this runs for every packet.
    fn hash<H: Hasher>(&self, state: &mut H) {
        let place = |place: Place| u64::from(place.realm.0) | u64::from(place.port) << 16;
        state.write_u128(self.low.0);
        state.write_u128(self.high.0);
        state.write_u64(place(self.low_place) | place(self.high_place) << 32);
        state.write_u8(self.protocol);
    }
}

/// The fields of its key, too, one by one: as a struct of its own the key would not leave the room that the rest needs.
#[derive(Clone, Copy, Debug)]
#[repr(align(64))]
pub(super) struct Session {
    low: Canonical,
    high: Canonical,
    low_place: Place,
    high_place: Place,
    pub generation: Generation,
    protocol: u8,
    low_asks: Option<bool>,
    pub opener_is_low: bool,
    /// See [`holds`].
    pub holds: u8,
}

impl Session {
    pub fn new(key: Key, opener_is_low: bool, generation: Generation) -> Self {
        let Key { low, high, low_place, high_place, protocol, low_asks } = key;
        Session { low, high, low_place, high_place, generation, protocol, low_asks, opener_is_low, holds: 0 }
    }

    #[inline]
    pub fn key(&self) -> Key {
        let Session { low, high, low_place, high_place, protocol, low_asks, .. } = *self;
        Key { low, high, low_place, high_place, protocol, low_asks }
    }

    pub fn opener_realm(&self) -> RealmId {
        if self.opener_is_low { self.low_place.realm } else { self.high_place.realm }
    }
}

const _: () = assert!(size_of::<Session>() == 64, "one cache line");
