use proptest::prelude::*;

use super::ClaimAction::{Advertise, ArpAnnounce, ArpProbe, DadSolicit, ReportGroups};
use super::*;

const MAC: Mac = Mac([2, 0, 0, 0, 0, 1]);
const OTHER: Mac = Mac([2, 0, 0, 0, 0, 0x66]);
const V4: Ipv4Addr = Ipv4Addr::new(172, 20, 0, 2);
const V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 9, 0, 0, 0, 0, 2);
/// Of [`MAC`].
const LINK_LOCAL: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0xff, 0xfe00, 1);
const START: Timestamp = Timestamp::from_secs(1000);

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// A port's addresses with a clock of their own: what they do, and when.
struct Port {
    claims: Claims,
    now: Timestamp,
    events: Vec<ClaimEvent>,
}

impl Port {
    fn new(addresses: &[&str]) -> Port {
        let addresses: Vec<IpNet> = addresses.iter().map(|net| net.parse().unwrap()).collect();
        Port { claims: Claims::new(&addresses), now: START, events: Vec::new() }
    }

    fn started(addresses: &[&str], random: u64) -> Port {
        let mut port = Port::new(addresses);
        port.claims.start(MAC, START, random);
        port
    }

    /// Started, and everything claimed, announced and said.
    fn settled(addresses: &[&str]) -> Port {
        let mut port = Port::started(addresses, 7);
        port.run(millis(20_000));
        port.events.clear();
        port
    }

    /// Lets time pass, from deadline to deadline. Milliseconds from the beginning of this, rounded down.
    fn run(&mut self, span: Duration) -> Vec<(u64, ClaimAction)> {
        let (begin, end) = (self.now, self.now + span);
        let mut done = Vec::new();
        self.drain(begin, &mut done);
        while let Some(next) = self.claims.poll_timeout().filter(|next| *next <= end) {
            let early = Timestamp::from_micros(next.as_micros().saturating_sub(1));
            assert_eq!(self.claims.poll_action(early), None, "nothing is due before the deadline");
            assert!(next > self.now || done.len() < 100, "the clock stands still");
            self.now = next;
            self.drain(begin, &mut done);
        }
        self.now = end;
        done
    }

    fn drain(&mut self, begin: Timestamp, done: &mut Vec<(u64, ClaimAction)>) {
        while let Some(action) = self.claims.poll_action(self.now) {
            done.push(((self.now - begin).as_millis() as u64, action));
        }
        self.events.extend(std::iter::from_fn(|| self.claims.poll_event()));
    }

    fn sighted(&mut self, address: impl Into<IpAddr>, sighting: Sighting) {
        self.claims.handle_sighting(address.into(), OTHER, sighting, self.now);
        self.events.extend(std::iter::from_fn(|| self.claims.poll_event()));
    }

    fn flap(&mut self, down: Duration) {
        self.claims.stop();
        self.now = self.now + down;
        self.claims.start(MAC, self.now, 9);
    }

    fn is_ours(&self, address: impl Into<IpAddr>) -> bool {
        self.claims.is_ours(address.into())
    }

    fn state(&self, address: impl Into<IpAddr>) -> (&'static str, Option<Mac>) {
        let address = address.into();
        let status = self.claims.status().find(|status| status.address == address).unwrap();
        (status.state, status.other)
    }

    fn events(&mut self) -> Vec<ClaimEvent> {
        std::mem::take(&mut self.events)
    }
}

fn without_reports(done: &[(u64, ClaimAction)]) -> Vec<(u64, ClaimAction)> {
    done.iter().copied().filter(|(_, action)| *action != ReportGroups).collect()
}

fn actions(done: &[(u64, ClaimAction)]) -> Vec<ClaimAction> {
    done.iter().map(|(_, action)| *action).collect()
}

