//! What must hold when nothing is under way any more, and everything about everybody when it does not.

use std::fmt::Write;
use std::time::Duration;

use super::{Note, World};
use crate::ike::Event;
use crate::ipsec::UseOut;
use crate::net::TunnelId;

impl World {
    /// The inbound SPIs of the Child SAs that IKE knows to be live.
    pub fn children(&self, site: usize, tunnel: TunnelId) -> Vec<u32> {
        let status = self.sites[site].gateway.ike.status(tunnel);
        status.map_or_else(Vec::new, |status| status.children.iter().map(|child| child.spi_in).collect())
    }

    /// Nothing is under way any more: exactly one IKE SA for each tunnel, its `children` Child SAs, in ESP the same ones, and
    /// at both ends the same; nothing half open, nothing that lingers.
    pub fn assert_tidy(&self, tunnels: &[[(usize, TunnelId); 2]], children: usize) {
        if let Err(wrong) = self.check_tidy(tunnels, children) {
            panic!("{wrong}\n{}", self.dump());
        }
    }

    fn check_tidy(&self, tunnels: &[[(usize, TunnelId); 2]], children: usize) -> Result<(), String> {
        let mut expected = vec![0; self.sites.len()];
        for [a, b] in tunnels {
            for end in [a, b] {
                expected[end.0] += 1;
                self.check_tunnel(*end, children)?;
            }
            let (of_a, of_b) = (self.pairs(*a), self.pairs(*b));
            let mut swapped: Vec<(u32, u32)> = of_b.into_iter().map(|(spi_in, spi_out)| (spi_out, spi_in)).collect();
            swapped.sort_unstable();
            if of_a != swapped {
                return Err(format!("{a:?} and {b:?} have different Child SAs: {of_a:08x?}, {swapped:08x?}"));
            }
        }
        for (site, tunnels) in expected.into_iter().enumerate() {
            let counts = self.sites[site].gateway.ike.sa_counts();
            let esp = self.sites[site].gateway.esp.sa_count();
            let spis = self.sites[site].gateway.ike.child_spi_count();
            if counts != (tunnels, 0) || esp != tunnels * children || spis != tunnels * children {
                return Err(format!("site {site}: {counts:?} IKE SAs, {esp} in ESP, {spis} SPIs taken"));
            }
        }
        Ok(())
    }

    fn check_tunnel(&self, (site, tunnel): (usize, TunnelId), children: usize) -> Result<(), String> {
        let gateway = &self.sites[site].gateway;
        let status = gateway.ike.status(tunnel).ok_or("no such tunnel")?;
        let mut known: Vec<u32> = self.children(site, tunnel);
        let in_use = gateway.esp.sas(tunnel).filter(|sa| sa.use_out != UseOut::Retired);
        let mut carried: Vec<u32> = in_use.map(|sa| sa.spi_in).collect();
        known.sort_unstable();
        carried.sort_unstable();
        if status.ike_sas != 1 || known.len() != children || known != carried {
            let sas = status.ike_sas;
            return Err(format!("site {site}: {sas} IKE SAs, children {known:08x?}, in ESP {carried:08x?}"));
        }
        Ok(())
    }

    /// Inbound and outbound SPI of each live Child SA.
    fn pairs(&self, (site, tunnel): (usize, TunnelId)) -> Vec<(u32, u32)> {
        let status = self.sites[site].gateway.ike.status(tunnel).unwrap_or_default();
        let mut pairs: Vec<_> = status.children.iter().map(|child| (child.spi_in, child.spi_out)).collect();
        pairs.sort_unstable();
        pairs
    }

    /// Every packet of the flow since number `from` has arrived or is on its way.
    pub fn assert_no_gap(&self, flow: usize, from: u64) {
        let missing = self.missing(flow, from);
        let of_flow = &self.flows[flow];
        let refused: Vec<_> = of_flow.refused.iter().filter(|(number, ..)| *number >= from).collect();
        if !missing.is_empty() {
            let (count, first) = (missing.len(), missing[0]);
            panic!("flow {flow} lost {count} packets, the first is {first}; refused: {refused:?}\n{}", self.dump());
        }
    }

    /// Packets that can no longer be on their way.
    pub fn missing(&self, flow: usize, from: u64) -> Vec<u64> {
        let of_flow = &self.flows[flow];
        let flying = self.link.latency.as_micros().div_ceil(of_flow.every.as_micros()) as u64 + 1;
        (from..of_flow.sent.saturating_sub(flying)).filter(|number| !of_flow.arrived.contains(number)).collect()
    }

    /// Whether the last packets of every flow have arrived.
    pub fn all_flow(&self) -> bool {
        self.flows.iter().all(|flow| {
            let recent = self.link.latency + flow.every * 2;
            flow.last_arrival.is_some_and(|at| self.now.saturating_since(at) <= recent)
        })
    }

    /// Runs until packets of every flow arrive again. `false`: not within `most`.
    pub fn run_until_all_flow(&mut self, most: Duration) -> bool {
        let end = self.now + most;
        loop {
            self.run_for(Duration::from_secs(1));
            if self.all_flow() {
                return true;
            }
            if self.now >= end {
                return false;
            }
        }
    }

    /// Everything about everybody, for a test that failed.
    pub fn dump(&self) -> String {
        let mut text = format!("at {:?}\n", self.now);
        for (number, site) in self.sites.iter().enumerate() {
            let _ = writeln!(
                text,
                "site {number} at {}+{}: {:?} IKE SAs",
                site.outer,
                site.port_shift,
                site.gateway.ike.sa_counts()
            );
            for peer in &site.peers {
                let _ = writeln!(text, "  {:?}", site.gateway.ike.status(peer.tunnel));
                site.gateway.esp.sas(peer.tunnel).for_each(|sa| {
                    let _ = writeln!(
                        text,
                        "  esp in {:08x} out {:08x} {:?} {:?}",
                        sa.spi_in, sa.spi_out, sa.use_out, sa.path
                    );
                });
            }
            for (at, note) in &site.notes {
                let at = at.as_micros() as f64 / 1e6;
                let _ = match note {
                    Note::Installed { tunnel, spi_in, spi_out, .. } => {
                        writeln!(text, "    {at:.3} {tunnel:?} installed in {spi_in:08x} out {spi_out:08x}")
                    }
                    Note::Retired { tunnel, spi_in } => {
                        writeln!(text, "    {at:.3} {tunnel:?} retired in {spi_in:08x}")
                    }
                    Note::Ike(Event::Failed { failure, .. }) => writeln!(text, "    {at:.3} failed: {failure}"),
                    other => writeln!(text, "    {at:.3} {other:?}"),
                };
            }
        }
        for (number, flow) in self.flows.iter().enumerate() {
            let (sent, arrived, refused) = (flow.sent, flow.arrived.len(), flow.refused.len());
            let _ = writeln!(
                text,
                "flow {number}: {sent} sent, {arrived} arrived, {refused} refused, {:?}",
                flow.last_arrival
            );
        }
        text
    }
}
