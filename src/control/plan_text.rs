//! A [`Plan`] as people read it. Stays readable with 500 realms: what is equal is said once, lists are cut short with
//! their full length given, and everything is in the JSON form.

use std::collections::BTreeMap;
use std::fmt;

use super::change::{Change, Subject};
use super::overlap::Overlap;
use super::plan::{Exception, NamedAddress, Plan, PlannedDaemon, PlannedForward, PlannedRealm, PlannedTunnel, Service};
use super::plan_ports;
use super::plan_reach::{ForwardedDomain, RealmGrant};

/// Realm names in one line.
const NAMES_SHOWN: usize = 4;
/// Lines of one kind, where the table above does not show them all.
const LINES_SHOWN: usize = 20;

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        networks(self, f)?;
        exceptions(self, f)?;
        napt(self, f)?;
        names(self, f)?;
        daemons(self, f)?;
        realm_grants(self, f)?;
        forwarded_domains(self, f)?;
        services(self, f)?;
        tunnels(self, f)?;
        plan_ports::handoffs_text(self, f)?;
        plan_ports::kernel_text(self, f)?;
        overlap_lines(self, f)?;
        reserved(self, f)?;
        changes(self, f)
    }
}

fn networks(plan: &Plan, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    writeln!(f, "Who is seen as what (by everybody, but for the exceptions below)")?;
    let rows = plan.networks.iter().map(|network| {
        let number = plan.realms.iter().find(|realm| realm.name == network.realm).map_or(0, |realm| realm.number);
        let alias = match (network.alias, network.network.addr().is_ipv4()) {
            (Some(alias), _) if alias.prefix_len() == 0 => "as it is".to_string(),
            (Some(alias), _) if network.new => format!("{alias} (new)"),
            (Some(alias), _) => alias.to_string(),
            (None, true) => "only its hosts".to_string(),
            (None, false) if network.network.prefix_len() == 0 => "as it is".to_string(),
            (None, false) => "its canonical prefix".to_string(),
        };
        let prefix = match &network.host {
            Some(host) => format!("{} ({host})", network.network),
            None => network.network.to_string(),
        };
        [network.realm.clone(), number.to_string(), prefix, alias, network.canonical.to_string()]
    });
    table(["realm", "number", "network", "seen as", "canonical"], rows.collect(), f)
}

fn daemons(plan: &Plan, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let with = || plan.realms.iter().filter_map(|realm| Some((&realm.name, realm.routes_from.as_ref()?)));
    if with().next().is_none() {
        return Ok(());
    }
    writeln!(f, "\nMore networks are learned while it runs (`ixgate status REALM`)")?;
    let line = |(name, from): (&String, &PlannedDaemon)| {
        let listed = |list: Vec<String>| list.join(", ");
        let peers = listed(from.peers.iter().map(ToString::to_string).collect());
        let within = match from.allow.is_empty() {
            true => " of any IPv4".to_owned(),
            false => format!(" in {}", listed(from.allow.iter().map(ToString::to_string).collect())),
        };
        let PlannedDaemon { namespace, tun, max_prefixes, max_alias_addresses, .. } = from;
        format!(
            "{name}  up to {max_prefixes} prefixes{within}, with {max_alias_addresses} addresses of alias4 at most, from the \
             namespace {namespace}, by {tun} with {peers}"
        )
    };
    limited(with().map(line).collect::<Vec<_>>().into_iter(), "  ", f)
}

fn exceptions(plan: &Plan, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    writeln!(f, "\nExceptions (viewers that use a default alias themselves, or see a realm by its pool)")?;
    if plan.exceptions.is_empty() {
        return writeln!(f, "  none: every realm sees the table above");
    }
    let mut by_viewer: BTreeMap<&str, Vec<&Exception>> = BTreeMap::new();
    for exception in &plan.exceptions {
        by_viewer.entry(&exception.viewer).or_default().push(exception);
    }
    for (viewer, exceptions) in by_viewer {
        writeln!(f, "  {viewer} sees")?;
        let line = |e: &&Exception| {
            let default = e.default.map_or_else(|| "only its hosts".to_string(), |alias| alias.to_string());
            let Some(alias) = e.alias else {
                return format!("{} {} by the pool {} instead of {default}", e.realm, e.network, listed(&e.pools));
            };
            let because = match &e.because[..] {
                [] => "was given when it was needed".to_string(),
                own => format!("{viewer} uses {}", listed(own)),
            };
            let new = if e.new { ", new" } else { "" };
            format!("{} {} as {alias} instead of {default} ({because}{new})", e.realm, e.network)
        };
        limited(exceptions.iter().map(line), "    ", f)?;
    }
    Ok(())
}

