//! What an appliance still does when it is offered more than one core can carry.
//!
//! `cargo bench --bench overload` starts the `ixgate` binary on core 0 and floods it from core 1, over UDP on loopback. One
//! tunnel floods with packets that were sealed ahead, at rates up to what this core can send; meanwhile another tunnel asks
//! the IX's name server, and peers that were never seen call. Per rate it prints what was forwarded, and what came of the
//! questions and of the handshakes, each sent once and never again. Its absolute figures mean little on a shared machine.
//!
//! `-- --size 64 --runs 1 --rates 100,400 --seconds 1` picks: bytes of an inner packet, datagrams in a message (1: no offload),
//! thousands of packets a second, for how long. `-- --idle` measures one packet at a time instead, beside a plain UDP echo.
//! In the environment, `IXGATE` is another binary, and `WRAPPER` what it is run by, such as `nice -n 9`.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, TcpStream, UdpSocket as PlainSocket};
use std::os::fd::AsFd;
use std::path::Path as FilePath;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ixgate::io::poller::Poller;
use ixgate::io::udp::{Offload, UdpSocket};
use ixgate::net::Path;
use ixgate::packet::Outbox;
use ixgate::sim::appliance::Appliance;
use ixgate::sim::packets;
use ixgate::sim::peer::{Peer, public_key};

const WIREGUARD: &str = "127.0.0.1:52820";
const METRICS: &str = "127.0.0.1:52469";
/// Peers that call once in each phase.
const CALLERS: usize = 100;
/// The key of the appliance that [`Appliance`] has, too.
const PRIVATE_KEY: [u8; 32] = [0x42; 32];
/// Every this long a question, a call.
const PROBE_EVERY: Duration = Duration::from_millis(5);
/// What is sealed ahead takes no more memory than this.
const MAX_SEALED_BYTES: usize = 1 << 30;

fn main() {
    if std::env::var_os("OVERLOAD_PINNED").is_none() {
        let program = std::env::current_exe().unwrap();
        let mut again = Command::new("taskset");
        again.arg("-c").arg("1").arg(program).args(std::env::args().skip(1)).env("OVERLOAD_PINNED", "1");
        std::process::exit(again.status().expect("taskset").code().unwrap_or(1));
    }
    let directory = tempfile::tempdir().unwrap();
    let mut bench = Bench::start(directory.path());
    if std::env::args().any(|arg| arg == "--idle") {
        return bench.idle();
    }
    let size = number("--size").unwrap_or(64);
    let run = number("--runs").unwrap_or(1);
    let seconds = argument("--seconds").map_or(1.0, |words| words.parse().unwrap());
    let rates = argument("--rates").unwrap_or_else(|| "50,100,200,400,800".to_owned());
    println!("inner packets of {size} bytes, {run} to a message");
    println!(
        "{:>10} {:>10} {:>10} {:>7} {:>10} {:>10} {:>12} {:>12}",
        "asked k/s", "sent k/s", "fwd k/s", "share", "DNS", "calls", "DNS p50 ms", "DNS p99 ms"
    );
    for rate in rates.split(',').map(|words| words.parse::<f64>().unwrap() * 1e3) {
        bench.flood(size, run, rate, seconds);
    }
}

/// What stands behind `name` on the command line.
fn argument(name: &str) -> Option<String> {
    std::env::args().skip_while(|arg| arg != name).nth(1)
}

fn number(name: &str) -> Option<usize> {
    argument(name)?.parse().ok()
}

struct Bench {
    ixgate: Child,
    flooder: Site,
    quiet: Site,
    sink: Site,
    callers: Vec<Site>,
    alias_of_sink: Ipv4Addr,
    resolver: Ipv4Addr,
}

/// A gateway with a socket.
struct Site {
    peer: Peer,
    socket: PlainSocket,
}

impl Site {
    fn new(appliance: &Appliance, name: &str, number: u32) -> Self {
        let socket = PlainSocket::bind("127.0.0.1:0").unwrap();
        socket.connect(WIREGUARD).unwrap();
        socket.set_nonblocking(true).unwrap();
        Site { peer: Peer::new(appliance.site_key(name), appliance.public_key, None, number), socket }
    }

