//! Why an interface could not be opened, in words, with what to do.

use std::io;

use super::af_xdp::AfXdpError;
use super::interface;

#[derive(Debug, thiserror::Error)]
pub enum FramesError {
    #[error("there is no interface {0:?}; this machine has {1}; plug it in, or correct the name")]
    Missing(String, String),
    #[error("{0:?} is no name of an interface: 1 to 15 bytes, no slash, colon or space")]
    BadName(String),
    #[error(
        "{0} carries no Ethernet frames, and a port needs an interface that does: name the one that the carrier is plugged into \
         (a TUN device is attached by `tun = {{ name = ... }}`)"
    )]
    NotEthernet(String),
    #[error("not permitted to take the frames of {0}: that needs the capability CAP_NET_RAW; grant it")]
    NotPermitted(String),
    #[error(
        "not permitted to open the TUN device {0}: that needs the capability CAP_NET_ADMIN; grant it, or create the device \
         before, for our user, with its MTU and up (`ip tuntap add {0} mode tun user ... vnet_hdr`)"
    )]
    TunNotPermitted(String),
    #[error("another program has the TUN device {0} open; stop it, or choose another name")]
    TunInUse(String),
    #[error("the TUN device {0} was taken away; it is made again")]
    TunGone(String),
    #[error(
        "{0} is there and is no TUN device; choose another name, or take it as a port: `port = {{ interface = \"{0}\" }}`"
    )]
    NotTun(String),
    #[error("this kernel has no {1}, which {0} needs; load its module, choose another `driver`, or use another kernel")]
    Lacking(String, &'static str),
    #[error(transparent)]
    AfXdp(#[from] AfXdpError),
    #[error("{0}: cannot {1}: {2}")]
    Other(String, &'static str, io::Error),
}

impl FramesError {
    /// No such interface; tells which there are.
    pub fn missing(name: &str) -> Self {
        let there = interface::list();
        let there = if there.is_empty() { "none".to_owned() } else { there.join(", ") };
        FramesError::Missing(name.to_owned(), there)
    }

    /// What the system said when asked to do `what` (infinitive) with the interface.
    pub fn of(name: &str, what: &'static str, error: io::Error) -> Self {
        match error.raw_os_error() {
            Some(libc::EPERM | libc::EACCES) => FramesError::NotPermitted(name.to_owned()),
            Some(libc::ENODEV | libc::ENXIO) => FramesError::missing(name),
            _ => FramesError::Other(name.to_owned(), what, error),
        }
    }
}
