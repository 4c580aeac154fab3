//! Small numbers that must not be mistaken for one another.

use std::fmt;

/// The permanent number of a realm, 16 bits. It is part of every canonical IPv4-derived address, so it is
/// allocated once, recorded in the state store and never reused.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct RealmId(pub u16);

impl RealmId {
    /// The interconnection centre itself: its service addresses live in realm 0. Configured realms start at 1.
    pub const IX: RealmId = RealmId(0);

    pub fn is_ix(self) -> bool {
        self == Self::IX
    }
}

impl fmt::Display for RealmId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// A tunnel's slot in the running snapshot. Stable for as long as the tunnel's identity (its realm and its peer key)
/// is configured.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct TunnelId(pub u32);

impl TunnelId {
    /// "No tunnel": packets that the appliance itself made, and destinations that it serves itself.
    pub const NONE: TunnelId = TunnelId(u32::MAX);

    #[inline]
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// Index of a network in the compiled [`super::mapping::Mapping`]. Only meaningful within one generation.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct NetworkId(pub u32);

impl NetworkId {
    #[inline]
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// Counts applied configurations. Every snapshot carries one; sessions remember which one last approved them.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Generation(pub u32);
