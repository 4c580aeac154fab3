//! Names that realms' own resolvers answer: what they say, and what an asker of another realm is to be told of it: every
//! address as it sees that host, or nothing and why.

use std::net::IpAddr;

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::{Name, RecordType};
use ixgate::sim::random::Random;

use super::draw::some_place;
use super::resolver::Told;
use super::view::{View, Who};
use super::world::{DOMAIN, REVERSE, Span, Target, World, number};

/// Names of each realm's domain.
const NAMES: usize = 6;
/// Extended DNS Errors (RFC 8914), the weightier first.
const PROHIBITED: u16 = 18;
const FILTERED: u16 = 17;
const NO_REACHABLE_AUTHORITY: u16 = 22;

#[derive(Clone, Debug)]
pub enum Data {
    Address(IpAddr),
    Alias(String),
    /// The hints of an HTTPS record.
    Hints(Vec<IpAddr>),
    /// Of an address.
    Name(String),
}

/// What one realm's resolver knows: names with the addresses of its own realm's terms.
#[derive(Clone, Default, Debug)]
pub struct Domain {
    pub records: Vec<(String, Data)>,
}

/// What a resolver says: the aliases on the way and the records at their end.
pub struct Said {
    pub aliases: Vec<(String, String)>,
    /// Where the aliases end.
    pub name: String,
    pub records: Vec<Data>,
    pub code: ResponseCode,
    /// The last alias leads out of the domain.
    pub leads_out: bool,
}

impl Domain {
    pub fn say(&self, domain: &str, asked: &str, record_type: RecordType) -> Said {
        let mut said = Said {
            aliases: Vec::new(),
            name: asked.to_owned(),
            records: Vec::new(),
            code: ResponseCode::NoError,
            leads_out: false,
        };
        loop {
            let here: Vec<&Data> =
                self.records.iter().filter(|(name, _)| *name == said.name).map(|(_, data)| data).collect();
            match here[..] {
                [] if said.name.ends_with(domain) || said.name.ends_with(".arpa") => said.code = ResponseCode::NXDomain,
                [] => said.leads_out = true,
                [Data::Alias(target)] => {
                    said.aliases.push((said.name, target.clone()));
                    said.name = target.clone();
                    continue;
                }
                _ => said.records = here.into_iter().filter(|data| data.is_of(record_type)).cloned().collect(),
            }
            return said;
        }
    }
}

impl Data {
    fn is_of(&self, record_type: RecordType) -> bool {
        match self {
            Data::Address(addr) => record_type == if addr.is_ipv4() { RecordType::A } else { RecordType::AAAA },
            Data::Alias(_) => false,
            Data::Hints(_) => record_type == RecordType::HTTPS,
            Data::Name(_) => record_type == RecordType::PTR,
        }
    }
}

/// A record as text.
pub fn text(name: &str, data: &Data) -> String {
    match data {
        Data::Address(addr) => format!("{name} {addr}"),
        Data::Alias(target) => format!("{name} is {target}"),
        Data::Name(target) => format!("{name} is of {target}"),
        Data::Hints(hints) => {
            let mut hints: Vec<String> = hints.iter().map(IpAddr::to_string).collect();
            hints.sort_unstable();
            format!("{name} {}", hints.join(" or "))
        }
    }
}

/// Aliases lead to later names only, so that they come to an end.
pub fn draw(view: &View<'_>, random: &mut Random) -> Vec<Domain> {
    let world = view.world;
    let mut domains = vec![Domain::default(); world.realms.len()];
    for (realm, domain) in domains.iter_mut().enumerate() {
        draw_reverse(world, realm, domain, random);
        for number in 0..NAMES {
            let name = format!("n{number}.{}.local", world.realms[realm].name);
            if random.permille(300) {
                domain.records.push((name, Data::Alias(some_target(world, number, random))));
                continue;
            }
            let addresses: Vec<IpAddr> = (0..1 + random.below(3)).map(|_| some_address(view, realm, random)).collect();
            let hints = random.permille(300).then(|| Data::Hints(addresses.clone()));
            let mut different = addresses;
            different.sort_unstable();
            different.dedup();
            let addresses = different.into_iter().map(Data::Address);
            domain.records.extend(addresses.chain(hints).map(|data| (name.clone(), data)));
        }
    }
    domains
}

