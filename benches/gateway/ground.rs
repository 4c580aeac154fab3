//! Where it happens: the sites' namespace (this process's own) and the gateway's, joined by two cables.
//!
//! ```text
//!  sites (core 1)                                    gw (core 0)
//!  a  198.51.100.2 .. 5  ═══ veth ═══  198.51.100.1   gwa ┐
//!  b  203.0.113.2        ═══ veth ═══  203.0.113.1    gwb ┘ the gateway under test
//! ```
//!
//! What arrives at an end of a cable is handled by that end's core (RPS): a sender pays for sending. Where packets are counted it is a
//! [`Sink`] instead that takes what arrives at B.

use std::fs::{self, File};
use std::net::{Ipv4Addr, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use ixgate::net::Mac;

pub type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

pub const GATEWAY_CORE: usize = 0;
pub const SITES_CORE: usize = 1;
pub const NAMESPACE: &str = "gw";
/// For all files of a run: in memory, so that no disk is waited for, and gone with the namespaces.
pub const DIRECTORY: &str = "/run/ixgate-bench";
/// Of the sites' namespace: /sys shows that of whoever mounted it.
const SITES_SYS: &str = "/run/ixgate-bench-sys";

/// One end of the appliance's world.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Side {
    A,
    B,
}

impl Side {
    pub fn cable(self) -> &'static str {
        match self {
            Side::A => "a",
            Side::B => "b",
        }
    }

    /// The gateway's end of the cable.
    pub fn port(self) -> &'static str {
        match self {
            Side::A => "gwa",
            Side::B => "gwb",
        }
    }

    pub fn gateway(self) -> Ipv4Addr {
        match self {
            Side::A => Ipv4Addr::new(198, 51, 100, 1),
            Side::B => Ipv4Addr::new(203, 0, 113, 1),
        }
    }

    /// The outer address of the site number `number`, from 0.
    pub fn site(self, number: u8) -> Ipv4Addr {
        let [a, b, c, _] = self.gateway().octets();
        Ipv4Addr::new(a, b, c, 2 + number)
    }

    /// As the other site sees this one; each calls itself [`PREFIX`].
    pub fn alias(self) -> &'static str {
        match self {
            Side::A => "100.64.1.0/24",
            Side::B => "100.64.2.0/24",
        }
    }

    pub fn other(self) -> Side {
        match self {
            Side::A => Side::B,
            Side::B => Side::A,
        }
    }
}

/// Of both sites.
pub const PREFIX: &str = "192.168.1.0/24";
pub const HOST_A: Ipv4Addr = Ipv4Addr::new(192, 168, 1, 10);
pub const HOST_B: Ipv4Addr = Ipv4Addr::new(192, 168, 1, 20);
pub const A_SEEN_BY_B: Ipv4Addr = Ipv4Addr::new(100, 64, 1, 10);
pub const B_SEEN_BY_A: Ipv4Addr = Ipv4Addr::new(100, 64, 2, 20);
/// Where plain frames to hosts are sent: nobody's, so that nothing but the sink cares.
pub const NOBODY: Mac = Mac([2, 0, 0, 0, 0, 0x99]);
/// Sent to see which core handles them.
const CHECKED_PACKETS: u64 = 2000;
/// Outer addresses of each side's sites.
const SITES: u8 = 6;

/// Builds all of it. This process is in namespaces of its own (network, mounts).
pub fn build() -> Outcome<()> {
    run("mount", &["--make-rprivate", "/"])?;
    run("mount", &["-t", "tmpfs", "tmpfs", "/run"])?;
    fs::create_dir(DIRECTORY)?;
    fs::create_dir(SITES_SYS)?;
    run("mount", &["-t", "sysfs", "sysfs", SITES_SYS])?;
    ip(&format!("netns add {NAMESPACE}"))?;
    ip("link set dev lo up")?;
    ip(&format!("-n {NAMESPACE} link set dev lo up"))?;
    for namespace in [None, Some(NAMESPACE)] {
        let settings = "for all in all default; do echo 1 > /proc/sys/net/ipv6/conf/$all/disable_ipv6; \
                        echo 0 > /proc/sys/net/ipv4/conf/$all/rp_filter; done";
        shell(namespace, settings)?;
    }
    for side in [Side::A, Side::B] {
        let (cable, port) = (side.cable(), side.port());
        ip(&format!("link add name {cable} type veth peer name {port} netns {NAMESPACE}"))?;
        for number in 0..SITES {
            ip(&format!("address add {}/24 dev {cable}", side.site(number)))?;
        }
        ip(&format!("-n {NAMESPACE} address add {}/24 dev {port}", side.gateway()))?;
        ip(&format!("link set dev {cable} up"))?;
        ip(&format!("-n {NAMESPACE} link set dev {port} up"))?;
        hand_over(side, true)?;
        shell(Some(NAMESPACE), &hand_over_to_gateway(side, true))?;
    }
    Ok(())
}

