//! What a port costs per packet, for each driver, beside the kernel's own forwarding of the same packets.
//!
//! `cargo bench --bench ports` makes veth pairs in a network namespace of its own, which needs root; without it says NOT RUN.
//! `-- --quick` has fewer rounds.
//!
//! One thread does everything in turn: it sends 64 frames (by AF_PACKET), the device under test has them, a sink drops them. On veth a
//! frame's whole way through the kernel happens within the call that sends it, so what this thread takes is what the packets cost,
//! generator, softirqs and sink included. The time is that of the clock, less what the thread has waited for a processor (other
//! programs run meanwhile), and with that of the kernel's softirq threads. `send` is all of: one frame sent, across one pair, dropped
//! by the kernel behind it. With AF_PACKET that is also what the generator, one pair and the sink cost, and what `receive` and `forward`
//! are told without. `forward` has one more pair in it, in each way.
//!
//! Packets are UDP of as many flows, or segments of one TCP flow, which the kernel may carry joined. To forward is, for our drivers: wait
//! (epoll), receive, copy with another destination address, send. `ixgate` is the whole appliance between the same drivers: from a realm
//! on one port to another on the other, each with addresses that the other does not know, with grants, sessions, translation, neighbours.
//! The kernel's forwarding has its routing in it and nothing else: no firewall, no translation, no connection tracking. Medians of all
//! rounds; the ways take turns within each.

use std::error::Error;
use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use ixgate::dataplane::Engine;
use ixgate::io::frames::{self, Choice, Driver, interface};
use ixgate::io::poller::Poller;
use ixgate::net::{InterfaceId, LinkReport, Mac, Path, Timestamp};
use ixgate::packet::{Datagram, Outbox};
use ixgate::sim::appliance::Appliance;
use ixgate::sim::packets;

const SIZES_BYTES: [usize; 4] = [64, 200, 512, 1420];
const BATCH: usize = 64;
const BATCHES: usize = 100;
const ROUNDS: usize = 31;
const QUICK_ROUNDS: usize = 7;
/// Nobody's: whatever has it is dropped at once.
const NOBODY: Mac = Mac([2, 0, 0, 0, 0, 0x99]);
const INSIDE: &str = "--inside-namespace";
/// As the appliance numbers them: by name, "ixfar..." before "ixnear...".
const FAR: InterfaceId = InterfaceId(0);
const NEAR: InterfaceId = InterfaceId(1);
const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 2);
const SERVER: Ipv4Addr = Ipv4Addr::new(10, 2, 0, 2);
/// The appliance's clock: long enough for it to have claimed its addresses.
const NOW: Timestamp = Timestamp::from_secs(20);
/// Looks without result, after which frames count as lost.
const PATIENCE: usize = 1_000_000;

type Outcome<T> = Result<T, Box<dyn Error>>;

fn main() -> ExitCode {
    if std::env::args().any(|argument| argument == INSIDE) {
        return match measure() {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("{error}");
                ExitCode::FAILURE
            }
        };
    }
    let probe = ["-n", "ip", "link", "add", "name", "ixprobe0", "type", "veth", "peer", "name", "ixprobe1"];
    if !Command::new("unshare").args(probe).output().is_ok_and(|output| output.status.success()) {
        println!("NOT RUN: no network namespaces with veth pairs here: this needs root, `unshare` and `ip`");
        return ExitCode::SUCCESS;
    }
    let program = std::env::current_exe().expect("this program has a path");
    let status = Command::new("unshare").arg("-n").arg(program).arg(INSIDE).args(std::env::args().skip(1)).status();
    if status.is_ok_and(|status| status.success()) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// What frames go through.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Way {
    Send(Choice),
    Receive(Choice),
    Forward(Choice),
    /// By the engine: what packets of ports cost.
    Appliance(Choice),
    KernelForwards,
}

const WAYS: [Way; 9] = [
    Way::Send(Choice::AfPacket),
    Way::Send(Choice::AfXdp),
    Way::Receive(Choice::AfPacket),
    Way::Receive(Choice::AfXdp),
    Way::KernelForwards,
    Way::Forward(Choice::AfPacket),
    Way::Forward(Choice::AfXdp),
    Way::Appliance(Choice::AfPacket),
    Way::Appliance(Choice::AfXdp),
];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Traffic {
    Udp,
    Tcp,
}

