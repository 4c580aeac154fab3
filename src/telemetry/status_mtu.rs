//! What tunnels carry: `ixgate status --mtu`, in words and as JSON.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::quantity::duration;
use super::status::{RealmStatus, Status, TunnelStatus};
use super::table::Table;
use crate::dataplane::report::MtuReport;

/// IP and TCP headers without options.
const TCP_OVER_IPV4_BYTES: u16 = 40;
const TCP_OVER_IPV6_BYTES: u16 = 60;
/// Realms whose pairs are printed as a square; of more, as a list of the narrowest.
const MAX_SQUARE_REALMS: usize = 20;
/// Lines of that list.
const MAX_LIST_ROWS: usize = 100;
/// Realms whose pairs are listed at all: a million pairs.
const MAX_LISTED_REALMS: usize = 1_414;

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct MtuStatus {
    pub configured_bytes: u16,
    /// The largest outer IP packet that is known to arrive, as far as the tunnel needs it. Null: nothing is known.
    pub path_bytes: Option<u16>,
    /// The largest inner packet that is sent.
    pub effective_bytes: u16,
    /// The largest whose outer packet is not fragmented, from which TCP's MSS is made.
    pub unfragmented_bytes: u16,
    /// Outer packets go without DF: the path does not carry 1,280 bytes inside, or nobody says what it carries.
    pub may_fragment: bool,
    /// "configured": believed. "probe": measured. "icmp": a router said so. "link": the interface carries no more.
    pub source: String,
    pub since_secs_ago: Option<u64>,
    /// It is being measured.
    pub searching: bool,
}

impl MtuStatus {
    pub(super) fn of(report: &MtuReport) -> Self {
        MtuStatus {
            configured_bytes: report.configured_bytes,
            path_bytes: report.outer_bytes,
            effective_bytes: report.inner_bytes,
            unfragmented_bytes: report.unfragmented_bytes,
            may_fragment: report.may_fragment,
            source: report.source.name().to_owned(),
            since_secs_ago: report.since.map(|since| since.as_secs()),
            searching: report.searching,
        }
    }

    fn how(&self) -> String {
        let how = match (self.searching, self.source.as_str()) {
            (true, _) => "being probed",
            (_, "probe") => "probed",
            (_, "icmp") => "told by a router",
            (_, "link") => "the interface's",
            _ => "as configured",
        };
        if self.may_fragment { format!("{how}, no DF") } else { how.to_owned() }
    }
}

