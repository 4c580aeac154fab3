//! How long a session may be idle.

use crate::net::policy::protocol;

use super::tcp::Phase;

/// Idle times in seconds. The defaults are the recommended ones; the least ones stand with the configuration.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Timers {
    /// An established connection (RFC 5382 REQ-5: at least 2 hours 4 minutes).
    pub tcp_established_secs: u32,
    /// A connection that is not established yet (RFC 7857 section 2.1: 4 minutes by default).
    pub tcp_opening_secs: u32,
    /// A connection that both sides have closed, or one has reset (RFC 5382 REQ-5: at least 4 minutes).
    pub tcp_transitory_secs: u32,
    /// RFC 4787 REQ-5: at least 2 minutes, 5 recommended. Protocols without ports too.
    pub udp_secs: u32,
    /// RFC 5508 REQ-1: at least 60 seconds.
    pub icmp_secs: u32,
}

impl Default for Timers {
    fn default() -> Self {
        Timers {
            tcp_established_secs: 7440,
            tcp_opening_secs: 240,
            tcp_transitory_secs: 240,
            udp_secs: 300,
            icmp_secs: 60,
        }
    }
}

impl Timers {
    #[inline]
    pub(super) fn idle_secs(&self, protocol: u8, phase: Phase) -> u32 {
        match phase {
            Phase::Untracked if matches!(protocol, protocol::ICMP | protocol::ICMPV6) => self.icmp_secs,
            Phase::Untracked => self.udp_secs,
            Phase::Opening | Phase::PickedUp | Phase::Answered => self.tcp_opening_secs,
            Phase::Established => self.tcp_established_secs,
            Phase::Refused | Phase::Closed | Phase::Reset => self.tcp_transitory_secs,
        }
    }
}
