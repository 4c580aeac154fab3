//! From what daemons say to the configuration in force, and to the aliases that are given.

use std::time::{Duration, SystemTime};

use ipnet::Ipv4Net;

use super::*;
use crate::control::allocate::allocate;
use crate::control::prepare::prepare;
use crate::control::sample::{Sample, port_peer};
use crate::control::snapshot::TunnelNumbers;
use crate::control::store::Store;
use crate::dataplane::Snapshot;
use crate::net::{Generation, RealmId, Timestamp};

const GATEWAY: &str = "172.20.0.1";

fn route_by(prefix: &str, via: &str, secs: u64) -> LearnedRoute {
    let since = Timestamp::ZERO + Duration::from_secs(secs);
    LearnedRoute { prefix: prefix.parse().unwrap(), via: vec![via.parse().unwrap()], since }
}

fn heard(realm: &str, prefixes: &[&str]) -> Heard {
    let routes = prefixes.iter().map(|prefix| route_by(prefix, GATEWAY, 1)).collect();
    Heard::from([(realm.to_owned(), HeardRealm { routes, ..HeardRealm::default() })])
}

/// `x` learns, `other` has the same networks by its file.
fn sample(networks: &[&str]) -> Sample {
    Sample::new().realm("x", networks).port("x", "eth1", 7).routes_from("x", 1000).realm("other", &["10.0.0.0/16"])
}

/// Of realm number `realm`.
fn allowing(mut file: Config, realm: usize, allow: &[&str]) -> Config {
    let from = file.realms[realm].routes_from.as_mut().unwrap();
    from.allow = allow.iter().map(|net| net.parse().unwrap()).collect();
    file
}

fn joined(file: &Config, heard: &Heard) -> (Config, LearnedRealm) {
    let (config, mut learned) = join(file, &Allocations::default(), heard).unwrap();
    (config, learned.remove(0))
}

fn networks(config: &Config) -> Vec<String> {
    config.realms[0].networks.iter().map(|network| network.native.to_string()).collect()
}

fn refused(learned: &LearnedRealm) -> Vec<(String, Refusal)> {
    learned.refused.iter().map(|one| (one.route.prefix.to_string(), one.why.clone())).collect()
}

fn routes(config: &Config) -> Vec<(String, String)> {
    let Peer::Port(port) = &config.realms[0].attachments[0].peer else { panic!("a port") };
    port.routes.iter().map(|route| (route.prefix.to_string(), route.via.to_string())).collect()
}

#[test]
fn the_widest_are_networks_beside_those_of_the_file() {
    let file = allowing(sample(&["192.168.0.0/16"]).build(), 0, &["0.0.0.0/0", "2001:db8::/32"]);
    let mut heard = heard("x", &["10.1.0.0/24", "10.1.0.0/16", "192.168.7.0/24", "10.2.0.0/24"]);
    heard.get_mut("x").unwrap().routes.push(route_by("2001:db8:1::/48", "fe80::1", 1));
    let (config, learned) = joined(&file, &heard);
    assert_eq!(networks(&config), ["192.168.0.0/16", "10.1.0.0/16", "10.2.0.0/24", "2001:db8:1::/48"]);
    let within: Vec<_> = learned.accepted.iter().filter_map(|one| Some((one.route.prefix, one.within?))).collect();
    let net = |text: &str| text.parse::<IpNet>().unwrap();
    assert_eq!(within, [(net("10.1.0.0/24"), net("10.1.0.0/16")), (net("192.168.7.0/24"), net("192.168.0.0/16"))]);
    assert_eq!(refused(&learned), []);
    let by_router = ("2001:db8:1::/48".to_owned(), "fe80::1".to_owned());
    assert_eq!(routes(&config), [by_router], "all others by the gateway");
    assert_eq!(config.realms[0].networks[1].alias, AliasMode::Auto);
}

