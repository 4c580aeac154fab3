//! Hosts, services and grants: what they refer to exists, and says the same thing once.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::net::IpAddr;
use std::ops::Range;

use super::names::Names;
use super::networks::{Placed, written_count};
use super::ports;
use crate::config::diagnostic::Problems;
use crate::config::model::{Grant, GrantTarget, Host, HostRef, RealmRef, Service, ServiceRef};
use crate::config::raw::{self, Raw};
use crate::config::section::At;
use crate::config::suggest;
use crate::net::policy::PortRule;

/// In the order of the file; `None` for one with an error.
/// What may be a host of the default realm is for [`super::default_realm`] to say.
pub fn hosts(
    raw: &Raw,
    names: &Names<'_>,
    networks: &[Vec<Placed>],
    default_realm: Option<RealmRef>,
    problems: &mut Problems,
) -> Vec<Option<Host>> {
    let mut seen: HashMap<(RealmRef, IpAddr), Range<usize>> = HashMap::new();
    let mut read = |host: &raw::Host| {
        let realm = realm(host.realm.as_ref()?, names, problems);
        let texts = host.addresses.as_ref()?;
        let parsed: Vec<_> =
            texts.value.iter().filter_map(|text| Some((address(text, problems)?, &text.span))).collect();
        report_same_family(&parsed, problems);
        let realm = realm?;
        for (address, span) in &parsed {
            if default_realm != Some(realm) {
                report_outside(*address, span, realm, raw, networks, problems);
            }
            if let Some(first) = seen.get(&(realm, *address)) {
                problems
                    .error(span, format!("{address} is a host of this realm already"))
                    .why("an address belongs to one host; a second name would make its reverse name a guess")
                    .remedy("remove one of them")
                    .also(first, "the first one is here");
            } else {
                seen.insert((realm, *address), (*span).clone());
            }
        }
        let addresses: Vec<_> = parsed.into_iter().map(|(address, _)| address).collect();
        (!addresses.is_empty()).then_some(())?;
        Some(Host { name: host.name.as_ref()?.value.clone(), realm, addresses })
    };
    raw.hosts.iter().map(&mut read).collect()
}

pub fn services(raw: &Raw, names: &Names<'_>, problems: &mut Problems) -> Vec<Option<Service>> {
    let mut read = |service: &raw::Service| {
        let rules = service.ports.as_ref().and_then(|list| ports::rules(list, problems));
        let host = service.host.as_ref().and_then(|text| host_of(text, names, problems));
        Some(Service { name: service.name.as_ref()?.value.clone(), host: host?, ports: rules? })
    };
    raw.services.iter().map(&mut read).collect()
}

pub fn grants(raw: &Raw, names: &Names<'_>, problems: &mut Problems) -> Vec<Option<Grant>> {
    let mut seen: HashMap<Essence, Range<usize>> = HashMap::new();
    let mut read = |grant: &raw::Grant| {
        let from = grant.from.as_ref().map(|list| sources(list, names, problems));
        let rules = grant.ports.as_ref().map(|list| ports::rules(list, problems));
        let to = grant.to.as_ref().map(|list| targets(list, names, problems));
        let (from, to) = (from??, to??);
        check_ports(grant, &to, problems);
        let rules = match rules {
            Some(rules) => rules?,
            None => Vec::new(),
        };
        let grant_to: Vec<_> = to.into_iter().map(|target| target.with(&rules)).collect();
        match seen.get(&essence(&from, &grant_to)) {
            Some(first) => {
                problems
                    .warning(&grant.span, "this grant says what another one says already")
                    .why("it opens nothing new, and removing one of them would close nothing")
                    .remedy("remove one of them")
                    .also(first, "the other one is here");
            }
            None => {
                seen.insert(essence(&from, &grant_to), grant.span.clone());
            }
        }
        Some(Grant { from, to: grant_to })
    };
    raw.grants.iter().map(&mut read).collect()
}

/// A grant without the order of its lists.
type Essence = (BTreeSet<RealmRef>, BTreeSet<(bool, usize)>, BTreeSet<String>);

