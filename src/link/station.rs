//! A port's station on its Ethernet link: our addresses, our neighbours, the way to everybody else.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use super::arp;
use super::bucket::Bucket;
use super::claims::{ClaimAction, ClaimEvent, Claims};
use super::config::{EthernetConfig, Liveness};
use super::echo::is_host;
use super::endpoint::{Event, HopDown, PortCounts};
use super::frame::{self, Framing};
use super::liveness::{Watch, WatchAction};
use super::nd;
use super::neighbours::{Due, MAX_NEIGHBOURS, Neighbours, Sign, Unsure};
use super::news::News;
use super::next_hops::{Covered, NextHops};
use super::routers::Routers;
use super::speakers::Speakers;
use crate::net::random::Random;
use crate::net::{InterfaceId, Mac, RealmId, Timestamp, TunnelId};
use crate::packet::{DropReason, Outbox};
use crate::wire::ethernet::ether_type;
use crate::wire::mld;

/// ARP and neighbour discovery that a port looks at in a second ...
pub(super) const MESSAGES_PER_SEC: u32 = 1000;
pub(super) const MESSAGES_BURST: u32 = 200;
/// ... and, of its own, answers to what we asked: these pass also in a flood.
const ANSWERS_PER_SEC: u32 = 500;
const ANSWERS_BURST: u32 = 100;
/// ... and, of their own again, those from where the neighbour is known to be: no flood of others' answers keeps it from being heard.
const KNOWN_PER_SEC: u32 = 1000;
const KNOWN_BURST: u32 = MAX_NEIGHBOURS as u32;
/// Pings of the port's own addresses.
pub(super) const ECHOES_PER_SEC: u32 = 200;
const ECHOES_BURST: u32 = 50;
/// BFD of hops that do not name our discriminator (yet).
pub(super) const CALLS_PER_SEC: u32 = 1000;
pub(super) const CALLS_BURST: u32 = 200;
/// Room for the longest message of neighbour discovery that we send: a report of all our groups.
const MAX_ND_BYTES: usize = 400;

#[derive(Debug)]
pub(super) struct Station {
    pub(super) framing: Framing,
    pub(super) claims: Claims,
    pub(super) neighbours: Neighbours,
    pub(super) next_hops: NextHops,
    pub(super) watch: Watch,
    /// Of routers that announce themselves, as far as `watch` has them not.
    pub(super) router_watch: Watch,
    pub(super) liveness: Liveness,
    /// Where routers may announce themselves.
    pub(super) routers: Option<Routers>,
    pub(super) echoes: Bucket,
    pub(super) counts: PortCounts,
    pub(super) proxy: Covered,
    pub(super) speakers: Speakers,
    pub(super) networks: Covered,
    /// First and last address of our IPv4 prefixes, which no station has.
    broadcasts: Vec<Ipv4Addr>,
    pub(super) calls: Bucket,
    pub(super) messages: Bucket,
    answers: Bucket,
    known: Bucket,
    /// To be said by BFD to hops that are watched no more.
    pub(super) farewells: Vec<WatchAction>,
    /// Routers that were used or could be, and announce themselves no more: to be told.
    pub(super) withdrawn: Vec<IpAddr>,
    /// Waited, and found no room in the outbox then.
    lost_to_outbox: usize,
}

impl Station {
    pub fn new(interface: InterfaceId, config: &EthernetConfig, random: &mut dyn Random, now: Timestamp) -> Self {
        let next_hops = NextHops::new(config);
        let mut neighbours = Neighbours::new(random.u64());
        neighbours.pin(next_hops.watched(), now);
        Station {
            framing: Framing::new(interface, config.vlan),
            claims: Claims::new(&config.addresses),
            neighbours,
            watch: Watch::new(next_hops.watched(), config.liveness, config.bfd, random),
            router_watch: Watch::by_probes(&[], config.liveness),
            liveness: config.liveness,
            next_hops,
            routers: config.accept_ra.then(Routers::new),
            echoes: Bucket::new(ECHOES_PER_SEC, ECHOES_BURST),
            counts: PortCounts::default(),
            proxy: Covered::by(config.proxy.clone()),
            speakers: config.speakers.clone(),
            networks: Covered::by(config.networks.clone()),
            broadcasts: broadcasts(&config.addresses),
            calls: Bucket::new(CALLS_PER_SEC, CALLS_BURST),
            messages: Bucket::new(MESSAGES_PER_SEC, MESSAGES_BURST),
            answers: Bucket::new(ANSWERS_PER_SEC, ANSWERS_BURST),
            known: Bucket::new(KNOWN_PER_SEC, KNOWN_BURST),
            farewells: Vec::new(),
            withdrawn: Vec::new(),
            lost_to_outbox: 0,
        }
    }