fn draw_reverse(world: &World, realm: usize, domain: &mut Domain, random: &mut Random) {
    let mut named: Vec<IpAddr> = Vec::new();
    for network in world.realms[realm].networks.iter().filter(|network| !network.span.is_v6) {
        let places = (0..4).map(|_| some_place(random, network.span)).collect::<Vec<_>>();
        named.extend(places.into_iter().map(|place| network.span.nth(place)));
    }
    named.sort_unstable();
    named.dedup();
    for addr in named.into_iter().filter(|addr| is_in_a_reverse_zone(*addr)) {
        let target = format!("n{}.{}.local", number(addr) % 7, world.realms[realm].name);
        domain.records.push((reverse_name(addr), Data::Name(target)));
    }
}

fn is_in_a_reverse_zone(addr: IpAddr) -> bool {
    REVERSE.iter().any(|(_, span)| Span::of(span).contains(addr))
}

/// Without the trailing dot.
pub fn reverse_name(addr: IpAddr) -> String {
    Name::from(addr).to_ascii().trim_end_matches('.').to_owned()
}

fn some_target(world: &World, after: usize, random: &mut Random) -> String {
    let realm = &world.realms[random.below(world.realms.len() as u64) as usize].name;
    match random.below(8) {
        0 => format!("nobody.{realm}.local"),
        1 => format!("pacs.{realm}.{DOMAIN}"),
        2 => format!("s1.{DOMAIN}"),
        3 => "www.example.org".to_owned(),
        _ => format!("n{}.{realm}.local", after + 1 + random.below(3) as usize),
    }
}

/// The realm's own, one that it knows somebody else by, or nobody's.
fn some_address(view: &View<'_>, realm: usize, random: &mut Random) -> IpAddr {
    let of = if random.permille(700) { realm } else { random.below(view.world.realms.len() as u64) as usize };
    let networks = &view.world.realms[of].networks;
    if networks.is_empty() || random.permille(80) {
        return ["192.0.2.1", "2001:db8:ffff::1", "192.168.77.7"][random.below(3) as usize].parse().unwrap();
    }
    let span = networks[random.below(networks.len() as u64) as usize].span;
    let named = view.world.hosts.iter().find(|host| host.realm == of).filter(|_| random.permille(300));
    let addr = named.map_or(span.nth(some_place(random, span)), |host| host.addresses[0]);
    match view.own(of, addr) {
        Some(host) if of != realm => view.seen(realm, host, random.permille(300)).unwrap_or(addr),
        _ => addr,
    }
}

