//! From what was written to what it means. Every rule reports and goes on, so that all mistakes come at once; a part
//! that could not be understood is left out of later rules, so that one mistake is reported once.

mod aliases;
mod canonical6;
mod default_realm;
mod dns;
mod gate;
mod globals;
mod identity;
mod ipsec;
mod names;
mod napt;
mod napt_grants;
mod network_alias;
mod networks;
mod plain_ports;
mod ports;
mod priorities;
mod ranges;
mod references;
mod routes_from;
mod tunnels;
mod uplink;
mod zone;

use std::path::Path;

use super::diagnostic::Problems;
use super::model;
use super::raw::Raw;
use super::secrets::SecretReader;
use names::Names;
use napt_grants::Granted;
pub use networks::reserved as refusal_of_network;

/// `None`, or a value that must not be used, when `problems` holds errors.
pub fn validate(raw: &Raw, path: &Path, secrets: &dyn SecretReader, problems: &mut Problems) -> Option<model::Config> {
    let directory = path.parent().unwrap_or(Path::new(""));
    let ix = globals::ix(&raw.ix, directory, problems);
    let api = globals::api(raw.api_listen.as_ref(), directory, problems);
    let metrics = globals::metrics(raw.metrics_listen.as_ref(), problems);
    let limits = globals::limits(&raw.limits, problems);
    let workers = globals::workers(&raw.workers);
    let gate = gate::gate(raw, problems);
    let uplink = uplink::uplink(raw, problems);
    let sessions = globals::sessions(&raw.sessions);
    let tunnels = tunnels::tunnels(raw, directory, secrets, problems);
    let names = Names::new(raw, problems);
    let mut networks = networks::networks(raw, problems);
    let napt = napt::napt(raw, &names, &networks, limits.napt_bindings, problems);
    napt::settle(&napt, &mut networks);
    let default_realm = default_realm::find(raw, problems);
    let hosts = references::hosts(raw, &names, &networks, default_realm, problems);
    let services = references::services(raw, &names, problems);
    let grants = references::grants(raw, &names, problems);
    napt_grants::check(
        raw,
        &networks,
        &napt,
        &Granted { hosts: &hosts, services: &services, grants: &grants },
        problems,
    );
    let zone = zone::zone(raw, &names, ix.as_ref(), directory, secrets, problems);
    let internal = ix.as_ref().map_or("", |ix| ix.domain.as_str());
    let file = plain_ports::realm::File {
        raw,
        networks: &networks,
        default_realm,
        hosts: &hosts,
        services: &services,
        grants: &grants,
        napt: &napt,
    };
    plain_ports::realm::check(&tunnels.ports, &file, ix.as_ref(), problems);
    let routes_from = routes_from::routes_from(raw, &tunnels.attachments, default_realm, problems);
    let (dns, dns_forwards) = dns::dns(raw, internal, &networks, problems);
    if let Some(ix) = &ix {
        canonical6::check(raw, &networks, ix.space6, problems);
        aliases::check(raw, ix, &networks, &hosts, &napt, problems);
        if let Some(realm) = default_realm {
            let file = default_realm::File { raw, ix, networks: &networks, hosts: &hosts, napt: &napt };
            default_realm::check_hosts(realm, &file, problems);
            default_realm::check_resolvers(realm, &file, problems);
            default_realm::check_sources(realm, &file, &services, &grants, problems);
        }
    }
    if problems.error_count() > 0 {
        return None;
    }
    if raw.realms.is_empty() {
        problems
            .warning(&(0..0), "there is no realm: nothing will be carried")
            .why("no [[realm]] is in the file")
            .remedy("see whether the file is whole; examples are in configs/");
    }
    let parts = raw.realms.iter().zip(networks).zip(dns).zip(tunnels.attachments).zip(napt).zip(routes_from);
    let realms = parts.map(|(((((realm, networks), dns), attachments), napt), routes_from)| {
        let networks = networks.into_iter().map(|n| n.network).collect();
        let napt = napt.map(|placed| placed.napt);
        Some(model::Realm { name: realm.name.as_ref()?.value.clone(), networks, dns, attachments, routes_from, napt })
    });
    Some(model::Config {
        ix: ix?,
        api: api?,
        metrics: metrics?,
        wireguard: tunnels.wireguard?,
        ike: tunnels.ike?,
        workers,
        gate,
        uplink,
        limits,
        sessions,
        dns: zone?,
        interfaces: tunnels.interfaces,
        realms: realms.collect::<Option<_>>()?,
        default_realm,
        hosts: hosts.into_iter().collect::<Option<_>>()?,
        dns_forwards,
        services: services.into_iter().collect::<Option<_>>()?,
        grants: grants.into_iter().collect::<Option<_>>()?,
    })
}
