//! What keeps a session alive, and ends it. All that most packets of a known flow ask of their session.
//!
//! Sixteen bytes each, in an array of their own by slot: those of a million sessions stay in the processor's last cache, which the
//! sessions themselves, four times as long, and one to a line, share with too much else.

use super::knock::Way;
use super::tcp::Phase;
use super::timers::Timers;

#[derive(Clone, Copy, Debug)]
#[repr(align(16))]
pub(super) struct Life {
    /// No other session of this table has, or had, the same. 0: there is no session.
    pub serial: u64,
    pub last_packet_secs: u32,
    /// Of its key.
    protocol: u8,
    pub phase: Phase,
    pub way: Way,
}

const _: () = assert!(size_of::<Life>() == 16, "four in a cache line");

impl Life {
    pub fn new(serial: u64, protocol: u8, phase: Phase, now_secs: u32) -> Self {
        Life { serial, last_packet_secs: now_secs, protocol, phase, way: Way::Through }
    }

    pub fn end(&mut self) {
        self.serial = 0;
    }

    #[inline]
    pub fn is_over(&self) -> bool {
        self.serial == 0
    }

    #[inline]
    pub fn is_expired(&self, timers: &Timers, now_secs: u32) -> bool {
        let idle_secs = timers.idle_secs(self.protocol, self.phase);
        now_secs.wrapping_sub(self.last_packet_secs) >= idle_secs
    }

    /// A packet that is not TCP's has passed. The side that did not open the session does not keep a way in open for ever (RFC
    /// 4787 REQ-6: inbound refresh is a matter of policy), unless it has spoken first.
    #[inline]
    pub fn refresh(&mut self, from_opener: bool, now_secs: u32) {
        if from_opener || self.way == Way::Met {
            self.last_packet_secs = now_secs;
        }
    }
}