#[test]
fn after_link_up_an_ipv4_address_is_probed_thrice_then_used_and_announced_twice() {
    for random in 0..200 {
        let mut port = Port::started(&["172.20.0.2/30"], random);
        assert_eq!((port.state(V4), port.is_ours(V4)), (("probing", None), false));
        let done = port.run(millis(60_000));
        assert_eq!(actions(&done), [ArpProbe(V4), ArpProbe(V4), ArpProbe(V4), ArpAnnounce(V4), ArpAnnounce(V4)]);
        let at: Vec<u64> = done.iter().map(|(at, _)| *at).collect();
        assert!(at[0] <= 200 && (200..=400).contains(&(at[1] - at[0])), "{at:?}");
        assert!((200..=401).contains(&(at[2] - at[1])) && (499..=501).contains(&(at[3] - at[2])), "{at:?}");
        assert!((900..=1500).contains(&at[3]), "{at:?}");
        assert!((1999..=2001).contains(&(at[4] - at[3])), "{at:?}");
        assert_eq!(port.events(), [ClaimEvent::Claimed(V4.into())]);
        assert_eq!((port.state(V4), port.is_ours(V4)), (("ours", None), true));
        assert_eq!(port.claims.poll_timeout(), None);
    }
}

#[test]
fn it_is_used_from_the_announcement_on_and_not_before() {
    let mut port = Port::started(&["172.20.0.2/30"], 3);
    loop {
        port.now = port.claims.poll_timeout().unwrap();
        let action = port.claims.poll_action(port.now).unwrap();
        let is_announced = action == ArpAnnounce(V4);
        assert_eq!(port.is_ours(V4), is_announced);
        if is_announced {
            break;
        }
    }
}

#[test]
fn stations_that_start_together_do_not_probe_together() {
    let first = |random| Port::started(&["172.20.0.2/30"], random).run(millis(1000))[0].0;
    let drawn: std::collections::BTreeSet<u64> = (0..100).map(first).collect();
    assert!(drawn.len() > 40, "{drawn:?}");
}

#[test]
fn an_ipv6_address_is_solicited_once_and_a_second_later_ours() {
    let mut port = Port::started(&["2001:db8:9::2/64"], 5);
    let done = port.run(millis(10_000));
    let [solicit, first, second] =
        *done.iter().filter(|(_, action)| matches!(action, DadSolicit(V6) | Advertise(V6))).collect::<Vec<_>>()
    else {
        panic!("{done:?}")
    };
    assert_eq!([solicit.1, first.1, second.1], [DadSolicit(V6), Advertise(V6), Advertise(V6)]);
    assert!(solicit.0 <= 200 && (999..=1001).contains(&(first.0 - solicit.0)), "{done:?}");
    assert!((1999..=2001).contains(&(second.0 - first.0)), "{done:?}");
}

#[test]
fn a_link_local_address_is_made_of_the_hardware_address_and_claimed_like_others() {
    let mut port = Port::started(&["2001:db8:9::2/64"], 5);
    assert!(port.claims.concerns(LINK_LOCAL.into()));
    assert_eq!(port.claims.link_local(), None);
    let done = port.run(millis(10_000));
    assert!(actions(&done).contains(&DadSolicit(LINK_LOCAL)));
    assert_eq!(port.claims.link_local(), Some(LINK_LOCAL));
    assert_eq!(port.events(), [ClaimEvent::Claimed(V6.into()), ClaimEvent::Claimed(LINK_LOCAL.into())]);
    // The example of RFC 4291 appendix A, with the universal bit set.
    let example = link_local_of(Mac([0x34, 0x56, 0x78, 0x9a, 0xbc, 0xde]));
    assert_eq!(example, "fe80::3656:78ff:fe9a:bcde".parse::<Ipv6Addr>().unwrap());
}

#[test]
fn no_link_local_address_is_made_where_one_is_configured_or_without_ipv6() {
    let mut configured = Port::settled(&["2001:db8:9::2/64", "fe80::2/64"]);
    assert_eq!(configured.claims.status().count(), 2);
    assert_eq!(configured.claims.link_local(), Some("fe80::2".parse().unwrap()));
    let mut port = Port::settled(&["172.20.0.2/30"]);
    assert_eq!(port.claims.status().count(), 1);
    assert!(port.run(millis(100_000)).is_empty(), "and nothing is said of groups");
    configured.flap(millis(10));
    assert_eq!(configured.claims.status().count(), 2);
}

