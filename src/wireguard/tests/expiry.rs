//! What takes minutes, in virtual time: rekeying, expiry, retries, restarts.

use std::time::Duration;

use boringtun::noise::TunnResult;

use super::world::*;
use crate::net::{Path, Timestamp, TunnelId};
use crate::packet::DropReason;
use crate::wireguard::{DownReason, Endpoint, Event, Opened, PeerConfig, Role};

const STEP: Duration = Duration::from_micros(62_500);
const TUNNEL: TunnelId = TunnelId(1);

/// The network between the endpoint and one gateway, at `path(1)`.
struct Net {
    world: World,
    gateway: Gateway,
    cut: bool,
    /// Everything that happened, and when.
    events: Vec<(u32, Event)>,
    /// When the endpoint sent initiations, in milliseconds, and where to.
    initiations: Vec<(u64, Path)>,
    keepalives: u32,
}

impl Net {
    fn new(config: PeerConfig) -> Self {
        let n = config.tunnel.0 as u8;
        let world = World::new(&[config]); // sets the clock to zero, so it comes first
        let gateway = Gateway::new(n, None);
        Net { world, gateway, cut: false, events: Vec::new(), initiations: Vec::new(), keepalives: 0 }
    }

    fn run(&mut self, secs: u64) {
        let end = self.world.now + Duration::from_secs(secs);
        while self.world.now < end {
            self.step();
        }
    }

    fn step(&mut self) {
        self.world.advance(STEP);
        self.world.tick();
        let mut room = [0; 256];
        if let TunnResult::WriteToNetwork(message) = self.gateway.tunn.update_timers(&mut room) {
            let message = message.to_vec();
            self.send_to_endpoint(&message);
        }
        self.deliver();
        let secs = self.world.now.as_secs();
        self.events.extend(self.world.events().into_iter().map(|event| (secs, event)));
    }

    fn send_to_endpoint(&mut self, message: &[u8]) {
        if !self.cut {
            self.world.open(path(1), message);
        }
    }

    fn deliver(&mut self) {
        loop {
            let sent = self.world.sent();
            if sent.is_empty() {
                return;
            }
            for (to, _, message) in sent {
                match message.len() {
                    148 => self.initiations.push((self.world.now.as_micros() / 1000, to)),
                    32 => self.keepalives += 1,
                    _ => {}
                }
                if !self.cut
                    && to.remote == path(1).remote
                    && let Some(answer) = self.gateway.receive(&message)
                {
                    self.send_to_endpoint(&answer);
                }
            }
        }
    }

    fn downs(&self) -> Vec<(u32, DownReason)> {
        let down = |(secs, event): &(u32, Event)| match event {
            Event::Down { why, .. } => Some((*secs, *why)),
            _ => None,
        };
        self.events.iter().filter_map(down).collect()
    }

    fn handshakes(&self) -> Vec<u32> {
        let completed = |(secs, event): &(u32, Event)| match event {
            Event::HandshakeCompleted { .. } => Some(*secs),
            _ => None,
        };
        self.events.iter().filter_map(completed).collect()
    }
}

#[test]
fn a_tunnel_that_we_call_stays_up_without_any_traffic() {
    let mut net = Net::new(called(1));
    net.run(600);
    assert_eq!(net.handshakes(), [0, 120, 240, 360, 480]);
    assert_eq!(net.downs(), []);
    assert!(net.world.endpoint.is_up(TUNNEL));
    assert_eq!(net.world.status(TUNNEL).handshakes.unanswered, 0);
}

#[test]
fn a_session_that_nobody_renews_ends_after_180_seconds() {
    let mut net = Net::new(config(1));
    net.world.connect(&mut net.gateway, path(1));
    net.run(179);
    assert!(net.world.endpoint.is_up(TUNNEL));
    let late = net.gateway.seal(&packet(60));
    net.cut = true; // the gateway would renew it now
    net.run(2);
    net.cut = false;
    assert_eq!(net.downs(), [(180, DownReason::KeysExpired)]);
    let unknown = Opened::Dropped { reason: DropReason::DataUnknownSession, tunnel: None };
    assert_eq!(net.world.open(path(1), &late), unknown);
    assert!(net.initiations.is_empty(), "it is for the peer to call");

    assert_eq!(net.world.seal(TUNNEL, &packet(60)), Err(DropReason::TunnelDown));
    net.deliver();
    net.step();
    assert!(net.world.endpoint.is_up(TUNNEL), "a packet is a reason to call a peer that was heard before");
}

#[test]
fn a_session_under_traffic_is_renewed_by_the_side_that_began_it() {
    let mut net = Net::new(config(1));
    net.world.connect(&mut net.gateway, path(1));
    for _ in 0..300 {
        let sealed = net.gateway.seal(&packet(60));
        assert!(matches!(net.world.open(path(1), &sealed), Opened::Packet { .. }));
        net.run(1);
        assert_eq!(net.world.seal(TUNNEL, &packet(60)), Ok(()));
        net.deliver();
    }
    assert_eq!(net.downs(), []);
    assert!(net.initiations.is_empty());
    assert_eq!(net.handshakes().len(), 3, "{:?}", net.handshakes());
    let by_the_peer = |(_, event): &(u32, Event)| match event {
        Event::HandshakeCompleted { role, .. } => *role == Role::Responder,
        _ => true,
    };
    assert!(net.events.iter().all(by_the_peer));
}

