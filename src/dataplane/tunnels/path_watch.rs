//! Between the tunnels and what is known of their paths ([`super::path_mtu`]): where peers are and how they are packed, probes out,
//! answers in, and what routers say.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::Tunnels;
use super::echo::{MAX_ECHO_BYTES, Question, Verdict};
use super::ipsec::Ipsec;
use super::path_mtu::frame::{Frame, Sealing};
use super::path_mtu::{At, Probing};
use crate::dataplane::report::MtuReport;
use crate::dataplane::snapshot::Snapshot;
use crate::net::{Path, PathReport, Timestamp, TunnelId};
use crate::packet::Outbox;

/// Tunnels whose path is looked at in one call, of which a configuration may touch all.
const LOOKS_PER_CALL: usize = 256;

/// What happened to paths of IPsec tunnels since they were last watched.
#[derive(Default)]
pub(super) struct PathNews {
    /// Came up, moved, or has other keys.
    pub touched: BTreeSet<TunnelId>,
    pub probed: Vec<Probed>,
}

pub(super) struct Probed {
    pub tunnel: TunnelId,
    pub remote: IpAddr,
    pub outer_bytes: u16,
    pub arrived: bool,
}

impl Ipsec {
    /// `None`: nothing goes to the peer.
    fn packing(&self, tunnel: TunnelId) -> Option<(Path, Sealing, Probing)> {
        let path = self.esp.status(tunnel)?.path?;
        let sealing = Sealing::Esp(self.esp.overhead(tunnel)?);
        let probing = if self.ike.can_probe_path(tunnel) { Probing::Ike } else { Probing::None };
        Some((path, sealing, probing))
    }
}

impl Tunnels {
    /// Takes up what happened to paths, asks what is to be asked next, and sends what is due. `sent` hears of every packet
    /// that went into a tunnel for it.
    pub fn watch_paths(&mut self, outbox: &mut Outbox, now: Timestamp, sent: impl FnMut(TunnelId, usize)) {
        self.note_touched(now);
        if let Some(ipsec) = &mut self.ipsec {
            for Probed { tunnel, remote, outer_bytes, arrived } in ipsec.paths.probed.drain(..) {
                self.path_mtus.note_probed(tunnel, remote.to_canonical(), outer_bytes, arrived, now);
            }
        }
        self.note_verdicts(now);
        self.ask(now);
        self.send_echoes(outbox, now, sent);
        // What could not be sent is not asked again before there is another session.
        self.note_verdicts(now);
    }

    fn note_touched(&mut self, now: Timestamp) {
        self.touched.append(&mut self.wireguard.take_touched());
        if let Some(ipsec) = &mut self.ipsec {
            self.touched.append(&mut ipsec.paths.touched);
        }
        for _ in 0..LOOKS_PER_CALL {
            let Some(tunnel) = self.touched.pop_first() else { return };
            if self.is_up(tunnel)
                && let Some((path, sealing, probing)) = self.packing(tunnel)
            {
                self.path_mtus.note_path(tunnel, at(&path, sealing, probing), now);
            }
        }
    }

    fn note_verdicts(&mut self, now: Timestamp) {
        while let Some((tunnel, verdict)) = self.echoes.poll_verdict() {
            match verdict {
                Verdict::Probed { remote, outer_bytes, arrived } => {
                    self.path_mtus.note_probed(tunnel, remote, outer_bytes, arrived, now);
                }
                Verdict::Silent => self.path_mtus.note_silent(tunnel, now),
                Verdict::Down => self.path_mtus.note_down(tunnel),
            }
        }
    }

    fn ask(&mut self, now: Timestamp) {
        while let Some((tunnel, at, sizes)) = self.path_mtus.poll_probe() {
            match &mut self.ipsec {
                Some(ipsec) if ipsec.serves(tunnel) => {
                    if !ipsec.ike.probe_path(tunnel, sizes, now) {
                        self.path_mtus.note_unasked(tunnel, now);
                    }
                }
                _ => {
                    let (remote, outer_bytes) = (at.remote, *sizes.start());
                    let padded_bytes = at.frame.padded_bytes(outer_bytes);
                    self.echoes.ask(tunnel, Question { remote, outer_bytes, padded_bytes }, now);
                }
            }
        }
    }