#[test]
fn groups_are_joined_before_the_first_solicitation_after_the_link_local_claim_and_ever_again() {
    let mut port = Port::started(&["2001:db8:9::2/64", "2001:db8:9::3/64"], 11);
    let done = port.run(millis(100_000));
    assert_eq!(done[0], (0, ReportGroups));
    let (claimed, _) = *done.iter().find(|(_, action)| *action == Advertise(LINK_LOCAL)).unwrap();
    let reports = done.iter().filter(|(_, action)| *action == ReportGroups).map(|(at, _)| *at);
    let every_30_s = [0, claimed, claimed + 30_000, claimed + 60_000, claimed + 90_000];
    assert!(reports.eq(every_30_s), "{done:?}");
    let own = [LINK_LOCAL, V6, "2001:db8:9::3".parse().unwrap()].map(solicited_node);
    assert_eq!(port.claims.groups(), own);
}

#[test]
fn addresses_with_the_same_end_share_a_group() {
    let port = Port::settled(&["2001:db8:9::2/64", "2001:db8:a::2/64", "172.20.0.2/30"]);
    assert_eq!(port.claims.groups(), [LINK_LOCAL, V6].map(solicited_node));
}

#[test]
fn somebody_who_has_it_or_wants_it_too_keeps_an_address_from_being_used() {
    for sighting in [Sighting::Use, Sighting::Probe] {
        for (address, prefix) in [(IpAddr::V4(V4), "172.20.0.2/30"), (IpAddr::V6(V6), "2001:db8:9::2/64")] {
            let mut port = Port::started(&[prefix], 1);
            port.run(millis(250));
            port.sighted(address, sighting);
            assert_eq!((port.state(address), port.is_ours(address)), (("duplicate", Some(OTHER)), false));
            assert_eq!(port.events(), [ClaimEvent::Duplicate(address, OTHER)]);
            let done = port.run(millis(59_000));
            let spoken = |(_, action): &(u64, ClaimAction)| {
                matches!(action, ArpProbe(V4) | ArpAnnounce(V4) | DadSolicit(V6) | Advertise(V6))
            };
            assert!(!done.iter().any(spoken), "left alone: {done:?}");
        }
    }
}

#[test]
fn after_the_hold_down_it_is_probed_in_the_times_of_the_rfc_and_comes_back() {
    for random in 0..50 {
        let mut port = Port::started(&["172.20.0.2/30"], random);
        port.sighted(V4, Sighting::Use);
        let done = port.run(millis(100_000));
        assert_eq!(actions(&done), [ArpProbe(V4), ArpProbe(V4), ArpProbe(V4), ArpAnnounce(V4), ArpAnnounce(V4)]);
        let at: Vec<u64> = done.iter().map(|(at, _)| *at).collect();
        assert!((60_000..=61_000).contains(&at[0]), "{at:?}");
        assert!((1000..=2001).contains(&(at[1] - at[0])) && (1000..=2001).contains(&(at[2] - at[1])), "{at:?}");
        assert!((1999..=2001).contains(&(at[3] - at[2])), "{at:?}");
        assert_eq!(port.events(), [ClaimEvent::Duplicate(V4.into(), OTHER), ClaimEvent::Claimed(V4.into())]);
        assert!(port.is_ours(V4));
    }
}

#[test]
fn two_that_want_the_same_address_at_once_do_not_keep_it_from_one_another_for_ever() {
    let mut ports = [1, 2].map(|random| Port::started(&["172.20.0.2/30"], random));
    let macs = [MAC, OTHER];
    ports[1].claims.start(OTHER, START, 2);
    // Their first probes crossed.
    (0..2).for_each(|me| ports[me].claims.handle_sighting(V4.into(), macs[1 - me], Sighting::Probe, START));
    for step in 0..20_000 {
        let now = START + millis(step * 10);
        let said = ports.each_mut().map(|port| port.claims.poll_action(now));
        let had = ports.each_ref().map(|port| port.is_ours(V4));
        for me in 0..2 {
            let sighting = match said[1 - me] {
                Some(ArpProbe(_)) => Some(Sighting::Probe),
                Some(ArpAnnounce(_)) => Some(Sighting::Use),
                _ => (said[me] == Some(ArpProbe(V4)) && had[1 - me]).then_some(Sighting::Use),
            };
            if let Some(sighting) = sighting {
                ports[me].claims.handle_sighting(V4.into(), macs[1 - me], sighting, now);
            }
        }
        assert!(!(had[0] && had[1]), "never both");
    }
    assert!(ports[0].is_ours(V4) != ports[1].is_ours(V4), "one has it");
}