/// Every tunnel, and every pair of realms.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct MtuMap {
    pub tunnels: Vec<TunnelMtu>,
    /// Both directions of two realms; realms without a tunnel are left out, and all pairs beyond a million.
    pub pairs: Vec<PairMtu>,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct TunnelMtu {
    pub realm: String,
    pub tunnel: String,
    pub kind: String,
    /// It carries the realm's traffic, alone or with others.
    pub carries: bool,
    pub mtu: MtuStatus,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct PairMtu {
    pub realms: [String; 2],
    /// The smaller of the two tunnels'.
    pub mtu_bytes: u16,
    /// What TCP's MSS is lowered to.
    pub mss4_bytes: u16,
    pub mss6_bytes: u16,
}

impl MtuMap {
    pub fn of(status: &Status) -> Self {
        let rows = status.realms.iter().flat_map(|realm| {
            let carrying: Vec<_> = carrying(realm).map(std::ptr::from_ref).collect();
            realm.tunnels.iter().filter_map(move |tunnel| {
                Some(TunnelMtu {
                    realm: realm.name.clone(),
                    tunnel: tunnel.peer.clone(),
                    kind: tunnel.kind.clone(),
                    carries: carrying.contains(&std::ptr::from_ref(tunnel)),
                    mtu: tunnel.mtu.clone()?,
                })
            })
        });
        MtuMap { tunnels: rows.collect(), pairs: pairs(status) }
    }
}

/// Those that are up and carry; if none does, the preferred one.
fn carrying(realm: &RealmStatus) -> impl Iterator<Item = &TunnelStatus> {
    let carries = |tunnel: &&TunnelStatus| tunnel.up && tunnel.carries;
    let any = realm.tunnels.iter().find(carries).is_some();
    let preferred = realm.tunnels.iter().filter(move |_| !any).min_by_key(|tunnel| tunnel.priority);
    realm.tunnels.iter().filter(carries).chain(preferred)
}

/// Of those that share the flows, the narrowest.
fn mtu_of(realm: &RealmStatus) -> Option<&MtuStatus> {
    carrying(realm).filter_map(|tunnel| tunnel.mtu.as_ref()).min_by_key(|mtu| mtu.effective_bytes)
}

fn pairs(status: &Status) -> Vec<PairMtu> {
    let ends = status.realms.iter().filter_map(|realm| Some((&realm.name, mtu_of(realm)?)));
    let ends: Vec<(&String, &MtuStatus)> = ends.take(MAX_LISTED_REALMS).collect();
    let mut pairs = Vec::new();
    for (at, (one, one_mtu)) in ends.iter().enumerate() {
        for (other, other_mtu) in &ends[at + 1..] {
            let unfragmented_bytes = one_mtu.unfragmented_bytes.min(other_mtu.unfragmented_bytes);
            pairs.push(PairMtu {
                realms: [one.to_string(), other.to_string()],
                mtu_bytes: one_mtu.effective_bytes.min(other_mtu.effective_bytes),
                mss4_bytes: unfragmented_bytes.saturating_sub(TCP_OVER_IPV4_BYTES),
                mss6_bytes: unfragmented_bytes.saturating_sub(TCP_OVER_IPV6_BYTES),
            });
        }
    }
    pairs
}

impl fmt::Display for MtuMap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table =
            Table::new(&["REALM", "TUNNEL", "KIND", "CONFIGURED", "OUTER PATH", "EFFECTIVE", "HOW KNOWN", "SINCE"]);
        for TunnelMtu { realm, tunnel, kind, carries, mtu } in &self.tunnels {
            let since = mtu.since_secs_ago.map(|secs| format!("{} ago", duration(Duration::from_secs(secs))));
            table.row(vec![
                realm.clone(),
                if *carries { tunnel.clone() } else { format!("{tunnel} (waits)") },
                kind.clone(),
                mtu.configured_bytes.to_string(),
                mtu.path_bytes.map_or_else(|| "-".to_owned(), |bytes| bytes.to_string()),
                mtu.effective_bytes.to_string(),
                mtu.how(),
                since.unwrap_or_else(|| "-".to_owned()),
            ]);
        }
        write!(f, "{table}")?;
        let mut realms: Vec<&String> = self.pairs.iter().flat_map(|pair| &pair.realms).collect();
        realms.sort();
        realms.dedup();
        match realms.len() {
            0 => Ok(()),
            1..=MAX_SQUARE_REALMS => self.write_square(f),
            _ => self.write_list(f),
        }
    }
}

impl MtuMap {
    /// Realm by realm, in the order of the file: MTU, MSS over IPv4, MSS over IPv6.
    fn write_square(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut names: Vec<&str> = Vec::new();
        for name in self.pairs.iter().flat_map(|pair| &pair.realms) {
            if !names.contains(&name.as_str()) {
                names.push(name);
            }
        }
        let head: Vec<&str> = std::iter::once("MTU MSS4/MSS6").chain(names.iter().copied()).collect();
        let mut table = Table::new(&head);
        for one in &names {
            let cells = names.iter().map(|other| self.cell(one, other));
            table.row(std::iter::once((*one).to_owned()).chain(cells).collect());
        }
        write!(f, "\n{table}")
    }

    fn cell(&self, one: &str, other: &str) -> String {
        let is_it = |pair: &&PairMtu| {
            let [a, b] = &pair.realms;
            (a == one && b == other) || (a == other && b == one)
        };
        self.pairs.iter().find(is_it).map_or_else(
            || "-".to_owned(),
            |PairMtu { mtu_bytes, mss4_bytes, mss6_bytes, .. }| format!("{mtu_bytes} {mss4_bytes}/{mss6_bytes}"),
        )
    }

