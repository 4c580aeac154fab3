//! All ports: frames in, packets out, packets in, frames out.

use std::net::IpAddr;

use super::config::PortConfig;
use crate::net::{LinkReport, Mac, Timestamp, TunnelId};
use crate::packet::{Datagram, DropReason, Opened, Outbox};

/// Every port of the appliance. After any `handle_*`, `open` or `configure` drain [`Endpoint::poll_event`] and
/// [`Endpoint::poll_lost`], and read [`Endpoint::poll_timeout`].
#[derive(Debug)]
pub struct Endpoint {}

/// Something worth a line in the log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Event {
    Up {
        tunnel: TunnelId,
    },
    Down {
        tunnel: TunnelId,
        why: Down,
    },
    NextHopUp {
        tunnel: TunnelId,
        hop: IpAddr,
    },
    NextHopDown {
        tunnel: TunnelId,
        hop: IpAddr,
        why: HopDown,
    },
    /// Somebody else has an address of ours: it is not used until they are gone.
    DuplicateAddress {
        tunnel: TunnelId,
        address: IpAddr,
        mac: Mac,
    },
    AddressClaimed {
        tunnel: TunnelId,
        address: IpAddr,
    },
}

/// Why a port carries nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Down {
    /// The interface is down or has no carrier.
    NoLink,
    /// No address of ours could be claimed (yet).
    NoAddress,
    /// It has gateways, and none is alive.
    NoNextHop,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HopDown {
    /// Asked, it did not answer.
    Silent,
    /// BFD: it is not heard any more.
    BfdTimeout,
    /// BFD: it says that it is down, or is being taken out of service.
    BfdRemote,
}

/// What `status` shows of a port.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PortStatus {
    /// `None`: it carries packets.
    pub down: Option<Down>,
    pub mac: Option<Mac>,
    /// The interface's own MTU, where the kernel has told.
    pub link_mtu_bytes: Option<u32>,
    pub addresses: Vec<AddressStatus>,
    pub next_hops: Vec<NextHopStatus>,
    pub neighbours: usize,
    pub neighbours_max: usize,
    /// Packets that wait for a neighbour.
    pub waiting: usize,
    pub counts: PortCounts,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AddressStatus {
    pub address: IpAddr,
    /// "probing", "ours" or "duplicate".
    pub state: &'static str,
    /// Who has it, where it is a duplicate.
    pub other: Option<Mac>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NextHopStatus {
    pub address: IpAddr,
    pub mac: Option<Mac>,
    pub is_alive: bool,
    /// "probes" or "BFD"; with BFD, its state follows.
    pub watched_by: &'static str,
    pub bfd: Option<&'static str>,
    /// It is the way now, in its IP version.
    pub is_used: bool,
    /// Since it is alive, or not.
    pub since: Option<Timestamp>,
}

/// Since the port was configured.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct PortCounts {
    pub neighbour_messages: u64,
    /// Ignored: more came than one port may have.
    pub neighbour_messages_over_limit: u64,
    pub unresolved: u64,
    pub echoes: u64,
    pub conflicts: u64,
    pub switches: u64,
}

/// Packets that [`Endpoint::seal`] took and that came to nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Lost {
    pub tunnel: TunnelId,
    pub packets: u64,
    pub reason: DropReason,
}

impl Endpoint {
    /// `seed`: random and secret.
    pub fn new(_seed: u64) -> Self {
        Endpoint {}
    }

    /// Reconciles with the configured ports: those that did not change keep their neighbours.
    pub fn configure(&mut self, _ports: Vec<PortConfig>, _now: Timestamp) {}

    /// Whether the number is a port's.
    #[inline]
    pub fn serves(&self, _tunnel: TunnelId) -> bool {
        false
    }

    /// The kernel says how an interface is. Until then, an interface is down.
    pub fn handle_link(&mut self, _report: LinkReport, _now: Timestamp) {}

    /// Takes a frame (or a packet of a TUN device); what is for a realm to walk is written into `out`. What is to be answered on
    /// the link goes into `outbox`.
    pub fn open(&mut self, _frame: Datagram<'_>, _out: &mut [u8], _outbox: &mut Outbox, _now: Timestamp) -> Opened {
        Opened::dropped(DropReason::OuterMalformed)
    }

    /// Sends `packet` by its port: as a frame into `outbox`, or it waits until its neighbour is found. Time is that of the latest
    /// call that brought it.
    pub fn seal(&mut self, _tunnel: TunnelId, _packet: &[u8], _outbox: &mut Outbox) -> Result<(), DropReason> {
        Err(DropReason::TunnelDown)
    }

    /// Whether packets can leave. Cheap enough to ask for every packet.
    #[inline]
    pub fn is_up(&self, _tunnel: TunnelId) -> bool {
        false
    }

    pub fn handle_timeout(&mut self, _outbox: &mut Outbox, _now: Timestamp) {}

    pub fn poll_timeout(&self) -> Option<(Timestamp, &'static str)> {
        None
    }

    pub fn poll_event(&mut self) -> Option<Event> {
        None
    }

    pub fn poll_lost(&mut self) -> Option<Lost> {
        None
    }

    /// Events that nobody polled in time.
    pub fn events_lost(&self) -> u64 {
        0
    }

    pub fn status(&self, _tunnel: TunnelId, _now: Timestamp) -> Option<PortStatus> {
        None
    }
}
