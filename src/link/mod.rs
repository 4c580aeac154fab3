//! Plain ports: realms that are handed over as Ethernet frames (802.1Q, 802.1ad) or by a TUN device, without encryption.
//!
//! [`Endpoint`] is a state machine without sockets, as WireGuard's is: frames go in, with the interface that they came by;
//! IP packets come out, with the port (a [`TunnelId`](crate::net::TunnelId), as for every attachment) that they belong to; frames go into an
//! [`Outbox`](crate::packet::Outbox). Who a port is: interface and VLAN tags, nothing else. The same addresses, neighbours and VLAN
//! numbers on two interfaces, or in two VLANs, have nothing to do with one another.
//!
//! ```text
//! frame in    which port? (interface, tags; destination ours)     endpoint
//!             ARP ---------> arp, neighbours, claims              ARP on behalf of IPv4
//!             ICMPv6 ND ---> nd, neighbours, claims               neighbour discovery, router advertisements
//!             to us -------> echo, bfd                            the port's own addresses
//!             else --------> the packet, to be walked
//! packet out  next_hops: via whom? --> neighbours: where is it? --> Ethernet header, tags, frame
//!                                      unknown: waits (bounded) while it is asked for
//! ```
//!
//! The kernel has no address on the interface, so nobody else answers for these.
//!
//! ```text
//! config      what a port is                     endpoint    all ports; frames in, packets out
//! places      which port a frame belongs to      port        one port: link, station, whether it is up
//! station     a port's station on Ethernet       sort        what a frame is
//! frame       bytes of frames, in and out        neighbours  who is where: bounded, ageing
//! waiting     packets that wait for neighbours   arp         ARP's part in it
//! discovery   neighbour discovery's part in it   nd          its messages
//! claims      our own addresses: probe, announce, defend (RFC 5227, RFC 4862)
//! routers     default routers that announce themselves (RFC 4861, RFC 4191)
//! next_hops   which neighbour is the way         liveness    which of them are alive: probes, BFD
//! bfd         RFC 5880/5881 sessions             ours        packets to our own addresses
//! echo        ping of these                      news        events, and packets that were lost
//! deadlines   when what is due                   bucket      how often something may happen
//! speakers    whose BGP is handed on             ways        a station's next hops, and who watches them
//! ```

mod arp;
pub mod bfd;
mod bucket;
pub mod claims;
pub mod config;
mod deadlines;
mod discovery;
mod echo;
pub mod endpoint;
mod frame;
pub mod liveness;
pub mod nd;
mod neighbours;
mod news;
pub mod next_hops;
mod ours;
mod places;
mod port;
pub mod routers;
mod sort;
pub mod speakers;
mod station;
mod waiting;
mod ways;

pub use config::{Bfd, EthernetConfig, Liveness, Medium, PortConfig, Route};
pub use endpoint::{Endpoint, Event, PortStatus};
pub use neighbours::MAX_PINNED;

#[cfg(test)]
mod tests;
