use super::*;
use crate::control::change::Change;
use crate::control::sample::Sample;

fn net(text: &str) -> Ipv4Net {
    text.parse().unwrap()
}

fn fresh(config: &Config) -> Allocations {
    allocate(config, &Allocations::default()).unwrap().0
}

/// The current default alias of a network.
fn alias(image: &Allocations, realm: &str, native: &str) -> String {
    let owner = if realm == "ix" { RealmId::IX } else { image.realm_id(realm).unwrap() };
    image.current()[&Holder::default_of(owner, native.parse::<IpNet>().unwrap())].to_string()
}

fn own_alias(image: &Allocations, viewer: &str, realm: &str, native: &str) -> Option<Ipv4Net> {
    let owner = if realm == "ix" { RealmId::IX } else { image.realm_id(realm).unwrap() };
    image.current().get(&Holder { viewer: image.realm_id(viewer), owner, native: native.parse().unwrap() }).copied()
}

#[test]
fn the_example_of_the_design() {
    let config = Sample::new().realm("a", &["192.168.1.0/24"]).realm("b", &["192.168.1.0/24=100.64.2.0/24"]).build();
    let image = fresh(&config);
    assert_eq!(alias(&image, "ix", "0.0.0.0/24"), "100.64.0.0/24");
    assert_eq!(alias(&image, "a", "192.168.1.0/24"), "100.64.1.0/24");
    assert_eq!(alias(&image, "b", "192.168.1.0/24"), "100.64.2.0/24");
    assert_eq!((image.realm_id("a"), image.realm_id("b")), (Some(RealmId(1)), Some(RealmId(2))));
}

#[test]
fn the_same_configuration_again_changes_nothing() {
    let config = Sample::new().realm("a", &["10.0.0.0/8=hosts"]).host("h", "a", &["10.1.1.1"]).build();
    let image = fresh(&config);
    assert_eq!(allocate(&config, &image), Ok((image, vec![])));
}

#[test]
fn numbers_and_aliases_are_kept_over_removal_and_reordering() {
    let (a, b, c) = (("a", ["192.168.1.0/24"]), ("b", ["10.0.0.0/16"]), ("c", ["192.168.1.0/24"]));
    let sample = |realms: &[(&str, [&str; 1])]| {
        realms.iter().fold(Sample::new(), |sample, (name, networks)| sample.realm(name, networks)).build()
    };
    let first = fresh(&sample(&[a, b]));
    let (second, changes) = allocate(&sample(&[c, b]), &first).unwrap();
    assert_eq!(second.realm_id("c"), Some(RealmId(3)), "a's number is not reused");
    assert_ne!(alias(&second, "c", c.1[0]), alias(&first, "a", a.1[0]), "nor is its alias");
    assert!(changes.contains(&Change::RealmRemoved { realm: "a".into(), number: 1 }), "{changes:?}");
    assert!(changes.iter().any(|change| matches!(change, Change::AliasReserved { .. })), "{changes:?}");

    let (third, changes) = allocate(&sample(&[c, a, b]), &second).unwrap();
    assert_eq!(alias(&third, "a", a.1[0]), alias(&first, "a", a.1[0]));
    assert!(changes.iter().any(|change| matches!(change, Change::AliasReturned { .. })), "{changes:?}");
    assert_eq!(allocate(&sample(&[b, a, c]), &third), Ok((third, vec![])), "order is of no importance");
}

#[test]
fn new_networks_of_known_realms_do_not_depend_on_the_order_of_the_file() {
    let state = fresh(&Sample::new().realm("a", &["10.0.0.0/24"]).realm("b", &["10.0.0.0/24"]).build());
    let (a, b) = (["10.0.0.0/24", "10.0.1.0/24"], ["10.0.0.0/24", "10.0.1.0/24", "100.64.0.0/16"]);
    let forward = Sample::new().realm("a", &a).realm("b", &b).build();
    let backward = Sample::new().realm("b", &b).realm("a", &a).build();
    assert_eq!(allocate(&forward, &state), allocate(&backward, &state));
}

#[test]
fn wide_networks_are_placed_first_so_that_the_pool_packs() {
    let config =
        Sample::new().alias4(&["10.64.0.0/22"]).realm("a", &["192.168.1.0/24"]).realm("b", &["172.16.0.0/23"]).build();
    let image = fresh(&config);
    assert_eq!(alias(&image, "b", "172.16.0.0/23"), "10.64.2.0/23");
    assert_eq!(alias(&image, "a", "192.168.1.0/24"), "10.64.1.0/24");
}

#[test]
fn the_service_network_takes_what_a_small_pool_has() {
    for (pool, want) in
        [("10.9.0.0/25", Some("10.9.0.0/25")), ("10.9.0.0/26", Some("10.9.0.0/26")), ("10.9.0.0/27", None)]
    {
        let result = allocate(&Sample::new().alias4(&[pool]).build(), &Allocations::default());
        let got = result.ok().map(|(image, _)| *image.aliases.keys().next().unwrap());
        assert_eq!(got, want.map(net), "{pool}");
    }
    // Once given it stays, whatever the pool becomes.
    let small = fresh(&Sample::new().alias4(&["10.9.0.0/26"]).build());
    let (image, changes) = allocate(&Sample::new().build(), &small).unwrap();
    assert_eq!((image, changes), (small, vec![]));
}