    /// The link is up, perhaps with another hardware address: all begins anew.
    pub fn start(&mut self, mac: Mac, random: &mut dyn Random, now: Timestamp) {
        self.framing.set_mac(mac);
        self.claims.start(mac, now, random.u64());
        self.watch.start(now);
        self.router_watch.start(now);
        if let Some(routers) = &mut self.routers {
            routers.start(now, random.u64());
        }
    }

    /// The link is down. How many packets are lost by it.
    pub fn stop(&mut self, now: Timestamp) -> usize {
        self.claims.stop();
        self.watch.stop(now);
        self.router_watch.stop(now);
        if let Some(routers) = &mut self.routers {
            routers.stop();
        }
        self.set_routers(now);
        self.neighbours.clear(now)
    }

    /// Whether a packet to an address of ours is for the routing daemon that uses it, too.
    #[cold]
    pub fn is_for_daemon(&self, packet: &[u8]) -> bool {
        self.speakers.admit(packet) && frame::destination(packet).is_some_and(|address| self.claims.is_ours(address))
    }

    /// `by`: whose packet it is. `before`: of the packet before it, with nothing between that this station has heard or said.
    #[inline]
    pub fn seal(
        &mut self,
        by: RealmId,
        packet: &[u8],
        before: &mut Before,
        outbox: &mut Outbox,
        now: Timestamp,
    ) -> Result<Sealed, DropReason> {
        let destination = frame::destination(packet).ok_or(DropReason::InnerMalformed)?;
        let hop = self.next_hops.of(destination).ok_or(DropReason::NoNextHop)?;
        let mac = match before.neighbour {
            Some((neighbour, mac)) if neighbour == hop => mac,
            _ => {
                let Some(mac) = self.neighbours.find(hop, now) else {
                    *before = Before::default();
                    return self.seal_unsure(hop, by, packet, outbox, now);
                };
                before.neighbour = Some((hop, mac));
                mac
            }
        };
        let is_sent = self.framing.send_packets(mac, packet, outbox, &mut before.is_sent);
        is_sent.then_some(Sealed::Sent).ok_or(DropReason::EgressQueueFull)
    }

    #[cold]
    fn seal_unsure(
        &mut self,
        hop: IpAddr,
        by: RealmId,
        packet: &[u8],
        outbox: &mut Outbox,
        now: Timestamp,
    ) -> Result<Sealed, DropReason> {
        let can_ask = self.claims.source_towards(hop).is_some() && self.is_neighbour(hop);
        let found = match can_ask {
            true => self.neighbours.find_out(hop, by, packet, now),
            false => Err(DropReason::NeighbourUnresolved),
        };
        match found {
            Ok(Unsure::Send(mac)) => {
                let is_sent = self.framing.send_packet(mac, packet, outbox);
                is_sent.then_some(Sealed::TimersMoved).ok_or(DropReason::EgressQueueFull)
            }
            Ok(Unsure::Waits) => Ok(Sealed::TimersMoved),
            Ok(Unsure::Ask { waits }) => {
                self.ask(hop, None, outbox);
                Ok(if waits { Sealed::TimersMoved } else { Sealed::Refused(DropReason::NeighbourQueueFull) })
            }
            Err(reason) => {
                self.counts.unresolved += u64::from(reason == DropReason::NeighbourUnresolved);
                Err(reason)
            }
        }
    }

    /// Whether a neighbour message may be looked at. `answer`: by whom, and from where, if it is one; without a hardware address of
    /// its own it is about the known one.
    pub(super) fn admit(&mut self, answer: Option<(IpAddr, Option<Mac>)>, now: Timestamp) -> bool {
        self.counts.neighbour_messages += 1;
        let awaited = answer.filter(|(address, _)| self.neighbours.is_awaited(*address, now));
        let is_admitted = awaited.is_some_and(|(address, mac)| {
            let known = self.neighbours.mac_of(address);
            let is_known = known.is_some_and(|known| mac.is_none_or(|mac| mac == known));
            is_known && self.known.take(now) || self.answers.take(now)
        });
        let is_admitted = is_admitted || self.messages.take(now);
        self.counts.neighbour_messages_over_limit += u64::from(!is_admitted);
        is_admitted
    }