    fn write_list(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut pairs: Vec<&PairMtu> = self.pairs.iter().collect();
        pairs.sort_by_key(|pair| pair.mtu_bytes);
        let mut table = Table::new(&["NARROWEST PAIRS", "", "MTU", "MSS4", "MSS6"]);
        for PairMtu { realms: [one, other], mtu_bytes, mss4_bytes, mss6_bytes } in pairs.iter().take(MAX_LIST_ROWS) {
            let numbers = [mtu_bytes, mss4_bytes, mss6_bytes].map(|bytes| bytes.to_string());
            table.row([one.clone(), other.clone()].into_iter().chain(numbers).collect());
        }
        if pairs.len() > MAX_LIST_ROWS {
            table.row(vec![format!("... {} more; see --json", pairs.len() - MAX_LIST_ROWS)]);
        }
        write!(f, "\n{table}")
    }
}

#[cfg(test)]
mod tests {
    use super::super::source::samples::three_realms;
    use super::*;

    fn status() -> Status {
        Status::of(&three_realms(), Duration::from_secs(60))
    }

    #[test]
    fn tunnels_and_pairs_in_words() {
        let expected = "\
REALM       TUNNEL    KIND       CONFIGURED  OUTER PATH  EFFECTIVE  HOW KNOWN         SINCE
region-a    AAAAAAAA  WireGuard  1420        1452        1392       told by a router  1 min 30 s ago
hospital-b  AQEBAQEB  WireGuard  1420        -           1420       as configured     -

MTU MSS4/MSS6  region-a        hospital-b
region-a       -               1392 1352/1332
hospital-b     1392 1352/1332  -
";
        assert_eq!(MtuMap::of(&status()).to_string(), expected);
    }

    #[test]
    fn the_tunnel_that_carries_counts_for_the_pair() {
        let mut status = status();
        let mut standby = status.realms[0].tunnels[0].clone();
        (standby.up, standby.carries) = (false, false);
        standby.mtu.as_mut().unwrap().effective_bytes = 1300;
        status.realms[0].tunnels.insert(0, standby);
        let map = MtuMap::of(&status);
        assert_eq!(map.pairs.iter().map(|pair| pair.mtu_bytes).collect::<Vec<_>>(), [1392]);
        assert_eq!(map.tunnels.iter().map(|tunnel| tunnel.carries).collect::<Vec<_>>(), [false, true, true]);
        assert!(map.to_string().contains("AAAAAAAA (waits)"));
    }

    #[test]
    fn of_those_that_share_the_flows_the_narrowest_counts() {
        let mut status = status();
        let mut other = status.realms[0].tunnels[0].clone();
        other.mtu.as_mut().unwrap().effective_bytes = 1300;
        status.realms[0].tunnels.push(other.clone());
        assert_eq!(MtuMap::of(&status).pairs[0].mtu_bytes, 1300);
        other.carries = false;
        status.realms[0].tunnels[1] = other;
        let map = MtuMap::of(&status);
        assert_eq!(map.pairs[0].mtu_bytes, 1392, "one that waits does not");
        assert_eq!(map.tunnels.iter().map(|tunnel| tunnel.carries).collect::<Vec<_>>(), [true, false, true]);
    }

    #[test]
    fn many_realms_are_listed_with_the_narrowest_first_and_the_list_is_cut() {
        let mut status = status();
        let realm = status.realms[0].clone();
        let named = |number: u16| {
            let mut realm = RealmStatus { name: format!("r{number}"), ..realm.clone() };
            realm.tunnels[0].mtu.as_mut().unwrap().effective_bytes = 1400 - number;
            realm
        };
        status.realms = (0..=MAX_SQUARE_REALMS as u16).map(named).collect();
        let text = MtuMap::of(&status).to_string();
        let list: Vec<&str> = text.lines().skip_while(|line| !line.starts_with("NARROWEST")).collect();
        assert!(list[1].contains("r20") && list[1].contains("1380"), "{text}");
        assert_eq!(list.len(), 1 + MAX_LIST_ROWS + 1);
        assert_eq!(list[1 + MAX_LIST_ROWS].trim_end(), "... 110 more; see --json");
        status.realms = vec![realm; MAX_LISTED_REALMS + 10];
        assert_eq!(MtuMap::of(&status).pairs.len(), MAX_LISTED_REALMS * (MAX_LISTED_REALMS - 1) / 2);
    }
}