fn essence(from: &[RealmRef], to: &[GrantTarget]) -> Essence {
    let targets = to.iter().map(|target| match target {
        GrantTarget::Service(service) => (false, service.0),
        GrantTarget::Realm(realm, _) => (true, realm.0),
    });
    let ports = to.iter().find_map(|target| match target {
        GrantTarget::Realm(_, rules) => Some(rules.iter().map(ToString::to_string).collect()),
        GrantTarget::Service(_) => None,
    });
    (from.iter().copied().collect(), targets.collect(), ports.unwrap_or_default())
}

/// A target whose ports are not yet known.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Target {
    Service(ServiceRef),
    Realm(RealmRef),
}

impl Target {
    fn with(self, rules: &[PortRule]) -> GrantTarget {
        match self {
            Target::Service(service) => GrantTarget::Service(service),
            Target::Realm(realm) => GrantTarget::Realm(realm, rules.to_vec()),
        }
    }
}

fn check_ports(grant: &raw::Grant, to: &[Target], problems: &mut Problems) {
    let whole_realm = to.iter().any(|t| matches!(t, Target::Realm(_)));
    match (&grant.ports, whole_realm) {
        (None, true) => {
            let span = grant.to.as_ref().map_or(&grant.span, |to| &to.span);
            problems
                .error(span, "a grant of a whole realm needs `ports`")
                .why("nothing is open unless it is said; a realm has no ports of its own")
                .remedy("add for example `ports = [\"tcp/443\"]`, or `ports = [\"any\"]`");
        }
        (Some(ports), false) => {
            problems
                .error(&ports.span, "`ports` belongs to whole realms, and this grant names services only")
                .why("a service brings its own ports")
                .remedy("remove `ports`, and change the service's where they are wrong");
        }
        _ => {}
    }
}

pub fn sources(list: &At<Vec<At<String>>>, names: &Names<'_>, problems: &mut Problems) -> Option<Vec<RealmRef>> {
    let mut seen = HashSet::new();
    let found: Vec<_> = list.value.iter().map(|text| Some((realm(text, names, problems)?, text))).collect();
    let found: Vec<_> = found.into_iter().collect::<Option<_>>()?;
    Some(once(found, &mut seen, problems))
}

fn targets(list: &At<Vec<At<String>>>, names: &Names<'_>, problems: &mut Problems) -> Option<Vec<Target>> {
    let mut seen = HashSet::new();
    let found: Vec<_> = list.value.iter().map(|text| Some((target(text, names, problems)?, text))).collect();
    let found: Vec<_> = found.into_iter().collect::<Option<_>>()?;
    Some(once(found, &mut seen, problems))
}

/// Leaves repetitions out, with a warning.
fn once<T: Copy + Eq + std::hash::Hash>(
    found: Vec<(T, &At<String>)>,
    seen: &mut HashSet<T>,
    problems: &mut Problems,
) -> Vec<T> {
    let mut kept = Vec::with_capacity(found.len());
    for (value, text) in found {
        if seen.insert(value) {
            kept.push(value);
        } else {
            problems
                .warning(&text.span, format!("`{}` is named twice in this list", text.value))
                .remedy("remove one of them");
        }
    }
    kept
}

fn target(text: &At<String>, names: &Names<'_>, problems: &mut Problems) -> Option<Target> {
    if let Some(name) = text.value.strip_prefix("realm:") {
        let name = At { value: name.to_owned(), span: text.span.clone() };
        return realm(&name, names, problems).map(Target::Realm);
    }
    if let Some(service) = names.services.get(text.value.as_str()) {
        return Some(Target::Service(ServiceRef(*service)));
    }
    let remedy = if names.realms.contains_key(text.value.as_str()) {
        format!("for the whole realm write `realm:{}`", text.value)
    } else {
        known(&text.value, "service", names.services.len(), names.services.keys().copied())
    };
    problems
        .error(&text.span, format!("there is no service `{}`", text.value))
        .why("`to` names services of this file, or `realm:NAME`")
        .remedy(remedy);
    None
}

