//! The status document in words, for a terminal.

use std::fmt::Write;
use std::time::Duration;

use super::quantity::{bytes, count, duration};
use super::status::{DropStatus, RealmStatus, SocketStatus, Status, TrafficStatus, TunnelStatus, UplinkStatus};
use super::table::Table;
use super::{status_routes, status_text_dns, status_text_ipsec, status_text_port};

/// Width of the words at the beginning of the first lines.
const HEADING_COLUMNS: usize = 10;
/// Tunnels that the overview prints; beyond, it says how many are left out.
const MAX_OVERVIEW_ROWS: usize = 1_000;

/// All realms in one table.
pub fn overview(status: &Status) -> String {
    let mut text = heading(status);
    if status.realms.is_empty() {
        text.push_str("\nNo realm is configured.\n");
    } else {
        let _ = write!(text, "\n{}", realms_table(status));
    }
    text.push_str(&drops_section("Dropped before they belonged to a realm:", &status.unattributed_drops));
    text.push_str(&status_text_dns::overview(status));
    let strangers = "Callers that are nobody's tunnel, the latest first:";
    text.push_str(&status_text_ipsec::failure_lines(strangers, &status.ike_strangers));
    if status.realms.iter().any(|realm| !realm.drops.is_empty()) {
        text.push_str("\nWhy packets of a realm were dropped: ixgate status REALM\n");
    }
    text
}

/// One realm in full.
pub fn details(status: &Status, realm: &RealmStatus) -> String {
    let window = status.data_window_secs;
    let passed = if realm.data_passed { "data passed" } else { "no data passed" };
    let mut text = format!("realm {} (number {}): {passed} in the last {window} s\n", realm.name, realm.number);
    let _ = writeln!(text, "received from it   {}", traffic(&realm.received));
    let _ = writeln!(text, "sent to it         {}", traffic(&realm.sent));
    let _ = writeln!(text, "sessions           {} opened by its hosts", count(realm.sessions as u64));
    if realm.dns_cached > 0 {
        let _ = writeln!(text, "names remembered   {} answers that others gave", count(realm.dns_cached as u64));
    }
    if realm.tunnels.is_empty() {
        text.push_str("\nIt has no tunnel: planned only. Add a [[realm.attach]] to connect it.\n");
    }
    for tunnel in &realm.tunnels {
        text.push_str(&tunnel_section(tunnel));
    }
    if let Some(routes) = &realm.routes {
        text.push_str(&status_routes::details(routes));
    }
    text.push_str(&status_text_dns::details(realm));
    match realm.drops.is_empty() {
        true => text.push_str("\nNo packet of this realm was dropped.\n"),
        false => text.push_str(&drops_section("Packets of this realm that were dropped:", &realm.drops)),
    }
    text
}

fn heading(status: &Status) -> String {
    let uptime = duration(Duration::from_secs(status.uptime_secs));
    let mut text =
        format!("ixgate {} \"{}\", configuration {}, up {uptime}\n", status.version, status.ix, status.generation);
    if !status.waits_for_restart.is_empty() {
        let _ = writeln!(text, "NOT IN FORCE before a restart: {}", status.waits_for_restart.join(", "));
    }
    let width = status.listens.iter().map(|listen| listen.what.chars().count()).fold(HEADING_COLUMNS, usize::max);
    for listen in &status.listens {
        let _ = writeln!(text, "{:<width$} {}", listen.what, listen.address);
    }
    let offload = match (status.socket.receive_offload, status.socket.send_offload) {
        (true, true) => "receive and send",
        (true, false) => "receive only",
        (false, true) => "send only",
        (false, false) => "none",
    };
    let _ = writeln!(text, "{:<width$} {offload}", "offload");
    let porters = &status.socket.porters;
    if porters.threads > 0 {
        let [opened, left] = [porters.opened_datagrams, porters.left_datagrams].map(count);
        let _ = writeln!(
            text,
            "{:<width$} {}: the first decides, and carries a share; {} porters opened {opened} datagrams and left {left} to it",
            "threads",
            porters.threads + 1,
            porters.threads
        );
    }
    let _ = writeln!(text, "{:<width$} {}", "gate", gate(&status.socket));
    if let Some(uplink) = &status.socket.uplink {
        text.push_str(&self::uplink(uplink, width));
    }
    let (open, max) = (count(status.sessions as u64), count(status.sessions_max as u64));
    let _ = writeln!(text, "{:<width$} {open} of {max}", "sessions");
    if status.napt_bindings > 0 {
        let (bound, max) = (count(status.napt_bindings as u64), count(status.napt_bindings_max as u64));
        let _ = writeln!(text, "{:<width$} {bound} of {max}", "NAPT");
    }
    if status.ike_sas > 0 {
        let (all, half_open) = (count(status.ike_sas as u64), count(status.ike_half_open as u64));
        let _ = writeln!(text, "{:<width$} {all} SAs, {half_open} of them half-open", "IKE");
    }
    if status.dns_pending + status.dns_cached > 0 {
        let (pending, cached) = (count(status.dns_pending as u64), count(status.dns_cached as u64));
        let _ =
            writeln!(text, "{:<width$} {pending} forwarded questions wait, {cached} answers are remembered", "names");
    }
    if status.events_lost > 0 {
        let lost = count(status.events_lost);
        let _ = writeln!(text, "{:<width$} {lost} happenings of tunnels are missing from the log", "events");
    }
    text.push_str(&account(status, width));
    text
}

