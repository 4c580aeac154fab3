//! Ports of pools. The reference does not choose them: it says what is to hold of those that were chosen (docs/operators.md,
//! "Seen by a few addresses"; RFC 7422, RFC 4787), and remembers them.

use std::net::IpAddr;

use ixgate::packet::DropReason;

use super::translator::{Kind, Source};
use super::view::Host;
use super::world::{Alias, Pool, Protocol, World, number};

/// Blocks begin above the well-known ports.
const FIRST_PORT: u32 = 1024;

/// A port of a host, on its own wires.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Inside {
    pub host: Host,
    pub protocol: Protocol,
    pub port: u16,
}

/// Where a port of a pool leads.
pub struct Behind {
    pub addr: IpAddr,
    pub port: u16,
    pub is_forward: bool,
}

pub struct Ports<'a> {
    world: &'a World,
    bound: Vec<(Inside, (IpAddr, u16))>,
    /// Has a port, and nobody has seen which.
    unseen: Vec<Inside>,
}

impl<'a> Ports<'a> {
    pub fn new(world: &'a World) -> Self {
        Ports { world, bound: Vec::new(), unseen: Vec::new() }
    }

    /// How many are bound at present, forwards aside.
    pub fn count(&self) -> usize {
        self.bound.len() + self.unseen.len()
    }

    pub fn bind_unseen(&mut self, inside: Inside) {
        if !self.unseen.contains(&inside) {
            self.unseen.push(inside);
        }
    }

    pub fn has_unseen(&self, realm: usize, protocol: Protocol) -> bool {
        self.unseen.iter().any(|inside| inside.host.realm == realm && inside.protocol == protocol)
    }

    /// Those whose port is known.
    pub fn bound(&self) -> &[(Inside, (IpAddr, u16))] {
        &self.bound
    }

    /// An echo finds its way in only as an answer.
    pub fn behind(&self, owner: usize, kind: Kind, destination: (IpAddr, u16)) -> Option<Behind> {
        if kind == Kind::Ask {
            return None;
        }
        let protocol = kind.protocol();
        let mut forwards = self.pool(owner)?.forwards.iter();
        if let Some(forward) = forwards.find(|f| f.protocol == protocol && f.outside == destination) {
            return Some(Behind { addr: forward.to.0, port: forward.to.1, is_forward: true });
        }
        let is_it =
            |(inside, outside): &&(Inside, (IpAddr, u16))| inside.protocol == protocol && *outside == destination;
        let (inside, _) = self.bound.iter().find(is_it)?;
        Some(Behind { addr: inside.host.addr, port: inside.port, is_forward: false })
    }

    /// The same for all who are spoken to.
    pub fn shown(&self, inside: Inside) -> Result<Source, DropReason> {
        let pool = self.pool(inside.host.realm).ok_or(DropReason::SourceHasNoAlias)?;
        let to = (inside.host.addr, inside.port);
        if let Some(forward) = pool.forwards.iter().find(|f| f.protocol == inside.protocol && f.to == to) {
            return Ok(Source::Is(forward.outside.0, forward.outside.1));
        }
        if let Some((_, outside)) = self.bound.iter().find(|(bound, _)| *bound == inside) {
            return Ok(Source::Is(outside.0, outside.1));
        }
        if self.unseen.contains(&inside) {
            return Ok(Source::New(inside));
        }
        if inside.port == 0 {
            return Err(DropReason::NaptPortNotServed);
        }
        let mut of_host = self.insides().filter(|bound| bound.host == inside.host);
        let used = of_host.clone().filter(|bound| bound.protocol == inside.protocol).count();
        let has_block = self.computed(inside.host).is_some() || of_host.next().is_some();
        match used < pool.block_ports as usize && (has_block || self.is_block_free(inside.host.realm)) {
            true => Ok(Source::New(inside)),
            false => Err(DropReason::NaptExhausted),
        }
    }