fn realm(text: &At<String>, names: &Names<'_>, problems: &mut Problems) -> Option<RealmRef> {
    if let Some(realm) = names.realms.get(text.value.as_str()) {
        return Some(RealmRef(*realm));
    }
    problems
        .error(&text.span, format!("there is no realm `{}`", text.value))
        .why("a reference has to name a `[[realm]]` of this file")
        .remedy(known(&text.value, "realm", names.realms.len(), names.realms.keys().copied()));
    None
}

fn host_of(text: &At<String>, names: &Names<'_>, problems: &mut Problems) -> Option<HostRef> {
    let parts = text.value.split_once('.').filter(|(_, realm)| !realm.contains('.'));
    if let Some(host) = parts.and_then(|(host, realm)| names.hosts.get(&(realm, host))) {
        return Some(HostRef(*host));
    }
    let full: Vec<String> = match names.hosts.len() <= MOST_COMPARED {
        true => names.hosts.keys().map(|(realm, host)| format!("{host}.{realm}")).collect(),
        false => Vec::new(),
    };
    let remedy = known(&text.value, "host", names.hosts.len(), full.iter().map(String::as_str));
    problems
        .error(&text.span, format!("there is no host `{}`", text.value))
        .why("a service lives on a `[[host]]` of this file, written HOST.REALM")
        .remedy(remedy);
    None
}

/// More names than this are not searched for a similar one: with many mistakes in a long file it would take minutes.
const MOST_COMPARED: usize = 4096;

/// The known name that was probably meant, or a list of them.
fn known<'a>(word: &str, what: &str, count: usize, names: impl Iterator<Item = &'a str>) -> String {
    if count > MOST_COMPARED {
        return format!("use one of the {count} {what}s of this file");
    }
    // Hash tables have no order, and a remedy should not change from run to run.
    let mut names: Vec<_> = names.collect();
    names.sort_unstable();
    suggest::sentence(word, what, names.iter().copied())
}

fn address(text: &At<String>, problems: &mut Problems) -> Option<IpAddr> {
    let address = text.value.parse().ok();
    if address.is_none() {
        let prefix: Option<ipnet::IpNet> = text.value.parse().ok();
        let example = prefix.map_or("192.168.1.20".to_owned(), |p| p.addr().to_string());
        problems
            .error(&text.span, "this is not an IP address")
            .why("a host has an address on its realm's own wires")
            .remedy(format!("write for example `{example}`"));
    }
    address
}

fn report_same_family(addresses: &[(IpAddr, &Range<usize>)], problems: &mut Problems) {
    if let [(first, first_span), (second, span)] = addresses
        && first.is_ipv4() == second.is_ipv4()
    {
        problems
            .error(span, "a host has at most one address per family")
            .why("a name stands for one host, and both addresses would be answered for it")
            .remedy("declare a second host for the second address")
            .also(first_span, "the first one is here");
    }
}

pub fn report_outside(
    address: IpAddr,
    span: &Range<usize>,
    realm: RealmRef,
    raw: &Raw,
    networks: &[Vec<Placed>],
    problems: &mut Problems,
) {
    const MOST_LISTED: usize = 8;
    let (written, understood) = (&raw.realms[realm.0].networks, &networks[realm.0]);
    // Where a network of the realm was not understood, the address may well lie in that one.
    if understood.iter().any(|p| p.network.native.contains(&address))
        || written_count(understood) < written.len()
        || written.is_empty()
    {
        return;
    }
    let name = raw.realms[realm.0].name.as_ref().map_or("?", |n| n.value.as_str());
    let mut list: Vec<_> = understood.iter().map(Placed::written).collect();
    list.dedup();
    if list.len() > MOST_LISTED {
        list.truncate(MOST_LISTED);
        list.push("…".into());
    }
    problems
        .error(span, format!("{address} is outside the networks of realm `{name}`"))
        .why(format!("nothing from there is let in; the realm has {}", list.join(", ")))
        .remedy("correct the address, or add its network to the realm")
        .also(&raw.realms[realm.0].span, "the realm is here");
}
