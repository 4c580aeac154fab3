//! The gateway on the other side of an IPsec tunnel, in memory: `ike` and `ipsec` joined once more, by less than the
//! appliance needs. A peer of the appliance, not a part of it.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use crate::dataplane::child_sa;
use crate::ike::{self, ChildUp, LocalAuth, PeerConfig, RemoteAuth, SelectorMode};
use crate::ipsec::{self, Dscp};
use crate::net::random::Seeded;
use crate::net::{Path, Port, Selector, Timestamp, TunnelId};
use crate::packet::{Datagram, Opened, Outbox};

/// The site has one tunnel.
const TUNNEL: TunnelId = TunnelId(0);
const OUTBOX_BYTES: usize = 1 << 18;
const OUTBOX_RUNS: usize = 256;
const MAX_PACKET_BYTES: usize = 2048;
/// Four zero bytes before IKE on port 4500 (RFC 3948 section 2.2).
const MARKER: [u8; 4] = [0; 4];

/// What a site is to be.
#[derive(Clone, Debug)]
pub struct Plan {
    /// As in `fqdn:NAME`; the appliance's is `fqdn:ix.example`.
    pub name: String,
    pub psk: Vec<u8>,
    /// The appliance's IKE port, where the site calls it.
    pub appliance: Option<SocketAddr>,
    /// Its own networks, and what it may reach. Empty: everything, which is then narrowed.
    pub networks: Vec<Selector>,
    pub reaches: Vec<Selector>,
    pub encapsulation: ike::Encapsulation,
    pub profile: ike::Profile,
    pub lifetimes: ike::Lifetimes,
    pub seed: u64,
}

pub struct IpsecSite {
    ike: ike::Endpoint,
    esp: ipsec::Endpoint,
    outbox: Outbox,
    /// What happened, for whoever looks for a fault.
    pub events: Vec<String>,
    /// Inner packets that have arrived.
    pub inbox: Vec<Vec<u8>>,
    /// Datagrams that could not be opened.
    pub refused: u64,
    now: Timestamp,
}

impl IpsecSite {
    /// `address`: the gateway's own.
    pub fn new(plan: Plan, address: IpAddr, now: Timestamp) -> Self {
        let mut setup = ike::Setup::new(Box::new(Seeded(plan.seed)));
        setup.local_addresses = vec![address];
        let mut ike = ike::Endpoint::new(setup, now);
        let all = |list: Vec<Selector>| if list.is_empty() { vec![Selector::ANY4, Selector::ANY6] } else { list };
        ike.configure(
            vec![Arc::new(PeerConfig {
                tunnel: TUNNEL,
                remote: plan.appliance,
                remote_nat_t_port: 4500,
                initiate: plan.appliance.is_some(),
                local_id: format!("fqdn:{}", plan.name).parse().expect("a domain name"),
                remote_id: "fqdn:ix.example".parse().expect("a domain name"),
                local_auth: LocalAuth::Psk(plan.psk.clone().into()),
                remote_auth: RemoteAuth::Psk(plan.psk.into()),
                ppk: None,
                profile: plan.profile,
                encapsulation: plan.encapsulation,
                ours: all(plan.networks),
                theirs: all(plan.reaches),
                selector_mode: SelectorMode::View,
                lifetimes: plan.lifetimes,
                replay_window: 1024,
                liveness: std::time::Duration::from_secs(30),
            })],
            now,
        );
        IpsecSite {
            ike,
            esp: ipsec::Endpoint::new(ipsec::Limits::default(), plan.seed),
            outbox: Outbox::new(OUTBOX_BYTES, OUTBOX_RUNS),
            events: Vec::new(),
            inbox: Vec::new(),
            refused: 0,
            now,
        }
    }

    pub fn is_up(&self) -> bool {
        self.esp.is_up(TUNNEL)
    }

    pub fn status(&self) -> Option<ike::Status> {
        self.ike.status(TUNNEL)
    }

    /// A host of the site sends an inner packet. `false`: it cannot be sealed.
    pub fn send(&mut self, packet: &[u8]) -> bool {
        let sealed = self.esp.seal(TUNNEL, packet, &mut self.outbox).is_ok();
        if !sealed {
            self.ike.want(TUNNEL, self.now);
        }
        self.carry();
        sealed
    }

    pub fn handle_input(&mut self, datagram: Datagram<'_>, now: Timestamp) {
        self.now = self.now.max(now);
        match (datagram.path.port, datagram.bytes.strip_prefix(&MARKER)) {
            (Port::Ike, _) => self.handle_ike(datagram),
            (Port::IkeNatT, Some(bytes)) => self.handle_ike(Datagram { bytes, ..datagram }),
            (Port::IkeNatT, None) if datagram.bytes == [0xff] => {}
            _ => self.handle_esp(datagram),
        }
        self.carry();
    }

    pub fn handle_timeout(&mut self, now: Timestamp) {
        self.now = self.now.max(now);
        self.ike.handle_timeout(&mut self.outbox, now);
        self.carry();
        self.esp.handle_timeout(&mut self.outbox, now);
        self.carry();
    }

    pub fn poll_timeout(&self) -> Option<Timestamp> {
        [self.ike.poll_timeout(), self.esp.poll_timeout()].into_iter().flatten().map(|(at, _)| at).min()
    }

    /// What is to be sent.
    pub fn take_outgoing(&mut self) -> Vec<(Path, Vec<u8>)> {
        let outgoing = self.outbox.datagrams().map(|(path, _, bytes)| (path, bytes.to_vec())).collect();
        self.outbox.clear();
        outgoing
    }

    fn handle_ike(&mut self, datagram: Datagram<'_>) {
        if self.ike.handle_input(datagram, &mut self.outbox, self.now).is_err() {
            self.refused += 1;
        }
    }

    fn handle_esp(&mut self, datagram: Datagram<'_>) {
        let mut packet = [0; MAX_PACKET_BYTES];
        match self.esp.open(datagram, &mut packet, self.now) {
            Opened::Packet { len, .. } => {
                self.ike.note_heard(TUNNEL, self.now);
                self.inbox.push(packet[..len].to_vec());
            }
            Opened::Keepalive { .. } | Opened::Control => {}
            Opened::Dropped { reason, .. } => {
                self.events.push(format!("ESP dropped: {}", reason.name()));
                self.refused += 1;
            }
        }
    }

    fn carry(&mut self) {
        while let Some(event) = self.ike.poll_event() {
            match event {
                ike::Event::ChildUp(child) => self.install(*child),
                ike::Event::ChildDown { spi_in, linger, .. } => self.esp.retire(spi_in, linger, self.now),
                ike::Event::PathMoved { path, follow_path, .. } => self.esp.move_path(TUNNEL, path, follow_path),
                other => self.events.push(format!("{other:?}")),
            }
        }
        while let Some(event) = self.esp.poll_event() {
            match event {
                ipsec::Event::RekeyDue { spi_in, .. } => self.ike.rekey_child(TUNNEL, spi_in, self.now),
                ipsec::Event::Expired { spi_in, .. } => self.ike.expire_child(TUNNEL, spi_in, self.now),
                ipsec::Event::Moved { to, .. } => self.ike.note_moved(TUNNEL, to),
            }
        }
    }

    fn install(&mut self, child: ChildUp) {
        self.events.push(format!("child SA {:08x} for {:08x?}", child.spi_in, child.replaces));
        let child = child_sa(child, Dscp::Copy).expect("the lengths come from the suite");
        self.esp.install(child, self.now).expect("room for an SA");
    }
}