fn measure() -> Outcome<()> {
    let rounds = if std::env::args().any(|argument| argument == "--quick") { QUICK_ROUNDS } else { ROUNDS };
    for all in ["all", "default"] {
        fs::write(format!("/proc/sys/net/ipv6/conf/{all}/disable_ipv6"), "1").ok();
    }
    let mut lanes = Vec::new();
    for (number, way) in WAYS.into_iter().enumerate() {
        match Lane::build(number, way) {
            Ok(lane) => lanes.push(lane),
            Err(error) => println!("NOT RUN: {way:?}: {error}"),
        }
    }
    for lane in &lanes {
        println!("{:?}: {}", lane.way, lane.kinds());
    }
    println!("ns per packet, medians of {rounds} rounds of {} packets; one core", BATCH * BATCHES);
    let columns = ["send", "", "receive", "", "forward", "", "", "ixgate", "", "to kernel's", ""];
    println!("{:<4}{:>6}{}", "", "", columns.map(|column| format!("{column:>10} ")).concat());
    let columns = ["packet", "xdp", "packet", "xdp", "kernel", "packet", "xdp", "packet", "xdp", "packet", "xdp"];
    println!("{:<4}{:>6}{}", "", "bytes", columns.map(|column| format!("{column:>10} ")).concat());
    for traffic in [Traffic::Udp, Traffic::Tcp] {
        for size in SIZES_BYTES {
            print_line(traffic, size, &measure_all(&mut lanes, traffic, size, rounds)?);
        }
    }
    Ok(())
}