    /// Inner packets; handshakes are answered.
    fn receive(&mut self) -> Vec<Vec<u8>> {
        let mut buffer = [0; 2048];
        let mut packets = Vec::new();
        while let Ok(len) = self.socket.recv(&mut buffer) {
            let received = self.peer.receive(&buffer[..len]);
            received.datagrams.iter().for_each(|datagram| drop(self.socket.send(datagram)));
            packets.extend(received.packet);
        }
        packets
    }

    fn shake_hands(&mut self) {
        let mut buffer = [0; 2048];
        for _ in 0..10 {
            while self.socket.recv(&mut buffer).is_ok() {}
            self.socket.send(&self.peer.initiate().unwrap()).unwrap();
            let end = Instant::now() + Duration::from_millis(500);
            while Instant::now() < end {
                let Ok(len) = self.socket.recv(&mut buffer) else { continue };
                let is_answer = buffer[0] == 2;
                let received = self.peer.receive(&buffer[..len]);
                received.datagrams.iter().for_each(|datagram| drop(self.socket.send(datagram)));
                // An answer to an earlier call opens nothing.
                if is_answer && !received.refused {
                    return;
                }
            }
        }
        panic!("no handshake");
    }
}

impl Bench {
    fn start(directory: &FilePath) -> Self {
        let text = config();
        let appliance = Appliance::build(&text);
        std::fs::create_dir(directory.join("secrets")).unwrap();
        write_secret(&directory.join("secrets/wireguard.key"), &STANDARD.encode(PRIVATE_KEY));
        let mut real = text.clone();
        for name in names() {
            let key = STANDARD.encode(public_key(&appliance.site_key(&name)));
            real = real.replace(&format!("{{key:{name}}}"), &key);
        }
        let file = directory.join("ixgate.toml");
        std::fs::write(&file, real).unwrap();
        let binary = std::env::var("IXGATE").unwrap_or_else(|_| env!("CARGO_BIN_EXE_ixgate").to_owned());
        let wrapper = std::env::var("WRAPPER").unwrap_or_default();
        let mut command = Command::new("taskset");
        command.args(["-c", "0"]).args(wrapper.split_whitespace()).arg(binary).arg("run").arg(&file);
        let ixgate = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let end = Instant::now() + Duration::from_secs(20);
        while TcpStream::connect(METRICS).is_err() {
            assert!(Instant::now() < end, "ixgate does not start");
            std::thread::sleep(Duration::from_millis(20));
        }
        let site = |name: &str, number| Site::new(&appliance, name, number);
        let callers = (0..CALLERS).map(|number| site(&caller(number), 100 + number as u32)).collect();
        let mut bench = Bench {
            ixgate,
            flooder: site("flooder", 1),
            quiet: site("quiet", 2),
            sink: site("sink", 3),
            callers,
            alias_of_sink: appliance.alias_of("sink"),
            resolver: appliance.resolver_of("quiet").unwrap(),
        };
        bench.flooder.shake_hands();
        bench.sink.shake_hands();
        bench
    }

    fn flood(&mut self, size: usize, run: usize, rate: f64, seconds: f64) {
        self.flooder.shake_hands();
        self.quiet.shake_hands();
        self.sink.shake_hands();
        let packets = ((rate * seconds) as usize).min(MAX_SEALED_BYTES / (size + 60));
        let offload = if run > 1 { Offload::Auto } else { Offload::Off };
        let mut socket = UdpSocket::bind_with("127.0.0.1:0".parse().unwrap(), offload).unwrap();
        let path = Path::to(WIREGUARD.parse().unwrap());
        // About 200 us each at the rate that is asked for.
        let per_outbox = ((rate / 5_000.0) as usize).clamp(run.max(8), 512);
        let mut outboxes = Vec::new();
        let mut left = packets;
        while left > 0 {
            let mut outbox = Outbox::new(per_outbox * (size + 64), per_outbox + 1);
            for number in 0..per_outbox.min(left) {
                // A new run begins where this changes; on loopback nothing is cut.
                outbox.let_fragment((number / run) % 2 == 1 && run > 1);
                let datagram = self.flooder.peer.send(&self.packet(size)).unwrap();
                assert!(outbox.push(path, true, &datagram));
            }
            left -= per_outbox.min(left);
            outboxes.push(outbox);
        }
        let before = counted(&self.metrics(), SENT_TO_SINK);
        let mut probes = Probes::default();
        let start = Instant::now();
        let mut sent = 0.0;
        for outbox in &outboxes {
            while start.elapsed().as_secs_f64() * rate < sent {
                self.probe(&mut probes, start);
            }
            sent += socket.send(outbox).sent_datagrams as f64;
            self.probe(&mut probes, start);
        }
        let took = start.elapsed().as_secs_f64();
        let forwarded = (counted(&self.metrics(), SENT_TO_SINK) - before) / took;
        let end = Instant::now() + Duration::from_millis(300);
        while Instant::now() < end {
            self.listen(&mut probes);
        }
        println!(
            "{:>10.0} {:>10.0} {:>10.0} {:>6.1}% {:>10} {:>10} {:>12.2} {:>12.2}",
            rate / 1e3,
            sent / took / 1e3,
            forwarded / 1e3,
            forwarded * took / sent * 100.0,
            format!("{}/{}", probes.answers.len(), probes.asked.len()),
            format!("{}/{}", probes.called_back, probes.calls),
            percentile(&mut probes.answers, 50),
            percentile(&mut probes.answers, 99),
        );
        self.sink.receive();
    }

