//! IPsec gateways under virtual time, from a seed: every exchange with every fault, every collision of RFC 7296 section
//! 2.25, traffic all the time, and a thousand random lives.
//!
//! What holds at every step is checked by `ixgate::sim::ipsec_world`; the tests say what happens and how it must end.

#[path = "ipsec_sim/collisions.rs"]
mod collisions;
#[path = "ipsec_sim/establish.rs"]
mod establish;
#[path = "ipsec_sim/faults.rs"]
mod faults;
#[path = "ipsec_sim/lives.rs"]
mod lives;
#[path = "ipsec_sim/scene.rs"]
mod scene;
#[path = "ipsec_sim/sharing.rs"]
mod sharing;