    /// Somebody says of himself, or another of him, where he is. `true`: it answers a question of ours, and is believed.
    pub(super) fn hear(&mut self, address: IpAddr, mac: Mac, sign: Sign, outbox: &mut Outbox, now: Timestamp) -> bool {
        use super::neighbours::News;
        if mac.is_group() || mac.is_zero() || mac == self.framing.mac() || !self.is_neighbour(address) {
            return false;
        }
        let is_awaited = matches!(sign, Sign::Answer { .. }) && self.neighbours.is_awaited(address, now);
        let news = self.neighbours.hear(address, mac, sign, now);
        match news {
            News::Nothing | News::Confirmed => {}
            News::Found => self.release(address, mac, outbox),
            News::Doubt => self.ask(address, None, outbox),
        }
        let is_believed = is_awaited && matches!(news, News::Found | News::Confirmed);
        if is_believed {
            self.note_alive(address, now);
        }
        is_believed
    }

    fn release(&mut self, address: IpAddr, mac: Mac, outbox: &mut Outbox) {
        let (framing, lost) = (&self.framing, &mut self.lost_to_outbox);
        self.neighbours.release(address, |packet| {
            *lost += usize::from(!framing.send_packet(mac, packet, outbox));
        });
    }

    /// Whether somebody else on the link can have the address.
    pub(super) fn is_neighbour(&self, address: IpAddr) -> bool {
        let is_on_link = || self.claims.on_link(address) || self.next_hops.of(address) == Some(address);
        is_host(address) && !self.is_broadcast(address) && !self.claims.concerns(address) && is_on_link()
    }

    #[inline]
    pub(super) fn is_broadcast(&self, address: IpAddr) -> bool {
        matches!(address, IpAddr::V4(address) if address.is_broadcast() || self.broadcasts.contains(&address))
    }

    /// Whether `asker` is to be told that `target` is here, although it is not an address of ours.
    pub(super) fn is_proxy_for(&self, target: IpAddr, asker: IpAddr) -> bool {
        let host = IpNet::from(target);
        self.proxy.contains(&host)
            && !self.networks.contains(&host)
            && target != asker
            && !self.is_broadcast(target)
            && !self.claims.concerns(target)
            && self.neighbours.mac_of(target).is_none()
    }

    /// Asks where `target` is: who is thought to be it, or everybody.
    pub(super) fn ask(&mut self, target: IpAddr, mac: Option<Mac>, outbox: &mut Outbox) {
        match (self.claims.source_towards(target), target) {
            (Some(IpAddr::V4(source)), IpAddr::V4(target)) => {
                arp::request(&self.framing, source, target, mac.unwrap_or(Mac::BROADCAST), outbox);
            }
            (Some(IpAddr::V6(source)), IpAddr::V6(target)) => self.solicit(source, target, mac, outbox),
            _ => {}
        }
    }

    fn solicit(&self, source: Ipv6Addr, target: Ipv6Addr, mac: Option<Mac>, outbox: &mut Outbox) {
        let to = mac.unwrap_or_else(|| nd::group_mac(nd::solicited_node(target)));
        self.send_nd(to, outbox, |out| nd::emit_solicitation(out, source, target, self.framing.mac(), mac.is_some()).0);
    }

    pub(super) fn send_nd(&self, to: Mac, outbox: &mut Outbox, write: impl FnOnce(&mut [u8]) -> usize) {
        self.framing.send(to, ether_type::IPV6, outbox, MAX_ND_BYTES, write);
    }

