//! Follows the routes that lead to a realm, in the namespace of its routing daemon.
//!
//! The kernel tells of changes by multicast, but not of all: when a device goes down, its IPv4 routes go without a word. So
//! everything is asked for at the start, when messages were lost, when the device changes, and now and then.
//!
//! ```text
//! message  bytes to messages    table  messages to the routes of one device
//! ```

mod message;
mod table;

use std::io;
use std::os::fd::BorrowedFd;

pub use self::table::Table;
use super::socket::{self, BUFFER_BYTES, Socket};
use crate::net::Timestamp;

/// Read in one call, of what the kernel has told.
const MAX_DATAGRAMS_PER_CALL: usize = 1000;

/// Of one realm. Its socket belongs to the namespace that it was opened in, from whatever thread it is read.
#[derive(Debug)]
pub struct Routes {
    socket: Socket,
    table: Table,
    buffer: Vec<u8>,
}

impl Routes {
    /// In the namespace of the calling thread. `device`: the kernel's number.
    pub fn open(device: u32, max_prefixes: usize) -> io::Result<Self> {
        let socket = Socket::open_following_routes()?;
        Ok(Routes { socket, table: Table::new(device, max_prefixes), buffer: vec![0; BUFFER_BYTES] })
    }

    /// Becomes readable when the kernel has something to tell.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.socket.fd()
    }

    pub fn table(&mut self) -> &mut Table {
        &mut self.table
    }

    /// Takes what the kernel has told, up to a bound, and asks for what is not known. While there is more the descriptor stays readable.
    pub fn handle_readable(&mut self, now: Timestamp) -> io::Result<()> {
        for _ in 0..MAX_DATAGRAMS_PER_CALL {
            match self.socket.receive(&mut self.buffer) {
                Ok(Some(len)) => {
                    let messages = message::read(&self.buffer[..len]);
                    messages.for_each(|message| self.table.handle_message(message, now));
                }
                Ok(None) => break,
                Err(error) if socket::is_loss(&error) => self.table.handle_loss(),
                Err(error) => return Err(error),
            }
        }
        self.ask(now)
    }

    /// Asks, if something is to be asked; see [`Table::poll_timeout`].
    pub fn ask(&mut self, now: Timestamp) -> io::Result<()> {
        match self.table.begin_dump(now) {
            Some(sequence) => self.socket.send(&message::request_routes(sequence)),
            None => Ok(()),
        }
    }
}
