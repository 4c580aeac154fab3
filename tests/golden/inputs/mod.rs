//! What the hosts of each case send, in their own realms' terms: written from the configuration of the case, address by
//! address. Nothing here asks the product what an address would become.

use std::time::Duration;

use crate::capture::{Capture, Captured};
use crate::play::EPOCH;

mod build;
mod errors;
mod fragments;
mod limits;
mod mapping;
mod names;
mod pools;

/// When the first packet is sent: by then gateways of every kind have their keys.
const FIRST: u64 = EPOCH + 10_000_000;
const APART: Duration = Duration::from_millis(100);

/// Packets in the order in which they are sent.
#[derive(Default)]
pub struct Script {
    packets: Vec<(&'static str, u64, String, Vec<u8>)>,
    /// Since the first packet.
    elapsed: Duration,
}

impl Script {
    pub fn send(&mut self, realm: &'static str, says: &str, packet: Vec<u8>) {
        let at = FIRST + self.elapsed.as_micros() as u64;
        self.packets.push((realm, at, says.to_owned(), packet));
        self.elapsed += APART;
    }

    /// Fragments, say: one after the other.
    pub fn send_all(&mut self, realm: &'static str, says: &str, packets: impl IntoIterator<Item = Vec<u8>>) {
        packets.into_iter().for_each(|packet| self.send(realm, says, packet));
    }

    pub fn wait(&mut self, secs: u64) {
        self.elapsed += Duration::from_secs(secs);
    }

    pub fn capture(&self, realms: &[String]) -> Capture {
        let packets = self.packets.iter().map(|(name, at, comment, bytes)| {
            let realm = realms.iter().position(|realm| realm == name).expect("a realm of the configuration");
            Captured { realm, at: *at, comment: comment.clone(), bytes: bytes.clone() }
        });
        Capture { realms: realms.to_vec(), packets: packets.collect() }
    }
}

/// Nothing for a case whose capture was made elsewhere.
pub fn of(name: &str) -> Option<Script> {
    let write: fn(&mut Script) = match name {
        "map-44" | "map-44-ipsec" => mapping::map_44,
        "map-46" => mapping::map_46,
        "map-64" => mapping::map_64,
        "map-66" => mapping::map_66,
        "no-ports" => mapping::no_ports,
        "zero-checksum" => mapping::zero_checksum,
        "errors-44" => errors::errors_44,
        "errors-66" => errors::errors_66,
        "errors-46" => errors::errors_46,
        "errors-64" => errors::errors_64,
        "fragments-44" => fragments::fragments_44,
        "fragments-66" => fragments::fragments_66,
        "fragments-46" => fragments::fragments_46,
        "fragments-64" => fragments::fragments_64,
        "napt" => pools::napt,
        "napt-exhausted" => pools::napt_exhausted,
        "default-realm" => pools::default_realm,
        "hop-limit" => limits::hop_limit,
        "too-big" => limits::too_big,
        "denied-and-spoofed" => limits::denied_and_spoofed,
        "names" => names::names,
        _ => return None,
    };
    let mut script = Script::default();
    write(&mut script);
    Some(script)
}
