//! IPv6 networks: everyone sees them under their canonical prefix, which is their own one unless the file gives another
//! (RFC 6296). So a canonical prefix must be unique among all realms, must not hide what another realm uses itself, and
//! must stay out of `space6`. The same holds for the prefixes that a realm's routing daemon may learn networks in: whose
//! they are the file says, and not who announces them first.

use std::net::Ipv6Addr;
use std::ops::Range;

use ipnet::{IpNet, Ipv6Net};

use super::networks::{Placed, range6};
use crate::config::diagnostic::Problems;
use crate::config::raw::{self, Raw};
use crate::net::Space6;

/// One IPv6 network of the file, or a prefix in which networks are learned.
struct Entry<'a> {
    realm: usize,
    native: Ipv6Net,
    canonical: Ipv6Net,
    native_span: &'a Range<usize>,
    /// Where the canonical prefix is written: its own key, or the network itself.
    canonical_span: &'a Range<usize>,
    explicit: bool,
}

/// A prefix in one of its two roles.
#[derive(Clone, Copy)]
struct Role {
    entry: usize,
    net: Ipv6Net,
    canonical: bool,
}

pub fn check(raw: &Raw, networks: &[Vec<Placed>], space6: Space6, problems: &mut Problems) {
    let entries = entries(networks);
    let mut spare = Spare::new(space6, &entries);
    let mut sound = vec![true; entries.len()];
    let mut refused = None;
    for (entry, sound) in entries.iter().zip(&mut sound) {
        let place = Some(entry.native_span.start);
        *sound = refused != place && check_space6(entry, space6, &mut spare, problems);
        refused = if *sound { refused } else { place };
    }
    let mut said = None;
    for (index, other) in conflicts(&entries) {
        // All pieces of a range stand at one place.
        let place = entries[index].canonical_span.start;
        if sound[index] && said.replace(place) != Some(place) {
            report_conflict(raw, &entries[index], &entries[other], &mut spare, problems);
        }
    }
    check_allowed(raw, entries, problems);
}

/// Prefixes of `allow` against everything else.
fn check_allowed<'a>(raw: &'a Raw, networks: Vec<Entry<'a>>, problems: &mut Problems) {
    let of_file = networks.len();
    let mut entries = networks;
    for (realm, written) in raw.realms.iter().enumerate() {
        entries.extend(written.routes_from.iter().flat_map(|from| allowed(realm, from)));
    }
    if entries.len() == of_file {
        return;
    }
    for (index, other) in conflicts(&entries) {
        let (entry, met) = (&entries[index], &entries[other]);
        // Of two that meet, the later one.
        if index >= of_file && (other < of_file || met.native_span.start < entry.native_span.start) {
            report_allowed(raw, entry, met, problems);
        }
    }
}

fn allowed(realm: usize, from: &raw::RoutesFrom) -> impl Iterator<Item = Entry<'_>> {
    let texts = from.allow.iter().flat_map(|list| &list.value);
    texts.filter_map(move |text| {
        // What is wrong by itself is reported with the daemon.
        let net = text.value.parse::<Ipv6Net>().ok().filter(|net| net.prefix_len() > 0 && *net == net.trunc())?;
        let (native_span, canonical_span) = (&text.span, &text.span);
        Some(Entry { realm, native: net, canonical: net, native_span, canonical_span, explicit: false })
    })
}

fn report_allowed(raw: &Raw, entry: &Entry<'_>, met: &Entry<'_>, problems: &mut Problems) {
    let (net, name) = (entry.native, name_of(raw, met.realm));
    let its = if meet(met.canonical, net) { met.canonical } else { met.native };
    problems
        .error(entry.native_span, format!("{net} meets {its} of realm `{name}`"))
        .why("everybody sees IPv6 networks as they are, so what a daemon may announce in it must be nobody else's")
        .remedy("name prefixes that only this realm has")
        .also(met.canonical_span, "the other one is here");
}

fn name_of(raw: &Raw, realm: usize) -> &str {
    raw.realms[realm].name.as_ref().map_or("?", |name| name.value.as_str())
}

fn entries(networks: &[Vec<Placed>]) -> Vec<Entry<'_>> {
    let all = networks.iter().enumerate().flat_map(|(realm, list)| list.iter().map(move |placed| (realm, placed)));
    all.filter_map(|(realm, placed)| {
        let IpNet::V6(native) = placed.network.native else { return None };
        Some(Entry {
            realm,
            native,
            canonical: placed.network.canonical.unwrap_or(native),
            native_span: &placed.span,
            canonical_span: placed.canonical_span.as_ref().unwrap_or(&placed.span),
            explicit: placed.network.canonical.is_some(),
        })
    })
    .collect()
}

