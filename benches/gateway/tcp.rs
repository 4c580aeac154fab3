//! The kernel's own TCP from site to site: a program that writes, one that reads. The sites' gateways are wireguard-go with offload, on the
//! sites' core with them, which is what bounds the speed: the gateway under test is told by what it costs per gigabyte.
//!
//! Both sites are in this namespace: what one sends to the other's alias is not local, and goes into its own tunnel.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::cost::{Cost, Meter};
use crate::ground::{A_SEEN_BY_B, B_SEEN_BY_A, HOST_A, HOST_B, Outcome, Program, SITES_CORE, Side, ip, run};
use crate::site::WIREGUARD_PORT;
use crate::under_test::{Running, write_secret};

const PORT: u16 = 5201;
const WRITE_BYTES: usize = 128 << 10;
const MTU: usize = 1420;
const PATIENCE: Duration = Duration::from_secs(10);
/// For slow start, and for the tunnels to come up.
const WARM_UP: Duration = Duration::from_millis(700);

/// What a connection has carried.
pub struct Carried {
    pub bytes: u64,
    pub cost: Cost,
}

impl Carried {
    pub fn seconds_per_gb(&self) -> f64 {
        self.cost.total().as_secs_f64() / (self.bytes as f64 / 1e9)
    }

    pub fn gbit_per_sec(&self) -> f64 {
        self.bytes as f64 * 8.0 / 1e9 / self.cost.wall.as_secs_f64()
    }
}

/// wireguard-go before both sites.
pub struct Gateways {
    programs: Vec<Program>,
}

impl Gateways {
    pub fn start(running: &Running, wireguard_go: &Path, directory: &Path) -> Outcome<Self> {
        let mut gateways = Gateways { programs: Vec::new() };
        for (side, host, seen, name) in [(Side::A, HOST_A, B_SEEN_BY_A, "a"), (Side::B, HOST_B, A_SEEN_BY_B, "b")] {
            let device = device(side);
            let binary = wireguard_go.to_string_lossy();
            let log = directory.join(format!("{device}.log"));
            let environment = [("LOG_LEVEL", "error")];
            gateways.programs.push(Program::start_here(SITES_CORE, &[&binary, "-f", device], &environment, &log)?);
            let socket = format!("/var/run/wireguard/{device}.sock");
            let start = Instant::now();
            while !Path::new(&socket).exists() {
                gateways.check()?;
                if start.elapsed() > PATIENCE {
                    return Err(format!("{socket} does not appear").into());
                }
                thread::sleep(Duration::from_millis(20));
            }
            let key = directory.join(format!("{device}.key"));
            write_secret(&key, &STANDARD.encode(running.appliance.site_key(name)))?;
            let endpoint = SocketAddr::from((side.gateway(), running.wireguard_port(side))).to_string();
            let peer = STANDARD.encode(running.appliance.public_key);
            // Both sites are here: each has a port of its own.
            let port = (WIREGUARD_PORT + u16::from(side == Side::B)).to_string();
            let key = key.to_string_lossy();
            let words =
                ["set", device, "listen-port", &port, "private-key", &key, "peer", &peer, "endpoint", &endpoint];
            run("wg", &[&words[..], &["allowed-ips", "0.0.0.0/0", "persistent-keepalive", "1"]].concat())?;
            ip(&format!("address add {host}/32 dev {device}"))?;
            ip(&format!("link set dev {device} mtu {MTU} up"))?;
            ip(&format!("route replace {seen}/32 dev {device} src {host}"))?;
        }
        Ok(gateways)
    }

    fn check(&mut self) -> Outcome<()> {
        self.programs.iter_mut().try_for_each(Program::check)
    }
}

impl Drop for Gateways {
    fn drop(&mut self) {
        self.programs.clear();
        for side in [Side::A, Side::B] {
            let _ = fs::remove_file(format!("/var/run/wireguard/{}.sock", device(side)));
        }
    }
}

fn device(side: Side) -> &'static str {
    match side {
        Side::A => "sitea",
        Side::B => "siteb",
    }
}

/// Connected through the tunnels, which come up meanwhile.
pub struct Connection {
    writer: TcpStream,
    reader: TcpStream,
}

impl Connection {
    pub fn open() -> Outcome<Self> {
        let listener = TcpListener::bind((HOST_B, PORT))?;
        listener.set_nonblocking(true)?;
        let start = Instant::now();
        loop {
            let connected = TcpStream::connect_timeout(&(B_SEEN_BY_A, PORT).into(), Duration::from_secs(1));
            // Of earlier tries something may have come, too.
            let accepted = std::iter::from_fn(|| listener.accept().ok()).last();
            match (connected, accepted) {
                (Ok(writer), Some((reader, from))) if from.port() == writer.local_addr()?.port() => {
                    if from.ip() != A_SEEN_BY_B {
                        return Err(format!("A is seen as {}", from.ip()).into());
                    }
                    reader.set_nonblocking(false)?;
                    return Ok(Connection { writer, reader });
                }
                (Err(error), _) if start.elapsed() > PATIENCE => return Err(format!("no connection: {error}").into()),
                _ if start.elapsed() > PATIENCE => return Err("no connection".into()),
                _ => {}
            }
        }
    }

    /// As fast as it goes.
    pub fn carry(&mut self, running: &mut Running, duration: Duration) -> Outcome<Carried> {
        let soaker = running.soaker()?;
        let (received, is_over) = (AtomicU64::new(0), AtomicBool::new(false));
        self.writer.set_write_timeout(Some(Duration::from_millis(100)))?;
        self.reader.set_read_timeout(Some(Duration::from_millis(100)))?;
        let (writer, reader) = (&mut self.writer, &mut self.reader);
        thread::scope(|scope| {
            let (is_over, received) = (&is_over, &received);
            let writes = scope.spawn(move || write_all(writer, || !is_over.load(Ordering::Relaxed)));
            let reads = scope.spawn(move || read_all(reader, || !is_over.load(Ordering::Relaxed), received));
            thread::sleep(WARM_UP);
            let measured = (|| {
                let meter = Meter::start(&running.processes(), soaker.as_ref())?;
                let before = received.load(Ordering::Relaxed);
                thread::sleep(duration);
                let cost = meter.read()?;
                let bytes = received.load(Ordering::Relaxed) - before;
                running.check()?;
                if bytes == 0 { Err("nothing arrives".into()) } else { Ok(Carried { bytes, cost }) }
            })();
            is_over.store(true, Ordering::Relaxed);
            for thread in [writes, reads] {
                thread.join().map_err(|_| "a thread has panicked")??;
            }
            measured
        })
    }
}

fn write_all(stream: &mut TcpStream, goes_on: impl Fn() -> bool) -> std::io::Result<()> {
    let bytes = vec![0x5a; WRITE_BYTES];
    while goes_on() {
        match stream.write(&bytes) {
            Err(error) if error.kind() != ErrorKind::WouldBlock => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

fn read_all(stream: &mut TcpStream, goes_on: impl Fn() -> bool, received: &AtomicU64) -> std::io::Result<()> {
    let mut bytes = vec![0; WRITE_BYTES];
    while goes_on() {
        match stream.read(&mut bytes) {
            Ok(len) => drop(received.fetch_add(len as u64, Ordering::Relaxed)),
            Err(error) if error.kind() != ErrorKind::WouldBlock => return Err(error),
            Err(_) => {}
        }
    }
    Ok(())
}