#[test]
fn an_address_in_use_is_defended_once_in_ten_seconds_and_then_given_up() {
    for (address, announce, prefix) in
        [(IpAddr::V4(V4), ArpAnnounce(V4), "172.20.0.2/30"), (IpAddr::V6(V6), Advertise(V6), "2001:db8:9::2/64")]
    {
        let mut port = Port::settled(&[prefix]);
        port.sighted(address, Sighting::Use);
        assert!(port.is_ours(address));
        assert_eq!(without_reports(&port.run(millis(10_000))), [(0, announce)], "one announcement");
        port.sighted(address, Sighting::Use);
        assert_eq!(without_reports(&port.run(millis(9_999))), [(0, announce)], "ten seconds later another");
        assert_eq!(port.events(), []);
        port.sighted(address, Sighting::Use);
        assert_eq!((port.state(address), port.is_ours(address)), (("duplicate", Some(OTHER)), false));
        assert_eq!(port.events(), [ClaimEvent::Duplicate(address, OTHER)]);
        assert!(without_reports(&port.run(millis(50_000))).is_empty());
    }
}

#[test]
fn who_asks_for_what_is_ours_takes_nothing() {
    let mut port = Port::settled(&["172.20.0.2/30", "2001:db8:9::2/64"]);
    for _ in 0..100 {
        port.sighted(V4, Sighting::Probe);
        port.sighted(V6, Sighting::Probe);
    }
    assert!(port.is_ours(V4) && port.is_ours(V6));
    assert!(without_reports(&port.run(millis(60_000))).is_empty());
}

#[test]
fn our_own_frames_coming_back_are_no_conflict() {
    let mut port = Port::started(&["172.20.0.2/30", "2001:db8:9::2/64"], 1);
    for step in 0..30 {
        for address in [IpAddr::V4(V4), V6.into(), LINK_LOCAL.into()] {
            for sighting in [Sighting::Probe, Sighting::Use] {
                port.claims.handle_sighting(address, MAC, sighting, port.now);
            }
        }
        port.run(millis(100));
        assert!(step < 20 || port.is_ours(V4) && port.is_ours(V6) && port.is_ours(LINK_LOCAL));
    }
}

#[test]
fn after_a_link_flap_an_address_is_used_at_once_and_probed_beside() {
    let mut port = Port::settled(&["172.20.0.2/30", "2001:db8:9::2/64"]);
    port.claims.stop();
    assert!(!port.is_ours(V4) && !port.is_ours(V6));
    assert_eq!((port.claims.mac(), port.claims.poll_timeout()), (None, None));
    port.flap(millis(3000));
    assert!(port.is_ours(V4) && port.is_ours(V6) && port.is_ours(LINK_LOCAL));
    assert_eq!(port.claims.source_towards(Ipv4Addr::new(172, 20, 0, 1).into()), Some(V4.into()));
    let done = actions(&port.run(millis(10_000)));
    assert_eq!(done[0], ReportGroups);
    for (action, times) in
        [(ArpProbe(V4), 3), (ArpAnnounce(V4), 2), (DadSolicit(V6), 1), (Advertise(V6), 2), (DadSolicit(LINK_LOCAL), 1)]
    {
        assert_eq!(done.iter().filter(|done| **done == action).count(), times, "{action:?}");
    }
    assert_eq!(port.events(), [], "nothing changed");
}

#[test]
fn who_took_an_address_while_the_link_was_down_has_it() {
    let mut port = Port::settled(&["172.20.0.2/30", "2001:db8:9::2/64"]);
    port.flap(millis(3000));
    port.run(millis(300));
    port.sighted(V4, Sighting::Use);
    assert_eq!(port.state(V4), ("duplicate", Some(OTHER)), "no defence");
    assert_eq!(port.events(), [ClaimEvent::Duplicate(V4.into(), OTHER)]);
    assert!(port.is_ours(V6), "the others are untouched");
    port.flap(millis(3000));
    assert!(!port.is_ours(V4), "what was a duplicate is asked for first");
}