/// In the order of [`WAYS`]; not a number where one could not be run.
fn measure_all(lanes: &mut [Lane], traffic: Traffic, size: usize, rounds: usize) -> Outcome<[f64; WAYS.len()]> {
    let mut samples = WAYS.map(|_| Vec::new());
    for lane in lanes.iter_mut() {
        lane.prepare(traffic, size)?;
    }
    for _ in 0..rounds {
        for lane in lanes.iter_mut() {
            let place = WAYS.iter().position(|way| *way == lane.way).unwrap_or_default();
            samples[place].push(lane.round(size)?);
        }
    }
    Ok(samples.map(median))
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

fn print_line(
    traffic: Traffic,
    size: usize,
    [send, xdp_sends, receive, xdp_receives, kernel, forward, xdp, appliance, xdp_appliance]: &[f64; 9],
) {
    let name = if traffic == Traffic::Udp { "UDP" } else { "TCP" };
    let beyond = |total: &f64| total - send;
    let [kernel, appliance, xdp_appliance] = [kernel, appliance, xdp_appliance].map(beyond);
    let [receive, xdp_receives, forward, xdp] = [receive, xdp_receives, forward, xdp].map(beyond);
    let nanos = [*send, *xdp_sends, receive, xdp_receives, kernel, forward, xdp, appliance, xdp_appliance];
    let ratios = [appliance / kernel, xdp_appliance / kernel];
    let nanos = nanos.map(|nanos| format!("{nanos:>10.0} ")).concat();
    println!("{name:<4}{size:>6}{nanos}{}", ratios.map(|ratio| format!("{ratio:>10.2} ")).concat());
}

/// Interfaces of its own for each way: generator, device under test (one or two), sink.
struct Lane {
    way: Way,
    generator: Box<dyn Driver>,
    device: Option<Device>,
    /// Where the generator's frames go.
    next: Mac,
    /// Where their packets go.
    server: Ipv4Addr,
    sink: String,
    frames: Outbox,
}

/// Our drivers in the middle.
struct Device {
    from: Box<dyn Driver>,
    to: Option<Box<dyn Driver>>,
    poller: Poller,
    outbox: Outbox,
    engine: Option<Box<Engine>>,
}

impl Lane {
    fn build(number: usize, way: Way) -> Outcome<Self> {
        let name = |role: &str| format!("ix{role}{number}");
        let [first, near, far, last] = ["gen", "near", "far", "sink"].map(name);
        let sink = match way {
            Way::Send(_) => {
                pair(&first, &last)?;
                last
            }
            Way::Receive(_) => {
                pair(&first, &near)?;
                near.clone()
            }
            Way::Forward(_) | Way::Appliance(_) | Way::KernelForwards => {
                pair(&first, &near)?;
                pair(&far, &last)?;
                last
            }
        };
        let mut server = SERVER;
        let device = match way {
            Way::Receive(choice) => Some(Device::open(&near, None, choice)?),
            Way::Forward(choice) => Some(Device::open(&near, Some(&far), choice)?),
            Way::Appliance(choice) => {
                let mut device = Device::open(&near, Some(&far), choice)?;
                (device.engine, server) = appliance(&near, &far).map(|(engine, server)| (Some(engine), server))?;
                Some(device)
            }
            Way::Send(_) | Way::KernelForwards => None,
        };
        if way == Way::KernelForwards {
            let_kernel_forward(&near, &far)?;
        }
        let generator = match way {
            Way::Send(choice) => frames::open(InterfaceId(0), &first, choice)?,
            _ => frames::open(InterfaceId(0), &first, Choice::AfPacket)?,
        };
        let next = if matches!(way, Way::Send(_)) { None } else { interface::mac(&near)? };
        let frames = Outbox::new(BATCH * 2048, BATCH);
        Ok(Lane { way, generator, device, next: next.unwrap_or(NOBODY), server, sink, frames })
    }

    fn kinds(&self) -> String {
        match &self.device {
            Some(device) => device.from.kind(),
            None if self.way == Way::KernelForwards => "Linux".to_owned(),
            None => self.generator.kind(),
        }
    }

    fn prepare(&mut self, traffic: Traffic, size: usize) -> Outcome<()> {
        self.frames.clear();
        for number in 0..BATCH {
            let frame = frame(self.next, self.server, traffic, number, size);
            if !self.frames.push(self.generator.path(), true, &frame) {
                return Err("the outbox is too small".into());
            }
        }
        Ok(())
    }

    /// Nanoseconds per packet.
    fn round(&mut self, size: usize) -> Outcome<f64> {
        let (started, came_before) = (Spent::until_now()?, bytes_received(&self.sink)?);
        for _ in 0..BATCHES {
            let report = self.generator.send_some(&self.frames, &|_| true);
            if report.sent_datagrams != BATCH as u64 {
                return Err(format!("{:?}: the generator is stuck: {report:?}", self.way).into());
            }
            if let Some(device) = &mut self.device {
                device.pass_batch()?;
            }
        }
        let spent = started.since()?;
        let came = bytes_received(&self.sink)? - came_before;
        // Joined segments have their headers once.
        let expected = (BATCH * BATCHES * (size - 40)) as u64;
        if came < expected {
            return Err(format!("{:?}: of {expected} bytes {came} have arrived", self.way).into());
        }
        Ok(spent.as_nanos() as f64 / (BATCH * BATCHES) as f64)
    }
}

impl Device {
    fn open(near: &str, far: Option<&str>, choice: Choice) -> Outcome<Self> {
        let from = frames::open(NEAR, near, choice)?;
        let to = far.map(|far| frames::open(FAR, far, choice)).transpose()?;
        let poller = Poller::new()?;
        poller.add(from.fd(), 0)?;
        Ok(Device { from, to, poller, outbox: Outbox::new(BATCH * 2048, BATCH), engine: None })
    }

    /// All that the generator has sent.
    fn pass_batch(&mut self) -> Outcome<()> {
        let (mut passed, mut looks) = (0, 0);
        while passed < BATCH {
            self.poller.wait(Some(Duration::ZERO))?;
            let received = self.from.receive()?;
            if let (Some(to), Some(engine)) = (&mut self.to, &mut self.engine) {
                let (from, path) = (&self.from, self.from.path());
                engine.handle_input((0..received).map(|index| Datagram::new(path, from.frame(index))), NOW);
                to.send_some(engine.outbox(), &|_| true);
                engine.outbox().clear();
            } else if let Some(to) = &mut self.to {
                self.outbox.clear();
                for frame in (0..received).map(|index| self.from.frame(index)) {
                    let space = self.outbox.space(frame.len()).ok_or("the outbox is too small")?;
                    space.copy_from_slice(frame);
                    space[..6].copy_from_slice(&NOBODY.0);
                    self.outbox.commit(to.path(), true, frame.len());
                }
                to.send_some(&self.outbox, &|_| true);
            }
            passed += received;
            looks += 1;
            if looks > PATIENCE {
                return Err(format!("{}: of {BATCH} frames {passed} have come", self.from.kind()).into());
            }
        }
        Ok(())
    }
}

/// Realms on two ports, one with a grant to the other, past all that happens once: the addresses are claimed, the server's neighbour
/// entry is there, and a TCP session. Also gives the server's address as the client sees it.
fn appliance(near: &str, far: &str) -> Outcome<(Box<Engine>, Ipv4Addr)> {
    let realm = |name: &str, interface: &str, network: u8| {
        format!(
            "[[realm]]\nname = \"{name}\"\nnetworks = [\"10.{network}.0.0/24\"]\nattach = [{{ port = {{ interface = \"{interface}\", \
             address = \"10.{network}.0.1/24\" }} }}]\n"
        )
    };
    let grant = "[[grant]]\nfrom = [\"near\"]\nto = [\"realm:far\"]\nports = [\"any\"]\n";
    let appliance = Appliance::build(&[realm("near", near, 1), realm("far", far, 2), grant.to_owned()].concat());
    let IpAddr::V4(server) = appliance.seen_by("near", "far", &SERVER.to_string()) else {
        return Err("an IPv4 host has no IPv4 alias".into());
    };
    let mut engine = Box::new(appliance.engine(Timestamp::ZERO));
    let mut macs = Vec::new();
    for (number, name) in [(NEAR, near), (FAR, far)] {
        let mac = interface::mac(name)?.ok_or("no hardware address")?;
        let report = LinkReport { interface: number, is_up: true, mac, mtu_bytes: 1500 };
        engine.handle_link(report, Timestamp::ZERO);
        macs.push(mac);
    }
    while let Some((due, _)) = engine.poll_timeout().filter(|(due, _)| *due <= NOW) {
        engine.handle_timeout(due);
        engine.outbox().clear();
    }
    let ends = [CLIENT.into(), server.into()];
    let opening = packets::segment((ends[0], 1024), (ends[1], 9), (0, 0), 2, &[]);
    let answer = [
        &macs[1].0[..],
        &NOBODY.0,
        &[8, 6, 0, 1, 8, 0, 6, 4, 0, 2],
        &NOBODY.0,
        &SERVER.octets(),
        &macs[1].0,
        &[10, 2, 0, 1],
    ];
    for (interface, frame) in
        [(NEAR, [&macs[0].0[..], &[2, 0, 0, 0, 0, 1], &[8, 0], &opening].concat()), (FAR, answer.concat())]
    {
        let path = Path::frames(interface);
        engine.handle_input([Datagram::new(path, &frame)].into_iter(), NOW);
        engine.outbox().clear();
    }
    Ok((engine, server))
}

/// With an IP packet of `size_bytes`.
fn frame(next: Mac, server: Ipv4Addr, traffic: Traffic, number: usize, size_bytes: usize) -> Vec<u8> {
    let ends = [CLIENT, server].map(IpAddr::from);
    let packet = match traffic {
        Traffic::Udp => packets::udp((ends[0], 1024 + number as u16), (ends[1], 9), &vec![7; size_bytes - 28]),
        Traffic::Tcp => {
            let payload = vec![7; size_bytes - 40];
            packets::segment((ends[0], 1024), (ends[1], 9), ((number * payload.len()) as u32, 1), 0x10, &payload)
        }
    };
    [&next.0[..], &[2, 0, 0, 0, 0, 1], &[8, 0], &packet].concat()
}

fn pair(one: &str, other: &str) -> Outcome<()> {
    ip(&format!("link add name {one} type veth peer name {other}"))?;
    ip(&format!("link set dev {one} up"))?;
    ip(&format!("link set dev {other} up"))
}

fn let_kernel_forward(near: &str, far: &str) -> Outcome<()> {
    ip(&format!("address add 10.1.0.1/24 dev {near}"))?;
    ip(&format!("address add 10.2.0.1/24 dev {far}"))?;
    ip(&format!("neighbour add 10.2.0.2 lladdr {NOBODY} dev {far} nud permanent"))?;
    for name in [near, far] {
        fs::write(format!("/proc/sys/net/ipv4/conf/{name}/forwarding"), "1")?;
    }
    Ok(())
}

fn ip(arguments: &str) -> Outcome<()> {
    let output = Command::new("ip").args(arguments.split(' ')).output()?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("ip {arguments}: {}", String::from_utf8_lossy(&output.stderr).trim()).into())
}

