//! Follows interfaces by netlink (rtnetlink(7)): up and down, hardware address, MTU, gone and come again.
//!
//! The kernel tells of every change by multicast; at the start, and whenever it had no room to tell, everything is asked for
//! anew, by a new socket. A change is heard within the time that it takes to wake a thread. (Of an interface that flaps, the kernel
//! itself tells at most once a second.)
//!
//! ```text
//! routes   what a routing daemon has learned
//! ways     by which device and neighbour the kernel would send to a remote
//! policies whether the kernel has IPsec policies
//! message  bytes to messages    table  messages to news of the interfaces that are followed    socket  system calls
//! ```

mod message;
pub mod policies;
pub mod routes;
mod socket;
mod table;
pub mod ways;

use std::io;
use std::thread;
use std::time::Duration;

use self::socket::{BUFFER_BYTES, Socket};
pub use self::table::News;
use self::table::Table;
use super::poller::{Poller, Waker};
use crate::net::InterfaceId;

/// The poller's token.
const SOCKET: u8 = 0;
/// Before everything is asked for anew: a storm of changes must not become one of questions.
const PAUSE: Duration = Duration::from_millis(10);

/// [`Links::wait`], then drain [`Links::poll_news`], again and again.
#[derive(Debug)]
pub struct Links {
    socket: Option<Socket>,
    poller: Poller,
    table: Table,
    buffer: Vec<u8>,
}

impl Links {
    pub fn new() -> io::Result<Self> {
        Ok(Links { socket: None, poller: Poller::new()?, table: Table::default(), buffer: vec![0; BUFFER_BYTES] })
    }

    /// Ends a wait.
    pub fn waker(&self) -> Waker {
        self.poller.waker()
    }

    /// From now on, these.
    pub fn follow(&mut self, names: impl Iterator<Item = (InterfaceId, String)>) {
        self.table.follow(names);
    }

    /// Until something was heard, or somebody called the waker, or so much time has passed (`None`: for ever).
    pub fn wait(&mut self, at_most: Option<Duration>) -> io::Result<()> {
        if self.table.begin_dump() {
            if self.socket.is_some() {
                thread::sleep(PAUSE);
            }
            let socket = Socket::open_following_links()?;
            self.poller.add(socket.fd(), SOCKET)?;
            socket.send(&message::request_links(1))?;
            // Closes the one before, which the poller then forgets.
            self.socket = Some(socket);
        }
        self.poller.wait(at_most)?;
        let Some(socket) = &self.socket else { return Ok(()) };
        while let Some(len) = socket.receive(&mut self.buffer).transpose() {
            match len {
                Ok(len) => message::read(&self.buffer[..len]).for_each(|message| self.table.handle_message(message)),
                Err(error) if socket::is_loss(&error) => {
                    self.table.handle_loss();
                    return Ok(());
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    pub fn poll_news(&mut self) -> Option<News> {
        self.table.poll_news()
    }
}

/// Tells that something about any interface has changed, and not what.
#[derive(Debug)]
pub struct Changes {
    socket: Socket,
    poller: Poller,
    buffer: Vec<u8>,
}

impl Changes {
    pub fn new() -> io::Result<Self> {
        let (socket, poller) = (Socket::open_following_links()?, Poller::new()?);
        poller.add(socket.fd(), SOCKET)?;
        Ok(Changes { socket, poller, buffer: vec![0; BUFFER_BYTES] })
    }

    /// Ends a wait.
    pub fn waker(&self) -> Waker {
        self.poller.waker()
    }

    /// Until something has changed, or somebody called the waker. Many changes together are one.
    pub fn wait(&mut self) -> io::Result<()> {
        if !self.poller.wait(None)?.woken {
            thread::sleep(PAUSE);
        }
        loop {
            match self.socket.receive(&mut self.buffer) {
                Ok(Some(_)) => {}
                Ok(None) => return Ok(()),
                // Much has changed.
                Err(error) if socket::is_loss(&error) => {}
                Err(error) => return Err(error),
            }
        }
    }
}

/// Of the machine's own kernel: no privilege is needed to look.
#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_is_followed_and_what_is_not_there_is_told() {
        let mut links = Links::new().unwrap();
        let names = [(InterfaceId(3), "lo".to_owned()), (InterfaceId(4), "ixgate-none".to_owned())];
        links.follow(names.into_iter());
        let mut news = Vec::new();
        while news.len() < 2 {
            links.wait(None).unwrap();
            news.extend(std::iter::from_fn(|| links.poll_news()));
        }
        news.sort_by_key(|news| news.report.interface);
        assert_eq!((news[0].index, news[0].report.is_up), (Some(1), true));
        assert!(news[0].report.mtu_bytes >= 1500, "{news:?}");
        assert_eq!((news[1].index, news[1].report.is_up), (None, false));

        links.waker().wake();
        links.wait(None).unwrap();
        assert_eq!(links.poll_news(), None);
    }
}