fn napt(plan: &Plan, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    if plan.napt.is_empty() {
        return Ok(());
    }
    writeln!(f, "\nSeen by a pool (show_as: hosts without an alias share addresses and ports)")?;
    for napt in &plan.napt {
        let viewers = if napt.viewers.is_empty() { "everybody".to_owned() } else { listed(&napt.viewers) };
        writeln!(
            f,
            "  {} by {} for {viewers}, {} ports a host, filtering {}",
            napt.realm,
            listed(&napt.pools),
            napt.block_ports,
            napt.filtering
        )?;
        writeln!(f, "    {}", napt.rule)?;
        let line = |forward: &PlannedForward| {
            format!(
                "{}/{} of {} leads to {}",
                forward.protocol,
                forward.outside.port(),
                forward.outside.ip(),
                forward.to
            )
        };
        limited(napt.forwards.iter().map(line), "    ", f)?;
    }
    Ok(())
}

fn names(plan: &Plan, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    if plan.names.is_empty() {
        return Ok(());
    }
    writeln!(f, "\nNames, what they stand for, and who may reach them")?;
    let line = |named: &NamedAddress| {
        let addresses: Vec<String> = named.addresses.iter().map(|address| address.to_string()).collect();
        let addresses = match (addresses.is_empty(), named.forwards.is_empty()) {
            (false, _) => addresses.join(", "),
            (true, false) => "no address of its own".to_string(),
            (true, true) => "seen by nobody".to_string(),
        };
        let ports = if named.ports.is_empty() { String::new() } else { format!("  {}", named.ports.join(" ")) };
        let reached_by = match named.reached_by.len() {
            0 => "no other realm".to_string(),
            _ => listed(&named.reached_by),
        };
        format!("{}  {addresses}{ports}  reached by {reached_by}{}", named.name, by_pool(named))
    };
    limited(plan.names.iter().map(line), "  ", f)
}

fn realm_grants(plan: &Plan, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    if plan.realm_grants.is_empty() {
        return Ok(());
    }
    writeln!(f, "\nWhole realms that are open")?;
    let line =
        |grant: &RealmGrant| format!("{}  {}  reached by {}", grant.to, grant.ports.join(" "), listed(&grant.from));
    limited(plan.realm_grants.iter().map(line), "  ", f)
}

fn forwarded_domains(plan: &Plan, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    if plan.forwarded_domains.is_empty() {
        return Ok(());
    }
    writeln!(f, "\nNames that others answer")?;
    let line = |forwarded: &ForwardedDomain| {
        let ForwardedDomain { domain, realm, resolvers, asked_by } = forwarded;
        let by = realm.as_ref().map_or_else(|| "outside".to_string(), |realm| format!("by realm {realm}"));
        let asked_by = asked_by.as_ref().map_or_else(|| "every realm".to_string(), |realms| listed(realms));
        format!("{domain}  {by} at {}  asked by {asked_by}", listed(resolvers))
    };
    limited(plan.forwarded_domains.iter().map(line), "  ", f)
}

/// How those reach it for whom the name has no address.
fn by_pool(named: &NamedAddress) -> String {
    if named.by_pool.is_empty() {
        return String::new();
    }
    let outside = |forward: &PlannedForward| {
        format!("{}/{} of {}", forward.protocol, forward.outside.port(), forward.outside.ip())
    };
    let by = match &named.forwards[..] {
        [] => "but no forward leads to it".to_string(),
        forwards => format!("by {}", listed(&forwards.iter().map(outside).collect::<Vec<_>>())),
    };
    format!(" (no address for {}, {by})", listed(&named.by_pool))
}

