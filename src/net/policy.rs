//! What was agreed: grants, compiled. Default deny.
//!
//! A grant lets the hosts of one realm open sessions towards a host (a service) or a whole realm, on stated ports.
//! Replies need no grant: the session that the request opened lets them through. The packet path asks
//! [`Policy::evaluate`] once per new session; the resolver asks [`Policy::reaches`] before it gives out an address.

use std::collections::HashMap;
use std::fmt;
use std::ops::RangeInclusive;

use super::{Canonical, RealmId};

/// IP protocol numbers that the appliance treats by name (IANA).
pub mod protocol {
    pub const ICMP: u8 = 1;
    pub const TCP: u8 = 6;
    pub const UDP: u8 = 17;
    pub const DCCP: u8 = 33;
    pub const ICMPV6: u8 = 58;
    pub const UDP_LITE: u8 = 136;
}

/// One entry of a `ports` list: `tcp/443`, `udp/5000-5100`, `icmp`, `any`.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum PortRule {
    Any,
    /// Echo, in both families.
    Icmp,
    Tcp(RangeInclusive<u16>),
    Udp(RangeInclusive<u16>),
}

impl PortRule {
    /// Whether the rule allows a session of IP protocol `protocol` to destination port `port` (0 without ports).
    pub fn allows(&self, protocol: u8, port: u16) -> bool {
        match self {
            PortRule::Any => true,
            PortRule::Icmp => matches!(protocol, protocol::ICMP | protocol::ICMPV6),
            PortRule::Tcp(ports) => protocol == protocol::TCP && ports.contains(&port),
            PortRule::Udp(ports) => protocol == protocol::UDP && ports.contains(&port),
        }
    }

    /// Whether some session is allowed by both rules.
    pub fn overlaps(&self, other: &PortRule) -> bool {
        match (self, other) {
            (PortRule::Any, _) | (_, PortRule::Any) | (PortRule::Icmp, PortRule::Icmp) => true,
            (PortRule::Tcp(a), PortRule::Tcp(b)) | (PortRule::Udp(a), PortRule::Udp(b)) => {
                a.start() <= b.end() && b.start() <= a.end()
            }
            _ => false,
        }
    }
}

impl fmt::Display for PortRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, ports) = match self {
            PortRule::Any => return f.write_str("any"),
            PortRule::Icmp => return f.write_str("icmp"),
            PortRule::Tcp(ports) => ("tcp", ports),
            PortRule::Udp(ports) => ("udp", ports),
        };
        if ports.start() == ports.end() {
            write!(f, "{name}/{}", ports.start())
        } else {
            write!(f, "{name}/{}-{}", ports.start(), ports.end())
        }
    }
}

/// What a grant opens.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Target {
    /// Every host of the realm.
    Realm,
    /// One host, by its canonical addresses.
    Host(Vec<Canonical>),
}

/// One grant for one ordered pair of realms.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Grant {
    pub from: RealmId,
    pub to: RealmId,
    pub target: Target,
    pub rules: Vec<PortRule>,
}

/// The compiled grants. Immutable; one per generation.
#[derive(Clone, Default, Debug)]
pub struct Policy {
    pairs: HashMap<(RealmId, RealmId), PairPolicy>,
}

/// What one realm may open in another.
#[derive(Clone, Default, Debug)]
struct PairPolicy {
    any_host: Vec<PortRule>,
    hosts: HashMap<Canonical, Vec<PortRule>>,
}

impl PairPolicy {
    fn rules(&self, destination: Canonical) -> impl Iterator<Item = &PortRule> {
        self.any_host.iter().chain(self.hosts.get(&destination).into_iter().flatten())
    }
}

impl Policy {
    pub fn new(grants: impl IntoIterator<Item = Grant>) -> Self {
        let mut pairs: HashMap<_, PairPolicy> = HashMap::new();
        for grant in grants {
            let pair = pairs.entry((grant.from, grant.to)).or_default();
            match grant.target {
                Target::Realm => pair.any_host.extend(grant.rules),
                Target::Host(addresses) => {
                    for address in addresses {
                        pair.hosts.entry(address).or_default().extend(grant.rules.iter().cloned());
                    }
                }
            }
        }
        Policy { pairs }
    }