    fn packet(&self, size: usize) -> Vec<u8> {
        let source = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));
        packets::udp((source, 1024), (IpAddr::V4(self.alias_of_sink), 443), &vec![0x5a; size - 28])
    }

    fn probe(&mut self, probes: &mut Probes, start: Instant) {
        let due = start.elapsed().as_nanos() / PROBE_EVERY.as_nanos();
        if due > probes.rounds {
            probes.rounds += 1;
            let number = probes.asked.len() as u16;
            probes.asked.push(Instant::now());
            let query = packets::udp(
                (IpAddr::V4(Ipv4Addr::new(10, 0, 0, 9)), 2000),
                (IpAddr::V4(self.resolver), 53),
                &question(number),
            );
            let datagram = self.quiet.peer.send(&query).unwrap();
            self.quiet.socket.send(&datagram).unwrap();
            if probes.calls < CALLERS {
                let caller = &mut self.callers[probes.calls];
                let initiation = caller.peer.initiate().unwrap();
                caller.socket.send(&initiation).unwrap();
                probes.calls += 1;
            }
        }
        self.listen(probes);
    }

    fn listen(&mut self, probes: &mut Probes) {
        for packet in self.quiet.receive() {
            let number = usize::from(u16::from_be_bytes([packet[28], packet[29]]));
            probes.answers.push(probes.asked[number].elapsed().as_secs_f64() * 1e3);
        }
        let mut buffer = [0; 2048];
        for caller in &self.callers[..probes.calls] {
            while let Ok(len) = caller.socket.recv(&mut buffer) {
                probes.called_back += usize::from(len == 92);
            }
        }
    }

    /// One packet at a time through the appliance, and through a plain echo of the same sockets.
    fn idle(&mut self) {
        let rounds = number("--rounds").unwrap_or(20_000);
        let echo = PlainSocket::bind("127.0.0.1:0").unwrap();
        let address = echo.local_addr().unwrap();
        let out = PlainSocket::bind("127.0.0.1:0").unwrap();
        let plain_sink = PlainSocket::bind("127.0.0.1:0").unwrap();
        plain_sink.set_nonblocking(true).unwrap();
        let to = plain_sink.local_addr().unwrap();
        std::thread::spawn(move || {
            pin_this_thread(0);
            // As the appliance waits: a thread that sleeps in `recv` is woken later.
            let mut poller = Poller::new().unwrap();
            poller.add(echo.as_fd(), 0).unwrap();
            let mut buffer = [0; 2048];
            loop {
                poller.wait(None).unwrap();
                let len = echo.recv(&mut buffer).unwrap();
                let _ = out.send_to(&buffer[..len], to);
            }
        });
        let plain = PlainSocket::bind("127.0.0.1:0").unwrap();
        plain.connect(address).unwrap();
        for size in [64, 1400] {
            let mut ways = [Vec::new(), Vec::new()];
            let waits = Duration::from_micros(argument("--pause-us").map_or(50, |words| words.parse().unwrap()));
            for _ in 0..rounds {
                let datagram = self.flooder.peer.send(&self.packet(size)).unwrap();
                pause(waits);
                let start = Instant::now();
                self.flooder.socket.send(&datagram).unwrap();
                ways[0].push(wait_for(&self.sink.socket, start));
            }
            for _ in 0..rounds {
                let datagram = self.flooder.peer.send(&self.packet(size)).unwrap();
                pause(waits);
                let start = Instant::now();
                plain.send(&datagram).unwrap();
                ways[1].push(wait_for(&plain_sink, start));
            }
            let words = |way: &mut Vec<f64>| {
                let [p50, p90, p99, p999] = [500, 900, 990, 999].map(|per_mille| of_thousand(way, per_mille));
                format!("p50 {p50:>7.1} p90 {p90:>7.1} p99 {p99:>7.1} p99.9 {p999:>7.1} us")
            };
            let [appliance, plain] = &mut ways;
            println!("{size:>5} bytes  appliance  {}", words(appliance));
            println!("{size:>5} bytes  plain      {}", words(plain));
        }
    }

    fn metrics(&self) -> String {
        let mut stream = TcpStream::connect(METRICS).unwrap();
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: ix\r\nConnection: close\r\n\r\n").unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        if std::env::args().any(|arg| arg == "--metrics") {
            self.metrics().lines().filter(|line| line.starts_with("ixgate_socket")).for_each(|line| println!("{line}"));
        }
        let _ = Command::new("kill").arg(self.ixgate.id().to_string()).status();
        let _ = self.ixgate.wait();
    }
}

