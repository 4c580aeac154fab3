//! The default realm (`networks = ["default"]`): at most one, with hosts that nobody else has, and sources that the
//! addresses of its hosts' replies can find.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::ops::Range;

use ipnet::IpNet;

use super::dns;
use super::napt::PlacedNapt;
use super::networks::Placed;
use crate::config::diagnostic::Problems;
use crate::config::model::{AliasMode, Grant, GrantTarget, Host, Ix, RealmRef, Service};
use crate::config::raw::{Extent, Raw};
use crate::net::range_map::RangeMap;
use crate::net::special_purpose::{refusal_of_net4, refusal4, refusal6};

/// The realm that says `default`. A second one is reported.
pub fn find(raw: &Raw, problems: &mut Problems) -> Option<RealmRef> {
    let mut first: Option<(RealmRef, &Range<usize>)> = None;
    for (i, realm) in raw.realms.iter().enumerate() {
        for network in &realm.networks {
            let Extent::Default(text) = &network.extent else { continue };
            match first {
                None => first = Some((RealmRef(i), &text.span)),
                Some((_, span)) => {
                    problems
                        .error(&text.span, "a second `default`")
                        .why("an address that nobody else has would have two owners")
                        .remedy("keep one of them")
                        .also(span, "the first one is here");
                }
            }
        }
    }
    first.map(|(realm, _)| realm)
}

/// What the checks below read.
pub struct File<'a> {
    pub raw: &'a Raw,
    pub ix: &'a Ix,
    pub networks: &'a [Vec<Placed>],
    pub hosts: &'a [Option<Host>],
    pub napt: &'a [Option<PlacedNapt>],
}

/// Hosts of `realm` lie in its own networks, or have addresses that nobody else has.
pub fn check_hosts(realm: RealmRef, file: &File<'_>, problems: &mut Problems) {
    let taken = Taken::new(file);
    for (host, raw) in file.hosts.iter().zip(&file.raw.hosts) {
        let Some(host) = host.as_ref().filter(|host| host.realm == realm) else { continue };
        for address in &host.addresses {
            let Some(why) = refusal_in(realm, *address, &taken, file) else { continue };
            let mut texts = raw.addresses.iter().flat_map(|list| &list.value);
            let span = texts.find(|text| text.value.parse() == Ok(*address)).map_or(0..0, |text| text.span.clone());
            let name = name_of(realm, file);
            problems
                .error(&span, format!("{address} cannot be a host of the default realm `{name}`"))
                .why(why)
                .remedy(format!("correct the address, or add its network to realm `{name}` beside `default`"));
        }
    }
}

/// The same for its resolvers.
pub fn check_resolvers(realm: RealmRef, file: &File<'_>, problems: &mut Problems) {
    let written = file.raw.realms[realm.0].dns.as_ref().and_then(|dns| dns.resolvers.as_ref());
    let taken = Taken::new(file);
    for text in written.iter().flat_map(|list| &list.value) {
        // What is no address has been reported.
        let Some(address) = dns::resolver(&text.value).map(|server| server.ip()) else { continue };
        let Some(why) = refusal_in(realm, address, &taken, file) else { continue };
        let name = name_of(realm, file);
        problems
            .error(&text.span, format!("{address} cannot be a resolver in the default realm `{name}`"))
            .why(why)
            .remedy(format!(
                "name the resolver under the realm that it stands in, or add its network to realm `{name}` beside `default`"
            ));
    }
}

/// What belongs to somebody, by realm. Of IPv4 a realm may have itself what the default realm has as well: it alone does not
/// see that.
struct Taken {
    pins: RangeMap<u32, RealmRef>,
    ipv6: RangeMap<u128, RealmRef>,
}

impl Taken {
    fn new(file: &File<'_>) -> Self {
        let (mut pins, mut ipv6) = (Vec::new(), Vec::new());
        for (owner, list) in file.networks.iter().enumerate() {
            for network in list.iter().map(|placed| &placed.network) {
                let native = match network.native {
                    IpNet::V6(net) => Some(net),
                    IpNet::V4(_) => None,
                };
                for net in native.into_iter().chain(network.canonical) {
                    ipv6.push((net.network().to_bits(), net.broadcast().to_bits(), RealmRef(owner)));
                }
                if let AliasMode::Pinned(net) = network.alias {
                    pins.push((net.network().to_bits(), net.broadcast().to_bits(), RealmRef(owner)));
                }
            }
        }
        for (owner, placed) in file.napt.iter().enumerate() {
            let pools = placed.iter().flat_map(|placed| &placed.napt.pools);
            pins.extend(pools.map(|net| (net.network().to_bits(), net.broadcast().to_bits(), RealmRef(owner))));
        }
        Taken { pins: RangeMap::new(pins), ipv6: RangeMap::new(ipv6) }
    }
}