/// Whether what comes to the gateway's end of a cable is handled by its core; else by that of whoever receives it.
fn hand_over_to_gateway(side: Side, to_gateway: bool) -> String {
    let cores = if to_gateway { 1 << GATEWAY_CORE } else { 0 };
    format!("echo {cores:x} > /sys/class/net/{}/queues/rx-0/rps_cpus", side.port())
}

/// As long as this lives, the gateway receives what this side sends as from a network card: by polling (NAPI), on its own core, before all programs
/// (as softirqs do; in a thread, as else the sender's core would receive for it), and joined where packets can be (GRO).
pub struct LikeACard(Side);

impl LikeACard {
    pub fn start(side: Side) -> Outcome<Self> {
        if run("ethtool", &["--version"]).is_err() {
            return Err("NOT RUN: there is no ethtool (`apt-get install ethtool`)".into());
        }
        let (port, like) = (side.port(), LikeACard(side));
        // What comes from a socket that might have sent it joined, veth does not poll for.
        run("ethtool", &["-K", side.cable(), "tso", "off"])?;
        let script = format!(
            "{}; ethtool -K {port} gro on; echo 1 > /sys/class/net/{port}/threaded; sleep 0.1; threads=$(pgrep '^napi/{port}-'); test -n \"$threads\"; \
             for thread in $threads; do taskset -p -c {GATEWAY_CORE} $thread; chrt --fifo --pid 1 $thread; done",
            hand_over_to_gateway(side, false)
        );
        shell(Some(NAMESPACE), &script)?;
        Ok(like)
    }
}

impl Drop for LikeACard {
    fn drop(&mut self) {
        let port = self.0.port();
        let script = format!(
            "echo 0 > /sys/class/net/{port}/threaded; ethtool -K {port} gro off; {}",
            hand_over_to_gateway(self.0, true)
        );
        let done = [shell(Some(NAMESPACE), &script), run("ethtool", &["-K", self.0.cable(), "tso", "on"])];
        // The next rounds would be others than they are called.
        done.into_iter().filter_map(Result::err).for_each(|error| eprintln!("{error}"));
    }
}

/// Whether this side's cable carries runs as one, or cuts them into single packets as they leave the site.
pub fn cut_runs(side: Side, cut: bool) -> Outcome<()> {
    // Frames of a packet socket are judged by their size: the kernel does not count their segments.
    let (segments, bytes) = if cut { (1, 1600) } else { (65_535, 65_536) };
    ip(&format!("link set dev {} gso_max_segs {segments} gso_max_size {bytes}", side.cable()))
}

/// The hardware address of `name` in the gateway's namespace.
pub fn port_mac(name: &str) -> Outcome<Mac> {
    let text = shell(Some(NAMESPACE), &format!("cat /sys/class/net/{name}/address"))?;
    let bytes: Result<Vec<u8>, _> = text.trim().split(':').map(|byte| u8::from_str_radix(byte, 16)).collect();
    Ok(Mac(bytes?.try_into().map_err(|_| "a hardware address has six bytes")?))
}

/// Packets and bytes that have arrived at a site's end of a cable.
pub fn arrived(side: Side) -> Outcome<(u64, u64)> {
    let table = fs::read_to_string("/proc/thread-self/net/dev")?;
    let line = table.lines().find_map(|line| line.trim_start().strip_prefix(side.cable())?.strip_prefix(':'));
    let mut words = line.ok_or("no such interface")?.split_whitespace();
    let mut next = || Ok::<u64, Box<dyn std::error::Error>>(words.next().ok_or("no counter")?.parse()?);
    let (bytes, packets) = (next()?, next()?);
    Ok((packets, bytes))
}

/// As long as this lives, what arrives at a site's end of a cable is counted, and dropped there by the core that sent it; some of it goes on to
/// the site. So little is a wire's share of what a gateway does; to interrupt the other core for every packet takes longer (in a
/// virtual machine 2 us), and a network card does nothing like it.
pub struct Sink(Side);