fn bytes_received(name: &str) -> Outcome<u64> {
    let table = fs::read_to_string("/proc/thread-self/net/dev")?;
    let line = table.lines().find_map(|line| line.trim_start().strip_prefix(name)?.strip_prefix(':'));
    Ok(line.and_then(|line| line.split_whitespace().next()).ok_or("no such interface")?.parse()?)
}

/// What has been spent on this thread's behalf.
struct Spent {
    clock: Instant,
    /// Ready to run, while others did.
    waited: Duration,
    softirqs: Duration,
}

impl Spent {
    fn until_now() -> Outcome<Self> {
        let [_, waited] = schedule("/proc/thread-self")?;
        Ok(Spent { clock: Instant::now(), waited, softirqs: softirq_threads()? })
    }

    fn since(&self) -> Outcome<Duration> {
        let now = Self::until_now()?;
        let clock = now.clock - self.clock;
        Ok(clock.saturating_sub(now.waited - self.waited) + (now.softirqs - self.softirqs))
    }
}

fn softirq_threads() -> Outcome<Duration> {
    let mut sum = Duration::ZERO;
    for entry in fs::read_dir("/proc")?.filter_map(Result::ok) {
        let path = entry.path();
        if fs::read_to_string(path.join("comm")).is_ok_and(|name| name.starts_with("ksoftirqd/")) {
            sum += schedule(&path.to_string_lossy())?[0];
        }
    }
    Ok(sum)
}

/// How long a thread has run, and how long it was ready and did not.
fn schedule(path: &str) -> Outcome<[Duration; 2]> {
    let text = fs::read_to_string(format!("{path}/schedstat"))?;
    let mut nanos = text.split_whitespace().map(str::parse);
    let mut next = || Ok::<_, Box<dyn Error>>(Duration::from_nanos(nanos.next().ok_or("no schedstat")??));
    Ok([next()?, next()?])
}
