use super::*;

fn router(n: u16) -> Ipv6Addr {
    Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, n)
}

fn says(n: u16, lifetime_secs: u64, preference: Preference) -> RouterAdvertisement {
    let lifetime = Duration::from_secs(lifetime_secs);
    RouterAdvertisement { from: router(n), mac: None, lifetime, preference }
}

/// All answer.
fn alive(_: Ipv6Addr) -> bool {
    true
}

const START: Timestamp = Timestamp::from_secs(100);

fn at(secs: u64) -> Timestamp {
    START + Duration::from_secs(secs)
}

#[test]
fn the_preferred_stand_first_and_among_equals_who_came_first() {
    let mut routers = Routers::new();
    for (n, preference) in
        [(1, Preference::Medium), (2, Preference::Low), (3, Preference::High), (4, Preference::Medium)]
    {
        assert!(routers.handle(&says(n, 1800, preference), alive, START));
    }
    assert_eq!(routers.list(), [3, 1, 4, 2].map(router));
    assert!(!routers.handle(&says(4, 1800, Preference::Medium), alive, at(1)), "nothing new");
    assert!(!routers.handle(&says(1, 1800, Preference::Medium), alive, at(1)));
    assert_eq!(routers.list(), [3, 1, 4, 2].map(router), "who repeats himself stays where he is");
    assert!(routers.handle(&says(2, 1800, Preference::High), alive, at(1)));
    assert_eq!(routers.list(), [3, 2, 1, 4].map(router));
}

#[test]
fn a_router_lasts_as_long_as_it_said_the_last_time() {
    let mut routers = Routers::new();
    routers.handle(&says(1, 10, Preference::Medium), alive, START);
    routers.handle(&says(2, 30, Preference::Medium), alive, START);
    assert_eq!(routers.poll_timeout(), Some(at(10)));
    routers.handle(&says(1, 10, Preference::Medium), alive, at(9));
    assert!(!routers.handle_timeout(at(18)));
    assert!(routers.handle_timeout(at(19)));
    assert_eq!(routers.list(), [router(2)]);
    assert!(routers.handle(&says(2, 0, Preference::High), alive, at(20)), "it retires");
    assert_eq!((routers.list(), routers.poll_timeout()), (&[][..], None));
    assert!(!routers.handle(&says(7, 0, Preference::High), alive, at(20)));
}

#[test]
fn eight_routers_and_no_more() {
    let mut routers = Routers::new();
    for n in 1..=1000 {
        routers.handle(&says(n, 1800, Preference::Medium), alive, START);
    }
    assert_eq!(routers.list(), [1, 2, 3, 4, 5, 6, 7, 8].map(router), "those that were there stay");
    assert!(!routers.handle(&says(2000, 1800, Preference::Low), alive, START));
    assert!(routers.handle(&says(2001, 1800, Preference::High), alive, START));
    assert_eq!(routers.list(), [2001, 1, 2, 3, 4, 5, 6, 7].map(router));
    assert_eq!(routers.list().len(), MAX_ROUTERS);
}

#[test]
fn in_a_full_list_who_does_not_answer_makes_room() {
    let mut routers = Routers::new();
    for n in 1..=8 {
        routers.handle(&says(n, 1800, Preference::High), alive, START);
    }
    let answers = |those: &'static [u16]| move |asked: Ipv6Addr| those.iter().any(|n| router(*n) == asked);
    assert!(routers.handle(&says(20, 1800, Preference::Low), answers(&[1, 2, 8]), START));
    assert_eq!(routers.list(), [1, 2, 3, 4, 5, 6, 8, 20].map(router), "the last one of these, whatever its preference");
    assert!(routers.handle(&says(21, 1800, Preference::Medium), answers(&[1, 2, 8, 20]), START));
    assert_eq!(routers.list(), [1, 2, 3, 4, 5, 8, 21, 20].map(router), "a router that answers stays");
    assert!(!routers.handle(&says(22, 1800, Preference::Low), alive, START));
    assert!(routers.handle(&says(23, 1800, Preference::Medium), alive, START));
    assert_eq!(routers.list(), [1, 2, 3, 4, 5, 8, 21, 23].map(router));
}

