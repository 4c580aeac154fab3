//! One port: its link, its station there, and whether it carries packets.
//!
//! Whether it is up is judged for each IP version: an address that is not ours (yet), or a dead gateway, of the one leaves the other
//! alone. The port is up while any version that it serves is.

use std::time::Duration;

use super::bfd;
use super::claims::Claims;
use super::config::{EthernetConfig, Medium, PortConfig};
use super::endpoint::{Down, Event, PortStatus};
use super::neighbours::MAX_NEIGHBOURS;
use super::news::News;
use super::station::{Before, Sealed, Station};
use crate::net::{IpVersion, LinkReport, Path, PerVersion, RealmId, Timestamp};
use crate::packet::{DropReason, Outbox};

#[derive(Debug)]
pub(super) struct Port {
    pub config: PortConfig,
    /// `None`: a TUN device, where there are no neighbours.
    pub station: Option<Station>,
    link: Option<LinkReport>,
    down: Option<Down>,
    /// Of the versions that it serves.
    down_for: PerVersion<Option<Down>>,
    is_up_for: PerVersion<bool>,
    /// As last told.
    told: Option<Down>,
    /// It has not been up since its link came up, and until then this is no news: those who were asked may answer yet.
    patient_until: Option<Timestamp>,
}

impl Port {
    pub fn new(config: PortConfig, link: Option<LinkReport>, news: &mut News, now: Timestamp) -> Self {
        let station = match &config.medium {
            Medium::Ethernet(ethernet) => Some(Station::new(config.interface, ethernet, &mut *news.random, now)),
            Medium::Tun => None,
        };
        let down = Some(Down::NoLink);
        let mut port = Port {
            config,
            station,
            link: None,
            down,
            down_for: PerVersion::default(),
            is_up_for: PerVersion::default(),
            told: down,
            patient_until: None,
        };
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
            station.reconfigure(before, after, &mut *news.random, now);
        }
        self.config = config;
        self.patient_until = self.is_linked().then(|| now + self.patience());
        self.judge(news, now);
    }

    pub fn handle_link(&mut self, report: LinkReport, news: &mut News, now: Timestamp) {
        let before = self.link.replace(report);
        let was_up_with = before.filter(|before| before.is_up).map(|before| before.mac);
        let is_up_with = report.is_up.then_some(report.mac);
        if was_up_with != is_up_with {
            self.patient_until = is_up_with.map(|_| now + self.patience());
        }
        if was_up_with != is_up_with
            && let Some(station) = &mut self.station
        {
            if was_up_with.is_some() {
                let lost = station.stop(now);
                news.lose(self.config.tunnel, lost, DropReason::PortDown);
            }
            if let Some(mac) = is_up_with {
                station.start(mac, &mut *news.random, now);
            }
        }
        self.judge(news, now);
    }

    /// How long it may take until it is known that nobody is there.
    fn patience(&self) -> Duration {
        let Some(config) = ethernet(&self.config) else { return Duration::ZERO };
        let answering = match config.bfd {
            Some(bfd) => bfd.interval.max(bfd::SLOW_INTERVAL) * u32::from(bfd.multiplier.max(1)),
            None => config.liveness.interval * u32::from(config.liveness.multiplier.max(1)),
        };
        Claims::longest_after_link_up() + answering
    }

    fn is_linked(&self) -> bool {
        self.link.is_some_and(|link| link.is_up)
    }

    #[inline]
    pub fn seal(
        &mut self,
        by: RealmId,
        packet: &[u8],
        before: &mut Before,
        outbox: &mut Outbox,
        now: Timestamp,
    ) -> Result<Sealed, DropReason> {
        let version = IpVersion::of_packet(packet).ok_or(DropReason::InnerMalformed)?;
        if matches!(self.down_for[version].or(self.down), Some(Down::NoLink | Down::NoAddress)) {
            return Err(DropReason::PortDown);
        }
        match &mut self.station {
            Some(station) => station.seal(by, packet, before, outbox, now),
            None if outbox.push(Path::tun(self.config.interface), true, packet) => Ok(Sealed::Sent),
            None => Err(DropReason::EgressQueueFull),
        }
    }

    #[inline]
    pub fn is_up(&self) -> bool {
        self.down.is_none()
    }

    #[inline]
    pub fn is_up_for(&self, version: IpVersion) -> bool {
        self.is_up_for[version]
    }

    /// Does what is due, and tells what has changed.
    pub fn settle(&mut self, news: &mut News, outbox: &mut Outbox, now: Timestamp) {
        if let Some(station) = &mut self.station {
            station.settle(self.config.tunnel, news, outbox, now);
        }
        self.judge(news, now);
    }

    fn judge(&mut self, news: &mut News, now: Timestamp) {
        self.is_up_for = PerVersion::from_fn(|version| self.serves(version) && self.why_down(version).is_none());
        self.down_for = PerVersion::from_fn(|version| self.why_down(version).filter(|_| self.serves(version)));
        self.down = self.why_all_down();
        self.tell(news, now);
    }

    fn tell(&mut self, news: &mut News, now: Timestamp) {
        let tunnel = self.config.tunnel;
        let is_early = self.patient_until.is_some_and(|until| now < until);
        match self.down {
            Some(Down::NoAddress | Down::NoNextHop) if is_early => return,
            down if down == self.told => {}
            None => news.push(Event::Up { tunnel }),
            Some(why) => news.push(Event::Down { tunnel, why }),
        }
        (self.told, self.patient_until) = (self.down, None);
    }

    fn serves(&self, version: IpVersion) -> bool {
        self.station.as_ref().is_none_or(|station| station.next_hops.serves(version))
    }

    fn why_down(&self, version: IpVersion) -> Option<Down> {
        if !self.is_linked() {
            return Some(Down::NoLink);
        }
        let (station, config) = (self.station.as_ref()?, ethernet(&self.config)?);
        // Not a link-local address that was made of the hardware address alone.
        let mut addresses = config.addresses.iter().map(|net| net.addr());
        if !addresses.any(|own| IpVersion::of(own) == version && station.claims.is_ours(own)) {
            return Some(Down::NoAddress);
        }
        (!station.next_hops.is_up(version)).then_some(Down::NoNextHop)
    }

    /// Of two reasons the one that is further on.
    fn why_all_down(&self) -> Option<Down> {
        let PerVersion { v4, v6 } = self.down_for;
        match (v4, v6) {
            _ if self.is_up_for.v4 || self.is_up_for.v6 => None,
            _ if !self.is_linked() => Some(Down::NoLink),
            (Some(Down::NoNextHop), _) | (_, Some(Down::NoNextHop)) => Some(Down::NoNextHop),
            _ => Some(Down::NoAddress),
        }
    }

    /// `false`: there was nobody to be told that it ends.
    pub fn say_goodbye(&mut self, outbox: &mut Outbox) -> bool {
        self.station.as_mut().is_some_and(|station| station.say_goodbye(outbox))
    }

    /// Packets that wait for a neighbour.
    pub fn waiting(&self) -> usize {
        self.station.as_ref().map_or(0, |station| station.neighbours.waiting())
    }

    pub fn poll_timeout(&self) -> Option<Timestamp> {
        let station = self.station.as_ref().and_then(Station::poll_timeout);
        station.into_iter().chain(self.patient_until).min()
    }

    pub fn status(&self) -> PortStatus {
        let station = self.station.as_ref();
        PortStatus {
            down: self.down,
            down_for: self.down_for,
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
