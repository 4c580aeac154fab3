//! What stands where `io/` stands when nothing real is there: peers, packets, links and a clock that the program makes
//! itself.
//!
//! - [`peer`]: the other side's gateway, over boringtun, in memory. Also used by the loopback demonstration and benches.
//! - [`site`]: a whole small network behind one tunnel: gateway, hosts, servers; [`lookup`]: its questions for names.
//! - [`loopback`]: sites on real sockets of this machine; [`demonstration`]: what they show, as a [`story`].
//! - [`packets`]: whole inner packets with right checksums, and their verification.
//! - [`gateway`]: IKE and ESP as one; [`ipsec_world`]: gateways, a bad network between them, virtual time, invariants.
//! - [`lan`]: an appliance and its sites with nothing in between: what is sent arrives at once.
//! - [`ipsec_site`]: the gateway of an IPsec site; [`mixed`]: an appliance with sites of both kinds, in virtual time.
//! - [`ports`]: Ethernet links with carriers' routers on them, and TUN devices; part of [`mixed`].
//! - [`appliance`]: an engine from configuration text, with keys made for its peers.
//! - [`virtual_time`]: the clock that the peers' boringtun reads.
//! - `world`: engine, peers, lossy links and virtual time, from a seed (only with the `sim` feature, as boringtun must be
//!   built with its mock clock for it).

pub mod appliance;
pub mod demonstration;
pub mod far_end;
pub mod gateway;
pub mod ipsec_site;
pub mod ipsec_world;
pub mod lan;
pub mod lookup;
pub mod loopback;
pub mod mixed;
pub mod packets;
pub mod peer;
pub mod ports;
pub mod random;
pub mod site;
pub mod story;
pub mod virtual_time;
#[cfg(feature = "sim")]
pub mod world;