fn services(plan: &Plan, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    writeln!(f, "\nThe centre's own addresses")?;
    for Service { name, canonical, address, own } in &plan.services {
        let address = address.map_or_else(|| "no IPv4 address".to_string(), |address| address.to_string());
        writeln!(f, "  {name:<8} {address}  {}", canonical.0)?;
        limited(own.iter().map(|(viewer, address)| format!("for {viewer}: {address}")), "           ", f)?;
    }
    Ok(())
}

fn tunnels(plan: &Plan, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    if plan.tunnels.is_empty() {
        return Ok(());
    }
    writeln!(
        f,
        "\nTunnels and ports, and what an IPsec peer has to agree with (ours: behind us; theirs: behind the peer)"
    )?;
    let line = |tunnel: &PlannedTunnel| {
        let order = if in_order(plan, &tunnel.realm) {
            String::new()
        } else {
            format!("  priority {}, weight {}", tunnel.priority, tunnel.weight)
        };
        let about = match (&tunnel.port, tunnel.remote) {
            (Some(port), _) => format!("  {}", plan_ports::words(port)),
            (None, _) if tunnel.kind == "tun" => String::new(),
            (None, None) => "  it calls".to_string(),
            (None, Some(remote)) => format!("  we call {remote}"),
        };
        let start = format!(
            "{}  {} {}{order}{about}{}",
            tunnel.realm,
            tunnel.kind,
            tunnel.peer,
            plan_ports::link_words(tunnel)
        );
        match &tunnel.ipsec {
            None => start,
            Some(ipsec) => format!(
                "{start}  as {}, {} ours and {} theirs, {}\n      ours {}\n      theirs {}",
                ipsec.local_id,
                ipsec.local_auth,
                ipsec.remote_auth,
                ipsec.profile,
                listed(&ipsec.ours),
                listed(&ipsec.theirs)
            ),
        }
    };
    limited(plan.tunnels.iter().map(line), "  ", f)
}

/// The realm's attachments are preferred in the order of the file, which then says it all.
fn in_order(plan: &Plan, realm: &str) -> bool {
    let mut of_realm = (0..).zip(plan.tunnels.iter().filter(|tunnel| tunnel.realm == realm));
    of_realm.all(|(order, tunnel)| tunnel.priority == order && tunnel.weight == 1)
}

fn overlap_lines(plan: &Plan, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    writeln!(f, "\nOverlaps between the realms' networks, and how they are resolved")?;
    if plan.overlaps.is_empty() {
        return writeln!(f, "  none");
    }
    let line = |overlap: &Overlap| {
        let text = match overlap {
            Overlap::Exact { prefix, realms } => format!("{} realms use {prefix} ({})", realms.len(), listed(realms)),
            Overlap::Partial { outer, outer_realms, inner, inner_realms } => {
                format!("{inner} of {} lies inside {outer} of {}", listed(inner_realms), listed(outer_realms))
            }
        };
        let resolved = if overlap.is_ipv4() {
            "each is seen under its own alias, or by its hosts only"
        } else {
            "told apart by canonical prefix"
        };
        format!("{text}: {resolved}")
    };
    limited(plan.overlaps.iter().map(line), "  ", f)
}

fn reserved(plan: &Plan, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    if plan.reserved.is_empty() {
        return Ok(());
    }
    writeln!(f, "\nReserved: not in use, given to nobody else until released (--release REALM or ALIAS)")?;
    let why = |replaced| if replaced { "replaced by another alias" } else { "not configured any more" };
    limited(plan.reserved.iter().map(|r| format!("{}  {} ({})", r.alias, r.subject, why(r.replaced))), "  ", f)
}

