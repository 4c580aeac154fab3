//! Input and output: sockets, readiness, clock, randomness. Moves bytes and knows no protocol.
//!
//! The only room with `unsafe`: every system call that the standard library does not offer is wrapped here, small, with
//! the reason why it is sound. What leaves this room are safe types: [`udp::UdpSocket`] (batches of datagrams with
//! receive and send offload), [`raw_esp::RawEspSocket`], [`sockets::Sockets`] (all of them together), [`poller::Poller`]
//! (wait for sockets, a deadline, or another thread), [`gate::Gate`] (sheds in overload what nobody would read),
//! [`uplink`] (tunnels' data past the kernel's stack), [`privileges`], [`memory`],
//! [`clock::Clock`] and [`rng`]. `sim` stands where this room stands when whole appliances run under virtual time.

mod bpf;
pub mod clock;
pub mod frames;
pub mod gate;
pub mod memory;
pub mod netlink;
pub mod netns;
pub mod poller;
pub mod privileges;
pub mod raw_esp;
pub mod rng;
pub mod secret_file;
pub mod sockets;
pub mod udp;
pub mod uplink;
