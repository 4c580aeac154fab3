//! No packet costs an allocation: the allocator is asked for nothing while packets of known and of new kinds walk, once the
//! tunnels are up.

// A counting allocator is `unsafe impl GlobalAlloc`. It hands everything on to the system's and is in no shipped binary.
#![allow(unsafe_code)]

mod sites;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::net::{IpAddr, Ipv4Addr};

use ixgate::dataplane::parcel::Leaving;
use ixgate::dataplane::{Engine, Parcel, Porter};
use ixgate::net::Timestamp;
use ixgate::packet::Datagram;
use ixgate::sim::appliance::Appliance;
use ixgate::sim::packets::udp;

use sites::{FarEnd, Kind, gateway};

struct Counting;

thread_local! {
    /// Of this thread: tests run side by side.
    static CALLS: Cell<u64> = const { Cell::new(0) };
}

fn count() {
    // The thread may be about to end.
    let _ = CALLS.try_with(|calls| calls.set(calls.get() + 1));
}

// SAFETY: every call is handed on to `System` as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's promises are those of `System`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        count();
        // SAFETY: as above.
        unsafe { System.realloc(pointer, layout, bytes) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const FILE: &str = r#"
[ix]
domain = "ix.example"
[wireguard]
private_key_file = "secrets/wireguard.key"
[ike]
local_id = "fqdn:ix.example"
[[realm]]
name = "a"
networks = ["10.0.0.0/16"]
attach = [{attach:a}]
[[realm]]
name = "b"
networks = ["10.0.0.0/16"]
attach = [{attach:b}]
[[grant]]
from = ["a"]
to = ["realm:b"]
ports = ["any"]
"#;

/// Datagrams in one call: some batches, and a part of one.
const DATAGRAMS: u32 = 200;
const ROUNDS: u32 = 20;

struct Fixture {
    source: FarEnd,
    engine: Engine,
    alias_of_b: Ipv4Addr,
    now: Timestamp,
}

impl Fixture {
    fn start(from: Kind, to: Kind) -> Self {
        let mut now = Timestamp::from_secs(1);
        let text = FILE.replace("{attach:a}", &from.attach("a", 1420)).replace("{attach:b}", &to.attach("b", 1420));
        let appliance = Appliance::build(&text);
        let mut engine = appliance.engine(now);
        let [source, _] = [("a", 1, from), ("b", 2, to)].map(|(name, number, kind)| {
            let mut site = gateway(kind, &appliance, name, number, now);
            now = site.shake_hands(&mut engine, now);
            site
        });
        Fixture { source, engine, alias_of_b: appliance.alias_of("b"), now }
    }

    /// Packets of as many sessions, from `first` on.
    fn datagrams(&mut self, first: u32, payload_bytes: usize) -> Vec<Vec<u8>> {
        let packet = |session: u32| {
            let source = IpAddr::V4(Ipv4Addr::from_bits(0x0a00_0001 + session));
            udp((source, 5000), (self.alias_of_b.into(), 443), &vec![7; payload_bytes])
        };
        let packets: Vec<_> = (first..first + DATAGRAMS).map(packet).collect();
        packets.iter().map(|packet| self.source.seal(packet)).collect()
    }

    /// How often the allocator is called while these walk.
    fn allocations(&mut self, datagrams: &[Vec<u8>]) -> u64 {
        let path = self.source.path();
        let before = CALLS.get();
        self.engine.handle_input(datagrams.iter().map(|bytes| Datagram::new(path, bytes)), self.now);
        self.engine.outbox().clear();
        CALLS.get() - before
    }

    fn forwarded(&self) -> u64 {
        self.engine.report(self.now).totals.forwarded
    }
}

fn nothing_is_allocated(from: Kind, to: Kind) {
    let mut fixture = Fixture::start(from, to);
    let first = fixture.datagrams(0, 100);
    fixture.allocations(&first); // tables grow to the size that they then have

    for round in 0..ROUNDS {
        let payload_bytes = [36, 172, 484, 1392][round as usize % 4];
        let datagrams = fixture.datagrams(0, payload_bytes);
        let forwarded = fixture.forwarded();
        assert_eq!(fixture.allocations(&datagrams), 0, "{payload_bytes} bytes");
        assert_eq!(fixture.forwarded() - forwarded, u64::from(DATAGRAMS));
    }
    let mut spoiled = fixture.datagrams(0, 100);
    spoiled.iter_mut().step_by(3).for_each(|datagram| *datagram.last_mut().unwrap() ^= 1);
    assert_eq!(fixture.allocations(&spoiled), 0, "with some that are not authentic");
    assert_eq!(fixture.allocations(&spoiled), 0, "all of them once more");
}

#[test]
fn the_counter_counts() {
    let before = CALLS.get();
    let made = std::hint::black_box(vec![1]);
    assert_eq!((CALLS.get() - before, made.len()), (1, 1));
}

/// A porter opens, the engine walks, the porter seals.
fn nothing_is_allocated_by_parcels(from: Kind, to: Kind) {
    let mut fixture = Fixture::start(from, to);
    let (mut porter, mut parcel) = (Porter::default(), Parcel::default());
    for round in 0..ROUNDS {
        let datagrams = fixture.datagrams(0, [36, 172, 484, 1392][round as usize % 4]);
        let (path, forwarded, before) = (fixture.source.path(), fixture.forwarded(), CALLS.get());
        let mut all = datagrams.iter().map(|bytes| Datagram::new(path, bytes)).peekable();
        while all.peek().is_some() {
            porter.fill(&mut all, &mut parcel);
            fixture.engine.handle_parcel(&mut parcel, fixture.now);
            fixture.engine.outbox().clear();
            porter.learn(&mut parcel, fixture.now);
            parcel.seal(Leaving::All);
            parcel.outbox().clear();
        }
        let calls = CALLS.get() - before;
        // In the first round keys are lent, and tables grow.
        assert!(calls == 0 || round == 0, "{calls} in round {round}");
        assert_eq!(fixture.forwarded() - forwarded, u64::from(DATAGRAMS));
    }
}

#[test]
fn nothing_is_allocated_by_parcels_of_any_kind() {
    for from in [Kind::WireGuard, Kind::Esp] {
        for to in [Kind::WireGuard, Kind::Esp] {
            nothing_is_allocated_by_parcels(from, to);
        }
    }
}

#[test]
fn nothing_is_allocated_from_wireguard_to_wireguard() {
    nothing_is_allocated(Kind::WireGuard, Kind::WireGuard);
}

#[test]
fn nothing_is_allocated_from_wireguard_to_esp() {
    nothing_is_allocated(Kind::WireGuard, Kind::Esp);
}

#[test]
fn nothing_is_allocated_from_esp_to_wireguard() {
    nothing_is_allocated(Kind::Esp, Kind::WireGuard);
}

#[test]
fn nothing_is_allocated_from_esp_to_esp() {
    nothing_is_allocated(Kind::Esp, Kind::Esp);
}
