//! From a validated configuration to a generation that can be published: allocate, compile, and only then record.
//!
//! What is recorded comes before what is used: an alias is on the disk before the first packet bears it. What fails
//! leaves the state as it was.

use std::sync::Arc;
use std::time::SystemTime;

use crate::config::model::Config;
use crate::dataplane::Snapshot;
use crate::net::Generation;

use super::allocate::{AllocateError, allocate};
use super::change::Changes;
use super::compile::{CompileError, compile_addresses};
use super::snapshot::{SnapshotError, TunnelNumbers, snapshot};
use super::store::{Store, StoreError};

#[derive(Debug, thiserror::Error)]
pub enum PrepareError {
    #[error(transparent)]
    Allocate(#[from] AllocateError),
    #[error(transparent)]
    Compile(#[from] CompileError),
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(
        "the file has no realm any more, as if it was cut off or is still being written; if that is meant, restart ixgate with it"
    )]
    NoRealm,
    #[error("{0} cannot change while ixgate runs; restart it with the new file")]
    NeedsRestart(&'static str),
}

/// What may be published, and what it changed in the state.
#[derive(Debug)]
pub struct Prepared {
    pub snapshot: Arc<Snapshot>,
    pub changes: Changes,
}

/// `file_read_in`: the first generation that was made of the same file.
pub fn prepare(
    config: &Config,
    store: &mut Store,
    numbers: &mut TunnelNumbers,
    generation: Generation,
    file_read_in: Generation,
    now: SystemTime,
) -> Result<Prepared, PrepareError> {
    let (allocations, changes) = allocate(config, store.allocations())?;
    let compiled = compile_addresses(config, &allocations)?;
    let mut next_numbers = numbers.clone();
    let mut snapshot = snapshot(config, compiled, &mut next_numbers, generation)?;
    snapshot.file_read_in = file_read_in;
    snapshot.zone.set_serial(next_numbers.next_zone_serial(now));
    if &allocations != store.allocations() {
        store.commit(&allocations, &changes, now)?;
    }
    *numbers = next_numbers; // only now: a generation that failed has changed nothing
    Ok(Prepared { snapshot: Arc::new(snapshot), changes })
}

/// What differs between two configurations and only takes effect at the next start, by its name in the file.
/// `Err`: what must not differ at all.
pub fn waits_for_restart(running: &Config, new: &Config) -> Result<Vec<&'static str>, PrepareError> {
    if new.realms.is_empty() && !running.realms.is_empty() {
        return Err(PrepareError::NoRealm);
    }
    if running.ix.space6 != new.ix.space6 {
        return Err(PrepareError::NeedsRestart("ix.space6"));
    }
    if running.ix.state_dir != new.ix.state_dir {
        return Err(PrepareError::NeedsRestart("ix.state_dir"));
    }
    if running.wireguard.private_key.is_none() && new.wireguard.private_key.is_some() {
        return Err(PrepareError::NeedsRestart("wireguard.private_key_file (there was none)"));
    }
    let listen = |config: &Config| config.dns.transfer.as_ref().map(|transfer| transfer.listen);
    let ports = |config: &Config| (config.ike.listen, config.ike.port, config.ike.nat_t_port, config.ike.raw_esp);
    if !running.uses_ipsec() && new.uses_ipsec() && ports(running) != ports(new) {
        let what =
            "`listen`, `port`, `nat_t_port` and `raw_esp` of [ike], along with the first realm attached by IPsec,";
        return Err(PrepareError::NeedsRestart(what));
    }
    let (old_limits, new_limits) = (&running.limits, &new.limits);
    let differing = [
        ("ix.name", running.ix.name != new.ix.name),
        ("api.listen", running.api.socket != new.api.socket),
        ("metrics.listen", running.metrics.listen != new.metrics.listen),
        ("wireguard.listen", running.wireguard.listen != new.wireguard.listen),
        ("wireguard.private_key_file", running.wireguard.private_key != new.wireguard.private_key),
        ("ike.listen", running.ike.listen != new.ike.listen),
        ("ike.port", running.ike.port != new.ike.port),
        ("ike.nat_t_port", running.ike.nat_t_port != new.ike.nat_t_port),
        ("ike.raw_esp", running.ike.raw_esp != new.ike.raw_esp),
        ("dns.transfer.listen", listen(running) != listen(new)),
        ("[workers]", running.workers != new.workers),
        ("[gate]", running.gate != new.gate),
        ("[uplink]", running.uplink != new.uplink),
        ("limits of IKE", old_limits.ike != new_limits.ike),
        ("limits.sessions", old_limits.sessions != new_limits.sessions),
        ("limits.sessions_per_realm", old_limits.sessions_per_realm != new_limits.sessions_per_realm),
        ("limits of reassembly", old_limits.reassembly != new_limits.reassembly),
        ("limits.napt_bindings", old_limits.napt_bindings != new_limits.napt_bindings),
        ("limits.handshakes_per_sec", old_limits.handshakes_per_sec != new_limits.handshakes_per_sec),
        ("limits.dns_tcp", old_limits.dns_tcp != new_limits.dns_tcp),
        ("limits of DNS", old_limits.dns != new_limits.dns),
        ("limits.dns_tcp_per_realm", old_limits.dns_tcp_per_realm != new_limits.dns_tcp_per_realm),
    ];
    Ok(differing.into_iter().filter(|(_, differs)| *differs).map(|(name, _)| name).collect())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::{self, MemorySecrets};

    /// `ike`: the section; `by_ipsec`: whether a realm is attached.
    fn configured(ike: &str, by_ipsec: bool) -> Config {
        let mut secrets = MemorySecrets::default();
        secrets.insert("b.psk", "a preshared key, long enough for anybody");
        let attach = match by_ipsec {
            true => "attach = [{ ipsec = { remote_id = \"fqdn:b.example\", psk_file = \"b.psk\" } }]",
            false => "",
        };
        let text = format!(
            "[ix]\ndomain = \"ix.example\"\n[ike]\nlocal_id = \"fqdn:ix.example\"\n{ike}\n\
             [[realm]]\nname = \"b\"\nnetworks = [\"10.0.0.0/24\"]\n{attach}\n"
        );
        match config::parse(&text, Path::new("test.toml"), &secrets) {
            Ok(loaded) => loaded.config,
            Err(report) => panic!("{report}"),
        }
    }

    #[test]
    fn the_gate_changes_with_the_next_start() {
        let (running, new) = (configured("", false), configured("[gate]\nenabled = false", false));
        assert_eq!(waits_for_restart(&running, &new).unwrap(), ["[gate]"]);
    }

    #[test]
    fn the_driver_of_uplinks_changes_with_the_next_start() {
        let by_af_xdp = "[uplink]\ndriver = \"af_xdp\"\ninterfaces = [\"eth0\"]";
        let (running, new) = (configured("", false), configured(by_af_xdp, false));
        assert_eq!(waits_for_restart(&running, &new).unwrap(), ["[uplink]"]);
    }

    #[test]
    fn the_first_realm_by_ipsec_needs_a_restart_only_along_with_other_ports() {
        let (without, with) = (configured("", false), configured("", true));
        assert_eq!(waits_for_restart(&without, &with).unwrap(), Vec::<&str>::new());
        for ike in ["listen = \"192.0.2.1\"", "port = 5000", "nat_t_port = 5500", "raw_esp = true"] {
            let error = waits_for_restart(&without, &configured(ike, true)).unwrap_err();
            assert!(error.to_string().contains("[ike]"), "{error}");
            assert_eq!(waits_for_restart(&with, &configured(ike, true)).unwrap().len(), 1, "told, and not refused");
        }
    }
}
