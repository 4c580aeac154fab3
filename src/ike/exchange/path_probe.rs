//! Does an outer packet of this size reach the peer? Packetization layer path MTU discovery (RFC 8899) by IKE.
//!
//! The probe is an INFORMATIONAL request with one notify of a private status type, which a peer that does not know it must
//! ignore (RFC 7296 section 3.10.1), and as much data as the size asks for. Its answer is empty and small, so what is
//! measured is the way to the peer alone.
//!
//! A request stays in the window until it is answered (section 2.3), and must be sent again as it was (section 2.1): a long
//! one that the path swallows would hold up every other request, and in the end look like a dead peer. RFC 7383 section
//! 2.5.2 has the way out, and it is made for this: a message that got no answer may be sent again *in smaller fragments*, as
//! the same message with the same ID. So the first transmission is one whole packet of the size that is asked about, with
//! DF, and each further one goes in fragments of 1,280 bytes, which every path carries. The peer answers in either case,
//! liveness and window are those of any other request, and which of the two was answered is told by whether the second had
//! been sent. A peer that cannot put fragments together is therefore never probed.
//!
//! There are peers that say they can, and cannot for this exchange: strongSwan, built with its mediation extension as
//! distributions do, takes an INFORMATIONAL request in fragments for an unencrypted one. So beside the fragments the whole
//! message goes again, without DF. Where the path loses IP fragments, too, such a peer never answers, and the IKE SA is lost
//! with it. A peer that was heard meanwhile is then probed no more.
//!
//! Other ways would need more of the peer: a dummy ESP packet (RFC 4303 section 2.6) gets no answer, and an ICMP echo
//! through the tunnel needs a host behind it that answers.
//!
//! An answer that takes longer than [`WAIT`] counts as that of the fragments, so a path with a longer round trip looks
//! as if it lost every probe. Whoever asks must bear with a wrong "lost" anyway: packets are lost for other reasons, too.

use std::ops::RangeInclusive;
use std::time::Duration;

use crate::ike::context::Context;
use crate::ike::endpoint::Endpoint;
use crate::ike::event::Event;
use crate::ike::message::notify;
use crate::ike::protect::{Inside, IpSize, transmit_whole};
use crate::ike::sa::{IkeSa, Pending, Task};
use crate::ike::window::jittered;
use crate::net::{Path, Timestamp, TunnelId};
use crate::wire::ike::{ExchangeType, notify as kinds};

/// Until the probe is taken for lost: longer than any round trip, as nothing but other IKE requests waits for it.
const WAIT: Duration = Duration::from_secs(2);
/// Payload header, protocol, SPI size, type.
const NOTIFY_HEADERS_BYTES: usize = 8;

/// A probe that waits for its answer.
#[derive(Clone, Copy, Debug)]
pub(in crate::ike) struct PathProbe {
    pub path: Path,
    /// Of the outer IP packet, its header included.
    pub outer_bytes: u16,
    pub asked_at: Timestamp,
    /// The answer came before anything else than the probe itself had been sent.
    pub arrived: bool,
}

impl Endpoint {
    /// Asks whether outer IP packets of `outer_bytes` reach the peer: of a size in that range if the cipher's blocks allow
    /// it, else of the next smaller one. [`Event::PathProbed`] tells; where the IKE SA ends before, nothing does. What is to
    /// be sent waits for `handle_timeout`, which is due at once. `false`: there is no IKE SA, or the peer cannot be asked.
    pub fn probe_path(&mut self, tunnel: TunnelId, outer_bytes: RangeInclusive<u16>, now: Timestamp) -> bool {
        self.now = self.now.max(now);
        let Some(newest) = self.peers.newest(tunnel) else { return false };
        let able = self.can_probe_path(tunnel);
        if able {
            let (at_least, at_most) = outer_bytes.into_inner();
            let most = self.limits.tasks_per_sa;
            self.wake(newest, |sa, now| {
                sa.timers.wake_at = Some(now);
                sa.tasks.retain(|task| !matches!(task, Task::ProbePath { .. }));
                if sa.tasks.len() < most {
                    sa.tasks.push_back(Task::ProbePath { at_least, at_most });
                }
            });
        }
        able
    }

    /// Whether the peer can be asked, as far as is known: its IKE SA is up and it understands fragments.
    pub fn can_probe_path(&self, tunnel: TunnelId) -> bool {
        let newest = self.peers.newest(tunnel).and_then(|spi| self.sas.get(&spi));
        let ignores_probes = self.peers.get(tunnel).is_some_and(|peer| peer.ignores_probes);
        !ignores_probes && newest.is_some_and(|entry| entry.sa.is_established() && entry.sa.can_probe())
    }
}

impl IkeSa {
    fn can_probe(&self) -> bool {
        self.abilities.fragmentation
    }

    pub(in crate::ike) fn probe_path(&mut self, at_least: u16, at_most: u16, cx: &mut Context<'_>) {
        let header = self.header(ExchangeType::INFORMATIONAL, false, self.outgoing.next_id());
        let size = IpSize::on(&self.path);
        let Some(session) = &mut self.session else { return };
        let plain = |outer: u16| session.protection.plain_within(size.message(outer));
        let is_in_range = |plain: usize| size.outer(session.protection.message_bytes(plain)) <= at_most.into();
        let above = session.protection.plain_reaching(size.message(at_least));
        let plain_bytes = if is_in_range(above) { above } else { plain(at_least) };
        let data = vec![0; plain_bytes.saturating_sub(NOTIFY_HEADERS_BYTES)];
        let inside = Inside::of(&[notify(kinds::PATH_PROBE, data)]);
        let whole = session.protection.seal(&header, &inside, None);
        let mut again = session.protection.seal(&header, &inside, Some(size.base_message()));
        again.extend_from_slice(&whole);
        let sent = whole.first().map_or(0, Vec::len);
        let outer_bytes = u16::try_from(size.outer(sent)).unwrap_or(u16::MAX);
        transmit_whole(&whole, &self.path, cx.outbox);
        self.outgoing.begin(again, cx.now + jittered(WAIT, cx.jitter()));
        let probe = PathProbe { path: self.path, outer_bytes, asked_at: cx.now, arrived: false };
        self.pending = Some(Pending::ProbePath(probe));
    }

    /// The peer has been heard since it was asked about the path, and answers the question in no form.
    pub(in crate::ike) fn is_probe_ignored(&self, heard_at: Timestamp) -> bool {
        matches!(&self.pending, Some(Pending::ProbePath(probe)) if self.last_heard.max(heard_at) > probe.asked_at)
    }

    /// An authentic answer has come. To be called before the window forgets what it answers.
    pub(in crate::ike) fn note_probe_answered(&mut self) {
        let sent = self.outgoing.sent();
        if let Some(Pending::ProbePath(probe)) = &mut self.pending {
            probe.arrived = sent == 1;
        }
    }

    pub(super) fn tell_probed(&self, probe: PathProbe, cx: &mut Context<'_>) {
        if let Some(tunnel) = self.tunnel() {
            let PathProbe { path, outer_bytes, arrived, .. } = probe;
            cx.events.push(Event::PathProbed { tunnel, remote: path.remote, outer_bytes, arrived });
        }
    }
}