impl View<'_> {
    /// A question for A, AAAA or HTTPS, whoever answers it. Records are whole: `NAME ADDRESS`, `NAME is NAME`.
    pub fn resolve_anywhere(&self, domains: &[Domain], asker: usize, name: &str, record_type: RecordType) -> Told {
        let mut records: Vec<String> = Vec::new();
        let mut notes: Vec<u16> = Vec::new();
        let mut name = name.to_owned();
        let mut code = ResponseCode::NoError;
        for hop in 0.. {
            if name.ends_with(DOMAIN) {
                let told = self.resolve(asker, &name, record_type);
                records.extend(told.records.iter().map(|record| format!("{name} {record}")));
                notes.extend(told.extended_error);
                code = told.code;
                break;
            }
            let of = |realm: &usize| {
                let realm = &self.world.realms[*realm];
                realm.resolver.is_some() && name.ends_with(&format!(".{}.local", realm.name))
            };
            let Some(owner) = (0..domains.len()).find(of) else {
                // Nobody is asked for it.
                if hop == 0 {
                    return self.resolve(asker, &name, record_type);
                }
                notes.push(NO_REACHABLE_AUTHORITY);
                break;
            };
            let domain = format!("{}.local", self.world.realms[owner].name);
            if owner == asker {
                let said = domains[owner].say(&domain, &name, record_type);
                records.extend(said.aliases.iter().map(|(name, target)| text(name, &Data::Alias(target.clone()))));
                records.extend(said.records.iter().map(|data| text(&said.name, data)));
                code = said.code;
                break;
            }
            if !self.may_ask(asker, owner) {
                (code, notes) = (ResponseCode::NXDomain, vec![PROHIBITED]);
                break;
            }
            let said = domains[owner].say(&domain, &name, record_type);
            records.extend(said.aliases.iter().map(|(name, target)| text(name, &Data::Alias(target.clone()))));
            if said.leads_out {
                name = said.name;
                continue;
            }
            code = said.code;
            // Who speaks one IP version only is given the other's, translated; who speaks both, what has no alias.
            let mut told = self.told_of(asker, owner, &said, record_type);
            let speaks = [self.world.speaks(asker, false), self.world.speaks(asker, true)];
            let other_type = match (record_type, speaks) {
                (RecordType::A, [true, false]) => Some(RecordType::AAAA),
                (RecordType::AAAA, [_, true]) => Some(RecordType::A),
                _ => None,
            };
            if let Some(other_type) = other_type.filter(|_| code == ResponseCode::NoError && told.0.is_empty()) {
                let other = domains[owner].say(&domain, &name, other_type);
                let leads_directly = |data: &Data| matches!(data, Data::Address(addr) if self.told_as(asker, owner, *addr, other_type == RecordType::A).is_ok());
                if !other.records.iter().any(leads_directly) {
                    let (addresses, why_not) = self.told_of(asker, owner, &other, record_type);
                    told.0 = addresses;
                    told.1.extend(why_not);
                }
            }
            records.extend(told.0);
            notes.extend(told.1);
            break;
        }
        let weightiest = [PROHIBITED, FILTERED, NO_REACHABLE_AUTHORITY].into_iter().find(|note| notes.contains(note));
        Told { code, records, extended_error: weightiest.or(notes.first().copied()) }
    }

    /// What the asker is shown of records of a name, as addresses of the wanted version; and why of the others nothing.
    fn told_of(&self, asker: usize, owner: usize, said: &Said, wanted: RecordType) -> (Vec<String>, Vec<u16>) {
        let (mut records, mut notes) = (Vec::new(), Vec::new());
        for data in &said.records {
            match data {
                Data::Address(addr) => match self.told_as(asker, owner, *addr, wanted == RecordType::A) {
                    Ok(addr) => records.push(text(&said.name, &Data::Address(addr))),
                    Err(note) => notes.push(note),
                },
                Data::Hints(hints) => {
                    let both = hints
                        .iter()
                        .flat_map(|hint| [true, false].map(|is_v4| self.told_as(asker, owner, *hint, is_v4)));
                    let mut told: Vec<IpAddr> = both.flatten().collect();
                    told.sort_unstable();
                    told.dedup();
                    records.push(text(&said.name, &Data::Hints(told)));
                }
                Data::Alias(_) | Data::Name(_) => {}
            }
        }
        (records, notes)
    }

    /// The name of an address, whoever knows it: of one that the asker sees, its owner, under its own name for it.
    pub fn resolve_address_anywhere(&self, domains: &[Domain], asker: usize, addr: IpAddr) -> Told {
        let mut told = self.resolve_address(asker, addr, RecordType::PTR);
        let name = reverse_name(addr);
        told.records.iter_mut().for_each(|target| *target = format!("{name} is of {}", target.trim_end_matches('.')));
        let (owner, native) = match (told.code, self.meant(asker, addr)) {
            (ResponseCode::Refused, _) => (asker, addr),
            (ResponseCode::NXDomain, Some(Who::Host(host))) if host.realm != asker && self.reaches(asker, host) => {
                (host.realm, host.addr)
            }
            _ => return told,
        };
        if self.world.realms[owner].resolver.is_none() || !is_in_a_reverse_zone(native) {
            return told;
        }
        let said = domains[owner].say("arpa", &reverse_name(native), RecordType::PTR);
        let records = said.records.iter().map(|data| text(&name, data));
        Told { code: said.code, records: records.collect(), extended_error: None }
    }

    /// Any grant towards a realm opens its domains.
    fn may_ask(&self, asker: usize, owner: usize) -> bool {
        self.world.grants.iter().filter(|grant| grant.from.contains(&asker)).any(|grant| match &grant.to {
            Target::Realm(realm, _) => *realm == owner,
            Target::Service(service) => self.world.hosts[self.world.services[*service].host].realm == owner,
        })
    }

    /// An address out of `owner`'s mouth, as the asker sees who is meant by it.
    fn told_as(&self, asker: usize, owner: usize, addr: IpAddr, is_v4: bool) -> Result<IpAddr, u16> {
        let who = self.own(owner, addr).map(Who::Host).or_else(|| self.meant(owner, addr));
        let told = match who {
            None | Some(Who::Pool(_)) => return Err(FILTERED),
            Some(Who::Host(host)) if !self.reaches(asker, host) => return Err(PROHIBITED),
            Some(Who::Host(host)) => self.addresses(asker, &[host]),
            // Its own addresses are IPv4 ones.
            Some(Who::Ix(last)) => vec![self.ix(asker, last, !self.world.speaks(asker, false))],
        };
        told.into_iter().find(|addr| addr.is_ipv4() == is_v4).ok_or(FILTERED)
    }
}
