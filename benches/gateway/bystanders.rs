//! What has to work while others overload the gateway: handshakes of a second WireGuard peer, questions for names through a third
//! one's tunnel, rekeys of an IPsec gateway. All from side A, by the same cable and the same ports of the gateway.

use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use ixgate::ike;
use ixgate::io::udp::{Offload, steer};
use ixgate::sim::packets;

use crate::ground::Outcome;
use crate::site::{Identity, Kind, Site};
use crate::under_test::{ASKER, HANDSHAKER, REKEYER, Running};

/// WireGuard tries again after 5 s, resolvers after 1 s or so.
const HANDSHAKE_GAP: Duration = Duration::from_millis(200);
const QUESTION_GAP: Duration = Duration::from_millis(50);
/// Rekeyed when most of it is over.
const CHILD_LIFETIME: Duration = Duration::from_secs(2);
const LOOK_GAP: Duration = Duration::from_micros(500);
/// Who has a cable of his own does not send right behind a burst of the flood, which leaves no place in the ring of a veth cable (256).
const BEHIND_BURST: Duration = Duration::from_micros(200);
const HOST: Ipv4Addr = Ipv4Addr::new(192, 168, 1, 30);
/// A name of the internal zone: there is none such, which is an answer.
const NAME: [&str; 3] = ["nobody", "ix", "example"];

pub struct Bystanders {
    handshaker: Site,
    asker: Site,
    rekeyer: Site,
    resolver: IpAddr,
    next_look: Instant,
    next_handshake: Instant,
    next_question: Instant,
    counts: Counts,
    /// Child SAs that there were before.
    children: u64,
}

/// Tried, and done.
#[derive(Clone, Copy, Default, Debug)]
pub struct Counts {
    pub handshakes: [u64; 2],
    pub questions: [u64; 2],
    /// Of Child SAs: how many there should have been at least, by their lifetime.
    pub rekeys: [u64; 2],
}

impl Bystanders {
    pub fn connect(running: &Running) -> Outcome<Self> {
        let open = |kind: Kind, identity: &Identity| Site::open(kind, identity, &running.appliance, Offload::Off);
        let lifetimes = ike::Lifetimes { child: CHILD_LIFETIME, ..ike::Lifetimes::default() };
        let mut handshaker = open(Kind::WireGuard, &HANDSHAKER)?;
        let mut asker = open(Kind::WireGuard, &ASKER)?;
        let mut rekeyer = Site::open_with(Kind::Esp, &REKEYER, &running.appliance, Offload::Off, lifetimes)?;
        for site in [&mut handshaker, &mut asker, &mut rekeyer] {
            site.connect()?;
        }
        let resolver = running.appliance.resolver_of(ASKER.name).ok_or("realm d has no resolver")?;
        let now = Instant::now();
        Ok(Bystanders {
            children: rekeyer.children(),
            handshaker,
            asker,
            rekeyer,
            resolver: resolver.into(),
            next_look: now,
            next_handshake: now + HANDSHAKE_GAP,
            next_question: now + QUESTION_GAP,
            counts: Counts::default(),
        })
    }

    /// Counts from now on, beside a flood by this site.
    pub fn start(&mut self, flooder: &mut Site) -> Outcome<()> {
        self.share_lane(flooder)?;
        self.children = self.rekeyer.children();
        self.counts = Counts::default();
        let now = Instant::now();
        (self.next_handshake, self.next_question) = (now + HANDSHAKE_GAP, now + QUESTION_GAP);
        Ok(())
    }

    /// Handshakes until the asker's packets come by the same lane of the gateway as those of `flooder`, if that is WireGuard: that is the worst case.
    fn share_lane(&mut self, flooder: &mut Site) -> Outcome<()> {
        let Some(flooded) = flooder.receiver().map(steer::lane_of) else { return Ok(()) };
        for _ in 0..1_000 {
            if self.asker.receiver().map(steer::lane_of) == Some(flooded) {
                return Ok(());
            }
            self.asker.renew();
            self.asker.connect()?;
        }
        Err("no handshake gives an index of the lane".into())
    }

    /// To be called all the time.
    pub fn turn(&mut self, now: Instant) -> Outcome<()> {
        if now < self.next_look {
            return Ok(());
        }
        self.next_look = now + LOOK_GAP;
        if now >= self.next_handshake.min(self.next_question) {
            while now.elapsed() < BEHIND_BURST {
                std::hint::spin_loop();
            }
        }
        if now >= self.next_handshake {
            self.next_handshake = now + HANDSHAKE_GAP;
            self.counts.handshakes[0] += 1;
            self.handshaker.renew();
            self.handshaker.initiate();
        }
        if now >= self.next_question {
            self.next_question = now + QUESTION_GAP;
            self.counts.questions[0] += 1;
            let message = question(self.counts.questions[0] as u16);
            self.asker.seal(&packets::udp((HOST.into(), 40_000), (self.resolver, 53), &message))?;
            self.asker.flush();
        }
        self.counts.handshakes[1] += self.handshaker.take()?.handshakes;
        self.counts.questions[1] += self.asker.take()?.packets.iter().filter(|packet| is_answer(packet)).count() as u64;
        self.rekeyer.tick();
        self.rekeyer.take()?;
        Ok(())
    }

    /// Since the start.
    pub fn counts(&mut self, passed: Duration) -> Counts {
        self.counts.rekeys = [passed.as_secs() / CHILD_LIFETIME.as_secs(), self.rekeyer.children() - self.children];
        self.counts
    }
}

fn question(id: u16) -> Vec<u8> {
    // Recursion desired; one question.
    let mut message = [&id.to_be_bytes()[..], &[1, 0, 0, 1, 0, 0, 0, 0, 0, 0]].concat();
    for label in NAME {
        message.push(label.len() as u8);
        message.extend(label.bytes());
    }
    message.extend([0, 0, 1, 0, 1]);
    message
}

/// From port 53, and a DNS response.
fn is_answer(packet: &[u8]) -> bool {
    packet.get(20..22) == Some(&[0, 53]) && packet.get(30).is_some_and(|flags| flags & 0x80 != 0)
}
