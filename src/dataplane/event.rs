//! What happened that a person should hear of.

use std::fmt;

use crate::wireguard;

/// Prints as one sentence. Realms are named; addresses are those of gateways, never of hosts inside a realm.
#[derive(Clone, Debug)]
pub struct Event {
    pub realm: String,
    pub tunnel: wireguard::Event,
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "realm {}: {}", self.realm, self.tunnel)
    }
}
