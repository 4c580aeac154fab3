//! Where an address lies.

use std::hint::black_box;
use std::net::Ipv4Addr;
use std::time::Instant;

use ipnet::{IpNet, Ipv4Net};
use ixgate::net::mapping::{Mapping, Network};
use ixgate::net::{RealmId, Space6};
use ixgate::sim::random::Random;

const PREFIXES: [usize; 2] = [1000, 100_000];
const PREFIX_LEN: u8 = 27;
const QUESTIONS: usize = 1 << 20;
/// So few addresses stay in the cache with all that is needed for them.
const HOT: usize = 64;
const ROUNDS: usize = 15;
const OWNER: RealmId = RealmId(1);
const VIEWER: RealmId = RealmId(2);

pub fn measure() {
    println!(
        "\nwhere an IPv4 address lies, ns, medians of {ROUNDS} rounds of {QUESTIONS} questions in turns; 16-8-8 is a table for comparison"
    );
    println!(
        "{:>9} {:>10} {:>16} {:>18} {:>10}",
        "prefixes", "addresses", "alias to network", "native to network", "16-8-8"
    );
    for prefixes in PREFIXES {
        let (mapping, table) = (mapping(prefixes), Table::new(prefixes));
        for (words, different) in [("64", HOT), ("random", QUESTIONS)] {
            let mut random = Random(7);
            let hosts: Vec<u32> =
                (0..different).map(|_| random.below((prefixes as u64) << (32 - PREFIX_LEN)) as u32).collect();
            let mut costs = [Vec::new(), Vec::new(), Vec::new()];
            for _ in 0..ROUNDS {
                costs[0].push(time(&hosts, |host| {
                    let found = mapping.locate_alias(VIEWER, Ipv4Addr::from_bits(ALIASES + host));
                    found.expect("a network").network.0
                }));
                costs[1].push(time(&hosts, |host| {
                    let found = mapping.locate_native4(OWNER, Ipv4Addr::from_bits(NATIVES + host));
                    found.expect("a network").network.0
                }));
                costs[2].push(time(&hosts, |host| table.lookup(NATIVES + host)));
            }
            let [alias, native, table] = costs.map(median);
            println!("{prefixes:>9} {words:>10} {alias:>16.1} {native:>18.1} {table:>10.1}");
        }
    }
}

const NATIVES: u32 = 0x0a00_0000;
const ALIASES: u32 = 0x6440_0000;

/// All of one realm: the most that one look-up has to search.
fn mapping(prefixes: usize) -> Mapping {
    let space6 = Space6::new("fd69:7867:6174::/48".parse().expect("a prefix")).expect("a ULA");
    let net = |base: u32, number: usize| {
        let address = Ipv4Addr::from_bits(base + ((number as u32) << (32 - PREFIX_LEN)));
        Ipv4Net::new(address, PREFIX_LEN).expect("a length")
    };
    let network = |number: usize| {
        let native = net(NATIVES, number);
        Network {
            realm: OWNER,
            native: IpNet::V4(native),
            canonical: space6.embed_net(OWNER, native),
            alias: Some(net(ALIASES, number)),
        }
    };
    let viewer = Network { realm: VIEWER, alias: None, ..network(0) };
    let viewer = Network { canonical: space6.embed_net(VIEWER, net(NATIVES, 0)), ..viewer };
    Mapping::new(space6, (0..prefixes).map(network).chain([viewer]).collect(), &[])
}

/// 16 bits, then 8, then 8: an entry of the first two is a network, or where to go on.
struct Table {
    first: Vec<u32>,
    nodes: Vec<[u32; 256]>,
}

const ON: u32 = 1 << 31;

impl Table {
    fn new(prefixes: usize) -> Self {
        let mut table = Table { first: vec![0; 1 << 16], nodes: Vec::new() };
        for number in 0..prefixes {
            let start = NATIVES + ((number as u32) << (32 - PREFIX_LEN));
            for address in start..start + (1 << (32 - PREFIX_LEN)) {
                table.put(address, number as u32);
            }
        }
        table
    }

    fn put(&mut self, address: u32, network: u32) {
        let first = (address >> 16) as usize;
        let second = self.node_at(self.first[first]);
        self.first[first] = second as u32 | ON;
        let middle = (address >> 8 & 0xff) as usize;
        let third = self.node_at(self.nodes[second][middle]);
        self.nodes[second][middle] = third as u32 | ON;
        self.nodes[third][(address & 0xff) as usize] = network;
    }

    fn node_at(&mut self, entry: u32) -> usize {
        if entry & ON != 0 {
            return (entry & !ON) as usize;
        }
        self.nodes.push([0; 256]);
        self.nodes.len() - 1
    }

    #[inline]
    fn lookup(&self, address: u32) -> u32 {
        let mut entry = self.first[(address >> 16) as usize];
        for shift in [8, 0] {
            if entry & ON == 0 {
                return entry;
            }
            entry = self.nodes[(entry & !ON) as usize][(address >> shift & 0xff) as usize];
        }
        entry
    }
}

/// Nanoseconds per question.
fn time(hosts: &[u32], mut ask: impl FnMut(u32) -> u32) -> f64 {
    let start = Instant::now();
    let mut sum = 0u32;
    for _ in 0..QUESTIONS / hosts.len() {
        sum = hosts.iter().fold(sum, |sum, host| sum.wrapping_add(ask(*host)));
    }
    black_box(sum);
    start.elapsed().as_nanos() as f64 / QUESTIONS as f64
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