#[test]
fn a_silent_peer_is_called_every_five_seconds_without_end() {
    let mut net = Net::new(called(1));
    net.cut = true;
    net.run(1200);
    let gaps: Vec<u64> = net.initiations.windows(2).map(|pair| pair[1].0 - pair[0].0).collect();
    assert!(gaps.iter().all(|gap| (5000..5700).contains(gap)), "{gaps:?}");
    assert!(net.initiations.len() > 200);
    let unanswered = net.events.iter().filter(|(_, event)| matches!(event, Event::Unanswered { .. })).count();
    assert!((10..=14).contains(&unanswered), "about every 90 s: {unanswered}");
    let handshakes = net.world.status(TUNNEL).handshakes;
    assert_eq!(handshakes.attempts, net.initiations.len() as u64);
    assert!(handshakes.attempts - handshakes.unanswered <= 1);

    net.cut = false;
    net.run(6);
    assert!(net.world.endpoint.is_up(TUNNEL));
}

#[test]
fn a_silent_peer_without_a_configured_endpoint_is_given_up_after_90_seconds() {
    for n in 1..60 {
        // Each tunnel has its own jitter.
        let mut net = Net::new(config(n));
        net.world.connect(&mut net.gateway, path(1));
        net.run(20);
        net.cut = true;
        assert_eq!(net.world.seal(net.gateway.tunnel, &packet(60)), Ok(()));
        net.run(400);
        let (first, last) = (net.initiations[0].0, net.initiations.last().unwrap().0);
        assert!((16..=18).contains(&net.initiations.len()) && last - first < 90_000, "{:?}", net.initiations);
        assert_eq!(net.downs().len(), 1);
        assert_eq!(net.downs()[0].1, DownReason::PeerSilent);
        assert!(net.events.iter().any(|(_, event)| matches!(event, Event::Unanswered { .. })));
    }
}

#[test]
fn a_peer_that_falls_silent_goes_down_and_comes_back_by_itself() {
    let mut net = Net::new(called(1));
    net.run(10);
    net.cut = true;
    net.run(590);
    assert_eq!(net.downs(), [(180, DownReason::KeysExpired)]);
    net.cut = false;
    net.run(6);
    assert!(net.world.endpoint.is_up(TUNNEL));
}

#[test]
fn a_roamed_peer_that_does_not_answer_is_called_where_it_is_configured() {
    let mut net = Net::new(called(1));
    net.run(10);
    let keepalive = net.gateway.seal(&[]);
    net.world.open(path(77), &keepalive);
    assert_eq!(net.world.status(TUNNEL).path, Some(path(77)));
    net.run(400); // nothing is delivered to port 77
    let to_the_new_address = net.initiations.iter().filter(|(_, to)| *to == path(77)).count();
    assert!(to_the_new_address > 10);
    assert_eq!(net.world.status(TUNNEL).path, Some(path(1)));
    assert!(net.world.endpoint.is_up(TUNNEL));
}

#[test]
fn keepalives_go_out_as_often_as_configured() {
    let mut net = Net::new(PeerConfig { keepalive: Some(Duration::from_secs(25)), ..called(1) });
    net.run(101);
    assert_eq!(net.keepalives, 1 + 4, "the confirmation of the handshake, then every 25 s");
    let mut silent = Net::new(config(1));
    silent.world.connect(&mut silent.gateway, path(1));
    silent.run(101);
    assert_eq!(silent.keepalives, 0);
}

#[test]
fn received_data_is_acknowledged_by_a_keepalive_when_nothing_else_was_sent_for_ten_seconds() {
    let mut net = Net::new(config(1));
    net.world.connect(&mut net.gateway, path(1));
    net.run(1);
    let sealed = net.gateway.seal(&packet(60));
    net.world.packet_from(path(1), &sealed, TUNNEL);
    net.run(8);
    assert_eq!(net.keepalives, 0);
    net.run(2);
    assert_eq!(net.keepalives, 1);
}

#[test]
fn a_restarted_endpoint_is_believed_although_its_clock_started_anew() {
    let mut net = Net::new(called(1));
    net.run(1000);
    let now = net.world.now;
    net.world.endpoint = Endpoint::new(&zeroize::Zeroizing::new(IX_KEY), 1000, now);
    net.world.configure(&[called(1)]);
    assert!(!net.world.endpoint.is_up(TUNNEL));
    net.run(1);
    assert!(net.world.endpoint.is_up(TUNNEL), "its handshake stamp is later than the last one");
    net.run(300);
    assert_eq!(net.downs(), []);
}

#[test]
fn a_restarted_peer_is_believed_too() {
    let mut net = Net::new(config(1));
    net.world.connect(&mut net.gateway, path(1));
    net.run(1000);
    net.gateway = Gateway::new(1, None);
    net.world.connect(&mut net.gateway, path(1));
    net.run(100);
    assert!(net.world.endpoint.is_up(TUNNEL));
}

#[test]
fn the_handshake_rate_is_counted_by_the_second() {
    let mut world = World::with_rate(&[config(1)], 2);
    let mut outcomes = Vec::new();
    for second in 0..3 {
        for n in 0..3 {
            let initiation = Gateway::new(20 + n, None).initiate();
            let opened = world.open(path(5), &initiation);
            outcomes.push((second, opened == dropped(DropReason::HandshakeUnderLoad)));
        }
        world.advance(Duration::from_millis(1000));
        world.tick();
        world.sent();
    }
    let under_load: Vec<u32> = outcomes.into_iter().filter(|(_, load)| *load).map(|(second, _)| second).collect();
    assert_eq!(under_load, [0, 1, 2], "the third of every second");
    assert_eq!(world.now, Timestamp::from_secs(3));
}

fn dropped(reason: DropReason) -> Opened {
    Opened::Dropped { reason, tunnel: None }
}