fn check_space6(entry: &Entry<'_>, space6: Space6, spare: &mut Spare, problems: &mut Problems) -> bool {
    let space = space6.prefix();
    let why = "`space6` holds the canonical addresses of all IPv4 hosts; nothing else may use it";
    if meet(entry.native, space) {
        problems
            .error(entry.native_span, format!("{} overlaps `space6`, which is {space}", entry.native))
            .why(why)
            .remedy("choose another `space6` under [ix]: a /48 out of fd00::/8 that no realm uses");
        return false;
    }
    if meet(entry.canonical, space) {
        problems
            .error(entry.canonical_span, format!("{} overlaps `space6`, which is {space}", entry.canonical))
            .why(why)
            .remedy(format!("write `canonical = \"{}\"`", spare.take(entry.canonical.prefix_len())));
        return false;
    }
    true
}

fn report_conflict(raw: &Raw, entry: &Entry<'_>, other: &Entry<'_>, spare: &mut Spare, problems: &mut Problems) {
    let name = |realm: usize| name_of(raw, realm);
    let (message, remedy_prefix) = if entry.explicit {
        (format!("the canonical prefix {} is not unique", entry.canonical), "")
    } else {
        (
            format!("{} is used by another realm as well, so it needs a canonical prefix", entry.native),
            "its prefix and ",
        )
    };
    let len = entry.canonical.prefix_len();
    let remedy = match remedy_prefix {
        "" => format!("write `canonical = \"{}\"`", spare.take(len)),
        _ => format!("write `{{ prefix = \"{}\", canonical = \"{}\" }}`", entry.native, spare.take(len)),
    };
    problems
        .error(entry.canonical_span, message)
        .why(format!(
            "all realms see realm `{}` under this prefix, and it meets {} of realm `{}`",
            name(entry.realm),
            if meet(entry.canonical, other.native) && other.realm != entry.realm {
                other.native
            } else {
                other.canonical
            },
            name(other.realm)
        ))
        .remedy(remedy)
        .also(other.native_span, "the other network is here");
}