fn changes(plan: &Plan, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    writeln!(f, "\nWhat would change in the state (realm numbers and aliases)")?;
    if plan.changes.is_empty() {
        return writeln!(f, "  nothing");
    }
    let numbered = plan.changes.iter().filter(|change| matches!(change, Change::RealmNumbered { .. })).count();
    let given = plan.changes.iter().filter(|change| matches!(change, Change::AliasGiven { .. })).count();
    if numbered > 0 {
        writeln!(f, "  + {}", counted(numbered, "new realm", "new realms"))?;
    }
    if given > 0 {
        writeln!(f, "  + {}, marked new above", counted(given, "new alias", "new aliases"))?;
    }
    let mut learned: BTreeMap<&str, usize> = BTreeMap::new();
    for subject in plan.changes.iter().filter_map(|change| learned_subject(plan, change)) {
        *learned.entry(&subject.realm).or_default() += 1;
    }
    for (realm, count) in learned {
        let networks = counted(count, "network", "networks");
        writeln!(
            f,
            "  = {networks} of {realm} not of the file: what its routing daemon has learned keeps its aliases"
        )?;
    }
    // What changes or ends matters to somebody's firewall: never summed up, and never cut short.
    let sums = |change: &&Change| {
        matches!(change, Change::RealmNumbered { .. } | Change::AliasGiven { .. })
            || learned_subject(plan, change).is_some()
    };
    for change in plan.changes.iter().filter(|change| !sums(change)) {
        writeln!(f, "  ! {change}")?;
    }
    Ok(())
}

/// Of a network that the file says nothing of, because a routing daemon is where it comes from.
fn learned_subject<'a>(plan: &Plan, change: &'a Change) -> Option<&'a Subject> {
    let Change::AliasReserved { subject, .. } = change else { return None };
    let learns = |realm: &PlannedRealm| realm.name == subject.realm && realm.routes_from.is_some();
    plan.realms.iter().any(learns).then_some(subject)
}

fn counted(count: usize, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}

