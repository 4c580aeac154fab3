//! How much of everything. A limit on every table, queue and loop; each is reached in a test.

use std::time::Duration;

use crate::wire::ike;

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Limits {
    /// IKE SAs whose peer has not proved who it is, in all. The last quarter is for addresses where peers are configured.
    pub half_open: usize,
    /// Of those, from one source address (IPv6: /64). Several peers may share a NAT's address.
    /// From the first quarter on, only with a cookie: the address may be forged.
    pub half_open_per_source: usize,
    /// Bytes of fragments that wait, with all half-open SAs together. The oldest go; who is to get in sends them again.
    pub half_open_fragment_bytes: usize,
    /// From so many half-open SAs on, senders must first prove their address (COOKIE).
    pub cookie_threshold: usize,
    /// IKE SAs of one peer at a time: rekeying takes two, crossing initiations two more. As many again may be replaced
    /// already and wait to be deleted.
    pub sas_per_peer: usize,
    /// Child SAs of one IKE SA, those that are being replaced included. As many again may take others' places.
    pub children_per_sa: usize,
    /// Requests that one IKE SA still wants to make.
    pub tasks_per_sa: usize,
    /// Fragments of one message, and bytes of all its fragments together (RFC 7383).
    pub fragments: u16,
    pub message_bytes: usize,
    /// IKE_SA_INIT requests for one attempt: COOKIE and INVALID_KE_PAYLOAD may each ask for another one.
    pub init_attempts: u32,
    /// Initiations begun in one tick of 62.5 ms (500 per second), each costing some Diffie-Hellmans.
    pub initiations_per_tick: u32,
    /// Selectors that we propose or accept on one side of a Child SA.
    pub selectors: usize,
    /// How messages are parsed.
    pub wire: ike::Limits,
    /// When a request is sent again, and for how long.
    pub retransmit: Retransmit,
    /// The same for IKE_SA_INIT and IKE_AUTH: a new attempt follows anyway.
    pub retransmit_connecting: Retransmit,
    /// A half-open SA lives no longer.
    pub half_open_lifetime: Duration,
    /// Between attempts to reach a peer that does not answer or refuses: first, doubled up to the last.
    pub reconnect_first: Duration,
    pub reconnect_last: Duration,
}

/// Exponential: after `first`, then twice as long each time up to `longest`; `sends` in all. Plus up to 10 % at random.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Retransmit {
    pub first: Duration,
    pub longest: Duration,
    pub sends: u32,
}

impl Retransmit {
    /// How long to wait after the `sent`th transmission (from 1).
    pub fn wait(&self, sent: u32) -> Duration {
        self.first.saturating_mul(1 << sent.saturating_sub(1).min(16)).min(self.longest)
    }

    /// From the first transmission until it is given up, without jitter.
    pub fn total(&self) -> Duration {
        (1..=self.sends).map(|sent| self.wait(sent)).sum()
    }
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            half_open: 4096,
            half_open_per_source: 64,
            half_open_fragment_bytes: 8 << 20,
            cookie_threshold: 256,
            sas_per_peer: 4,
            children_per_sa: 128,
            tasks_per_sa: 256,
            fragments: 64,
            message_bytes: 65_535,
            init_attempts: 6,
            initiations_per_tick: 32,
            selectors: 64,
            wire: ike::Limits::default(),
            // "At least a dozen times over a period of at least several minutes" (section 2.4): 12 sends, 136 s.
            retransmit: Retransmit { first: Duration::from_secs(1), longest: Duration::from_secs(15), sends: 12 },
            retransmit_connecting: Retransmit {
                first: Duration::from_secs(1),
                longest: Duration::from_secs(8),
                sends: 6,
            },
            half_open_lifetime: Duration::from_secs(30),
            reconnect_first: Duration::from_secs(1),
            reconnect_last: Duration::from_secs(30),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_longest() {
        let retransmit = Limits::default().retransmit;
        let waits: Vec<u64> = (1..=12).map(|sent| retransmit.wait(sent).as_secs()).collect();
        assert_eq!(waits, [1, 2, 4, 8, 15, 15, 15, 15, 15, 15, 15, 15]);
        assert_eq!(retransmit.wait(u32::MAX), retransmit.longest);
        assert_eq!(retransmit.total().as_secs(), 135);
    }
}