    /// Does what is due, and tells what has changed.
    pub fn settle(&mut self, tunnel: TunnelId, news: &mut News, outbox: &mut Outbox, now: Timestamp) {
        self.bid_farewell(outbox);
        while let Some(action) = self.claims.poll_action(now) {
            self.claim(action, outbox);
        }
        while let Some(action) = self.watch.poll_action(now).or_else(|| self.router_watch.poll_action(now)) {
            self.look(action, outbox, now);
        }
        while let Some(due) = self.neighbours.poll_due(now) {
            match due {
                Due::Ask { target, mac } => self.ask(target, mac, outbox),
                Due::Unanswered { lost } => self.lose_unresolved(tunnel, lost, news),
                Due::Moved { address } => {
                    self.counts.mac_changes += 1;
                    self.note_alive(address, now);
                }
                Due::Contested { address, known, other } => {
                    news.push(Event::TwoAnswer { tunnel, address, known, other });
                }
            }
        }
        self.settle_routers(outbox, now);
        while let Some(event) = self.claims.poll_event() {
            news.push(match event {
                ClaimEvent::Claimed(address) => Event::AddressClaimed { tunnel, address },
                ClaimEvent::Duplicate(address, mac) => {
                    self.counts.conflicts += 1;
                    Event::DuplicateAddress { tunnel, address, mac }
                }
            });
        }
        for hop in self.withdrawn.drain(..) {
            news.push(Event::NextHopDown { tunnel, hop, why: HopDown::Withdrawn });
        }
        while let Some((hop, is_alive, why)) = self.watch.poll_change().or_else(|| self.router_watch.poll_change()) {
            self.switch(hop, is_alive, now);
            match (is_alive, why) {
                (true, _) => news.push(Event::NextHopUp { tunnel, hop }),
                (false, Some(why)) => news.push(Event::NextHopDown { tunnel, hop, why }),
                (false, None) => {} // by the link, which has an event of its own
            }
        }
        let displaced = self.neighbours.take_lost();
        self.lose_unresolved(tunnel, displaced, news);
        news.lose(tunnel, std::mem::take(&mut self.lost_to_outbox), DropReason::EgressQueueFull);
    }

    fn lose_unresolved(&mut self, tunnel: TunnelId, lost: usize, news: &mut News) {
        self.counts.unresolved += lost as u64;
        news.lose(tunnel, lost, DropReason::NeighbourUnresolved);
    }

    fn claim(&mut self, action: ClaimAction, outbox: &mut Outbox) {
        match action {
            ClaimAction::ArpProbe(address) => arp::probe(&self.framing, address, outbox),
            ClaimAction::ArpAnnounce(address) => arp::announce(&self.framing, address, outbox),
            ClaimAction::DadSolicit(address) => self.solicit(Ipv6Addr::UNSPECIFIED, address, None, outbox),
            ClaimAction::Advertise(address) => self.advertise(address, nd::ALL_NODES, None, true, outbox),
            ClaimAction::ReportGroups => {
                let source = self.claims.link_local().unwrap_or(Ipv6Addr::UNSPECIFIED);
                let groups = self.claims.groups();
                let to = nd::group_mac(mld::ALL_REPORTS);
                self.send_nd(to, outbox, |out| nd::emit_group_report(out, source, &groups));
            }
        }
    }

    /// Says that `target` is here; to the one who asked, or to everybody.
    pub(super) fn advertise(
        &self,
        target: Ipv6Addr,
        destination: Ipv6Addr,
        asker: Option<Mac>,
        is_override: bool,
        outbox: &mut Outbox,
    ) {
        // A proxy speaks from an address of its own.
        let source = match self.claims.is_ours(target.into()) {
            true => Some(IpAddr::V6(target)),
            false => self.claims.source_towards(destination.into()),
        };
        let Some(IpAddr::V6(source)) = source else { return };
        let to = asker.unwrap_or_else(|| nd::group_mac(nd::ALL_NODES));
        let is_solicited = asker.is_some();
        self.send_nd(to, outbox, |out| {
            let mac = self.framing.mac();
            nd::emit_advertisement(out, source, destination, target, mac, is_solicited, is_override, true)
        });
    }

    pub fn poll_timeout(&self) -> Option<Timestamp> {
        let routers = self.routers.as_ref().and_then(Routers::poll_timeout);
        let watches = [self.watch.poll_timeout(), self.router_watch.poll_timeout()];
        let deadlines =
            [self.claims.poll_timeout(), self.neighbours.poll_timeout(), routers].into_iter().chain(watches);
        deadlines.flatten().min()
    }
}

/// Where the packet before went: as a rule the next one goes there as well.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Before {
    neighbour: Option<(IpAddr, Mac)>,
    /// It is the last thing in the outbox.
    is_sent: bool,
}

/// What became of a packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Sealed {
    Sent,
    /// Sent, or waiting; and something is due earlier than it was.
    TimersMoved,
    /// The same without the packet.
    Refused(DropReason),
}

fn broadcasts(addresses: &[IpNet]) -> Vec<Ipv4Addr> {
    let nets = addresses.iter().filter_map(|net| match net {
        IpNet::V4(net) if net.prefix_len() <= 30 => Some([net.network(), net.broadcast()]),
        _ => None,
    });
    nets.flatten().collect()
}