fn gate(socket: &SocketStatus) -> String {
    let Some(gate) = &socket.gate else {
        return format!("none: {}", socket.no_gate.as_deref().unwrap_or("not known"));
    };
    let mut text = match gate.interfaces.is_empty() {
        true => "on no interface".to_owned(),
        false => format!("on {}", gate.interfaces.join(", ")),
    };
    if !gate.refused_interfaces.is_empty() {
        let _ = write!(text, "; not on {} (the log says why)", gate.refused_interfaces.join(", "));
    }
    text
}

fn uplink(uplink: &UplinkStatus, width: usize) -> String {
    let mut text = String::new();
    for one in &uplink.interfaces {
        let _ = match (&one.driver, &one.why_not) {
            (Some(driver), _) => writeln!(text, "{:<width$} {}: data by {driver}", "uplink", one.name),
            (None, why) => {
                let why = why.as_deref().unwrap_or("not known");
                writeln!(text, "{:<width$} {}: data by SOCKETS: {why}", "uplink", one.name)
            }
        };
    }
    let [received, sent, no_way, too_long] =
        [uplink.received_datagrams, uplink.sent_datagrams, uplink.no_way_datagrams, uplink.too_long_datagrams]
            .map(count);
    let _ = writeln!(
        text,
        "{:<width$} {received} received, {sent} sent; by sockets {no_way} without a known way, {too_long} too long for it",
        ""
    );
    if uplink.lost_datagrams + uplink.damaged_datagrams + uplink.unsent_datagrams > 0 {
        let [lost, damaged, unsent] =
            [uplink.lost_datagrams, uplink.damaged_datagrams, uplink.unsent_datagrams].map(count);
        let _ = writeln!(
            text,
            "{:<width$} {lost} lost as the ring was full, {damaged} damaged, {unsent} not sent as the card was full",
            ""
        );
    }
    text
}

fn account(status: &Status, width: usize) -> String {
    let t = &status.totals;
    let mut text = format!(
        "{:<width$} {} in = {} forwarded + {} answered + {} handshakes + {} keepalives + {} dropped\n",
        "datagrams",
        count(t.datagrams_in),
        count(t.forwarded),
        count(t.answered),
        count(t.control),
        count(t.keepalives),
        count(t.dropped),
    );
    if t.fragments_joined + t.fragments_kept > 0 {
        let (joined, kept, packets) = (count(t.fragments_joined), count(t.fragments_kept), count(t.reassembled));
        let _ =
            writeln!(text, "{:<width$} + {joined} fragments of {packets} packets + {kept} that wait for others", "");
    }
    if !t.balanced {
        let _ = writeln!(text, "{:<width$} THIS ACCOUNT DOES NOT BALANCE: a defect in ixgate, please report it", "");
    }
    if let Some(gate) = status.socket.gate.as_ref().filter(|gate| gate.shed_datagrams > 0) {
        let [shed, control] = [gate.shed_datagrams, gate.shed_control_datagrams].map(count);
        let _ = writeln!(
            text,
            "{:<width$} {shed} more were shed at the gate ({control} handshakes and IKE, {} of {} queues of data): too much came",
            "", gate.lanes_shed, status.socket.lanes
        );
    }
    if status.socket.overflow_datagrams > 0 {
        let socket = &status.socket;
        let [lost, control] = [socket.overflow_datagrams, socket.overflow_control_datagrams].map(count);
        let _ =
            write!(text, "{:<width$} {lost} more were lost before they were read ({control} handshakes and IKE", "");
        let _ = match socket.lanes {
            0 => writeln!(text, "): too much came"),
            lanes => writeln!(text, ", {} of {lanes} queues of data): too much came", socket.lanes_overflown),
        };
    }
    text
}