#[test]
fn hostile_prefixes_are_refused_each_with_its_reason() {
    let file = sample(&["192.168.7.0/24"]).alias4(&["100.64.0.0/10"]).build();
    let file = allowing(file, 0, &["0.0.0.0/0", "fd00::/8"]);
    let all = [
        "0.0.0.0/0",
        "::/0",
        "127.0.0.0/8",
        "169.254.1.0/24",
        "224.0.0.0/4",
        "fe80::/64",
        "ff02::/16",
        "240.0.0.0/8",
        "172.20.0.0/30",
        "172.16.0.0/12",
        "100.64.5.0/24",
        "100.0.0.0/8",
        "fd69:7867:6174:1::/64",
        "192.168.0.0/16",
    ];
    let good = ["10.1.0.0/16"];
    let (config, learned) = joined(&file, &heard("x", &[&all[..], &good[..]].concat()));
    assert_eq!(networks(&config), ["192.168.7.0/24", "10.1.0.0/16"]);
    let why: BTreeMap<String, Refusal> = refused(&learned).into_iter().collect();
    assert_eq!(why.len(), all.len());
    let net = |text: &str| text.parse::<IpNet>().unwrap();
    assert_eq!((&why["0.0.0.0/0"], &why["::/0"]), (&Refusal::Default, &Refusal::Default));
    for reserved in &all[2..8] {
        assert!(matches!(why[*reserved], Refusal::Reserved(_)), "{reserved}");
    }
    for link in &all[8..10] {
        assert_eq!(why[*link], Refusal::MeetsLink(net("172.20.0.0/30")));
    }
    for alias in &all[10..12] {
        assert_eq!(why[*alias], Refusal::MeetsAliases(net("100.64.0.0/10")));
    }
    assert_eq!(why[all[12]], Refusal::MeetsSpace6(net("fd69:7867:6174::/48")));
    assert_eq!(why[all[13]], Refusal::HoldsNetwork(net("192.168.7.0/24")));
    assert!(why.values().all(|why| why.to_string().len() > 10));
}

#[test]
fn only_what_is_allowed_is_learned_and_no_more_than_agreed() {
    let mut file = allowing(sample(&[]).build(), 0, &["10.0.0.0/8"]);
    file.realms[0].routes_from.as_mut().unwrap().max_prefixes = 2;
    let (config, learned) = joined(&file, &heard("x", &["10.1.0.0/16", "11.0.0.0/16", "10.2.0.0/16"]));
    assert_eq!(networks(&config), ["10.1.0.0/16"]);
    assert_eq!(refused(&learned), [("11.0.0.0/16".to_owned(), Refusal::NotAllowed)]);
}

#[test]
fn next_hops_are_on_the_link_and_few() {
    let mut peer = port_peer("eth1", 7);
    peer.addresses = vec!["172.20.0.2/24".parse().unwrap()];
    let file = Sample::new().realm("x", &[]).attach("x", Peer::Port(Box::new(peer))).routes_from("x", 1000).build();
    let mut routes_heard = vec![
        route_by("10.1.0.0/16", "172.20.0.9", 1),
        route_by("10.2.0.0/16", GATEWAY, 1),
        route_by("10.3.0.0/16", "10.9.9.9", 1),
        route_by("10.4.0.0/16", "172.20.0.2", 1),
    ];
    let of = |routes: &[LearnedRoute]| {
        Heard::from([("x".into(), HeardRealm { routes: routes.to_vec(), ..Default::default() })])
    };
    let (config, learned) = joined(&file, &of(&routes_heard));
    let want = [("10.1.0.0/16", "172.20.0.9"), ("10.2.0.0/16", GATEWAY)];
    assert_eq!(routes(&config), want.map(|(prefix, via)| (prefix.to_owned(), via.to_owned())));
    let hop = |via: &str| Refusal::HopNotOnLink(via.parse().unwrap());
    let want = [("10.3.0.0/16".to_owned(), hop("10.9.9.9")), ("10.4.0.0/16".to_owned(), hop("172.20.0.2"))];
    assert_eq!(refused(&learned), want);

    routes_heard.truncate(1);
    routes_heard.extend((0..40).map(|n| route_by(&format!("10.50.{n}.0/24"), &format!("172.20.0.{}", 100 + n), 1)));
    let (_, learned) = joined(&file, &of(&routes_heard));
    assert_eq!((learned.accepted.len(), learned.refused.len()), (MAX_LEARNED_HOPS, 41 - MAX_LEARNED_HOPS));
    assert!(learned.refused.iter().all(|one| one.why == Refusal::TooManyHops));

    // One that is refused for one of its next hops leaves none of the others behind.
    let last = &mut routes_heard[usize::from(MAX_LEARNED_HOPS as u8)];
    last.via.insert(0, "172.20.0.9".parse().unwrap());
    let refused_prefix = last.prefix.to_string();
    let (config, learned) = joined(&file, &of(&routes_heard));
    assert!(learned.refused.iter().any(|one| one.route.prefix.to_string() == refused_prefix));
    assert!(routes(&config).iter().all(|(prefix, _)| *prefix != refused_prefix), "{:?}", routes(&config));
}

