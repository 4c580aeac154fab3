use std::time::Duration;

use super::*;

fn route(prefix: &str, since: Timestamp) -> LearnedRoute {
    LearnedRoute { prefix: prefix.parse().unwrap(), via: vec!["172.20.0.1".parse().unwrap()], since }
}

/// A daemon withdraws its only prefix and announces it again, two times a second, for an hour.
#[test]
fn a_flapping_prefix_makes_few_generations_and_one_that_is_back_in_time_none() {
    let (mut realm, mut damping) = (HeardRealm::default(), Damping::default());
    let mut generations = Vec::new();
    for step in 0..7200 {
        let now = Timestamp::from_secs(100) + Duration::from_millis(500 * step);
        let learned = if step % 2 == 0 { vec![route("10.1.0.0/16", now)] } else { Vec::new() };
        damping.note(now);
        // The thread looks when something has come, and when it had itself woken.
        for now in [Some(now), damping.due().filter(|at| *at < now + Duration::from_millis(500))].into_iter().flatten()
        {
            if damping.is_due(now) && take(learned.clone(), &mut realm, &mut damping, now) {
                generations.push(now);
            }
        }
    }
    assert!(generations.len() <= 3600 / 64 + 8, "{}", generations.len());
    assert_eq!(realm.changes, generations.len() as u64);
    assert_eq!(realm.held_until, generations.last().map(|last| *last + MAX_HOLD));
    let mut rested = Damping::default();
    rested.note(Timestamp::from_secs(9000));
    let before = realm.routes.clone();
    let back = before.iter().map(|known| LearnedRoute { since: Timestamp::from_secs(9000), ..known.clone() }).collect();
    assert!(!take(back, &mut realm, &mut rested, Timestamp::from_secs(9001)));
    assert_eq!((rested.due(), rested.held_until()), (None, None), "and it holds nothing back");
}