fn realms_table(status: &Status) -> Table {
    let data = format!("DATA ({} s)", status.data_window_secs);
    let mut table =
        Table::new(&["REALM", "TUNNEL", "STATE", &data, "HANDSHAKE", "RECEIVED", "SENT", "SESSIONS", "DROPPED"]);
    let rows = status.realms.iter().flat_map(|realm| realm_rows(realm, status.data_window_secs));
    let total: usize = status.realms.iter().map(|realm| realm.tunnels.len().max(1)).sum();
    for row in rows.take(MAX_OVERVIEW_ROWS) {
        table.row(row);
    }
    if total > MAX_OVERVIEW_ROWS {
        table.row(vec![format!("... {} more; see --json", total - MAX_OVERVIEW_ROWS)]);
    }
    table
}

/// A row per tunnel; what belongs to the realm stands in its first.
fn realm_rows(realm: &RealmStatus, window_secs: u64) -> Vec<Vec<String>> {
    let sessions = count(realm.sessions as u64);
    let dropped = count(realm.drops.iter().map(|drop| drop.count).sum());
    if realm.tunnels.is_empty() {
        let blank = String::new;
        let planned = "planned, no tunnel".to_owned();
        return vec![vec![
            realm.name.clone(),
            "-".to_owned(),
            planned,
            "no".to_owned(),
            blank(),
            blank(),
            blank(),
            sessions,
            dropped,
        ]];
    }
    let rows = realm.tunnels.iter().enumerate().map(|(index, tunnel)| {
        let of_realm = |cell: &str| if index == 0 { cell.to_owned() } else { String::new() };
        let passed = tunnel.last_data_secs_ago.is_some_and(|secs| secs <= window_secs);
        vec![
            of_realm(&realm.name),
            tunnel.peer.clone(),
            state_words(tunnel),
            if passed { "yes" } else { "no" }.to_owned(),
            if has_handshakes(tunnel) { ago(tunnel.last_handshake_secs_ago) } else { "-".to_owned() },
            bytes(tunnel.received.bytes),
            bytes(tunnel.sent.bytes),
            of_realm(&sessions),
            of_realm(&dropped),
        ]
    });
    rows.collect()
}

/// A tunnel that could carry, and leaves it to others of its realm, waits.
fn state_words(tunnel: &TunnelStatus) -> String {
    let waits = if tunnel.up && !tunnel.carries && !tunnel.role.is_empty() { ", waits" } else { "" };
    let version = tunnel.port.as_ref().and_then(status_text_port::version_down);
    let down = version.map_or_else(String::new, |(version, _)| format!("; {version} down"));
    format!("{}{waits}{down}", tunnel.state.words())
}

/// What of a port is down while the rest is up.
fn version_down(tunnel: &TunnelStatus) -> String {
    let down = tunnel.port.as_ref().and_then(status_text_port::version_down);
    down.map_or_else(String::new, |(version, why)| format!("; {version} down: {why}"))
}

/// Ports have none.
fn has_handshakes(tunnel: &TunnelStatus) -> bool {
    !["port", "TUN"].contains(&tunnel.kind.as_str())
}

fn tunnel_section(tunnel: &TunnelStatus) -> String {
    let TunnelStatus { peer, kind, state, .. } = tunnel;
    let mut text = match has_handshakes(tunnel) {
        true => format!("\ntunnel {peer} ({kind}): {}\n", state.words()),
        false => format!("\n{kind} {peer}: {}{}\n", state.words(), version_down(tunnel)),
    };
    if let Some(remedy) = tunnel.port.as_ref().and_then(|port| status_text_port::remedy(port, *state)) {
        let _ = writeln!(text, "  what to do       {remedy}");
    }
    if !tunnel.role.is_empty() {
        let _ = writeln!(text, "  role             {}", tunnel.role);
    }
    if has_handshakes(tunnel) {
        let remote = tunnel.remote.map_or_else(|| "not known yet".to_owned(), |remote| remote.to_string());
        let _ = writeln!(text, "  peer's address   {remote}");
        let _ = writeln!(text, "  last handshake   {}", ago(tunnel.last_handshake_secs_ago));
    }
    let _ = writeln!(text, "  last data        {}", ago(tunnel.last_data_secs_ago));
    let _ = writeln!(text, "  received         {}", traffic(&tunnel.received));
    let _ = writeln!(text, "  sent             {}", traffic(&tunnel.sent));
    if let Some(ipsec) = &tunnel.ipsec {
        text.push_str(&status_text_ipsec::section(tunnel, ipsec));
    }
    if let Some(port) = &tunnel.port {
        text.push_str(&status_text_port::section(port));
    }
    text
}

