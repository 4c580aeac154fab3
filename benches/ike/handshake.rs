//! Handshakes as responder, beside the primitives that they need.

use std::time::Duration;

use super::gateways::{Appliance, Message, Peer, START};
use super::meters::{median, timed};
use super::methods::{Credentials, Method};

const PEERS: usize = 2000;
const QUICK_PEERS: usize = 200;
/// Peers that come together: the appliance answers all their IKE_SA_INITs, then all their next messages.
const ROUND_PEERS: usize = 20;

pub fn measure(quick: bool, line: Option<&str>) {
    let peers = if quick { QUICK_PEERS } else { PEERS };
    println!("\nhandshakes as responder: medians of {} rounds of {ROUND_PEERS} peers, one core", peers / ROUND_PEERS);
    println!(
        "{:<30} {:>10} {:>8} {:>8} {:>8} {:>8} {:>8}",
        "method", "per second", "us each", "public", "of it", "all", "of it"
    );
    for method in Method::ALL.into_iter().filter(|method| line.is_none_or(|line| method.words().starts_with(line))) {
        let [handshake, public, secret] = measure_method(method, peers).map(|time| time.as_nanos() as f64 / 1e3);
        let (per_second, all) = (1e6 / handshake, public + secret);
        let [of_public, of_all] = [public, all].map(|bound| 100.0 * bound / handshake);
        let method = method.words();
        println!(
            "{method:<30} {per_second:>10.0} {handshake:>8.1} {public:>8.1} {of_public:>6.0} % {all:>8.1} {of_all:>6.0} %"
        );
    }
}

/// Medians of the handshake, the primitives of public keys, and those of secret keys, measured in turns.
fn measure_method(method: Method, peers: usize) -> [Duration; 3] {
    let credentials = Credentials::new(method);
    let primitives = credentials.primitives();
    let mut appliance = Appliance::new(method, &credentials, peers, false);
    let (mut handshakes, mut public, mut secret) = (Vec::new(), Vec::new(), Vec::new());
    for first in (0..peers).step_by(ROUND_PEERS) {
        let round = first..first + ROUND_PEERS;
        let mut callers: Vec<Peer> =
            round.clone().map(|number| Peer::new(method, &credentials, number, true)).collect();
        handshakes.push(shake_hands(&mut appliance, &mut callers));
        assert_eq!(appliance.installed, round.end, "handshakes that were timed must have been some");
        public.push(timed(|| round.clone().for_each(|_| primitives.run_public())).1);
        secret.push(timed(|| round.clone().for_each(|_| primitives.run_secret())).1);
    }
    [handshakes, public, secret].map(|times| median(times) / ROUND_PEERS as u32)
}

/// The appliance's time for all of them together.
pub fn shake_hands(appliance: &mut Appliance, peers: &mut [Peer]) -> Duration {
    let mut spent = Duration::ZERO;
    let mut messages: Vec<Message> = peers.iter_mut().flat_map(|peer| peer.handle_timeout(START)).collect();
    while !messages.is_empty() {
        let (_, time) = timed(|| messages.iter().for_each(|message| appliance.handle_input(message, START)));
        spent += time;
        messages.clear();
        for answer in appliance.take_sent() {
            let peer = peers.iter_mut().find(|peer| peer.address == answer.to.ip()).expect("one that called");
            messages.extend(peer.handle_input(&answer, START));
        }
    }
    spent
}