#[test]
fn an_address_that_was_never_ours_is_not_used_after_a_flap() {
    let mut port = Port::started(&["172.20.0.2/30"], 1);
    port.run(millis(300));
    port.flap(millis(100));
    assert!(!port.is_ours(V4));
}

#[test]
fn another_hardware_address_claims_all_anew() {
    let mut port = Port::settled(&["172.20.0.2/30", "2001:db8:9::2/64"]);
    let mac = Mac([2, 0, 0, 0, 0, 9]);
    port.claims.start(mac, port.now, 4);
    assert!(!port.is_ours(V4) && !port.is_ours(V6));
    assert!(!port.claims.concerns(LINK_LOCAL.into()));
    port.run(millis(3000));
    assert!(port.is_ours(V4) && port.is_ours(V6));
    assert_eq!(port.claims.link_local(), Some(link_local_of(mac)));
    assert_eq!(port.claims.status().count(), 3);
}

#[test]
fn a_hostile_station_gets_one_event_and_one_round_of_probes_in_a_hold_down() {
    let mut port = Port::settled(&["172.20.0.2/30", "172.20.0.6/30"]);
    let mut probes = 0;
    for _ in 0..36_000 {
        port.sighted(V4, Sighting::Use);
        let done = port.run(millis(100));
        probes += done.iter().filter(|(_, action)| *action == ArpProbe(V4)).count();
        assert!(!done.iter().any(|(_, action)| *action == ArpAnnounce(V4)) || port.now < START + millis(21_000));
    }
    let events = port.events();
    assert!(events.iter().all(|event| *event == ClaimEvent::Duplicate(V4.into(), OTHER)));
    assert!((40..=60).contains(&events.len()) && probes <= 60, "in an hour: {} events, {probes} probes", events.len());
    assert!(port.is_ours(Ipv4Addr::new(172, 20, 0, 6)));
}

#[test]
fn a_flapping_link_does_not_multiply_events() {
    let mut port = Port::settled(&["172.20.0.2/30"]);
    for _ in 0..600 {
        port.flap(millis(100));
        port.sighted(V4, Sighting::Use);
        port.run(millis(1900));
        port.sighted(V4, Sighting::Use);
    }
    let events = port.events();
    assert!(events.len() <= 2 * 20 + 1, "in twenty minutes: {}", events.len());
}

#[test]
fn events_that_nobody_polls_do_not_pile_up() {
    let mut port = Port::settled(&["172.20.0.2/30"]);
    for _ in 0..20 {
        port.claims.handle_sighting(V4.into(), OTHER, Sighting::Use, port.now);
        port.claims.handle_sighting(V4.into(), OTHER, Sighting::Use, port.now);
        port.now = port.now + millis(100_000);
        while port.claims.poll_timeout().is_some_and(|at| at <= port.now) {
            port.claims.poll_action(port.now);
            port.now = port.now + millis(3000);
        }
    }
    assert_eq!(port.claims.poll_event(), Some(ClaimEvent::Claimed(V4.into())), "how it is now");
    assert_eq!(port.claims.poll_event(), None);
}

#[test]
fn who_polls_late_does_not_send_in_bursts() {
    let mut port = Port::started(&["172.20.0.2/30"], 1);
    port.now = START + millis(60_000);
    assert_eq!(port.run(millis(150)).len(), 1);
}

#[test]
fn at_most_eight_addresses_and_the_link_local_one() {
    let many: Vec<IpNet> = (1..100).map(|n| format!("2001:db8::{n}/64").parse().unwrap()).collect();
    let mut claims = Claims::new(&many);
    claims.start(MAC, START, 0);
    assert_eq!(claims.status().count(), MAX_ADDRESSES + 1);
    assert!(claims.groups().len() <= crate::wire::mld::MAX_GROUPS);
}