fn drops_section(title: &str, drops: &[DropStatus]) -> String {
    let mut text = String::new();
    if drops.is_empty() {
        return text;
    }
    let _ = writeln!(text, "\n{title}");
    for drop in drops {
        let _ = writeln!(text, "  {} x {} (side: {})", count(drop.count), drop.reason, drop.side);
        let _ = writeln!(text, "      {}", drop.what);
        let _ = writeln!(text, "      {}", drop.remedy);
    }
    text
}

pub(super) fn traffic(traffic: &TrafficStatus) -> String {
    format!("{} in {} packets", bytes(traffic.bytes), count(traffic.packets))
}

pub(super) fn ago(secs: Option<u64>) -> String {
    secs.map_or_else(|| "never".to_owned(), |secs| format!("{} ago", duration(Duration::from_secs(secs))))
}

#[cfg(test)]
mod tests {
    use super::super::source::samples::three_realms;
    use super::super::source::{
        GateCount, GateCounts, GateState, Overflow, PorterCounts, Source, UplinkCounts, UplinkState,
    };
    use super::*;

    fn status() -> Status {
        Status::of(&three_realms(), Duration::from_secs(60))
    }

    #[test]
    fn settings_that_wait_for_a_restart_are_named_above_all() {
        let status = Status { waits_for_restart: vec!["api.listen".into(), "workers.threads".into()], ..status() };
        let second = "NOT IN FORCE before a restart: api.listen, workers.threads";
        assert_eq!(overview(&status).lines().nth(1), Some(second));
    }

    #[test]
    fn the_overview_reads_as_a_table_of_words() {
        let text = overview(&status());
        let expected = "\
ixgate VERSION \"ix-east\", configuration 4, up 2 h 5 min
WireGuard  udp 0.0.0.0:51820
offload    receive only
gate       on eth0
sessions   12 of 1,000,000
datagrams  1,063 in = 1,000 forwarded + 10 answered + 2 handshakes + 1 keepalives + 50 dropped

REALM       TUNNEL    STATE                 DATA (60 s)  HANDSHAKE       RECEIVED  SENT   SESSIONS  DROPPED
region-a    AAAAAAAA  up                    yes          1 min 15 s ago  1.5 MB    900 B  12        43
hospital-b  AQEBAQEB  down, never answered  no           never           0 B       0 B    12        0
planned-c   -         planned, no tunnel    no                                            0         0

Dropped before they belonged to a realm:
  7 x handshake_unknown_peer (side: carrier)
      The handshake came from a public key that no realm is attached with.
      Compare the peer's public key with `public_key` in its [[realm.attach]].

Why packets of a realm were dropped: ixgate status REALM
";
        assert_eq!(text, expected.replace("VERSION", env!("CARGO_PKG_VERSION")));
    }

    #[test]
    fn details_give_each_drop_with_its_side_and_remedy() {
        let status = status();
        let text = details(&status, status.realm("region-a").unwrap());
        assert!(text.starts_with("realm region-a (number 1): data passed in the last 60 s\n"), "{text}");
        assert!(text.contains("40 x tunnel_down (side: receiver's network)\n"), "{text}");
        assert!(text.contains("203.0.113.10:51820"), "{text}");
        let planned = details(&status, status.realm("planned-c").unwrap());
        assert!(
            planned.contains("planned only") && planned.contains("No packet of this realm was dropped."),
            "{planned}"
        );
        let down = details(&status, status.realm("hospital-b").unwrap());
        assert!(down.contains("never answered") && down.contains("no data passed"), "{down}");
    }

    #[test]
    fn what_is_wrong_with_the_account_is_said() {
        let mut source = three_realms();
        source.path.totals.control += 1;
        source.socket.overflow = Overflow { control: 34, data: 1_200 };
        let text = overview(&Status::of(&source, Duration::ZERO));
        assert!(text.contains("DOES NOT BALANCE") && text.contains("1,234 more were lost"), "{text}");
        assert!(text.contains("(34 handshakes and IKE): too much came"), "{text}");
        (source.socket.lanes, source.socket.lanes_overflown) = (64, 2);
        let text = overview(&Status::of(&source, Duration::ZERO));
        assert!(text.contains("(34 handshakes and IKE, 2 of 64 queues of data): too much came"), "{text}");
        let counts = GateCounts {
            control: GateCount { admitted: 10, shed: 7 },
            data: GateCount { admitted: 90, shed: 2_000 },
            lanes_shed: 1,
        };
        source.socket.gate = Some(counts);
        let text = overview(&Status::of(&source, Duration::ZERO));
        let line = "2,007 more were shed at the gate (7 handshakes and IKE, 1 of 64 queues of data): too much came\n";
        assert!(text.contains(line), "{text}");
        source.names.realms.clear();
        assert!(overview(&Status::of(&source, Duration::ZERO)).contains("No realm is configured."));
    }