impl Sink {
    /// `None`: all is dropped, but for one of so many.
    pub fn start(side: Side, but_for: Option<u64>) -> Outcome<Self> {
        let which = but_for.map_or_else(String::new, |every| format!("numgen inc mod {every} != 0 "));
        let rules = format!(
            "table netdev sink {{\nchain ingress {{\ntype filter hook ingress device {} priority 0;\nip protocol udp {which}drop\n}}\n}}\n",
            side.cable()
        );
        run("nft", &[rules.as_str()])?;
        let sink = Sink(side);
        hand_over(side, false)?;
        Ok(sink)
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        // Both fail only where there is none.
        let _ = hand_over(self.0, true);
        let _ = run("nft", &["delete table netdev sink"]);
    }
}

/// Whether what arrives at a site's end is handled by the sites' core; else by that of the sender.
fn hand_over(side: Side, to_sites: bool) -> Outcome<()> {
    let cores = if to_sites { 1 << SITES_CORE } else { 0 };
    fs::write(format!("{SITES_SYS}/class/net/{}/queues/rx-0/rps_cpus", side.cable()), format!("{cores:x}"))?;
    Ok(())
}

/// Whether what a site sends is really handled by the gateway's core, and by it alone.
pub fn check_cores() -> Outcome<()> {
    let socket = UdpSocket::bind((Side::A.site(0), 0))?;
    let before = handled_packets()?;
    for _ in 0..CHECKED_PACKETS / 50 {
        for _ in 0..50 {
            // Nobody listens there: the error of an earlier one may come back.
            let _ = socket.send_to(&[0; 64], (Side::A.gateway(), 9));
        }
        thread::sleep(Duration::from_millis(2));
    }
    let after = handled_packets()?;
    let handled: Vec<u64> = after.iter().zip(&before).map(|(after, before)| after - before).collect();
    if handled.get(GATEWAY_CORE).is_some_and(|packets| *packets >= CHECKED_PACKETS) {
        return Ok(());
    }
    Err(format!(
        "of {CHECKED_PACKETS} packets to the gateway the cores have handled {handled:?}: RPS does not work here"
    )
    .into())
}

/// By the network softirqs of each core.
fn handled_packets() -> Outcome<Vec<u64>> {
    let table = fs::read_to_string("/proc/net/softnet_stat")?;
    let first = |line: &str| u64::from_str_radix(line.split_whitespace().next().unwrap_or_default(), 16);
    Ok(table.lines().map(first).collect::<Result<_, _>>()?)
}

/// A program in the gateway's namespace and on its core, ended with this value, or with this process.
pub struct Program {
    child: Child,
    pub name: String,
    pub log: PathBuf,
}

impl Program {
    pub fn start(argv: &[&str], environment: &[(&str, &str)], log: &Path) -> Outcome<Self> {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", NAMESPACE, "taskset", "-c", &GATEWAY_CORE.to_string()]);
        Self::spawn(command, argv, environment, log)
    }

    /// The same in the sites' namespace, on another core.
    pub fn start_here(core: usize, argv: &[&str], environment: &[(&str, &str)], log: &Path) -> Outcome<Self> {
        let mut command = Command::new("taskset");
        command.args(["-c", &core.to_string()]);
        Self::spawn(command, argv, environment, log)
    }

    fn spawn(mut command: Command, argv: &[&str], environment: &[(&str, &str)], log: &Path) -> Outcome<Self> {
        let file = File::create(log)?;
        let child = command
            .args(["setpriv", "--pdeathsig", "KILL"])
            .args(argv)
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            .spawn()?;
        Ok(Program { child, name: argv[0].to_owned(), log: log.to_owned() })
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Fails when it has ended.
    pub fn check(&mut self) -> Outcome<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => {
                let log = fs::read_to_string(&self.log).unwrap_or_default();
                let tail: Vec<&str> = log.lines().rev().take(12).collect();
                let tail: Vec<&str> = tail.into_iter().rev().collect();
                Err(format!("{} has ended ({status}):\n{}", self.name, tail.join("\n")).into())
            }
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // Both fail only when it has ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub fn ip(arguments: &str) -> Outcome<()> {
    run("ip", &arguments.split(' ').collect::<Vec<_>>()).map(drop)
}

/// What a shell script prints, in a namespace or here.
pub fn shell(namespace: Option<&str>, script: &str) -> Outcome<String> {
    match namespace {
        None => run("sh", &["-ec", script]),
        Some(namespace) => run("ip", &["netns", "exec", namespace, "sh", "-ec", script]),
    }
}

/// What a program prints that has to succeed.
pub fn run(program: &str, arguments: &[&str]) -> Outcome<String> {
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).output();
    let output = output.map_err(|error| format!("{program}: {error}"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let words = String::from_utf8_lossy(&output.stderr);
    Err(format!("{program} {}: {}", arguments.join(" "), words.trim()).into())
}
