//! What no learned prefix may be, in words.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;

use crate::config;
use crate::config::model::{AliasMode, Config, Peer, RealmRef};

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// `0.0.0.0/0` or `::/0`.
    Default,
    Reserved(&'static str),
    NotAllowed,
    /// No IPv6 prefix is allowed.
    Ipv6NotAllowed,
    /// The link's own, or an address of a BGP speaker.
    MeetsLink(IpNet),
    MeetsAliases(IpNet),
    MeetsSpace6(IpNet),
    HoldsNetwork(IpNet),
    HoldsHost(IpAddr),
    HopNotOnLink(IpAddr),
    TooManyHops,
    TooManyRoutes,
    /// Withdrawn networks keep theirs.
    TooManyAliases {
        max: usize,
    },
    /// Addresses of `alias4`.
    ShareTaken {
        max: u64,
    },
    NoAliasLeft,
    Unsettled,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::Default => {
                f.write_str("a default route is no network; write `networks = [\"default\"]` for such a realm")
            }
            Refusal::Reserved(why) => f.write_str(why),
            Refusal::NotAllowed => f.write_str("it lies in none of the prefixes of `allow`"),
            Refusal::Ipv6NotAllowed => f.write_str(
                "`allow` names no IPv6 prefix; everybody sees IPv6 networks as they are, so name those that are this realm's",
            ),
            Refusal::MeetsLink(net) => write!(f, "it overlaps {net}, by which the realm's routers are reached"),
            Refusal::MeetsAliases(net) => write!(f, "it overlaps {net}, under which realms see others"),
            Refusal::MeetsSpace6(net) => write!(f, "it overlaps `space6`, {net}"),
            Refusal::HoldsNetwork(net) => write!(f, "{net} of the file is a part of it, and the file counts for more"),
            Refusal::HoldsHost(host) => write!(f, "{host} in it is a host or a resolver of the default realm"),
            Refusal::HopNotOnLink(via) => write!(f, "its next hop {via} is not on the port's link"),
            Refusal::TooManyHops => {
                write!(f, "its next hop is one too many: a link has {} at most", super::MAX_LEARNED_HOPS)
            }
            Refusal::TooManyRoutes => write!(f, "the port has {} routes already", super::MAX_ROUTES),
            Refusal::TooManyAliases { max } => write!(
                f,
                "{max} networks that this realm learned at some time hold an alias, which is twice its `max_prefixes`; raise that, or \
                 give aliases back (`ixgate plan FILE --release ALIAS`)"
            ),
            Refusal::ShareTaken { max } => write!(
                f,
                "learned networks of this realm, withdrawn ones too, may hold {max} addresses of `ix.alias4`, and not so many are \
                 left; raise `max_alias_addresses`, or name the network in the file"
            ),
            Refusal::NoAliasLeft => f.write_str("no alias of its size is left; add a prefix to `ix.alias4`"),
            Refusal::Unsettled => {
                f.write_str("too many other prefixes were refused at once; it is looked at again with the next change")
            }
        }
    }
}

/// What the file says about prefixes of daemons.
pub(super) struct Rules<'a> {
    file: &'a Config,
    /// Everything that realms see others under, in IPv4.
    aliases: Vec<IpNet>,
    /// Named addresses of the default realm.
    default_hosts: Vec<IpAddr>,
}

impl<'a> Rules<'a> {
    pub fn new(file: &'a Config) -> Self {
        let pinned = file.realms.iter().flat_map(|realm| &realm.networks).filter_map(|network| match network.alias {
            AliasMode::Pinned(alias) => Some(alias),
            _ => None,
        });
        let pools = file.realms.iter().filter_map(|realm| realm.napt.as_ref()).flat_map(|napt| napt.pools.clone());
        let aliases = file.ix.alias4.iter().copied().chain(pinned).chain(pools).map(IpNet::V4).collect();
        let hosts = file.hosts.iter().filter(|host| Some(host.realm) == file.default_realm);
        let dns = file.default_realm.and_then(|realm| file.realms[realm.0].dns.as_ref());
        let resolvers = dns.into_iter().flat_map(|dns| dns.resolvers.iter().map(|server| server.ip()));
        Rules { file, aliases, default_hosts: hosts.flat_map(|host| host.addresses.clone()).chain(resolvers).collect() }
    }

    pub fn refuse(&self, realm: RealmRef, prefix: IpNet) -> Option<Refusal> {
        let realm = &self.file.realms[realm.0];
        let from = realm.routes_from.as_ref()?;
        if prefix.prefix_len() == 0 {
            return Some(Refusal::Default);
        }
        if let Some(why) = config::refusal_of_network(prefix) {
            return Some(Refusal::Reserved(why));
        }
        if let Some(why) = refusal_of_filter(&from.allow, prefix) {
            return Some(why);
        }
        let speakers = from.local.iter().chain(&from.peers).map(|address| IpNet::from(*address));
        let links = realm.attachments.iter().filter_map(|attachment| match &attachment.peer {
            Peer::Port(port) => Some(port.addresses.iter().map(IpNet::trunc)),
            _ => None,
        });
        if let Some(net) = links.flatten().chain(speakers).find(|net| meets(*net, prefix)) {
            return Some(Refusal::MeetsLink(net));
        }
        if let Some(net) = self.aliases.iter().find(|net| meets(**net, prefix)) {
            return Some(Refusal::MeetsAliases(*net));
        }
        let space6 = IpNet::V6(self.file.ix.space6.prefix());
        if meets(space6, prefix) {
            return Some(Refusal::MeetsSpace6(space6));
        }
        self.default_hosts.iter().find(|host| prefix.contains(*host)).map(|host| Refusal::HoldsHost(*host))
    }
}

/// Which realm an IPv6 prefix belongs to the file says, so that it is no matter of who came first.
fn refusal_of_filter(allow: &[IpNet], prefix: IpNet) -> Option<Refusal> {
    if allow.iter().any(|net| net.contains(&prefix)) {
        return None;
    }
    match prefix {
        IpNet::V4(_) => (!allow.is_empty()).then_some(Refusal::NotAllowed),
        IpNet::V6(_) if allow.iter().any(|net| net.addr().is_ipv6()) => Some(Refusal::NotAllowed),
        IpNet::V6(_) => Some(Refusal::Ipv6NotAllowed),
    }
}

fn meets(one: IpNet, other: IpNet) -> bool {
    one.contains(&other) || other.contains(&one)
}
