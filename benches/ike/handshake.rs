//! Handshakes as responder, beside the primitives that they need.

use std::time::Duration;

use super::gateways::{Appliance, Peer, START};
use super::meters::{median, timed};
use super::methods::{Credentials, Method};

const PEERS: usize = 1000;
const QUICK_PEERS: usize = 200;

pub fn measure(quick: bool, line: Option<&str>) {
    let peers = if quick { QUICK_PEERS } else { PEERS };
    println!("\nhandshakes as responder: medians of {peers}, one core");
    println!("{:<30} {:>10} {:>10} {:>10} {:>9}", "method", "per second", "us each", "us bound", "of bound");
    for method in Method::ALL.into_iter().filter(|method| line.is_none_or(|line| method.words().starts_with(line))) {
        let (handshake, bound) = measure_method(method, peers);
        let (us, bound_us) = (handshake.as_nanos() as f64 / 1e3, bound.as_nanos() as f64 / 1e3);
        let (per_second, percent) = (1e6 / us, 100.0 * bound_us / us);
        println!("{:<30} {per_second:>10.0} {us:>10.1} {bound_us:>10.1} {percent:>7.0} %", method.words());
    }
}

/// Medians of (handshake, primitives), measured in turns.
fn measure_method(method: Method, peers: usize) -> (Duration, Duration) {
    let credentials = Credentials::new(method);
    let primitives = credentials.primitives();
    let mut appliance = Appliance::new(method, &credentials, peers, false);
    let (mut handshakes, mut bounds) = (Vec::new(), Vec::new());
    for number in 0..peers {
        let mut peer = Peer::new(method, &credentials, number, true);
        handshakes.push(shake_hands(&mut appliance, &mut peer));
        assert_eq!(appliance.installed, number + 1, "a handshake that was timed must have been one");
        bounds.push(primitives.time());
    }
    (median(handshakes), median(bounds))
}

/// The appliance's time for one peer.
pub fn shake_hands(appliance: &mut Appliance, peer: &mut Peer) -> Duration {
    let mut spent = Duration::ZERO;
    let mut messages = peer.handle_timeout(START);
    while !messages.is_empty() {
        let (_, time) = timed(|| messages.iter().for_each(|message| appliance.handle_input(message, START)));
        spent += time;
        let answers = appliance.take_sent();
        messages = answers.iter().flat_map(|answer| peer.handle_input(answer, START)).collect();
    }
    spent
}