#[test]
fn a_router_without_a_link_local_address_is_none() {
    let mut routers = Routers::new();
    let global = RouterAdvertisement { from: "2001:db8::1".parse().unwrap(), ..says(1, 1800, Preference::High) };
    assert!(!routers.handle(&global, alive, START));
    assert!(routers.list().is_empty());
}

/// Seconds after the start, rounded up, at which routers are asked for until `until`.
fn solicitations(routers: &mut Routers, until: u64) -> Vec<u64> {
    let mut sent = Vec::new();
    while let Some(next) = routers.poll_timeout().filter(|next| *next <= at(until)) {
        assert!(!routers.poll_solicit(Timestamp::from_micros(next.as_micros() - 1)), "not before");
        routers.handle_timeout(next);
        if routers.poll_solicit(next) {
            sent.push((next - START).as_micros().div_ceil(1_000_000) as u64);
        }
    }
    sent
}

#[test]
fn routers_are_asked_for_until_one_answers_ever_more_rarely() {
    let mut routers = Routers::new();
    assert!(!routers.poll_solicit(START), "the link is down");
    routers.start(START, 400_000);
    assert_eq!(solicitations(&mut routers, 100), [1, 5, 13, 29, 61]);
    let day = solicitations(&mut routers, 86_400);
    assert!(day.windows(2).all(|pair| pair[1] - pair[0] <= 3600) && (20..40).contains(&day.len()), "{day:?}");
    routers.handle(&says(1, 9000, Preference::Medium), alive, at(86_400));
    assert!(solicitations(&mut routers, 86_400 + 8999).is_empty());
}

#[test]
fn when_the_last_router_is_not_heard_any_more_routers_are_asked_for() {
    let mut routers = Routers::new();
    routers.start(START, 0);
    routers.handle(&says(1, 10, Preference::Medium), alive, START);
    assert_eq!(solicitations(&mut routers, 15), [10, 14]);
}

#[test]
fn a_link_that_was_down_may_be_another_one() {
    let mut routers = Routers::new();
    routers.handle(&says(1, 1800, Preference::Medium), alive, START);
    routers.stop();
    assert_eq!((routers.list(), routers.poll_timeout()), (&[][..], None));
    routers.handle(&says(1, 1800, Preference::Medium), alive, START);
    routers.start(at(5), u64::MAX);
    assert!(routers.list().is_empty());
    assert!(routers.poll_timeout().unwrap() < at(6));
}

#[test]
fn who_comes_and_goes_is_believed_once_in_a_second() {
    let mut routers = Routers::new();
    routers.start(START, 0);
    routers.handle(&says(1, 1800, Preference::Medium), alive, START);
    let mut changes = |from: u64, to: u64| {
        let times = (from * 100..to * 100).map(|hundredth| START + Duration::from_millis(10 * hundredth));
        let cycles = times.filter(|now| {
            let is_new = routers.handle(&says(2, 1800, Preference::High), alive, *now);
            assert!(routers.list().contains(&router(1)));
            is_new | routers.handle(&says(2, 0, Preference::High), alive, *now)
        });
        cycles.count()
    };
    assert!((16..=17).contains(&changes(1, 2)));
    assert!((59..=61).contains(&changes(2, 62)));
    // It stays: what it repeats is no news, and is heard.
    let mut routers = Routers::new();
    for secs in 0..100 {
        let now = START + Duration::from_millis(100 * secs);
        routers.handle(&says(2, 1800, Preference::High), alive, now);
    }
    assert_eq!(routers.poll_timeout(), Some(START + Duration::from_millis(9900 + 1_800_000)));
}

#[test]
fn one_that_is_not_believed_yet_does_not_end_the_asking() {
    let mut routers = Routers::new();
    for n in 0..20 {
        routers.handle(&says(n, 1800, Preference::Medium), alive, START);
        routers.handle(&says(n, 0, Preference::Medium), alive, START);
    }
    routers.start(START, 0);
    assert!(!routers.handle(&says(1, 1800, Preference::Medium), alive, START));
    assert!(routers.poll_solicit(START));
    assert_eq!(routers.poll_timeout(), Some(at(4)));
    assert!(routers.handle(&says(1, 1800, Preference::Medium), alive, at(4)));
    assert_eq!(routers.list(), [router(1)]);
}
