//! Draws worlds in which nearly everything collides: realms share prefixes, addresses, host names and ports; some use the
//! ranges that aliases come from, or public addresses, themselves.

use std::net::IpAddr;

use ixgate::sim::random::Random;

use super::world::{
    Alias, Filtering, Forward, Grant, Host, Network, Pool, Protocol, Realm, Rule, Service, Span, Target, World,
};

/// By place: what a realm may use at most one of each, so that its networks are disjoint. Nobody has these for himself.
const NETWORKS4: [&[&str]; 6] = [
    &["192.168.1.0/24", "192.168.1.0/24", "192.168.1.0/25", "192.168.1.16/28", "192.168.1.10-192.168.1.20"],
    &["10.0.0.0/8", "10.0.0.0/24", "10.0.0.5/32", "10.0.0.0-10.0.0.99"],
    &["172.16.5.0/26", "172.16.5.32/27"],
    &["100.64.0.0/24", "100.64.1.0/24", "100.64.2.0/25", "100.64.0.0/22"],
    &["198.51.100.0/24", "198.51.100.128/25"],
    &["192.168.3.10-192.168.3.20", "192.168.3.0/29"],
];
const NAMES: [&str; 4] = ["pacs", "web", "mail", "h-1"];
/// Of services. Clients' ports are others, so that nobody's answer looks like another's question.
pub const SERVICE_PORTS: [u16; 6] = [53, 80, 443, 5000, 5001, 8443];

pub fn world(random: &mut Random) -> World {
    let count = 2 + random.below(5) as usize;
    let mut draw = Draw { random, count, given: 0 };
    let default = draw.random.permille(400).then(|| draw.below(count));
    let mut realms: Vec<Realm> = (0..count).map(|number| draw.realm(number, default == Some(number))).collect();
    for (number, realm) in realms.iter_mut().enumerate() {
        if default != Some(number) && draw.random.permille(350) {
            realm.pool = Some(draw.pool(number, realm));
        }
    }
    let mut world = World { realms, default, hosts: Vec::new(), services: Vec::new(), grants: Vec::new() };
    for number in 0..count {
        draw.hosts(number, &mut world);
    }
    draw.services(&mut world);
    draw.grants(&mut world);
    world
}

/// Gives most realms a resolver of their own.
pub fn resolvers(random: &mut Random, world: &mut World) {
    for realm in &mut world.realms {
        let network = (!realm.networks.is_empty() && random.permille(800))
            .then(|| realm.networks[random.below(realm.networks.len() as u64) as usize].span);
        realm.resolver = network.map(|span| span.nth(span.size().min(7)));
    }
}

struct Draw<'a> {
    random: &'a mut Random,
    count: usize,
    /// Prefixes that are in this world once: pins, pools, canonical prefixes.
    given: usize,
}

