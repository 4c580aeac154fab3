//! Grants that open nothing: who sees a realm by its pool needs a forward to a service in it.

use std::net::IpAddr;

use super::napt::PlacedNapt;
use super::networks::Placed;
use crate::config::diagnostic::Problems;
use crate::config::model::{AliasMode, ForwardProtocol, Grant, GrantTarget, Host, Napt, RealmRef, Service, ServiceRef};
use crate::config::raw::{Extent, Raw};
use crate::net::policy::{PortRule, protocol};

/// What was understood of the file, each in its order.
pub struct Granted<'a> {
    pub hosts: &'a [Option<Host>],
    pub services: &'a [Option<Service>],
    pub grants: &'a [Option<Grant>],
}

/// Warns of grants of a service to realms that see no address of it and have no forward to it.
pub fn check(
    raw: &Raw,
    networks: &[Vec<Placed>],
    napt: &[Option<PlacedNapt>],
    granted: &Granted<'_>,
    problems: &mut Problems,
) {
    for (grant, raw_grant) in granted.grants.iter().zip(&raw.grants) {
        let Some(grant) = grant else { continue };
        let services = grant.to.iter().filter_map(|target| match target {
            GrantTarget::Service(service) => Some(*service),
            GrantTarget::Realm(..) => None,
        });
        for unseen in services.filter_map(|service| unseen(service, networks, napt, granted)) {
            let sees_nothing = |from: &&RealmRef| {
                let networks = &networks[from.0];
                let speaks_ipv4_only = networks.iter().all(|placed| placed.network.native.addr().is_ipv4());
                // Without networks it has some that were not understood, or is the default realm.
                unseen.viewers.contains(from) && speaks_ipv4_only && !networks.is_empty() && !is_default(raw, **from)
            };
            for from in grant.from.iter().filter(sees_nothing) {
                let name = |realm: RealmRef| raw.realms[realm.0].name.as_ref().map_or("?", |name| name.value.as_str());
                let (viewer, service, owner) = (name(*from), &unseen.service.name, name(unseen.host.realm));
                let mut texts = raw_grant.to.iter().flat_map(|list| &list.value);
                let text = texts.find(|text| text.value == *service);
                let span = text.map_or(&raw_grant.span, |text| &text.span);
                let pool = raw.realms[unseen.host.realm.0].show_as.as_ref();
                let said = problems
                    .warning(span, format!("realm `{viewer}` cannot open service `{service}`"))
                    .why(format!(
                        "it sees realm `{owner}` by its pool (`for`): the service's name has no address for it, and no \
                         forward leads to the service's ports"
                    ))
                    .remedy(format!("{}take `{viewer}` out of `for`", unseen.forward()));
                if let Some(pool) = pool {
                    said.also(&pool.span, "the pool is here");
                }
            }
        }
    }
}

fn is_default(raw: &Raw, realm: RealmRef) -> bool {
    raw.realms[realm.0].networks.iter().any(|network| matches!(network.extent, Extent::Default(_)))
}

/// A service that the viewers of its realm's pool do not see.
struct Unseen<'a> {
    service: &'a Service,
    host: &'a Host,
    address: IpAddr,
    napt: &'a Napt,
    viewers: &'a [RealmRef],
}

fn unseen<'a>(
    service: ServiceRef,
    networks: &[Vec<Placed>],
    napt: &'a [Option<PlacedNapt>],
    granted: &Granted<'a>,
) -> Option<Unseen<'a>> {
    let service = granted.services[service.0].as_ref()?;
    let host = granted.hosts[service.host.0].as_ref()?;
    let napt = &napt[host.realm.0].as_ref()?.napt;
    let viewers = napt.viewers.as_deref()?;
    let is_hidden = |address: &IpAddr| {
        let mut networks = networks[host.realm.0].iter().map(|placed| &placed.network);
        let network = networks.find(|network| network.native.contains(address));
        network.is_some_and(|network| address.is_ipv4() || network.alias == AliasMode::HostsOnly)
    };
    let address = *host.addresses.iter().find(|address| address.is_ipv4())?;
    let is_forwarded = napt.forwards.iter().any(|forward| {
        let number = match forward.protocol {
            ForwardProtocol::Tcp => protocol::TCP,
            ForwardProtocol::Udp => protocol::UDP,
        };
        let (to, port) = forward.to;
        host.addresses.contains(&to) && service.ports.iter().any(|rule| rule.allows(number, port))
    });
    let is_unseen = host.addresses.iter().all(is_hidden) && !is_forwarded;
    is_unseen.then_some(Unseen { service, host, address, napt, viewers })
}

impl Unseen<'_> {
    /// One that would help, if a port of the service can have one.
    fn forward(&self) -> String {
        let port = self.service.ports.iter().find_map(|rule| match rule {
            PortRule::Tcp(ports) => Some(("tcp", *ports.start())),
            PortRule::Udp(ports) => Some(("udp", *ports.start())),
            PortRule::Any | PortRule::Icmp => None,
        });
        let (Some((protocol, port)), Some(pool)) = (port, self.napt.pools.first()) else { return String::new() };
        format!(
            "add a forward, for example `{{ outside = \"{}\", port = \"{protocol}/{port}\", to = \"{}:{port}\" }}`, or ",
            pool.network(),
            self.address
        )
    }
}