    /// Holds the port that was chosen against the rules, and remembers it.
    pub fn bind(&mut self, inside: Inside, outside: (IpAddr, u16)) -> Result<(), String> {
        let realm = inside.host.realm;
        self.unseen.retain(|unseen| *unseen != inside);
        let pool = self.pool(realm).ok_or("the realm has no pool")?;
        if !pool.span.contains(outside.0) {
            return Err(format!("{} is not in the pool {}", outside.0, pool.text));
        }
        let block = block_of(pool, outside).ok_or(format!("{outside:?} is in no block"))?;
        match (self.computed(inside.host), self.block_of_host(inside.host)) {
            (Some(computed), _) if computed != block => {
                return Err(format!("in block {block}, not in its own {computed}"));
            }
            (None, Some(had)) if had != block => return Err(format!("in block {block}, and it had {had}")),
            (None, None) if block < self.fixed(realm) => {
                return Err(format!("block {block} is another host's by computation"));
            }
            _ => {}
        }
        let others = self.bound.iter().filter(|(other, _)| other.host.realm == realm);
        if let Some(other) =
            others.clone().find(|(other, at)| other.host != inside.host && block_of(pool, *at) == Some(block))
        {
            return Err(format!("block {block} is shared with {other:?}"));
        }
        let ports: Vec<u16> = others
            .filter(|(other, at)| other.protocol == inside.protocol && at.0 == outside.0)
            .map(|(_, at)| at.1)
            .collect();
        if ports.contains(&outside.1) {
            return Err(format!("{outside:?} is somebody else's"));
        }
        if self.unseen.iter().any(|unseen| (unseen.host, unseen.protocol) == (inside.host, inside.protocol)) {
            self.bound.push((inside, outside)); // which ports were free is not known
            return Ok(());
        }
        let first = (FIRST_PORT + block % per_address(pool) * pool.block_ports) as u16;
        let of_block = first..=first + (pool.block_ports - 1) as u16;
        if of_block.contains(&inside.port) && !ports.contains(&inside.port) && outside.1 != inside.port {
            return Err("its own port is in the block, free, and was not kept".to_owned());
        }
        let mut of_parity = of_block.into_iter().filter(|port| port % 2 == inside.port % 2);
        if outside.1 % 2 != inside.port % 2 && of_parity.any(|port| !ports.contains(&port)) {
            return Err("the parity was not kept, though there were ports of it".to_owned());
        }
        self.bound.push((inside, outside));
        Ok(())
    }

    fn insides(&self) -> impl Iterator<Item = &Inside> + Clone {
        self.bound.iter().map(|(inside, _)| inside).chain(&self.unseen)
    }

    fn pool(&self, realm: usize) -> Option<&'a Pool> {
        self.world.realms[realm].pool.as_ref()
    }

    /// Whose hosts the pool stands for: IPv4 networks, but for those that everybody sees under a pinned alias.
    fn hosts_before(&self, realm: usize, addr: Option<IpAddr>) -> (u128, Option<u128>) {
        let pool = self.pool(realm);
        let (mut before, mut place) = (0, None);
        for network in &self.world.realms[realm].networks {
            let is_pinned = matches!(network.alias, Alias::Pinned(..));
            if network.span.is_v6 || (is_pinned && pool.is_some_and(|pool| pool.viewers.is_none())) {
                continue;
            }
            if let Some(addr) = addr.filter(|addr| network.span.contains(*addr)) {
                place = Some(before + number(addr) - network.span.first);
            }
            before += network.span.size() + 1;
        }
        (before, place)
    }

    /// Blocks that belong to hosts by computation: as many as there are hosts, or none.
    fn fixed(&self, realm: usize) -> u32 {
        let (hosts, _) = self.hosts_before(realm, None);
        if hosts <= u128::from(self.total(realm)) { hosts as u32 } else { 0 }
    }

    fn total(&self, realm: usize) -> u32 {
        self.pool(realm).map_or(0, |pool| (pool.span.size() as u32 + 1) * per_address(pool))
    }

    /// Host n has block n, network by network (RFC 7422).
    fn computed(&self, host: Host) -> Option<u32> {
        let (_, place) = self.hosts_before(host.realm, Some(host.addr));
        place.filter(|_| self.fixed(host.realm) > 0).map(|place| place as u32)
    }

    fn block_of_host(&self, host: Host) -> Option<u32> {
        let (_, outside) = self.bound.iter().find(|(bound, _)| bound.host == host)?;
        block_of(self.pool(host.realm)?, *outside)
    }

    fn is_block_free(&self, realm: usize) -> bool {
        let mut hosts: Vec<Host> = self.insides().map(|inside| inside.host).collect();
        hosts.retain(|host| host.realm == realm && self.computed(*host).is_none());
        hosts.sort_unstable_by_key(|host| host.addr);
        hosts.dedup();
        (hosts.len() as u32) < self.total(realm) - self.fixed(realm)
    }
}

fn per_address(pool: &Pool) -> u32 {
    (65_536 - FIRST_PORT) / pool.block_ports
}

/// Address by address, port by port.
fn block_of(pool: &Pool, outside: (IpAddr, u16)) -> Option<u32> {
    let in_address = u32::from(outside.1).checked_sub(FIRST_PORT)? / pool.block_ports;
    let before = (number(outside.0) - pool.span.first) as u32 * per_address(pool);
    (in_address < per_address(pool)).then_some(before + in_address)
}