    #[test]
    fn it_is_said_by_what_tunnels_data_goes_and_how_much_does_not() {
        let mut source = three_realms();
        let said = |source: &Source| overview(&Status::of(source, Duration::ZERO));
        assert!(!said(&source).contains("uplink"));
        let uplink = |name: &str, driver| UplinkState { name: name.to_owned(), driver };
        source.uplinks = vec![
            uplink("eth0", Ok("AF_XDP native, zero copy".to_owned())),
            uplink("eth1", Err("the reason".to_owned())),
        ];
        source.socket.uplink =
            Some(UplinkCounts { received: 1_000, sent: 2_000, no_way: 3, too_long: 4, ..UplinkCounts::default() });
        let lines = "uplink     eth0: data by AF_XDP native, zero copy\n\
                     uplink     eth1: data by SOCKETS: the reason\n           \
                     1,000 received, 2,000 sent; by sockets 3 without a known way, 4 too long for it\n";
        assert!(said(&source).contains(lines), "{}", said(&source));
        source.socket.uplink = Some(UplinkCounts { lost: 5, damaged: 6, congested: 7, ..UplinkCounts::default() });
        let lost = "5 lost as the ring was full, 6 damaged, 7 not sent as the card was full\n";
        assert!(said(&source).contains(lost), "{}", said(&source));
    }

    #[test]
    fn it_is_said_where_the_gate_is_and_why_there_is_none() {
        let mut source = three_realms();
        let said = |source: &Source| overview(&Status::of(source, Duration::ZERO));
        assert!(said(&source).contains("gate       on eth0\n"), "{}", said(&source));
        source.gate.refused = vec!["eth1".to_owned()];
        assert!(said(&source).contains("gate       on eth0; not on eth1 (the log says why)\n"));
        source.gate = GateState { why_not: Some("the reason".to_owned()), ..GateState::default() };
        source.socket.gate = None;
        assert!(said(&source).contains("gate       none: the reason\n"));
    }

    #[test]
    fn several_threads_have_a_line() {
        let mut source = three_realms();
        assert!(!overview(&Status::of(&source, Duration::ZERO)).contains("\nthreads"));
        source.socket.porters = PorterCounts { threads: 3, opened: 12_345, left: 6 };
        let text = overview(&Status::of(&source, Duration::ZERO));
        let line = "threads    4: the first decides, and carries a share; 3 porters opened 12,345 datagrams and left 6 to it\n";
        assert!(text.contains(line), "{text}");
    }

    #[test]
    fn fragments_have_a_line_where_there_are_any() {
        let mut source = three_realms();
        source.path.totals.datagrams_in += 5;
        source.path.totals.reassembled = 1;
        source.path.totals.fragments_joined = 2;
        source.path.totals.fragments_kept = 3;
        let text = overview(&Status::of(&source, Duration::ZERO));
        assert!(text.contains(" + 2 fragments of 1 packets + 3 that wait for others\n"), "{text}");
        assert!(!text.contains("DOES NOT BALANCE") && !overview(&status()).contains("fragments"));
    }

    #[test]
    fn names_that_others_answer_have_a_line_and_sections_of_their_own() {
        let status = Status::of(&super::super::source::samples::names_of_others(), Duration::ZERO);
        let text = overview(&status);
        assert!(text.contains("names      2 forwarded questions wait, 40 answers are remembered\n"), "{text}");
        assert!(text.contains("names outside all realms") && text.contains("hospital-b 192.168.1.54:53"), "{text}");
        let a = details(&status, status.realm("region-a").unwrap());
        assert!(a.contains("names remembered   40 answers that others gave\n") && !a.contains("resolver"), "{a}");
        assert!(details(&status, status.realm("hospital-b").unwrap()).contains("names of its own"));
    }

    #[test]
    fn events_that_are_missing_from_the_log_are_said_to_be() {
        assert!(!overview(&status()).contains("missing"));
        let lossy = Status { events_lost: 1200, ..status() };
        assert!(overview(&lossy).contains("events     1,200 happenings of tunnels are missing from the log\n"));
    }

    #[test]
    fn a_long_table_is_cut_and_says_so() {
        let mut status = status();
        status.realms = vec![status.realms[0].clone(); MAX_OVERVIEW_ROWS + 5];
        assert!(overview(&status).contains("... 5 more; see --json"));
    }
}
