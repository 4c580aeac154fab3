//! Sites on real UDP sockets of this machine's loopback interface, all in one thread.
//!
//! The appliance that they talk to is whatever listens at the address: it cannot tell them from gateways far away.

use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::thread;
use std::time::Duration;

use super::site::Site;
use crate::net::Timestamp;

/// Taken from one site's socket before the others have their turn.
const MAX_DATAGRAMS_PER_TURN: usize = 64;
const MAX_DATAGRAM_BYTES: usize = 2048;
/// When nothing has come for anybody: short against the milliseconds that a person or a retransmission takes.
const IDLE: Duration = Duration::from_micros(500);

#[derive(Debug, thiserror::Error)]
pub enum LoopbackError {
    #[error("cannot open a UDP socket on 127.0.0.1: {0}; the demonstration needs nothing but the loopback interface")]
    Open(io::Error),
    #[error("cannot send from site {site} on the loopback interface: {error}")]
    Send { site: usize, error: io::Error },
    #[error("cannot receive at site {site} on the loopback interface: {error}")]
    Receive { site: usize, error: io::Error },
}

/// The sites, the clock that they go by, and the time when all of it must be over.
pub struct Loopback<'a> {
    clock: &'a dyn Fn() -> Timestamp,
    end: Timestamp,
    appliance: SocketAddr,
    sites: Vec<(Site, UdpSocket)>,
}

impl<'a> Loopback<'a> {
    /// Nothing here waits longer than `patience` in all.
    pub fn new(appliance: SocketAddr, clock: &'a dyn Fn() -> Timestamp, patience: Duration) -> Self {
        Loopback { clock, end: clock() + patience, appliance, sites: Vec::new() }
    }

    pub fn now(&self) -> Timestamp {
        (self.clock)()
    }

    /// Gives the site a socket; its number is its place.
    pub fn attach(&mut self, site: Site) -> Result<usize, LoopbackError> {
        let socket = open(self.appliance).map_err(LoopbackError::Open)?;
        self.sites.push((site, socket));
        Ok(self.sites.len() - 1)
    }

    /// # Panics
    /// When `site` is no number that [`Loopback::attach`] gave.
    pub fn site(&mut self, site: usize) -> &mut Site {
        &mut self.sites[site].0
    }

    /// Carries datagrams until `outcome` gives something. `None`: it did not within `patience`, or the time of all is up.
    pub fn run_until<T>(
        &mut self,
        patience: Duration,
        mut outcome: impl FnMut(&mut Self) -> Option<T>,
    ) -> Result<Option<T>, LoopbackError> {
        let until = self.end.min(self.now() + patience);
        loop {
            let is_idle = self.turn()?;
            if let Some(outcome) = outcome(self) {
                return Ok(Some(outcome));
            }
            if self.now() >= until {
                return Ok(None);
            }
            if is_idle {
                thread::sleep(IDLE);
            }
        }
    }

    /// `true`: nothing has come.
    fn turn(&mut self) -> Result<bool, LoopbackError> {
        let mut is_idle = true;
        for number in 0..self.sites.len() {
            let now = self.now();
            let (site, socket) = &mut self.sites[number];
            site.handle_timeout(now);
            send(site, socket).map_err(|error| LoopbackError::Send { site: number, error })?;
            let received = receive(site, socket, now);
            is_idle &= received.map_err(|error| LoopbackError::Receive { site: number, error })? == 0;
            send(site, socket).map_err(|error| LoopbackError::Send { site: number, error })?;
        }
        Ok(is_idle)
    }
}

/// Connected, so that datagrams from anywhere else do not come in.
fn open(appliance: SocketAddr) -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    socket.connect(appliance)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

fn send(site: &mut Site, socket: &UdpSocket) -> io::Result<()> {
    while let Some(datagram) = site.poll_transmit() {
        match socket.send(&datagram) {
            // Lost, as on any network: the stacks above know what to do.
            Err(error) if is_loss(&error) => {}
            result => drop(result?),
        }
    }
    Ok(())
}

/// How many datagrams.
fn receive(site: &mut Site, socket: &UdpSocket, now: Timestamp) -> io::Result<usize> {
    let mut buffer = [0; MAX_DATAGRAM_BYTES];
    for received in 0..MAX_DATAGRAMS_PER_TURN {
        match socket.recv(&mut buffer) {
            Ok(len) => site.handle_input(&buffer[..len], now),
            Err(error) if is_loss(&error) => return Ok(received),
            Err(error) => return Err(error),
        }
    }
    Ok(MAX_DATAGRAMS_PER_TURN)
}

/// Nothing there, no room, a signal, or nobody listening at the other end (yet, or any more).
fn is_loss(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::ConnectionRefused | ErrorKind::Interrupted)
}

#[cfg(all(test, not(feature = "sim")))]
mod tests {
    use std::cell::Cell;

    use super::super::peer::{Peer, public_key};
    use super::*;

    #[test]
    fn an_appliance_that_is_not_there_costs_patience_and_no_more() {
        let gone = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        // Every look at the clock takes 100 ms.
        let time = Cell::new(Timestamp::from_secs(1));
        let clock = || {
            time.set(time.get() + Duration::from_millis(100));
            time.get()
        };
        let mut loopback = Loopback::new(gone, &clock, Duration::from_secs(5));
        let peer = Peer::new([1; 32], public_key(&[2; 32]), None, 1);
        let site = Site::new(peer, &["192.168.1.10".parse().unwrap()], 1, loopback.now()).unwrap();
        let site = loopback.attach(site).unwrap();
        let is_up = |loopback: &mut Loopback<'_>| loopback.site(site).is_up().then_some(());
        assert_eq!(loopback.run_until(Duration::from_secs(2), is_up).unwrap(), None);
        assert!(loopback.now() < Timestamp::from_secs(5));
        // The time of all is shorter than this patience.
        assert_eq!(loopback.run_until(Duration::from_secs(3600), is_up).unwrap(), None);
        assert!(loopback.now() < Timestamp::from_secs(8), "{:?}", loopback.now());
    }
}