impl Draw<'_> {
    fn below(&mut self, bound: usize) -> usize {
        self.random.below(bound as u64) as usize
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }

    fn fresh(&mut self) -> usize {
        self.given += 1;
        self.given
    }

    fn realm(&mut self, number: usize, is_default: bool) -> Realm {
        let mut networks = Vec::new();
        let (has_v4, has_v6) = match self.below(4) {
            0 => (true, true),
            1 => (false, true),
            _ => (true, false),
        };
        if has_v4 {
            let likely = [700, 400, 200, 150, 100, 250];
            let places = likely.iter().enumerate().filter(|(_, likely)| self.random.permille(**likely));
            let places: Vec<usize> = places.map(|(place, _)| place).collect();
            networks.extend(places.iter().map(|place| self.network4(NETWORKS4[*place])));
        }
        if has_v6 {
            for kind in 0..4 {
                if self.random.permille(400) {
                    networks.push(self.network6(kind, number));
                }
            }
        }
        if networks.is_empty() && !(is_default && self.random.permille(500)) {
            networks.push(if has_v4 { self.network4(NETWORKS4[0]) } else { self.network6(0, number) });
        }
        Realm { name: format!("r{number}"), networks, pool: None, resolver: None }
    }

    fn network4(&mut self, variants: &[&str]) -> Network {
        let text = self.pick(variants).to_owned();
        let span = Span::of(&text);
        let alias = match self.below(6) {
            _ if span.size() > 65_536 => Alias::Hosts,
            0 => Alias::Hosts,
            1 => Alias::Auto,
            2 | 3 if span.size() < 256 => self.pin(&text, span),
            _ => Alias::Unsaid,
        };
        Network { text, span, alias, canonical: None }
    }

    /// Of as many addresses, inside or outside of the alias pool.
    fn pin(&mut self, native: &str, span: Span) -> Alias {
        let fresh = self.fresh();
        let around = self.pick(&["100.127", "172.29", "203.0"]);
        if native.contains('-') {
            // Both are cut at the same places.
            let (first, last) = (span.first & 0xff, span.last & 0xff);
            let text = format!("{around}.{fresh}.{first}-{around}.{fresh}.{last}");
            return Alias::Pinned(Span::of(&text).first, text);
        }
        let host_bits = 128 - span.size().leading_zeros();
        let text = format!("{around}.{fresh}.0/{}", 32 - host_bits);
        Alias::Pinned(Span::of(&text).first, text)
    }

    fn network6(&mut self, kind: usize, number: usize) -> Network {
        let fresh = self.fresh();
        let (text, canonical) = match kind {
            // Everybody's, so each needs a canonical prefix.
            0 => ("fd00:1::/64".to_owned(), Some(format!("fd5c:{fresh:x}::/64"))),
            1 => (format!("fd00:a:{number:x}::/64"), None),
            2 => ("fd00:2::/120".to_owned(), Some(format!("fd5c:{fresh:x}::ff00/120"))),
            _ => (format!("2001:db8:{number:x}::/124"), None),
        };
        let span = Span::of(&text);
        let alias = match self.below(4) {
            _ if span.size() > 65_535 => Alias::Unsaid,
            0 => Alias::Hosts,
            1 => Alias::Auto,
            2 => self.pin(&text, span),
            _ => Alias::Unsaid,
        };
        let canonical = canonical.map(|text| (Span::of(&text).first, text));
        Network { text, span, alias, canonical }
    }

    fn pool(&mut self, number: usize, realm: &Realm) -> Pool {
        let fresh = self.fresh();
        let text = format!("100.126.{fresh}.{}", self.pick(&["0/30", "4/32", "8/31", "16/28"]));
        let span = Span::of(&text);
        let others: Vec<usize> = (0..self.count).filter(|other| *other != number).collect();
        let viewers: Vec<usize> = others.into_iter().filter(|_| self.random.permille(600)).collect();
        let viewers = (self.random.permille(400) && !viewers.is_empty()).then_some(viewers);
        let mut pool = Pool {
            text,
            span,
            viewers,
            filtering: self.pick(&[Filtering::AddressAndPort, Filtering::Address, Filtering::Endpoint]),
            block_ports: self.pick(&[16, 16, 64, 256, 1000, 20_000]),
            forwards: Vec::new(),
        };
        for port in [443, 8080] {
            let network = (!realm.networks.is_empty()).then(|| &realm.networks[self.below(realm.networks.len())]);
            let Some(network) = network.filter(|network| may_be_forwarded_to(network, &pool)) else { continue };
            let outside = (span.nth(self.random.below(span.size() as u64 + 1).into()), port);
            let to = (network.span.nth(self.some_place(network.span)), 8443 + u16::from(port == 443));
            let protocol = self.pick(&[Protocol::Tcp, Protocol::Udp]);
            pool.forwards.push(Forward { protocol, outside, to });
        }
        pool
    }

    /// Few, so that hosts of different realms meet; the ends are among them.
    pub fn some_place(&mut self, span: Span) -> u128 {
        some_place(self.random, span)
    }

    fn hosts(&mut self, realm: usize, world: &mut World) {
        let mut taken: Vec<IpAddr> = Vec::new();
        for name in NAMES {
            if !self.random.permille(500) {
                continue;
            }
            let mut addresses: Vec<IpAddr> = Vec::new();
            for is_v6 in [false, true] {
                if let Some(addr) = self.host_address(world, realm, is_v6)
                    && self.random.permille(700)
                    && !taken.contains(&addr)
                {
                    addresses.push(addr);
                }
            }
            if self.random.permille(300) {
                addresses.reverse();
            }
            taken.extend(&addresses);
            if !addresses.is_empty() {
                world.hosts.push(Host { name: name.to_owned(), realm, addresses });
            }
        }
    }

    fn host_address(&mut self, world: &World, realm: usize, is_v6: bool) -> Option<IpAddr> {
        let networks: Vec<Span> = world.realms[realm]
            .networks
            .iter()
            .map(|network| network.span)
            .filter(|span| span.is_v6 == is_v6)
            .collect();
        if world.default == Some(realm) && (networks.is_empty() || self.random.permille(500)) {
            let last = self.random.below(4);
            return Some(if is_v6 { format!("2600:9::{last}") } else { format!("9.9.9.{last}") }.parse().unwrap());
        }
        let span = (!networks.is_empty()).then(|| self.pick(&networks))?;
        Some(span.nth(self.some_place(span)))
    }

    fn services(&mut self, world: &mut World) {
        for number in 0..self.below(6) {
            if world.hosts.is_empty() {
                return;
            }
            // A service may have the name of a realm.
            let name = if number == 0 { "r0".to_owned() } else { format!("s{number}") };
            let service = Service { name, host: self.below(world.hosts.len()), ports: self.rules() };
            world.services.push(service);
        }
    }

    fn rules(&mut self) -> Vec<Rule> {
        match self.below(8) {
            0 => vec![Rule::Any],
            1 => vec![Rule::Icmp],
            2 => vec![Rule::Tcp(1, 65_535), Rule::Udp(1, 65_535)],
            3 => vec![Rule::Udp(5000, 5100), Rule::Icmp],
            _ => {
                let (tcp, udp) = (self.pick(&SERVICE_PORTS), self.pick(&SERVICE_PORTS));
                let both = [Rule::Tcp(tcp, tcp), Rule::Udp(udp, udp)];
                both[self.below(2)..].to_vec()
            }
        }
    }

    fn grants(&mut self, world: &mut World) {
        for _ in 0..2 + self.below(3 * self.count) {
            let from: Vec<usize> = (0..self.count).filter(|_| self.random.permille(350)).collect();
            let from = if from.is_empty() { vec![self.below(self.count)] } else { from };
            let to = match world.services.len() {
                services if services > 0 && self.random.permille(400) => Target::Service(self.below(services)),
                _ => Target::Realm(self.below(self.count), self.rules()),
            };
            world.grants.push(Grant { from, to });
        }
    }
}

/// A host that the pool stands for, or that has no alias.
fn may_be_forwarded_to(network: &Network, pool: &Pool) -> bool {
    match (network.span.is_v6, &network.alias) {
        (_, Alias::Hosts) | (true, Alias::Unsaid) => true,
        (true, _) => false,
        (false, Alias::Pinned(..)) => pool.viewers.is_some(),
        (false, _) => true,
    }
}

pub fn some_place(random: &mut Random, span: Span) -> u128 {
    let last = span.size();
    [0, 1, 5, 10, last / 2, last][random.below(6) as usize].min(last)
}