pub(super) fn listed(names: &[impl fmt::Display]) -> String {
    let shown: Vec<String> = names.iter().take(NAMES_SHOWN).map(|name| name.to_string()).collect();
    match names.len() - shown.len() {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

fn limited(lines: impl ExactSizeIterator<Item = String>, indent: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let more = lines.len().saturating_sub(LINES_SHOWN);
    for line in lines.take(LINES_SHOWN) {
        writeln!(f, "{indent}{line}")?;
    }
    if more > 0 {
        writeln!(f, "{indent}... and {more} more (--json has all)")?;
    }
    Ok(())
}

pub(super) fn table<const N: usize>(
    head: [&str; N],
    rows: Vec<[String; N]>,
    f: &mut fmt::Formatter<'_>,
) -> fmt::Result {
    let mut widths = head.map(str::len);
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    for row in std::iter::once(&head.map(str::to_string)).chain(&rows) {
        let cells: Vec<String> = row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        writeln!(f, "  {}", cells.join("  ").trim_end())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::allocate::allocate;
    use super::super::allocations::Allocations;
    use super::super::plan::plan;
    use super::super::sample::Sample;

    #[test]
    fn reads_as_a_table_with_exceptions_and_changes() {
        let config = Sample::new()
            .realm("region-a", &["192.168.1.0/24"])
            .realm("clinic-c", &["100.64.1.0/24", "fd00:1::/64"])
            .build();
        let text = plan(&config, &Allocations::default()).unwrap().to_string();
        assert_eq!(
            text,
            "\
Who is seen as what (by everybody, but for the exceptions below)
  realm     number  network         seen as               canonical
  ix        0       0.0.0.0/24      100.64.0.0/24 (new)   fd69:7867:6174::/120
  region-a  1       192.168.1.0/24  100.64.1.0/24 (new)   fd69:7867:6174:1::c0a8:100/120
  clinic-c  2       100.64.1.0/24   100.64.2.0/24 (new)   fd69:7867:6174:2::6440:100/120
  clinic-c  2       fd00:1::/64     its canonical prefix  fd00:1::/64

Exceptions (viewers that use a default alias themselves, or see a realm by its pool)
  clinic-c sees
    region-a 192.168.1.0/24 as 100.64.3.0/24 instead of 100.64.1.0/24 (clinic-c uses 100.64.1.0/24, new)

The centre's own addresses
  gateway  100.64.0.1  fd69:7867:6174::1
  dns      100.64.0.53  fd69:7867:6174::35

Overlaps between the realms' networks, and how they are resolved
  none

What would change in the state (realm numbers and aliases)
  + 2 new realms
  + 4 new aliases, marked new above
"
        );
    }

    #[test]
    fn ipv6_hosts_and_the_default_realm_are_in_the_table() {
        let config = Sample::new()
            .realm("a", &["fd00:1::/64"])
            .host("pacs", "a", &["fd00:1::3"])
            .default_realm("internet", &[])
            .host("cloud", "internet", &["203.0.113.7"])
            .build();
        let text = plan(&config, &Allocations::default()).unwrap().to_string();
        for line in [
            "  a         1       fd00:1::/64           its canonical prefix  fd00:1::/64\n",
            "  a         1       fd00:1::3/128 (pacs)  100.64.1.0/32 (new)   fd00:1::3/128\n",
            "  internet  2       0.0.0.0/0             as it is              fd69:7867:6174:2::/96\n",
            "  internet  2       ::/0                  as it is              ::/0\n",
            "  cloud.internet.ix.example  203.0.113.7  reached by no other realm\n",
        ] {
            assert!(text.contains(line), "{line}in\n{text}");
        }
    }

    #[test]
    fn tunnels_are_listed_with_what_the_peer_has_to_agree_with() {
        let config = Sample::new()
            .realm("a", &["192.168.1.0/24"])
            .realm("b", &["192.168.1.0/24"])
            .wireguard("a", 0)
            .ipsec("b", super::super::sample::ipsec_peer("fqdn:gw.example"))
            .grant_realm(&["a"], "b", &[crate::net::policy::PortRule::Any])
            .build();
        let text = plan(&config, &Allocations::default()).unwrap().to_string();
        let key = "A".repeat(43);
        let lines = format!(
            "  a  wireguard {key}=  it calls\n  b  ipsec fqdn:gw.example  it calls  as fqdn:ix.example, psk ours and psk \
             theirs, modern\n      ours 100.64.0.0/24, 100.64.1.0/24\n      theirs 192.168.1.0/24\n"
        );
        assert!(text.contains(&lines), "{text}");
    }

    #[test]
    fn nothing_to_change_is_said_and_what_ends_is_spelled_out() {
        let both = Sample::new().realm("a", &["192.168.1.0/24"]).realm("b", &["192.168.1.0/24"]).build();
        let (state, _) = allocate(&both, &Allocations::default()).unwrap();
        let text = plan(&both, &state).unwrap().to_string();
        assert!(
            text.contains("2 realms use 192.168.1.0/24 (a, b): each is seen under its own alias, or by its hosts only"),
            "{text}"
        );
        assert!(text.ends_with("What would change in the state (realm numbers and aliases)\n  nothing\n"), "{text}");

        let text = plan(&Sample::new().realm("a", &["192.168.1.0/24"]).build(), &state).unwrap().to_string();
        assert!(text.contains("  ! realm b is gone, number 2 stays its own\n"), "{text}");
        assert!(text.contains("  100.64.2.0/24  b 192.168.1.0/24 (not configured any more)\n"), "{text}");
    }

    #[test]
    fn what_a_daemon_has_learned_does_not_end_with_a_file_that_does_not_name_it() {
        let learned = Sample::new().realm("a", &["10.1.0.0/24", "10.2.0.0/24"]).build();
        let (state, _) = allocate(&learned, &Allocations::default()).unwrap();
        let text = plan(&Sample::new().realm("a", &[]).routes_from("a", 10).build(), &state).unwrap().to_string();
        assert!(
            text.ends_with(
                "  = 2 networks of a not of the file: what its routing daemon has learned keeps its aliases\n"
            ),
            "{text}"
        );
        let text = plan(&Sample::new().realm("a", &["10.1.0.0/24"]).build(), &state).unwrap().to_string();
        assert!(text.contains("  ! a 10.2.0.0/24 is not shown any more"), "{text}");
    }

    #[test]
    fn five_hundred_realms_stay_readable() {
        let mut sample = Sample::new();
        for i in 0..500 {
            sample = sample.realm(&format!("r{i}"), &["192.168.1.0/24"]);
        }
        let wide = sample.realm("wide", &["100.64.0.0/16"]).build();
        let text = plan(&wide, &Allocations::default()).unwrap().to_string();
        assert!(text.contains("500 realms use 192.168.1.0/24 (r0, r1, r2, r3 and 496 more)"), "{text}");
        assert!(text.contains("... and 236 more (--json has all)"), "{text}");
        assert!(text.lines().count() < 600, "{}", text.lines().count());
    }
}
