//! The reference resolver: what an asker is told about a name, from the lists of hosts, services and grants.

use std::net::IpAddr;

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::RecordType;

use super::view::{Host, View, Who};
use super::world::{self, CANONICAL, DOMAIN, POOL, Rule, Target};

/// Extended DNS Errors (RFC 8914).
const PROHIBITED: u16 = 18;
const NOT_AUTHORITATIVE: u16 = 20;

/// What is told: addresses or names as text, in any order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Told {
    pub code: ResponseCode,
    pub records: Vec<String>,
    pub extended_error: Option<u16>,
}

impl Told {
    fn records(records: Vec<String>) -> Told {
        Told { code: ResponseCode::NoError, records, extended_error: None }
    }

    fn no_such_name(extended_error: Option<u16>) -> Told {
        Told { code: ResponseCode::NXDomain, records: Vec::new(), extended_error }
    }

    fn refused() -> Told {
        Told { code: ResponseCode::Refused, records: Vec::new(), extended_error: Some(NOT_AUTHORITATIVE) }
    }
}

impl View<'_> {
    /// A question for A, AAAA or PTR. `name` is without the trailing dot.
    pub fn resolve(&self, asker: usize, name: &str, record_type: RecordType) -> Told {
        let Some(below) = name.strip_suffix(DOMAIN) else { return Told::refused() };
        let labels: Vec<&str> = below.trim_end_matches('.').split('.').filter(|label| !label.is_empty()).collect();
        let is_realm = |label: &str| self.world.realms.iter().any(|realm| realm.name == label);
        match labels[..] {
            [] => Told::records(Vec::new()),
            ["ns"] => {
                let versions = [false, true].into_iter().filter(|is_v6| self.world.speaks(asker, *is_v6));
                of_type(versions.map(|is_v6| self.ix(asker, 53, is_v6)).collect(), record_type)
            }
            [label] => match self.world.services.iter().find(|service| service.name == label) {
                Some(service) => {
                    let host = &self.world.hosts[service.host];
                    let visible = hosts(host.realm, &host.addresses).filter(|host| {
                        host.realm == asker
                            || self.rules(asker, *host).any(|r| service.ports.iter().any(|p| r.meets(*p)))
                    });
                    self.answer(asker, visible.collect(), record_type, is_realm(label))
                }
                None if is_realm(label) => Told::records(Vec::new()),
                None => Told::no_such_name(None),
            },
            [name, realm] => {
                let named = |host: &&world::Host| host.name == name && self.world.realms[host.realm].name == realm;
                match self.world.hosts.iter().find(named) {
                    Some(host) => {
                        let visible = hosts(host.realm, &host.addresses).filter(|host| self.reaches(asker, *host));
                        self.answer(asker, visible.collect(), record_type, false)
                    }
                    None => Told::no_such_name(None),
                }
            }
            _ => Told::no_such_name(None),
        }
    }

    /// No path, no address.
    fn answer(&self, asker: usize, visible: Vec<Host>, record_type: RecordType, has_names_below: bool) -> Told {
        if visible.is_empty() {
            return match has_names_below {
                true => Told::records(Vec::new()),
                false => Told::no_such_name(Some(PROHIBITED)),
            };
        }
        of_type(self.addresses(asker, &visible), record_type)
    }

    /// Its own hosts' own addresses; of others those that take no translation between IP versions, and only if there are none,
    /// those that do.
    pub fn addresses(&self, asker: usize, visible: &[Host]) -> Vec<IpAddr> {
        let seen = |host: &Host, translated: bool| -> Option<IpAddr> {
            if host.realm == asker {
                return (!translated).then_some(host.addr);
            }
            let is_v6 = host.addr.is_ipv6() != translated;
            self.seen(asker, *host, is_v6).filter(|_| self.world.speaks(asker, is_v6))
        };
        let direct: Vec<IpAddr> = visible.iter().filter_map(|host| seen(host, false)).collect();
        if direct.is_empty() { visible.iter().filter_map(|host| seen(host, true)).collect() } else { direct }
    }

    /// The name of an address, as the asker writes it.
    pub fn resolve_address(&self, asker: usize, addr: IpAddr, record_type: RecordType) -> Told {
        let own = self.own(asker, addr);
        let who = own.map(Who::Host).or_else(|| self.meant(asker, addr));
        let named = match who {
            Some(Who::Host(host)) => self
                .world
                .hosts
                .iter()
                .find(|named| named.realm == host.realm && named.addresses.contains(&host.addr))
                .map(|named| (format!("{}.{}.{DOMAIN}.", named.name, self.world.realms[host.realm].name), host)),
            Some(Who::Ix(53)) => return ptr(format!("ns.{DOMAIN}."), record_type),
            Some(Who::Ix(_)) => return Told::no_such_name(None),
            Some(Who::Pool(_)) | None => {
                let is_ours = POOL.contains(addr) || CANONICAL.contains(addr);
                return if is_ours { Told::no_such_name(None) } else { Told::refused() };
            }
        };
        match (named, who) {
            (Some((name, host)), _) if self.reaches(asker, host) => ptr(name, record_type),
            // Not why: a walk over all addresses is not to show which have names.
            (Some(_), _) => Told::no_such_name(None),
            (None, Some(Who::Host(host))) if own.is_some() || self.is_by_default(host) => Told::refused(),
            (None, _) => Told::no_such_name(None),
        }
    }

    pub fn reaches(&self, asker: usize, host: Host) -> bool {
        host.realm == asker || self.rules(asker, host).next().is_some()
    }

    /// Everything that `from` may open at a host.
    pub fn rules(&self, from: usize, host: Host) -> impl Iterator<Item = Rule> {
        let grants = self.world.grants.iter().filter(move |grant| grant.from.contains(&from));
        grants.flat_map(move |grant| match &grant.to {
            Target::Realm(realm, rules) if *realm == host.realm => rules.clone(),
            Target::Service(service) => {
                let service = &self.world.services[*service];
                let of = &self.world.hosts[service.host];
                let is_it = of.realm == host.realm && of.addresses.contains(&host.addr);
                if is_it { service.ports.clone() } else { Vec::new() }
            }
            Target::Realm(..) => Vec::new(),
        })
    }
}

fn hosts(realm: usize, addresses: &[IpAddr]) -> impl Iterator<Item = Host> {
    addresses.iter().map(move |addr| Host { realm, addr: *addr })
}

fn of_type(addresses: Vec<IpAddr>, record_type: RecordType) -> Told {
    let wants = |addr: &&IpAddr| match record_type {
        RecordType::A => addr.is_ipv4(),
        RecordType::AAAA => addr.is_ipv6(),
        _ => false,
    };
    Told::records(addresses.iter().filter(wants).map(IpAddr::to_string).collect())
}

fn ptr(name: String, record_type: RecordType) -> Told {
    Told::records(if record_type == RecordType::PTR { vec![name] } else { Vec::new() })
}