/// Entries whose canonical prefix meets the canonical prefix of another network, or what another realm uses itself; each
/// once, with one that it meets.
fn conflicts(entries: &[Entry<'_>]) -> Vec<(usize, usize)> {
    let mut roles: Vec<Role> = Vec::with_capacity(2 * entries.len());
    for (entry, e) in entries.iter().enumerate() {
        roles.push(Role { entry, net: e.native, canonical: !e.explicit });
        if e.explicit {
            roles.push(Role { entry, net: e.canonical, canonical: true });
        }
    }
    // Prefixes are nested or disjoint: sorted so that outer ones come first, those that enclose the present one are a stack.
    roles.sort_by_key(|r| (r.net.network(), r.net.prefix_len(), r.entry));
    let mut found: Vec<Option<usize>> = vec![None; entries.len()];
    let mut enclosing: Vec<Role> = Vec::new();
    // How many canonical ones in `enclosing` have no conflict yet: when none, the search below may end early.
    let mut open = 0usize;
    for role in roles {
        while enclosing.last().is_some_and(|outer| !outer.net.contains(&role.net)) {
            let ended = enclosing.pop();
            open -= usize::from(ended.is_some_and(|r| r.canonical && found[r.entry].is_none()));
        }
        for outer in enclosing.iter().rev() {
            if open == 0 && (!role.canonical || found[role.entry].is_some()) {
                break;
            }
            if !conflict(entries, role, *outer) {
                continue;
            }
            if role.canonical && found[role.entry].is_none() {
                found[role.entry] = Some(outer.entry);
            }
            if outer.canonical && found[outer.entry].is_none() {
                found[outer.entry] = Some(role.entry);
                open -= 1;
            }
        }
        open += usize::from(role.canonical && found[role.entry].is_none());
        enclosing.push(role);
    }
    found.into_iter().enumerate().filter_map(|(entry, other)| Some((entry, other?))).collect()
}

fn conflict(entries: &[Entry<'_>], a: Role, b: Role) -> bool {
    let (x, y) = (&entries[a.entry], &entries[b.entry]);
    if a.entry == b.entry {
        return false;
    }
    if x.realm == y.realm {
        // Overlaps of what one realm uses itself are reported elsewhere; here it is about chosen prefixes.
        return a.canonical && b.canonical && (x.explicit || y.explicit);
    }
    a.canonical || b.canonical
}

fn meet(a: Ipv6Net, b: Ipv6Net) -> bool {
    a.contains(&b) || b.contains(&a)
}

/// Free prefixes of unique local addresses, for remedies: those that follow `space6`.
struct Spare {
    next: u128,
    taken: Vec<(u128, u128)>,
}

impl Spare {
    fn new(space6: Space6, entries: &[Entry<'_>]) -> Self {
        let mut taken: Vec<_> = entries.iter().flat_map(|e| [range6(e.native), range6(e.canonical)]).collect();
        taken.sort_unstable();
        // Joined, so that a search by first address sees everything.
        let mut joined: Vec<(u128, u128)> = Vec::new();
        for (first, last) in taken {
            match joined.last_mut() {
                Some(before) if first <= before.1 => before.1 = before.1.max(last),
                _ => joined.push((first, last)),
            }
        }
        Spare { next: range6(space6.prefix()).1.saturating_add(1), taken: joined }
    }

    /// The next free prefix of this length, or an ellipsis where the address space ends.
    fn take(&mut self, prefix_len: u8) -> String {
        let Some(size) = 128u32.checked_sub(prefix_len.into()).and_then(|bits| 1u128.checked_shl(bits)) else {
            return "…".into();
        };
        let mut first = self.next.checked_next_multiple_of(size);
        while let Some(at) = first {
            let Some(last) = at.checked_add(size - 1) else { break };
            let after = self.taken.partition_point(|(start, _)| *start <= last);
            match after.checked_sub(1).map(|i| self.taken[i].1).filter(|end| *end >= at) {
                Some(end) => first = end.checked_add(1).and_then(|n| n.checked_next_multiple_of(size)),
                None => {
                    self.next = last.saturating_add(1);
                    return Ipv6Net::new(Ipv6Addr::from_bits(at), prefix_len)
                        .map_or("…".into(), |net| net.to_string());
                }
            }
        }
        "…".into()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn net(bits: u8, len: u8) -> Ipv6Net {
        Ipv6Net::new_assert(Ipv6Addr::from_bits(0xfd << 120 | u128::from(bits) << 112), 8 + len).trunc()
    }

    fn entry(realm: usize, native: Ipv6Net, canonical: Option<Ipv6Net>, span: &Range<usize>) -> Entry<'_> {
        Entry {
            realm,
            native,
            canonical: canonical.unwrap_or(native),
            native_span: span,
            canonical_span: span,
            explicit: canonical.is_some(),
        }
    }

    proptest! {
        /// The sweep finds exactly what comparing every pair finds.
        #[test]
        fn finds_what_a_comparison_of_all_pairs_finds(
            raw in prop::collection::vec((0usize..4, any::<u8>(), 3u8..=8, prop::option::of(any::<u8>())), 0..14),
        ) {
            let span = 0..0;
            let entries: Vec<_> = raw.iter().map(|(realm, bits, len, canonical)| {
                entry(*realm, net(*bits, *len), canonical.map(|c| net(c, *len)), &span)
            }).collect();
            let slow: Vec<usize> = (0..entries.len()).filter(|i| (0..entries.len()).any(|j| {
                let (x, y) = (&entries[*i], &entries[j]);
                if *i == j {
                    false
                } else if x.realm == y.realm {
                    (x.explicit || y.explicit) && meet(x.canonical, y.canonical)
                } else {
                    meet(x.canonical, y.canonical) || meet(x.canonical, y.native)
                }
            })).collect();
            let fast: Vec<usize> = conflicts(&entries).into_iter().map(|(i, _)| i).collect();
            prop_assert_eq!(fast, slow);
        }
    }

    #[test]
    fn spare_prefixes_are_free_and_follow_space6() {
        let span = 0..0;
        let space6 = Space6::new("fd69:7867:6174::/48".parse().unwrap()).unwrap();
        let used = [entry(0, "fd69:7867:6175::/64".parse().unwrap(), None, &span)];
        let mut spare = Spare::new(space6, &used);
        assert_eq!(spare.take(64), "fd69:7867:6175:1::/64");
        assert_eq!(spare.take(64), "fd69:7867:6175:2::/64");
        assert_eq!(spare.take(48), "fd69:7867:6176::/48");
        assert_eq!(spare.take(0), "…");
        assert_eq!(spare.take(128), "fd69:7867:6177::/128");
    }
}