#[test]
fn a_pool_that_is_too_small_is_an_error_with_a_remedy() {
    let config = Sample::new().alias4(&["10.9.0.0/23"]).realm("a", &["192.168.0.0/24", "192.168.1.0/24"]).build();
    let error = allocate(&config, &Allocations::default()).unwrap_err();
    assert!(matches!(error, AllocateError::PoolExhausted { prefix_len: 24, .. }), "{error:?}");
    assert!(error.to_string().contains("no free /24 is left in 10.9.0.0/23 for a 192.168.1.0/24"), "{error}");
}

#[test]
fn published_hosts_have_single_aliases() {
    let config = Sample::new()
        .realm("a", &["10.0.0.0/8=hosts"])
        .host("x", "a", &["10.1.1.1"])
        .host("y", "a", &["10.1.1.2"])
        .build();
    let image = fresh(&config);
    assert_eq!(alias(&image, "a", "10.1.1.1/32"), "100.64.1.0/32");
    assert_eq!(alias(&image, "a", "10.1.1.2/32"), "100.64.1.1/32");
    assert_eq!(image.aliases.len(), 3);
}

#[test]
fn a_viewer_that_uses_default_aliases_gets_its_own() {
    let config = Sample::new().realm("a", &["192.168.1.0/24"]).realm("v", &["100.64.0.0/23"]).build();
    let image = fresh(&config);
    assert_eq!(own_alias(&image, "v", "a", "192.168.1.0/24"), Some(net("100.64.5.0/24")));
    assert_eq!(own_alias(&image, "v", "ix", "0.0.0.0/24"), Some(net("100.64.4.0/24")));
    assert_eq!(own_alias(&image, "a", "v", "100.64.0.0/23"), None);
    assert_eq!(own_alias(&image, "v", "v", "100.64.0.0/23"), None);
}

#[test]
fn an_own_alias_is_kept_when_its_reason_goes_and_changed_only_when_it_collides() {
    let config = |own: &[&str]| Sample::new().realm("a", &["192.168.1.0/24"]).realm("v", own).build();
    let first = fresh(&config(&["100.64.1.0/24"]));
    let own = own_alias(&first, "v", "a", "192.168.1.0/24").unwrap();

    let (second, _) = allocate(&config(&["10.0.0.0/24"]), &first).unwrap();
    assert_eq!(own_alias(&second, "v", "a", "192.168.1.0/24"), Some(own));

    let collides = own.to_string();
    let (third, changes) = allocate(&config(&[&collides]), &second).unwrap();
    let replaced = own_alias(&third, "v", "a", "192.168.1.0/24").unwrap();
    assert_ne!(replaced, own);
    assert_eq!(third.aliases[&own].state, AliasState::Replaced);
    assert!(changes.iter().any(|change| matches!(change, Change::AliasReplaced { before, .. } if *before == own)));
}

#[test]
fn a_viewer_whose_networks_fill_the_pool_is_told_so() {
    let config = Sample::new().realm("a", &["192.168.1.0/24"]).realm("v", &["100.64.0.0/10=hosts"]).build();
    let error = allocate(&config, &Allocations::default()).unwrap_err();
    assert!(error.to_string().contains("as seen by v"), "{error}");
}

#[test]
fn pinning_changes_a_networks_own_alias_and_keeps_the_old_one_reserved() {
    let first = fresh(&Sample::new().realm("a", &["192.168.1.0/24"]).build());
    let pinned = Sample::new().realm("a", &["192.168.1.0/24=100.64.9.0/24"]).build();
    let (second, changes) = allocate(&pinned, &first).unwrap();
    assert_eq!(alias(&second, "a", "192.168.1.0/24"), "100.64.9.0/24");
    assert_eq!(second.aliases[&net("100.64.1.0/24")].state, AliasState::Replaced);
    assert!(matches!(&changes[..], [Change::AliasReplaced { .. }]), "{changes:?}");

    // Without the pin it stays where it is; with the old pin it goes back.
    let auto = Sample::new().realm("a", &["192.168.1.0/24"]).build();
    assert_eq!(allocate(&auto, &second), Ok((second.clone(), vec![])));
    let back = Sample::new().realm("a", &["192.168.1.0/24=100.64.1.0/24"]).build();
    let (third, changes) = allocate(&back, &second).unwrap();
    assert_eq!(alias(&third, "a", "192.168.1.0/24"), "100.64.1.0/24");
    assert!(matches!(&changes[..], [Change::AliasReplaced { .. }]), "{changes:?}");
    assert_eq!(third.check(), Ok(()));
}

