//! Draws what hosts do: ask for names and use what they are told, send to whom they see, and to what they have no business
//! with.

use std::net::IpAddr;

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query};
use hickory_proto::rr::rdata::opt::{EdnsCode, EdnsOption};
use hickory_proto::rr::{Name, RData, RecordType};
use ixgate::packet::DropReason;
use ixgate::sim::packets::udp;

use super::draw::{SERVICE_PORTS, some_place};
use super::hold::{Held, Outcome};
use super::ports::Inside;
use super::resolver::Told;
use super::translator::{Kind, Packet};
use super::view::{Host, Who};
use super::world::{self, DOMAIN, POOL, Protocol, Rule, SPACE6, Span, address, number};

const KINDS: [Kind; 4] = [Kind::Datagram, Kind::Datagram, Kind::Syn, Kind::Ask];
const CLIENT_PORTS: u64 = 30_000;

impl Held<'_> {
    /// One case, unless nobody was found for it.
    pub fn case(&mut self) {
        let asker = self.some_asker();
        let is_one = match self.random.below(10) {
            0..4 => self.name(),
            4 => self.reverse_name(asker),
            5..8 => self.send_to_somebody(asker),
            8 if self.random.permille(100) && self.answer_a_knock() => true,
            _ => self.send_anything(asker),
        };
        self.tally.count("cases", is_one);
    }

    /// The answer, sent to from the asker, arrives at the owner.
    fn name(&mut self) -> bool {
        // Most names are told to few, so that it takes some draws to find one who can use what it is told.
        for _ in 0..8 {
            let asker = self.some_asker();
            let (name, owners) = self.some_name();
            let record_type = [RecordType::A, RecordType::AAAA][self.below(2)];
            let expected = self.view.resolve(asker.realm, &name, record_type);
            let addresses = expected.records.iter().map(|text| text.parse().unwrap());
            let usable: Vec<IpAddr> =
                addresses.filter(|addr: &IpAddr| addr.is_ipv4() == asker.addr.is_ipv4()).collect();
            if !usable.is_empty() || self.random.permille(150) {
                self.ask(asker, &name, record_type, &expected);
                let addr = usable.get(self.random.below(usable.len() as u64) as usize);
                addr.into_iter().for_each(|addr| self.send_to_named(asker, &name, &owners, *addr));
                return true;
            }
        }
        false
    }

    /// `name` was told as `addr`, and is that of `owners`.
    fn send_to_named(&mut self, asker: Host, name: &str, owners: &[Host], addr: IpAddr) {
        let who = match self.view.own(asker.realm, addr) {
            Some(own) if own.realm == asker.realm && owners.contains(&own) => return, // reached without the IX
            _ => self.view.meant(asker.realm, addr),
        };
        let owner = match who {
            Some(Who::Host(host)) if owners.contains(&host) => host,
            Some(Who::Ix(53)) if name.starts_with("ns.") => return,
            _ => panic!("{name} is told as {addr}, which means {who:?} and not {owners:?}"),
        };
        let rules: Vec<Rule> = self.view.rules(asker.realm, owner).collect();
        let rule = rules[self.below(rules.len())];
        let (kind, port) = self.allowed_by(rule);
        let packet = self.packet(asker, kind, addr, port);
        let outcome = self.exchange(packet);
        self.tally.count("sent to as named", true);
        match outcome {
            Outcome::Arrived(delivery) => {
                assert_eq!((delivery.realm, delivery.destination.0), (owner.realm, owner.addr), "{}", self.doing);
            }
            Outcome::Dropped(DropReason::SourceHasNoAlias | DropReason::NaptExhausted) => {}
            _ => panic!("granted and named, and yet not to be reached: {}", self.doing),
        }
    }

    fn reverse_name(&mut self, asker: Host) -> bool {
        let addr = self.some_address(asker, asker.addr.is_ipv6());
        let name = Name::from(addr).to_ascii();
        let expected = self.view.resolve_address(asker.realm, addr, RecordType::PTR);
        self.ask(asker, name.trim_end_matches('.'), RecordType::PTR, &expected);
        true
    }

    fn send_to_somebody(&mut self, asker: Host) -> bool {
        let realm = self.below(self.world().realms.len());
        let Some(owner) = self.some_host(realm) else { return false };
        let Some(addr) = self.view.seen(asker.realm, owner, asker.addr.is_ipv6()) else { return false };
        let rules: Vec<Rule> = self.view.rules(asker.realm, owner).collect();
        let (kind, port) = match rules.len() {
            rules_len if rules_len > 0 && self.random.permille(700) => {
                let rule = rules[self.below(rules_len)];
                self.allowed_by(rule)
            }
            _ => (KINDS[self.below(4)], SERVICE_PORTS[self.below(6)]),
        };
        let packet = self.packet(asker, kind, addr, port);
        self.exchange(packet);
        true
    }

    /// Forged sources, addresses of others, ports of pools, answers that nobody asked for.
    fn send_anything(&mut self, asker: Host) -> bool {
        let is_v6 = asker.addr.is_ipv6();
        let (kind, port, addr) = (KINDS[self.below(4)], SERVICE_PORTS[self.below(6)], self.some_address(asker, is_v6));
        let mut packet = self.packet(asker, kind, addr, port);
        if self.random.permille(200) {
            packet.source.0 = self.some_address(asker, is_v6);
        }
        if self.random.permille(250) {
            packet.kind = packet.kind.reply();
        }
        if self.random.permille(400) && !is_v6 {
            self.towards_a_pool(&mut packet);
        }
        if packet.kind.protocol() == Protocol::Echo {
            packet.destination.1 = packet.source.1;
        }
        // What the IX says on port 53 is for the questions to find out.
        let is_ix = matches!(self.view.meant(asker.realm, packet.destination.0), Some(Who::Ix(_)));
        if is_ix && packet.destination.1 == 53 {
            packet.destination.1 = 54;
        }
        if self.translator.is_unsure(&packet) {
            return false;
        }
        self.exchange(packet);
        true
    }

    /// Who was knocked at answers.
    fn answer_a_knock(&mut self) -> bool {
        let answers = self.translator.answers_to_knocks();
        if answers.is_empty() {
            return false;
        }
        let answer = answers[self.below(answers.len())];
        let outcome = self.exchange(answer);
        assert!(matches!(outcome, Outcome::Arrived(_)), "{}", self.doing);
        self.tally.count("answered a knock", true);
        true
    }

    /// A forward, a port that somebody has, or one that nobody has.
    fn towards_a_pool(&mut self, packet: &mut Packet) {
        let bound = self.translator.ports.bound();
        if !bound.is_empty() && self.random.permille(600) {
            let (inside, outside) = bound[self.random.below(bound.len() as u64) as usize];
            packet.destination = outside;
            if self.random.permille(800) {
                packet.kind = match inside.protocol {
                    Protocol::Udp => Kind::Datagram,
                    Protocol::Tcp => Kind::SynAck,
                    Protocol::Echo => Kind::Answer,
                };
            }
            packet.source.1 = SERVICE_PORTS[self.below(6)];
            if packet.kind == Kind::Syn {
                packet.kind = Kind::SynAck;
            }
            if packet.kind == Kind::Ask || packet.kind == Kind::Answer {
                packet.source.1 = outside.1;
            }
            // From behind one pool to behind another, and the sender's port is known.
            let bound = self.translator.ports.bound();
            let is_ones_own = |(own, _): &&(Inside, (IpAddr, u16))| {
                own.host.realm == packet.realm
                    && own.host.addr.is_ipv4()
                    && own.protocol == Protocol::Udp
                    && *own != inside
            };
            if packet.kind == Kind::Datagram
                && let Some((own, _)) = bound.iter().rev().find(is_ones_own)
            {
                packet.source = (own.host.addr, own.port);
            }
            return;
        }
        let forwards =
            self.world().realms.iter().filter_map(|realm| realm.pool.as_ref()).flat_map(|pool| &pool.forwards);
        let forwards: Vec<_> = forwards.collect();
        if forwards.is_empty() {
            return;
        }
        let forward = forwards[self.below(forwards.len())];
        packet.destination = forward.outside;
        packet.kind = if forward.protocol == Protocol::Tcp { Kind::Syn } else { Kind::Datagram };
    }

    fn packet(&mut self, asker: Host, kind: Kind, addr: IpAddr, port: u16) -> Packet {
        // Few, so that the same is tried again and ports are asked for twice.
        let own_port = (CLIENT_PORTS + self.random.below(300)) as u16;
        let port = if kind == Kind::Ask { own_port } else { port };
        Packet { realm: asker.realm, kind, source: (asker.addr, own_port), destination: (addr, port) }
    }

    fn allowed_by(&mut self, rule: Rule) -> (Kind, u16) {
        let within = |low: u16, high: u16, port: u16| {
            if low <= port && port <= high { port } else { [low, high][usize::from(port % 2)] }
        };
        let port = SERVICE_PORTS[self.below(6)];
        match rule {
            Rule::Any => (KINDS[self.below(4)], port),
            Rule::Icmp => (Kind::Ask, port),
            Rule::Tcp(low, high) => (Kind::Syn, within(low, high, port)),
            Rule::Udp(low, high) => (Kind::Datagram, within(low, high, port)),
        }
    }

    fn below(&mut self, bound: usize) -> usize {
        self.random.below(bound as u64) as usize
    }

    /// A host of some realm, whether or not anybody has heard of it.
    pub fn some_asker(&mut self) -> Host {
        loop {
            let realm = self.below(self.world().realms.len());
            if let Some(host) = self.some_host(realm) {
                return host;
            }
        }
    }

    fn some_host(&mut self, realm: usize) -> Option<Host> {
        let world = self.world();
        let named: Vec<IpAddr> =
            world.hosts.iter().filter(|host| host.realm == realm).flat_map(|host| host.addresses.clone()).collect();
        let networks = &world.realms[realm].networks;
        let addr = if !named.is_empty() && self.random.permille(500) {
            named[self.below(named.len())]
        } else if world.default == Some(realm) && (networks.is_empty() || self.random.permille(500)) {
            ["9.9.9.2", "8.8.4.4", "198.51.100.77", "2600:9::2", "2a00::1"][self.below(5)].parse().unwrap()
        } else {
            let span = networks[self.below(networks.len())].span;
            span.nth(some_place(&mut self.random, span))
        };
        // What looks public may be another realm's alias.
        self.view.own(realm, addr)
    }

    /// What a host of `asker`'s realm may know, guess, or have read on another realm's wires.
    pub fn some_address(&mut self, asker: Host, is_v6: bool) -> IpAddr {
        let world = self.world();
        let realm = self.below(world.realms.len());
        let viewer = self.below(world.realms.len());
        let host = self.some_host(realm).unwrap_or(asker);
        let seen = self.view.seen(if self.random.permille(700) { asker.realm } else { viewer }, host, is_v6);
        let addr = match (self.random.below(8), seen) {
            (0..4, Some(seen)) => seen,
            (4, _) if host.addr.is_ipv6() == is_v6 => host.addr,
            (5, _) => self.view.ix(asker.realm, [1, 53, 54][self.below(3)], is_v6),
            (6, Some(seen)) => {
                // A little off, or a bit of it wrong.
                let bit = 1 << self.random.below(if is_v6 { 128 } else { 20 });
                address(is_v6, number(seen) ^ bit)
            }
            _ if is_v6 => {
                address(true, SPACE6 | u128::from(self.random.below(8)) << 64 | u128::from(self.random.below(1 << 33)))
            }
            _ => match world.realms[realm].pool.as_ref() {
                Some(pool) => pool.span.nth(self.random.below(pool.span.size() as u64 + 1).into()),
                None => POOL.nth(self.random.below(0x2000).into()),
            },
        };
        let odd = ["0.0.0.0/8", "127.0.0.0/8", "224.0.0.0/3", "::/8", "fe80::/10", "ff00::/8"];
        // No hosts' addresses at all; what becomes of these is not a matter of mapping.
        if odd.iter().any(|text| Span::of(text).contains(addr)) { asker.addr } else { addr }
    }

    /// And who may be meant by it.
    fn some_name(&mut self) -> (String, Vec<Host>) {
        let world = self.world();
        let hosts = |host: &world::Host| {
            host.addresses.iter().map(|addr| Host { realm: host.realm, addr: *addr }).collect::<Vec<_>>()
        };
        let realm = &world.realms[self.below(world.realms.len())].name;
        match self.random.below(20) {
            0 => (format!("ns.{DOMAIN}"), Vec::new()),
            1 => (DOMAIN.to_owned(), Vec::new()),
            2 => {
                let of_service = world.services.iter().find(|service| service.name == *realm);
                let owners = of_service.map_or(Vec::new(), |service| hosts(&world.hosts[service.host]));
                (format!("{realm}.{DOMAIN}"), owners)
            }
            3 => (format!("nobody.{realm}.{DOMAIN}"), Vec::new()),
            4 => ("www.example.org".to_owned(), Vec::new()),
            5..10 if !world.services.is_empty() => {
                let service = &world.services[self.below(world.services.len())];
                (format!("{}.{DOMAIN}", service.name), hosts(&world.hosts[service.host]))
            }
            _ if world.hosts.is_empty() => (format!("pacs.{realm}.{DOMAIN}"), Vec::new()),
            _ => {
                let host = &world.hosts[self.below(world.hosts.len())];
                (format!("{}.{}.{DOMAIN}", host.name, world.realms[host.realm].name), hosts(host))
            }
        }
    }

    /// A question to the IX through the asker's tunnel; the answer is what the reference says.
    fn ask(&mut self, asker: Host, name: &str, record_type: RecordType, expected: &Told) {
        self.doing = format!("{asker:?} asks for {name} {record_type}, of which the reference says {expected:?}");
        let id = self.random.draw() as u16;
        let mut message = Message::new(id, MessageType::Query, OpCode::Query);
        message.metadata.recursion_desired = true;
        message.add_query(Query::query(Name::from_ascii(format!("{name}.")).unwrap(), record_type));
        message.set_edns(Edns::new());
        let (from, to) = ((asker.addr, 40_000), (self.view.ix(asker.realm, 53, asker.addr.is_ipv6()), 53));
        let arrivals = self.lan.send(asker.realm, &udp(from, to, &message.to_vec().unwrap()));
        let (at, headers, bytes) = self.single(&arrivals);
        assert_eq!((at, headers.source, headers.destination), (asker.realm, to.0, from.0), "{}", self.doing);
        let answer = Message::from_vec(&bytes[headers.transport_offset + 8..]).unwrap();
        assert_eq!((answer.metadata.id, answer.metadata.message_type), (id, MessageType::Response), "{}", self.doing);
        let mut told = told(&answer);
        let mut expected = expected.clone();
        told.records.sort_unstable();
        expected.records.sort_unstable();
        assert_eq!(told, expected, "{}", self.doing);
        assert!(answer.answers.iter().all(|record| record.name.to_ascii() == format!("{name}.")), "{}", self.doing);
        self.tally.count("names", true);
    }
}

fn told(answer: &Message) -> Told {
    let text = |data: &RData| match data {
        RData::A(addr) => addr.0.to_string(),
        RData::AAAA(addr) => addr.0.to_string(),
        RData::PTR(name) => name.0.to_ascii(),
        other => format!("{other:?}"),
    };
    Told {
        code: answer.metadata.response_code,
        records: answer.answers.iter().map(|record| text(&record.data)).collect(),
        extended_error: extended_error(answer),
    }
}

/// The code of RFC 8914.
pub fn extended_error(answer: &Message) -> Option<u16> {
    match answer.edns.as_ref()?.option(EdnsCode::from(15))? {
        EdnsOption::Unknown(_, data) => Some(u16::from_be_bytes(*data.first_chunk()?)),
        _ => None,
    }
}
