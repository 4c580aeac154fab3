//! The reference translator: one packet at a time, from whom it is to whom it goes and under which addresses, with nothing to
//! help but lists of what has passed before.

use std::collections::HashSet;
use std::net::IpAddr;

use ixgate::packet::DropReason;

use super::ports::{Inside, Ports};
use super::view::{Host, View, Who};
use super::world::{Filtering, Protocol};

/// What a packet wants.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    Datagram,
    Syn,
    SynAck,
    Ask,
    Answer,
}

impl Kind {
    pub fn protocol(self) -> Protocol {
        match self {
            Kind::Datagram => Protocol::Udp,
            Kind::Syn | Kind::SynAck => Protocol::Tcp,
            Kind::Ask | Kind::Answer => Protocol::Echo,
        }
    }

    pub fn reply(self) -> Kind {
        match self {
            Kind::Datagram => Kind::Datagram,
            Kind::Syn | Kind::SynAck => Kind::SynAck,
            Kind::Ask | Kind::Answer => Kind::Answer,
        }
    }

    fn may_open(self) -> bool {
        matches!(self, Kind::Datagram | Kind::Syn | Kind::Ask)
    }
}

/// As it stands on the sender's wires. An echo's identifier is the port of both sides.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Packet {
    pub realm: usize,
    pub kind: Kind,
    pub source: (IpAddr, u16),
    pub destination: (IpAddr, u16),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    Arrives {
        realm: usize,
        source: Source,
        destination: (IpAddr, u16),
    },
    /// The IX replies to an echo itself.
    Echoed,
    Dropped(DropReason),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Source {
    Is(IpAddr, u16),
    /// Some port of the realm's pool that the sender has not had yet.
    New(Inside),
}

type Side = (Host, u16);

pub struct Translator<'a> {
    pub view: &'a View<'a>,
    pub ports: Ports<'a>,
    /// Opener, other side.
    opened: HashSet<(Side, Side, Protocol)>,
    /// What the other side's pool has filtered: its answer passes (RFC 4787 section 5), and from then on all.
    knocks: Vec<(Side, Side, Protocol)>,
    /// Which host has been sent to from which port of a pool.
    sent: HashSet<(Inside, Host)>,
}

impl<'a> Translator<'a> {
    pub fn new(view: &'a View<'a>) -> Self {
        Translator {
            view,
            ports: Ports::new(view.world),
            opened: HashSet::new(),
            knocks: Vec::new(),
            sent: HashSet::new(),
        }
    }

    pub fn walk(&mut self, packet: &Packet) -> Verdict {
        match self.judge(packet) {
            Ok(verdict) => verdict,
            Err(reason) => Verdict::Dropped(reason),
        }
    }

    fn judge(&mut self, packet: &Packet) -> Result<Verdict, DropReason> {
        let Packet { realm, kind, .. } = *packet;
        let from = self.view.own(realm, packet.source.0).ok_or(DropReason::SourceNotInRealm)?;
        let (to, to_port, by_binding) = match self.view.meant(realm, packet.destination.0) {
            None => return Err(DropReason::DestinationUnknown),
            Some(Who::Ix(last)) => return at_the_ix(last, kind),
            Some(Who::Host(host)) => (host, packet.destination.1, false),
            Some(Who::Pool(owner)) => {
                let found = self.ports.behind(owner, kind, packet.destination).ok_or(DropReason::NaptNoBinding)?;
                (Host { realm: owner, addr: found.addr }, found.port, !found.is_forward)
            }
        };
        let alias = self.view.seen(to.realm, from, to.addr.is_ipv6());
        if alias.is_none() && !self.view.is_shown_by_pool(to.realm, from.realm) {
            return Err(DropReason::SourceHasNoAlias);
        }
        if alias.is_none() && kind == Kind::Answer {
            return Err(DropReason::NaptPortNotServed);
        }
        // On its own wires an echo has one identifier.
        let from_port = if kind.protocol() == Protocol::Echo { to_port } else { packet.source.1 };
        let (opener, other) = ((from, from_port), (to, to_port));
        let admitted = self.admit(opener, other, kind, by_binding);
        if admitted == Err(DropReason::NaptFiltered) && alias.is_none() {
            self.knock(opener, other, kind)?;
        }
        let is_new = admitted?;
        let source = match alias {
            Some(alias) => Source::Is(alias, from_port),
            None => {
                let inside = Inside { host: from, protocol: kind.protocol(), port: from_port };
                let shown = self.ports.shown(inside).inspect_err(|_| {
                    if is_new {
                        self.opened.remove(&((from, from_port), (to, to_port), kind.protocol()));
                    }
                })?;
                self.sent.insert((inside, to));
                shown
            }
        };
        Ok(Verdict::Arrives { realm: to.realm, source, destination: (to.addr, to_port) })
    }

