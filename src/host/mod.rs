//! The IX's own addresses inside the realms: DNS over UDP and TCP, and echo.
//!
//! ```text
//!   handle_input ---> echo ------------------------------------> poll_transmit
//!   (canonical,  ---> UDP 53 ---> poll_query .... respond ----->
//!    any family) ---> TCP 53 ---> smoltcp --^          |
//!                                 one IPv6 stack <-----+
//! ```
//!
//! After canonicalisation there is no overlap left: fifty realms may all be 192.168.1.0/24, and their hosts are fifty
//! different IPv6 addresses here. So one stack serves all realms. A packet that was IPv4 on the wire becomes IPv6 with
//! canonical addresses on its way in; on the way out the packet path gives it the header that the realm speaks, with
//! [`translate`] for what lies behind the header.
//!
//! Only TCP is smoltcp's: streams, retransmission and windows are worth a library. Echo and UDP are one packet in, one
//! packet out; through sockets they would be copied twice more, and a UDP socket would need its own bounds besides ours.
//!
//! The IX asks too: the resolvers of realms, over UDP and TCP ([`Host::ask`]).
//!
//! Nothing here answers names: [`Host::poll_query`] gives the bytes of a query and the realm that asked, and whoever
//! drives the host gives the answer to [`Host::respond`].
//!
//! Memory: a TCP connection has 12 KiB of buffers, so the default of 128 connections at most 1.5 MiB; an answer longer
//! than 8 KiB waits beside them until it is sent (at most 64 KiB each). Each queue holds at most 1,024 packets.

pub mod translate;

mod client;
mod device;
mod stack;
mod tcp;

#[cfg(test)]
mod client_tests;
#[cfg(test)]
mod fixture;
#[cfg(test)]
mod tests;

pub use client::{ClientId, NoRoom, Question, Reply};
pub use stack::{Host, HostConfig, HostPacket, Peer, Query, QueryId, Transport};
pub use translate::AddressPair;