#[test]
fn ipv6_networks_are_whose_the_file_says_whoever_comes_first() {
    let file = sample(&[]).realm("y", &[]).port("y", "eth2", 7).routes_from("y", 10).build();
    let prefixes = ["10.1.0.0/16", "2001:db8:1::/48", "2001:db8:2::/48", "2600::/16"];
    let say = |realm: &str, secs| {
        let routes = prefixes.map(|prefix| LearnedRoute { via: Vec::new(), ..route_by(prefix, GATEWAY, secs) });
        (realm.to_owned(), HeardRealm { routes: routes.to_vec(), ..HeardRealm::default() })
    };
    let names = |refused: &[Refused]| refused.iter().map(|one| one.route.prefix.to_string()).collect::<Vec<_>>();
    let networks = |file: &Config, secs: [u64; 2]| {
        let heard = Heard::from([say("x", secs[0]), say("y", secs[1])]);
        let (config, learned) = join(file, &Allocations::default(), &heard).unwrap();
        let of = |number: usize| config.realms[number].networks.iter().map(|net| net.native.to_string()).collect();
        let networks: [Vec<String>; 2] = [of(0), of(2)];
        (networks, learned)
    };
    let (without, learned) = networks(&file, [1, 2]);
    assert_eq!(without, [["10.1.0.0/16"], ["10.1.0.0/16"]]);
    for realm in &learned {
        assert_eq!(names(&realm.refused), prefixes[1..]);
        assert!(realm.refused.iter().all(|one| one.why == Refusal::Ipv6NotAllowed));
    }
    let file = allowing(file, 0, &["10.0.0.0/8", "2001:db8:1::/48"]);
    let file = allowing(file, 2, &["10.0.0.0/8", "2001:db8:2::/48"]);
    for secs in [[1, 9], [9, 1]] {
        let (networks, learned) = networks(&file, secs);
        assert_eq!(networks, [["10.1.0.0/16", "2001:db8:1::/48"], ["10.1.0.0/16", "2001:db8:2::/48"]]);
        assert!(learned.iter().flat_map(|realm| &realm.refused).all(|one| one.why == Refusal::NotAllowed));
    }
}

#[test]
fn where_aliases_run_out_only_what_has_none_is_refused() {
    let mut file = sample(&[]).alias4(&["100.64.0.0/14"]).build();
    file.realms[0].routes_from.as_mut().unwrap().max_alias_addresses = Some(1 << 32);
    let (config, learned) =
        joined(&file, &heard("x", &["10.1.0.0/16", "10.2.0.0/16", "10.3.0.0/16", "10.4.0.0/24", "11.0.0.0/8"]));
    // Of four /16, `other` has one, and the IX a part of another.
    assert_eq!(networks(&config), ["10.1.0.0/16", "10.2.0.0/16", "10.4.0.0/24"]);
    let want = ["10.3.0.0/16", "11.0.0.0/8"].map(|net| (net.to_owned(), Refusal::NoAliasLeft));
    assert_eq!(refused(&learned), want);
}

