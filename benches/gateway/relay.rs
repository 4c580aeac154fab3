//! The floor: a program that sends on by plain sockets whatever datagram it gets, and does nothing else.

use std::net::UdpSocket;

use crate::ground::{Outcome, Side};
use crate::site::WIREGUARD_PORT;

/// Makes this program a relay.
pub const ARGUMENT: &str = "--relay";
const MAX_DATAGRAM_BYTES: usize = 65_536;

/// From A's cable to B's, for ever.
pub fn run() -> Outcome<()> {
    let from = UdpSocket::bind((Side::A.gateway(), WIREGUARD_PORT))?;
    let to = UdpSocket::bind((Side::B.gateway(), WIREGUARD_PORT))?;
    let mut buffer = vec![0; MAX_DATAGRAM_BYTES];
    loop {
        let (len, _) = from.recv_from(&mut buffer)?;
        to.send_to(&buffer[..len], (Side::B.site(0), WIREGUARD_PORT))?;
    }
}