const SENT_TO_SINK: &str = "ixgate_realm_sent_packets_total{realm=\"sink\"}";

fn counted(metrics: &str, name: &str) -> f64 {
    let line = metrics.lines().find(|line| line.starts_with(name));
    line.and_then(|line| line.rsplit(' ').next()).map_or(0.0, |value| value.parse().unwrap())
}

#[derive(Default)]
struct Probes {
    rounds: u128,
    asked: Vec<Instant>,
    /// Milliseconds.
    answers: Vec<f64>,
    calls: usize,
    called_back: usize,
}

fn percentile(values: &mut [f64], percent: usize) -> f64 {
    of_thousand(values, percent * 10)
}

fn of_thousand(values: &mut [f64], per_mille: usize) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get((values.len() * per_mille / 1000).min(values.len().saturating_sub(1))).copied().unwrap_or(f64::NAN)
}

fn pause(length: Duration) {
    let start = Instant::now();
    while start.elapsed() < length {
        std::hint::spin_loop();
    }
}

/// Microseconds until something has come.
fn wait_for(socket: &PlainSocket, start: Instant) -> f64 {
    let mut buffer = [0; 2048];
    while start.elapsed() < Duration::from_millis(200) {
        if socket.recv(&mut buffer).is_ok() {
            return start.elapsed().as_secs_f64() * 1e6;
        }
    }
    f64::INFINITY
}

fn pin_this_thread(core: usize) {
    let thread = std::fs::read_link("/proc/thread-self").unwrap();
    let id = thread.file_name().unwrap().to_owned();
    let status = Command::new("taskset").args(["-cp", &core.to_string()]).arg(id).stdout(Stdio::null()).status();
    assert!(status.unwrap().success());
}

/// A name that the IX knows to be none.
fn question(number: u16) -> Vec<u8> {
    let mut query = number.to_be_bytes().to_vec();
    query.extend([1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    for label in ["pacs", "ix", "example"] {
        query.push(label.len() as u8);
        query.extend(label.as_bytes());
    }
    query.extend([0, 0, 1, 0, 1]);
    query
}

fn names() -> Vec<String> {
    let fixed = ["flooder", "quiet", "sink"].map(str::to_owned);
    fixed.into_iter().chain((0..CALLERS).map(caller)).collect()
}

fn caller(number: usize) -> String {
    format!("caller{number}")
}

fn config() -> String {
    let mut text = format!(
        "[ix]\ndomain = \"ix.example\"\n[metrics]\nlisten = \"{METRICS}\"\n[wireguard]\nlisten = \"{WIREGUARD}\"\n\
         private_key_file = \"secrets/wireguard.key\"\n"
    );
    for name in names() {
        text += &format!(
            "[[realm]]\nname = \"{name}\"\nnetworks = [\"10.0.0.0/24\"]\nattach = [{{ wireguard = {{ public_key = \"{{key:{name}}}\" }} }}]\n"
        );
    }
    text + "[[grant]]\nfrom = [\"flooder\"]\nto = [\"realm:sink\"]\nports = [\"any\"]\n"
}

fn write_secret(path: &FilePath, text: &str) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
}