#[test]
fn what_a_viewer_cannot_be_shown_for_want_of_aliases_is_refused_too() {
    let file = Sample::new().alias4(&["100.64.0.0/23"]).realm("x", &[]).port("x", "eth1", 7).routes_from("x", 1000);
    let mut file = file.realm("viewer", &["100.64.1.0/24=hosts"]).build();
    file.realms[0].routes_from.as_mut().unwrap().max_alias_addresses = Some(1 << 32);
    let (config, learned) = joined(&file, &heard("x", &["10.1.0.0/24"]));
    assert_eq!(refused(&learned), [("10.1.0.0/24".to_owned(), Refusal::NoAliasLeft)]);
    assert!(allocate(&config, &Allocations::default()).is_ok());
}

/// Refusals of one realm free nothing for others, however many there are.
#[test]
fn prefixes_inside_one_another_that_have_no_alias_left_are_refused_in_their_realm_alone() {
    let file = Sample::new().alias4(&["100.64.0.0/20"]).realm("x", &[]).port("x", "eth1", 7).routes_from("x", 1000);
    let mut file = file.realm("y", &[]).port("y", "eth2", 7).routes_from("y", 10).build();
    for realm in &mut file.realms {
        realm.routes_from.as_mut().unwrap().max_alias_addresses = Some(1 << 32);
    }
    let nested: Vec<String> = (8..=24).map(|len| format!("11.0.0.0/{len}")).collect();
    let mut heard_both = heard("x", &nested.iter().map(String::as_str).collect::<Vec<_>>());
    heard_both.extend(heard("y", &["10.9.0.0/24"]));
    let (config, learned) = join(&file, &Allocations::default(), &heard_both).unwrap();
    assert_eq!((learned[1].accepted.len(), learned[1].refused.len()), (1, 0));
    assert!(learned[0].refused.iter().any(|one| one.why == Refusal::Unsettled));
    assert!(
        without_alias(&config, &Allocations::default(), &HashSet::new()).is_ok(),
        "nothing that has no alias is in force"
    );
}

/// An appliance as a daemon's news meets it, with a store on the disk.
struct Running {
    file: Config,
    store: Store,
    numbers: TunnelNumbers,
    generation: u32,
}

impl Running {
    fn new(file: Config, directory: &std::path::Path) -> Self {
        Running { file, store: Store::open(directory).unwrap(), numbers: TunnelNumbers::default(), generation: 0 }
    }

    fn hear(&mut self, heard: &Heard) -> (std::sync::Arc<Snapshot>, usize) {
        let (config, _) = join(&self.file, self.store.allocations(), heard).unwrap();
        self.generation += 1;
        let generation = Generation(self.generation);
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
        let prepared = prepare(&config, &mut self.store, &mut self.numbers, generation, Generation(1), now).unwrap();
        (prepared.snapshot, prepared.changes.len())
    }
}

/// Of realm `x`, by network.
fn aliases(snapshot: &Snapshot) -> BTreeMap<IpNet, Ipv4Net> {
    let networks = snapshot.mapping.networks().iter().filter(|network| network.realm == RealmId(1));
    networks.filter_map(|network| Some((network.native, network.alias?))).collect()
}

#[test]
fn aliases_are_given_once_also_over_withdrawals_and_restarts() {
    let directory = tempfile::tempdir().unwrap();
    let file = || sample(&[]).build();
    let mut running = Running::new(file(), directory.path());
    let all: Vec<String> = (0..100).map(|n| format!("10.0.{n}.0/24")).collect();
    let all: Vec<&str> = all.iter().map(String::as_str).collect();
    assert_eq!(aliases(&running.hear(&Heard::new()).0).len(), 0);
    let given = aliases(&running.hear(&heard("x", &all)).0);
    assert_eq!(given.len(), 100);

    let (withdrawn, changes) = running.hear(&heard("x", &all[50..]));
    assert_eq!((aliases(&withdrawn).len(), changes), (50, 50));
    let gone: IpAddr = "10.0.7.1".parse().unwrap();
    assert!(withdrawn.mapping.locate_native(RealmId(1), gone).is_none(), "its sessions end");
    // What comes meanwhile takes none of the reserved ones.
    let (others, _) = running.hear(&heard("x", &[&all[50..], &["10.77.0.0/24"]].concat()));
    let new = aliases(&others)[&"10.77.0.0/24".parse().unwrap()];
    assert!(!given.values().any(|alias| *alias == new));
    assert_eq!(aliases(&running.hear(&heard("x", &all)).0), given);

    drop(running);
    let mut restarted = Running::new(file(), directory.path());
    assert_eq!(aliases(&restarted.hear(&Heard::new()).0).len(), 0, "the daemon has said nothing yet");
    assert_eq!(aliases(&restarted.hear(&heard("x", &all)).0), given);
}