/// Why the default realm `realm` has no host of this address; `None`: it has.
fn refusal_in(realm: RealmRef, address: IpAddr, taken: &Taken, file: &File<'_>) -> Option<String> {
    let is_own = file.networks[realm.0].iter().any(|placed| placed.network.native.contains(&address));
    if is_own { None } else { refusal(address, taken, file) }
}

fn refusal(address: IpAddr, taken: &Taken, file: &File<'_>) -> Option<String> {
    let (special, owner) = match address {
        IpAddr::V4(addr) => (refusal4(addr), taken.pins.lookup(addr.to_bits())),
        IpAddr::V6(addr) => (refusal6(addr), taken.ipv6.lookup(addr.to_bits())),
    };
    if let Some(why) = special {
        return Some(why.into());
    }
    if file.ix.alias4.iter().any(|pool| IpNet::V4(*pool).contains(&address)) {
        return Some("it is in `alias4`, from which aliases are taken".into());
    }
    owner.map(|owner| format!("the other realms know realm `{}` by this address", name_of(owner, file)))
}

/// Warns of realms that may open sessions towards `realm` and are seen there under addresses to which no reply comes back.
pub fn check_sources(
    realm: RealmRef,
    file: &File<'_>,
    services: &[Option<Service>],
    grants: &[Option<Grant>],
    problems: &mut Problems,
) {
    let realm_of = |service: &Service| file.hosts[service.host.0].as_ref().map(|host| host.realm);
    let is_there = |target: &GrantTarget| match target {
        GrantTarget::Realm(to, _) => *to == realm,
        GrantTarget::Service(to) => services[to.0].as_ref().and_then(realm_of) == Some(realm),
    };
    let pools_are_public = file.ix.alias4.iter().all(|pool| refusal_of_net4(*pool).is_none());
    let mut said = BTreeSet::new();
    for (grant, raw) in grants.iter().zip(&file.raw.grants) {
        let Some(grant) = grant.as_ref().filter(|grant| grant.to.iter().any(is_there)) else { continue };
        for from in grant.from.iter().filter(|from| **from != realm) {
            let pool = file.napt[from.0].as_ref().map(|placed| &placed.napt).filter(|napt| napt.is_for(realm));
            let is_public = |placed: &&Placed| match pool.filter(|pool| pool.stands_for(&placed.network)) {
                Some(pool) => pool.pools.iter().all(|pool| refusal_of_net4(*pool).is_none()),
                None => is_public(placed, pools_are_public),
            };
            let private = file.networks[from.0].iter().find(|placed| !is_public(placed));
            let Some(private) = private.filter(|_| said.insert(*from)) else { continue };
            let name = name_of(*from, file);
            let mut texts = raw.from.iter().flat_map(|list| &list.value);
            let span = texts.find(|text| text.value == name).map_or(raw.span.clone(), |text| text.span.clone());
            problems
                .warning(&span, format!("realm `{name}` reaches the default realm under addresses that are not public"))
                .why(format!(
                    "{} has no public alias, and replies to other addresses do not come back",
                    private.written()
                ))
                .remedy("pin a public prefix as its alias, or show the realm by public addresses (`show_as`)")
                .also(&private.span, "the network is here");
        }
    }
}

fn is_public(placed: &Placed, pools_are_public: bool) -> bool {
    match (placed.network.native, placed.network.alias) {
        (_, AliasMode::Pinned(alias)) => refusal_of_net4(alias).is_none(),
        (IpNet::V4(_), AliasMode::Auto | AliasMode::HostsOnly) => pools_are_public,
        (IpNet::V6(native), _) => refusal6(placed.network.canonical.unwrap_or(native).network()).is_none(),
    }
}

fn name_of<'a>(realm: RealmRef, file: &'a File<'_>) -> &'a str {
    file.raw.realms[realm.0].name.as_ref().map_or("?", |name| name.value.as_str())
}