    fn send_echoes(&mut self, outbox: &mut Outbox, now: Timestamp, mut sent: impl FnMut(TunnelId, usize)) {
        let wireguard = &mut self.wireguard;
        while let Some((tunnel, echo, padded_bytes)) = self.echoes.poll_request(now, || wireguard.random_u32()) {
            let mut packet = [0; MAX_ECHO_BYTES];
            let len = echo.emit(&mut packet).unwrap_or_default();
            match wireguard.seal_probe(tunnel, &packet[..len], padded_bytes, outbox) {
                true => sent(tunnel, len),
                false => self.echoes.note_unsent(tunnel),
            }
        }
    }

    /// Whether any packet could be the answer to a probe. Cheap enough to ask for every batch.
    #[inline]
    pub fn awaits_answers(&self) -> bool {
        self.echoes.awaits_answers()
    }

    /// A packet came out of the tunnel: whether it answers a probe.
    pub fn take_answer(&mut self, tunnel: TunnelId, packet: &[u8], now: Timestamp) -> bool {
        self.echoes.take_answer(tunnel, packet, now)
    }

    /// A router's word about everybody whom we reach at that address.
    pub fn handle_path_report(&mut self, report: PathReport, snapshot: &Snapshot, now: Timestamp) {
        if !self.path_mtus.take_hint(now) {
            return;
        }
        let remote = report.remote.ip().to_canonical();
        for tunnel in snapshot.tunnels.iter().flatten().map(|tunnel| tunnel.peer.tunnel()) {
            let Some((path, sealing, probing)) = self.packing(tunnel) else { continue };
            let at = at(&path, sealing, probing);
            if at.remote == remote {
                self.path_mtus.note_hint(tunnel, at, report.mtu_bytes, now);
            }
        }
    }

    /// The tunnel has another peer now.
    pub fn forget_path(&mut self, tunnel: TunnelId) {
        self.path_mtus.forget(tunnel);
        self.echoes.forget(tunnel);
    }

    pub fn mtu_report(&self, tunnel: TunnelId, now: Timestamp) -> MtuReport {
        self.path_mtus.report(tunnel, now).unwrap_or_default()
    }

    fn packing(&self, tunnel: TunnelId) -> Option<(Path, Sealing, Probing)> {
        match &self.ipsec {
            Some(ipsec) if ipsec.serves(tunnel) => ipsec.packing(tunnel),
            _ => Some((self.wireguard.status(tunnel)?.path?, Sealing::WireGuard, Probing::Echo)),
        }
    }
}

fn at(path: &Path, sealing: Sealing, probing: Probing) -> At {
    At { remote: path.remote.ip().to_canonical(), frame: Frame::on(path, sealing), probing }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use zeroize::Zeroizing;

    use super::*;
    use crate::net::random::Seeded;
    use crate::wireguard;

    #[test]
    fn what_touches_all_tunnels_is_looked_at_in_several_calls() {
        let now = Timestamp::from_secs(1);
        let random = Box::new(|bytes: &mut [u8]| bytes.fill(7));
        let wireguard = wireguard::Endpoint::new(&Zeroizing::new([7; 32]), 1, random, Duration::ZERO, now);
        let mut tunnels = Tunnels::new(wireguard, None, Box::new(Seeded(1)), 1);
        tunnels.touched = (0..2 * LOOKS_PER_CALL as u32 + 1).map(TunnelId).collect();
        let mut outbox = Outbox::new(1 << 16, 16);
        let mut left = Vec::new();
        while tunnels.poll_timeout().is_some_and(|(at, _)| at <= now) {
            tunnels.watch_paths(&mut outbox, now, |_, _| {});
            left.push(tunnels.touched.len());
        }
        assert_eq!(left, [LOOKS_PER_CALL + 1, 1, 0]);
    }
}
