//! One port: its link, its station there, and whether it carries packets.

use super::config::{EthernetConfig, Medium, PortConfig};
use super::endpoint::{Down, Event, PortStatus};
use super::neighbours::MAX_NEIGHBOURS;
use super::news::News;
use super::station::{Sealed, Station};
use crate::net::{LinkReport, Path, Timestamp};
use crate::packet::{DropReason, Outbox};

#[derive(Debug)]
pub(super) struct Port {
    pub config: PortConfig,
    /// `None`: a TUN device, where there are no neighbours.
    pub station: Option<Station>,
    link: Option<LinkReport>,
    /// As last told.
    down: Option<Down>,
}

impl Port {
    pub fn new(config: PortConfig, link: Option<LinkReport>, news: &mut News, now: Timestamp) -> Self {
        let station = match &config.medium {
            Medium::Ethernet(ethernet) => Some(Station::new(config.interface, ethernet, &mut news.random, now)),
            Medium::Tun => None,
        };
        let mut port = Port { config, station, link: None, down: Some(Down::NoLink) };
        if let Some(report) = link {
            port.handle_link(report, news, now);
        }
        port
    }

    /// The same place with the same addresses of ours: what is known of the link stays true.
    pub fn can_become(&self, config: &PortConfig) -> bool {
        let addresses = |config: &PortConfig| match &config.medium {
            Medium::Ethernet(ethernet) => Some(ethernet.addresses.clone()),
            Medium::Tun => None,
        };
        self.config.is_same_place(config) && addresses(&self.config) == addresses(config)
    }

    pub fn become_like(&mut self, config: PortConfig, news: &mut News, now: Timestamp) {
        if let (Some(station), Some(before), Some(after)) =
            (&mut self.station, ethernet(&self.config), ethernet(&config))
        {
            station.reconfigure(before, after, &mut news.random, now);
        }
        self.config = config;
        self.judge(news);
    }

    pub fn handle_link(&mut self, report: LinkReport, news: &mut News, now: Timestamp) {
        let before = self.link.replace(report);
        let was_up_with = before.filter(|before| before.is_up).map(|before| before.mac);
        let is_up_with = report.is_up.then_some(report.mac);
        if was_up_with != is_up_with
            && let Some(station) = &mut self.station
        {
            if was_up_with.is_some() {
                let lost = station.stop(now);
                news.lose(self.config.tunnel, lost, DropReason::PortDown);
            }
            if let Some(mac) = is_up_with {
                station.start(mac, &mut news.random, now);
            }
        }
        self.judge(news);
    }

    #[inline]
    pub fn seal(&mut self, packet: &[u8], outbox: &mut Outbox, now: Timestamp) -> Result<Sealed, DropReason> {
        if matches!(self.down, Some(Down::NoLink | Down::NoAddress)) {
            return Err(DropReason::PortDown);
        }
        match &mut self.station {
            Some(station) => station.seal(packet, outbox, now),
            None if outbox.push(Path::tun(self.config.interface), true, packet) => Ok(Sealed::Sent),
            None => Err(DropReason::EgressQueueFull),
        }
    }

    #[inline]
    pub fn is_up(&self) -> bool {
        self.down.is_none()
    }

    /// Does what is due, and tells what has changed.
    pub fn settle(&mut self, news: &mut News, outbox: &mut Outbox, now: Timestamp) {
        if let Some(station) = &mut self.station {
            station.settle(self.config.tunnel, news, outbox, now);
        }
        self.judge(news);
    }

    fn judge(&mut self, news: &mut News) {
        let tunnel = self.config.tunnel;
        let down = self.why_down();
        match (std::mem::replace(&mut self.down, down), down) {
            (before, after) if before == after => {}
            // The link has just come up, and addresses are being claimed: no line in the log.
            (Some(Down::NoLink), Some(Down::NoAddress)) => {}
            (_, None) => news.push(Event::Up { tunnel }),
            (_, Some(why)) => news.push(Event::Down { tunnel, why }),
        }
    }

    fn why_down(&self) -> Option<Down> {
        if !self.link.is_some_and(|link| link.is_up) {
            return Some(Down::NoLink);
        }
        let (station, config) = (self.station.as_ref()?, ethernet(&self.config)?);
        // Not a link-local address that was made of the hardware address alone.
        if !config.addresses.iter().any(|net| station.claims.is_ours(net.addr())) {
            return Some(Down::NoAddress);
        }
        (!station.next_hops.is_up()).then_some(Down::NoNextHop)
    }

    /// Packets that wait for a neighbour.
    pub fn waiting(&self) -> usize {
        self.station.as_ref().map_or(0, |station| station.neighbours.waiting())
    }

    pub fn poll_timeout(&self) -> Option<Timestamp> {
        self.station.as_ref()?.poll_timeout()
    }

    pub fn status(&self) -> PortStatus {
        let station = self.station.as_ref();
        PortStatus {
            down: self.down,
            mac: self.link.filter(|_| station.is_some()).map(|link| link.mac),
            link_mtu_bytes: self.link.map(|link| link.mtu_bytes),
            addresses: station.map_or_else(Vec::new, |station| station.claims.status().collect()),
            next_hops: station.map_or_else(Vec::new, Station::next_hop_status),
            neighbours: station.map_or(0, |station| station.neighbours.len()),
            neighbours_max: if station.is_some() { MAX_NEIGHBOURS } else { 0 },
            waiting: self.waiting(),
            counts: station.map(|station| station.counts).unwrap_or_default(),
        }
    }
}

fn ethernet(config: &PortConfig) -> Option<&EthernetConfig> {
    match &config.medium {
        Medium::Ethernet(ethernet) => Some(ethernet),
        Medium::Tun => None,
    }
}