    /// May a host of `from` open a session to `destination` in `to`? `port` is the destination port, 0 for protocols
    /// without ports.
    pub fn evaluate(&self, from: RealmId, to: RealmId, destination: Canonical, protocol: u8, port: u16) -> bool {
        self.rules(from, to, destination).any(|rule| rule.allows(protocol, port))
    }

    /// May `from` open anything at all to `destination`?
    pub fn reaches(&self, from: RealmId, to: RealmId, destination: Canonical) -> bool {
        self.rules(from, to, destination).next().is_some()
    }

    /// May `from` open anything in `to`?
    pub fn reaches_realm(&self, from: RealmId, to: RealmId) -> bool {
        let pair = self.pairs.get(&(from, to));
        pair.is_some_and(|p| !p.any_host.is_empty() || p.hosts.values().any(|rules| !rules.is_empty()))
    }

    /// May `from` open at least one of a service's ports?
    pub fn reaches_service(&self, from: RealmId, to: RealmId, destination: Canonical, service: &[PortRule]) -> bool {
        self.rules(from, to, destination).any(|rule| service.iter().any(|port| rule.overlaps(port)))
    }

    fn rules(&self, from: RealmId, to: RealmId, destination: Canonical) -> impl Iterator<Item = &PortRule> {
        self.pairs.get(&(from, to)).into_iter().flat_map(move |pair| pair.rules(destination))
    }
}

#[cfg(test)]
mod tests {
    use super::protocol::{ICMP, ICMPV6, TCP, UDP};
    use super::*;

    const A: RealmId = RealmId(1);
    const B: RealmId = RealmId(2);

    #[test]
    fn nothing_is_allowed_by_default() {
        let policy = Policy::default();
        assert!(!policy.evaluate(A, B, Canonical(1), TCP, 443));
        assert!(!policy.reaches(A, B, Canonical(1)));
    }

    #[test]
    fn a_grant_is_one_way_and_for_its_host_and_ports_only() {
        let policy = Policy::new([Grant {
            from: A,
            to: B,
            target: Target::Host(vec![Canonical(20)]),
            rules: vec![PortRule::Tcp(443..=443), PortRule::Udp(5000..=5100)],
        }]);
        assert!(policy.evaluate(A, B, Canonical(20), TCP, 443));
        assert!(policy.evaluate(A, B, Canonical(20), UDP, 5100));
        for (from, to, host, protocol, port) in [
            (B, A, 20, TCP, 443),
            (A, B, 21, TCP, 443),
            (A, B, 20, TCP, 444),
            (A, B, 20, UDP, 443),
            (A, B, 20, UDP, 5101),
            (A, B, 20, ICMP, 0),
            (A, A, 20, TCP, 443),
        ] {
            assert!(
                !policy.evaluate(from, to, Canonical(host), protocol, port),
                "{from}->{to} {host} {protocol}/{port}"
            );
        }
        assert!(policy.reaches(A, B, Canonical(20)));
        assert!(!policy.reaches(A, B, Canonical(21)));
        assert!(policy.reaches_realm(A, B) && !policy.reaches_realm(B, A) && !policy.reaches_realm(A, A));
    }

    #[test]
    fn a_whole_realm_and_icmp_in_both_families() {
        let policy = Policy::new([Grant { from: A, to: B, target: Target::Realm, rules: vec![PortRule::Icmp] }]);
        assert!(policy.evaluate(A, B, Canonical(5), ICMP, 0));
        assert!(policy.evaluate(A, B, Canonical(6), ICMPV6, 0));
        assert!(!policy.evaluate(A, B, Canonical(6), TCP, 80));
        assert!(!policy.reaches_service(A, B, Canonical(6), &[PortRule::Tcp(80..=80)]));
    }

    #[test]
    fn rules_print_as_they_are_written() {
        for (rule, text) in [
            (PortRule::Any, "any"),
            (PortRule::Icmp, "icmp"),
            (PortRule::Tcp(443..=443), "tcp/443"),
            (PortRule::Udp(5000..=5100), "udp/5000-5100"),
        ] {
            assert_eq!(rule.to_string(), text);
        }
    }
}