/// `x` learns; alone beside it is a realm that comes later.
fn with_late_realm(pool: &str, max_prefixes: usize) -> (Config, Config) {
    let before = Sample::new().alias4(&[pool]).realm("x", &[]).port("x", "eth1", 7).routes_from("x", max_prefixes);
    let (file, mut later) = (before.build(), sample(&[]).build());
    later.realms[0] = file.realms[0].clone();
    later.ix = file.ix.clone();
    (file, later)
}

#[test]
fn ever_new_prefixes_use_up_the_share_of_their_realm_and_no_more() {
    for (pool, len, max_prefixes, most) in [
        // By number: twice what may be there at one time.
        ("100.64.0.0/10", 24, 10, 20),
        // By size: of 4,096 /24 the half.
        ("100.64.0.0/12", 18, 1000, 32),
        ("100.64.0.0/12", 13, 1000, 1),
        ("100.64.0.0/12", 12, 1000, 0),
    ] {
        let directory = tempfile::tempdir().unwrap();
        let (file, later) = with_late_realm(pool, max_prefixes);
        let mut running = Running::new(file, directory.path());
        let prefix =
            |n: u32| IpNet::new(std::net::Ipv4Addr::from_bits((20 << 24) + (n << (32 - len))).into(), len).unwrap();
        let all: Vec<String> = (0..60).map(|n| prefix(n).to_string()).collect();
        let mut given = BTreeMap::new();
        for new in all.chunks(5) {
            let new: Vec<&str> = new.iter().map(String::as_str).collect();
            given.extend(aliases(&running.hear(&heard("x", &new)).0));
        }
        assert_eq!(given.len(), most, "/{len} of {pool}");
        // Who has one has it for good, also when the share is used up.
        let first: Vec<&str> = all.iter().take(most.min(10)).map(String::as_str).collect();
        assert!(aliases(&running.hear(&heard("x", &first)).0).iter().all(|(net, alias)| given[net] == *alias));
        let (_, learned) = join(&running.file, running.store.allocations(), &heard("x", &[&all[59]])).unwrap();
        let why = &learned[0].refused[0].why;
        assert!(matches!(why, Refusal::TooManyAliases { max: 20 } | Refusal::ShareTaken { .. }), "{why}");

        running.file = later;
        let (snapshot, _) = running.hear(&heard("x", &first));
        let other = snapshot.mapping.networks().iter().find(|network| network.realm == RealmId(2)).unwrap();
        assert!(other.alias.is_some(), "10.0.0.0/16 of the other");
    }
}

#[test]
fn a_share_is_an_equal_part_of_the_half_or_what_the_file_says() {
    let sample = Sample::new().alias4(&["100.64.0.0/16"]).realm("x", &[]).routes_from("x", 10);
    let mut file = sample.realm("y", &[]).routes_from("y", 10).build();
    let max = |file: &Config| {
        let (_, learned) = join(file, &Allocations::default(), &heard("x", &["20.0.0.0/16"])).unwrap();
        learned[0].refused.first().map(|one| one.why.clone())
    };
    assert_eq!(max(&file), Some(Refusal::ShareTaken { max: 1 << 14 }));
    file.realms[0].routes_from.as_mut().unwrap().max_alias_addresses = Some(1000);
    assert_eq!(max(&file), Some(Refusal::ShareTaken { max: 1000 }));
}
