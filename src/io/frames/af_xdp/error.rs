//! Why AF_XDP cannot be had.

use std::fmt;
use std::io;

use super::MAX_QUEUES;

/// The ways in which frames come to us, the best first.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mode {
    /// The network card writes into our memory.
    NativeZeroCopy,
    /// The network card's driver copies.
    Native,
    /// The kernel copies, behind the driver: any interface can.
    Generic,
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Mode::NativeZeroCopy => "native, zero copy",
            Mode::Native => "native, copy",
            Mode::Generic => "generic",
        })
    }
}

/// Interfaces by name.
#[derive(Debug, thiserror::Error)]
pub enum AfXdpError {
    #[error(
        "not permitted to use AF_XDP on {0}: that needs the capabilities CAP_NET_RAW, CAP_NET_ADMIN and CAP_BPF at the start; \
         grant them, or set `driver = \"af_packet\"`"
    )]
    NotPermitted(String),
    #[error(
        "this kernel has no AF_XDP with BPF links (Linux 5.9 and later, CONFIG_XDP_SOCKETS): set `driver = \"af_packet\"`"
    )]
    NotInKernel,
    #[error("another program has {0} by XDP: stop it, or take its XDP program off with `ip link set {0} xdp off`")]
    Occupied(String),
    #[error(
        "{name} has {queues} receive queues, more than {MAX_QUEUES}: set fewer with `ethtool -L {name} combined {MAX_QUEUES}`"
    )]
    TooManyQueues { name: String, queues: u32 },
    #[error(
        "not enough locked memory for AF_XDP on {0}: raise the limit (`LimitMEMLOCK=infinity` in the service, `ulimit -l unlimited`), \
         or grant CAP_IPC_LOCK"
    )]
    LockedMemory(String),
    #[error(
        "{0} takes VLAN tags out of received frames and cannot be told not to (`ethtool -K {0} rxvlan off`): AF_XDP would lose them; \
         set `driver = \"af_packet\"`"
    )]
    StripsTags(String),
    #[error(
        "{0} takes service tags (802.1ad) out of received frames and cannot be told not to \
         (`ethtool -K {0} rx-vlan-stag-hw-parse off`): AF_XDP would lose them; set `driver = \"af_packet\"`"
    )]
    StripsServiceTags(String),
    #[error(
        "this kernel does not tell AF_XDP the VLAN tags on {0}, a veth interface (Linux 6.8 and later do; {1}): set `driver = \"af_packet\"`"
    )]
    HidesTags(String, io::Error),
    #[error(
        "AF_XDP cannot be had on {name} ({}): set `driver = \"af_packet\"`, or, where its MTU is what is in the way, a smaller one",
        Refusals(.refused)
    )]
    NoMode { name: String, refused: Vec<(Mode, io::Error)> },
    #[error("AF_XDP on {0}: {1}")]
    Other(String, io::Error),
}

/// What was in the way of the better modes. `None`: nothing.
pub(super) fn note(name: &str, refused: &[(Mode, io::Error)]) -> Option<String> {
    (!refused.is_empty()).then(|| format!("the driver of {name} has no better: {}", Refusals(refused)))
}

struct Refusals<'a>(&'a [(Mode, io::Error)]);

impl fmt::Display for Refusals<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, (mode, error)) in self.0.iter().enumerate() {
            let separator = if number > 0 { "; " } else { "" };
            write!(f, "{separator}{mode}: {error}")?;
        }
        Ok(())
    }
}