    /// Whether the packet opens a session.
    fn admit(&mut self, from: Side, to: Side, kind: Kind, by_binding: bool) -> Result<bool, DropReason> {
        let protocol = kind.protocol();
        let (there, back) = ((from, to, protocol), (to, from, protocol));
        if by_binding && self.knocks.contains(&there) {
            self.admit_by_binding(from, to, kind)?;
            self.knocks.retain(|knock| *knock != there);
            return Ok(false);
        }
        if let Some(at) = self.knocks.iter().position(|knock| *knock == there || *knock == back) {
            let met = self.knocks.remove(at);
            self.opened.insert(met);
        }
        let passes = match kind {
            Kind::Ask => self.opened.contains(&there),
            Kind::Answer => self.opened.contains(&back),
            _ => self.opened.contains(&there) || self.opened.contains(&back),
        };
        if passes {
            return Ok(false);
        }
        if by_binding {
            return self.admit_by_binding(from, to, kind).map(|()| false);
        }
        if !kind.may_open() {
            return Err(DropReason::NoSession);
        }
        if !self.view.rules(from.0.realm, to.0).any(|rule| rule.allows(protocol, to.1)) {
            return Err(DropReason::NotGranted);
        }
        self.opened.insert(there);
        Ok(true)
    }

    /// Only what the host behind the port could have asked for itself, and only as far as the filtering goes.
    fn admit_by_binding(&mut self, from: Side, to: Side, kind: Kind) -> Result<(), DropReason> {
        let inside = Inside { host: to.0, protocol: Protocol::Udp, port: to.1 };
        let filtering = self.view.world.realms[to.0.realm].pool.as_ref().map(|pool| pool.filtering);
        let is_wider = match filtering {
            Some(Filtering::Endpoint) => true,
            Some(Filtering::Address) => self.sent.contains(&(inside, from.0)),
            _ => false,
        };
        let could = self.view.rules(to.0.realm, from.0).any(|rule| rule.allows(Protocol::Udp, from.1));
        if kind != Kind::Datagram || !is_wider || !could {
            return Err(DropReason::NaptFiltered);
        }
        self.opened.insert((to, from, Protocol::Udp));
        Ok(())
    }
}

impl Translator<'_> {
    /// A filtered packet was sent all the same, and from a port of its own, if its sender was granted to.
    fn knock(&mut self, from: Side, to: Side, kind: Kind) -> Result<(), DropReason> {
        let protocol = kind.protocol();
        let is_granted = self.view.rules(from.0.realm, to.0).any(|rule| rule.allows(protocol, to.1));
        if !kind.may_open() || !is_granted {
            return Ok(());
        }
        let inside = Inside { host: from.0, protocol, port: from.1 };
        if let Source::New(inside) = self.ports.shown(inside)? {
            self.ports.bind_unseen(inside);
        }
        self.sent.insert((inside, to.0));
        if !self.knocks.contains(&(from, to, protocol)) {
            self.knocks.push((from, to, protocol));
        }
        Ok(())
    }

    /// Packets that a knock lets in, as far as it was seen from which port of its pool it came.
    pub fn answers_to_knocks(&self) -> Vec<Packet> {
        let answer = |(from, to, protocol): &(Side, Side, Protocol)| {
            let inside = Inside { host: from.0, protocol: *protocol, port: from.1 };
            let (_, outside) = self.ports.bound().iter().find(|(bound, _)| *bound == inside)?;
            let kind = if *protocol == Protocol::Udp { Kind::Datagram } else { Kind::SynAck };
            Some(Packet { realm: to.0.realm, kind, source: (to.0.addr, to.1), destination: *outside })
        };
        self.knocks.iter().filter_map(answer).collect()
    }

    /// Whether the packet may meet a port that was bound by a packet which nobody has seen leave.
    pub fn is_unsure(&self, packet: &Packet) -> bool {
        let Some(Who::Pool(owner)) = self.view.meant(packet.realm, packet.destination.0) else { return false };
        let (kind, destination) = (packet.kind, packet.destination);
        self.ports.behind(owner, kind, destination).is_none() && self.ports.has_unseen(owner, kind.protocol())
    }
}

/// It replies to pings at its gateway's and its resolver's address. Names are asked for elsewhere.
fn at_the_ix(last: u8, kind: Kind) -> Result<Verdict, DropReason> {
    match kind {
        Kind::Ask if matches!(last, 1 | 53) => Ok(Verdict::Echoed),
        _ => Err(DropReason::ServiceNotOffered),
    }
}
