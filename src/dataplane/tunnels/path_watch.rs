//! Between the tunnels and what is known of their paths ([`PathMtus`]): where peers are and how they are packed, probes out,
//! answers in, and what routers say.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::Tunnels;
use super::ipsec::Ipsec;
use super::path_mtu::frame::{Frame, Sealing};
use super::path_mtu::{At, PathMtus};
use crate::dataplane::report::MtuReport;
use crate::dataplane::snapshot::Snapshot;
use crate::net::{Path, PathReport, Timestamp, TunnelId};
use crate::wireguard;

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
    pub fn watch_paths(&mut self, mtus: &mut PathMtus) {
        for tunnel in std::mem::take(&mut self.paths.touched) {
            if let Some((path, sealing, can_probe)) = self.packing(tunnel) {
                mtus.note_path(tunnel, at(&path, sealing, can_probe), self.now);
            }
        }
        for Probed { tunnel, remote, outer_bytes, arrived } in self.paths.probed.drain(..) {
            mtus.note_probed(tunnel, remote.to_canonical(), outer_bytes, arrived, self.now);
        }
        while let Some((tunnel, sizes)) = mtus.poll_probe() {
            if !self.ike.probe_path(tunnel, sizes, self.now) {
                mtus.note_unasked(tunnel, self.now);
            }
        }
    }

    /// `None`: nothing goes to the peer.
    fn packing(&self, tunnel: TunnelId) -> Option<(Path, Sealing, bool)> {
        let path = self.esp.status(tunnel)?.path?;
        let sealing = Sealing::Esp(self.esp.overhead(tunnel)?);
        Some((path, sealing, self.ike.can_probe_path(tunnel)))
    }
}

impl Tunnels {
    /// A router's word about everybody whom we reach at that address.
    pub fn handle_path_report(&mut self, report: PathReport, snapshot: &Snapshot, now: Timestamp) {
        if !self.path_mtus.take_hint(now) {
            return;
        }
        let remote = report.remote.ip().to_canonical();
        for tunnel in snapshot.tunnels.iter().flatten().map(|tunnel| tunnel.peer.tunnel()) {
            let Some((path, sealing, can_probe)) = self.packing(tunnel) else { continue };
            let at = at(&path, sealing, can_probe);
            if at.remote == remote {
                self.path_mtus.note_hint(tunnel, at, report.mtu_bytes, now);
            }
        }
    }

    /// The tunnel has another peer now.
    pub fn forget_path(&mut self, tunnel: TunnelId) {
        self.path_mtus.forget(tunnel);
    }

    pub fn mtu_report(&self, tunnel: TunnelId, now: Timestamp) -> MtuReport {
        self.path_mtus.report(tunnel, now).unwrap_or_default()
    }

    pub(super) fn watch_roaming(&mut self, event: Option<&wireguard::Event>) {
        if let Some(wireguard::Event::Roamed { tunnel, .. }) = event {
            self.path_mtus.forget(*tunnel);
        }
    }

    fn packing(&self, tunnel: TunnelId) -> Option<(Path, Sealing, bool)> {
        match &self.ipsec {
            Some(ipsec) if ipsec.serves(tunnel) => ipsec.packing(tunnel),
            _ => Some((self.wireguard.status(tunnel)?.path?, Sealing::WireGuard, false)),
        }
    }
}

fn at(path: &Path, sealing: Sealing, can_probe: bool) -> At {
    At { remote: path.remote.ip().to_canonical(), frame: Frame::on(path, sealing), can_probe }
}