#[test]
fn strangers_addresses_are_nobodys_business_here() {
    let mut port = Port::settled(&["172.20.0.2/30"]);
    for n in 0..100_000 {
        port.sighted(Ipv4Addr::from_bits(0x0a00_0000 + n), Sighting::Use);
    }
    assert_eq!(port.claims.status().count(), 1);
    assert!(port.events().is_empty() && port.is_ours(V4));
}

#[test]
fn a_link_that_is_down_hears_nothing() {
    let mut port = Port::new(&["172.20.0.2/30"]);
    port.sighted(V4, Sighting::Use);
    assert_eq!(port.state(V4), ("probing", None));
    assert!(port.events().is_empty() && port.run(millis(100_000)).is_empty());
}

#[test]
fn sources_are_of_the_targets_prefix_then_of_its_scope() {
    let port = Port::settled(&["172.20.0.2/30", "172.20.0.6/30", "2001:db8:9::2/64", "2001:db8:a::2/64"]);
    let source = |target: &str| port.claims.source_towards(target.parse().unwrap()).map(|address| address.to_string());
    for (target, expected) in [
        ("172.20.0.5", "172.20.0.6"),
        ("172.20.0.1", "172.20.0.2"),
        ("10.0.0.1", "172.20.0.2"),
        ("2001:db8:a::1", "2001:db8:a::2"),
        ("2001:db8:ffff::1", "2001:db8:9::2"),
        ("fe80::1", "fe80::ff:fe00:1"),
    ] {
        assert_eq!(source(target).as_deref(), Some(expected), "{target}");
    }
    assert_eq!(Port::settled(&["172.20.0.2/30"]).claims.source_towards(V6.into()), None);
}

#[test]
fn on_the_link_is_what_lies_in_a_prefix_or_is_link_local() {
    let port = Port::new(&["172.20.0.2/30", "2001:db8:9::2/64"]);
    for (address, expected) in [
        ("172.20.0.1", true),
        ("172.20.0.4", false),
        ("2001:db8:9::ffff", true),
        ("2001:db8:a::1", false),
        ("fe80::1", true),
        ("febf::1", true),
        ("fec0::1", false),
    ] {
        assert_eq!(port.claims.on_link(address.parse().unwrap()), expected, "{address}");
    }
}

#[derive(Clone, Debug)]
enum Turn {
    Pass(u64),
    Sight(bool, bool, bool),
    Flap,
    Other,
}

fn turn() -> impl Strategy<Value = Turn> {
    prop_oneof![
        4 => (0u64..30_000).prop_map(Turn::Pass),
        4 => any::<(bool, bool, bool)>().prop_map(|(v6, uses, own)| Turn::Sight(v6, uses, own)),
        1 => Just(Turn::Flap),
        1 => Just(Turn::Other),
    ]
}

proptest! {
    /// Whatever happens: what is a duplicate is not ours, nobody hears of it until the hold-down is over, and left in peace
    /// everything is ours in the end.
    #[test]
    fn whatever_happens_it_comes_back(turns in prop::collection::vec(turn(), 0..60), random: u64) {
        let mut port = Port::started(&["172.20.0.2/30", "2001:db8:9::2/64"], random);
        for turn in turns {
            match turn {
                Turn::Pass(span) => { port.run(millis(span)); }
                Turn::Sight(v6, uses, own) => {
                    let address: IpAddr = if v6 { V6.into() } else { V4.into() };
                    let sighting = if uses { Sighting::Use } else { Sighting::Probe };
                    let mac = if own { port.claims.mac().unwrap() } else { OTHER };
                    port.claims.handle_sighting(address, mac, sighting, port.now);
                }
                Turn::Flap => port.flap(millis(50)),
                Turn::Other => port.claims.start(Mac([2, 0, 0, 0, 0, 7]), port.now, random),
            }
            for status in port.claims.status() {
                prop_assert_eq!(status.state == "ours", port.claims.is_ours(status.address));
                prop_assert_eq!(status.state == "duplicate", status.other.is_some());
            }
        }
        port.run(millis(100_000));
        prop_assert!(port.claims.status().all(|status| status.state == "ours"));
    }
}