#[test]
fn a_pin_on_what_another_holds_is_refused_by_name() {
    let both = |pin: &str| Sample::new().realm("a", &["192.168.1.0/24"]).realm("b", &[pin]).build();
    let state = fresh(&both("10.0.0.0/16"));
    let error = allocate(&both("10.1.0.0/24=100.64.0.0/24"), &state).unwrap_err().to_string();
    assert!(error.contains("is the alias of ix 0.0.0.0/24"), "{error}");

    let only_b = Sample::new().realm("b", &["10.1.0.0/20=100.64.0.0/20"]).build();
    let error = allocate(&only_b, &state).unwrap_err();
    assert!(matches!(error, AllocateError::PinTaken { in_use: true, .. }), "{error:?}");

    // In use before, but the file does not have it any more.
    let reserved = alias(&state, "a", "192.168.1.0/24");
    let only_b = Sample::new().realm("b", &[&format!("10.1.0.0/24={reserved}")]).build();
    let error = allocate(&only_b, &state).unwrap_err().to_string();
    assert!(error.contains("stays reserved for a 192.168.1.0/24"), "{error}");
    assert!(error.contains(&format!("--release {reserved}")), "{error}");
}

#[test]
fn a_pin_of_another_size_is_refused() {
    let config = Sample::new().realm("a", &["192.168.1.0/24=100.64.8.0/23"]).build();
    let error = allocate(&config, &Allocations::default()).unwrap_err();
    assert!(error.to_string().contains("pin a /24"), "{error}");
}

#[test]
fn ipv6_hosts_and_networks_have_ipv4_aliases_that_last() {
    let networks = ["fd00:1::/64", "fd00:2::/112=auto", "fd00:3::/120=198.18.5.0/24"];
    let sample = || Sample::new().realm("a", &networks).host("x", "a", &["fd00:1::1"]);
    let config = sample().build();
    let image = fresh(&config);
    assert_eq!(alias(&image, "a", "fd00:2::/112"), "100.65.0.0/16");
    assert_eq!(alias(&image, "a", "fd00:3::/120"), "198.18.5.0/24");
    assert_eq!(alias(&image, "a", "fd00:1::1/128"), "100.64.1.0/32");
    assert_eq!((image.check(), image.aliases.len()), (Ok(()), 4));

    // Others come and go, and the host loses its name and gets it back.
    let (gone, changes) = allocate(&Sample::new().realm("b", &["10.0.0.0/16"]).build(), &image).unwrap();
    assert!(changes.iter().any(|change| matches!(change, Change::AliasReserved { .. })), "{changes:?}");
    let more = sample().realm("b", &["10.0.0.0/16"]).host("w", "a", &["fd00:1::2"]).build();
    let (back, _) = allocate(&more, &gone).unwrap();
    for native in ["fd00:2::/112", "fd00:3::/120", "fd00:1::1/128"] {
        assert_eq!(alias(&back, "a", native), alias(&image, "a", native), "{native}");
    }
    assert_ne!(alias(&back, "a", "fd00:1::2/128"), alias(&image, "a", "fd00:1::1/128"));
}

#[test]
fn a_viewer_that_uses_the_alias_of_an_ipv6_host_gets_its_own() {
    let config = Sample::new().realm("a", &["fd00:1::/64"]).host("x", "a", &["fd00:1::1"]);
    let image = fresh(&config.realm("v", &["100.64.1.0/24=198.18.0.0/24"]).build());
    assert_eq!(alias(&image, "a", "fd00:1::1/128"), "100.64.1.0/32");
    assert_eq!(own_alias(&image, "v", "a", "fd00:1::1/128"), Some(net("100.64.2.0/32")));
}

#[test]
fn an_ipv6_network_with_more_addresses_than_ipv4_has_no_alias() {
    let config = Sample::new().realm("a", &["fd00:1::/64=auto"]).build();
    let error = allocate(&config, &Allocations::default()).unwrap_err();
    assert!(matches!(error, AllocateError::PoolExhausted { prefix_len: 0, .. }), "{error:?}");
}

#[test]
fn realm_numbers_end_at_65535() {
    let mut state = Allocations::default();
    for number in 1..=u16::MAX - 1 {
        state.realms.insert(format!("r{number}"), RealmRecord { id: RealmId(number), configured: false });
    }
    let last = Sample::new().realm("last", &[]).build();
    let (state, _) = allocate(&last, &state).unwrap();
    assert_eq!(state.realm_id("last"), Some(RealmId(u16::MAX)));
    let error = allocate(&Sample::new().realm("more", &[]).build(), &state).unwrap_err();
    assert_eq!(error, AllocateError::RealmNumbersExhausted { realm: "more".into() });
}

#[test]
fn five_hundred_realms_with_ten_thousand_hosts() {
    let networks = ["192.168.1.0/24", "10.0.0.0/8=hosts"];
    let realms = (0..500).fold(Sample::new(), |sample, i| sample.realm(&format!("r{i}"), &networks));
    let config = (0..10_000).fold(realms, |sample, i| {
        sample.host(&format!("h{i}"), &format!("r{}", i % 500), &[&format!("10.0.{}.1", i / 500)])
    });
    let image = fresh(&config.build());
    assert_eq!(image.aliases.len(), 1 + 500 + 10_000);
    assert_eq!(image.check(), Ok(()));
}
