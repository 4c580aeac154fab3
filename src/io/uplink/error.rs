//! Why the AF_XDP driver cannot be had for an uplink, in words, with what to do. The sockets carry all of it then.

use std::io;

use crate::io::frames::af_xdp::MAX_QUEUES;

/// Interfaces by name.
#[derive(Debug, thiserror::Error)]
pub enum UplinkError {
    #[error(
        "not permitted to use AF_XDP on {0}: that needs the capabilities CAP_NET_RAW, CAP_NET_ADMIN and CAP_BPF at the start; grant them"
    )]
    NotPermitted(String),
    #[error("this kernel has no AF_XDP with BPF links (Linux 5.9 and later, CONFIG_XDP_SOCKETS)")]
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
    #[error("{0} belongs to a bridge, a bond or a VRF: its frames are not the kernel's own to route")]
    IsPart(String),
    #[error("{0} is a bond, whose frames come by its members: AF_XDP cannot be had on it")]
    IsBond(String),
    #[error("{0} carries no Ethernet frames")]
    NotEthernet(String),
    #[error("the driver of {0} has no XDP of its own (native), or not with this MTU: {1}")]
    NotNative(String, io::Error),
    #[error("AF_XDP on {0}: {1}")]
    Other(String, io::Error),
}

impl UplinkError {
    pub fn of(name: &str, error: io::Error) -> Self {
        let name = name.to_owned();
        match error.raw_os_error() {
            Some(libc::EPERM | libc::EACCES) => UplinkError::NotPermitted(name),
            Some(libc::EBUSY | libc::EEXIST) => UplinkError::Occupied(name),
            Some(libc::ENOBUFS) => UplinkError::LockedMemory(name),
            Some(libc::ENOSYS | libc::EAFNOSUPPORT) => UplinkError::NotInKernel,
            _ => UplinkError::Other(name, error),
        }
    }
}
