//! Configurations for tests, written as short as they can be read.

use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;

use crate::config::model::{
    AliasMode, Api, Attachment, Config, Dns, Encapsulation, Grant, GrantTarget, Host, HostRef, Identity, Ike,
    IpsecPeer, Ix, Lifetimes, Limits, LocalAuth, Metrics, Napt, Network, Peer, PortPeer, Profile, Realm, RealmRef,
    RemoteAuth, RoutesFrom, Selectors, Service, ServiceRef, Sessions, TunPeer, WireGuard, WireGuardPeer,
};
use crate::net::address_range::AddressRange;
use crate::net::policy::PortRule;
use crate::net::{Space6, VlanTags};

pub struct Sample {
    config: Config,
}

impl Sample {
    pub fn new() -> Self {
        let ix = Ix {
            name: "ix-test".into(),
            domain: "ix.example".into(),
            space6: Space6::new("fd69:7867:6174::/48".parse().unwrap()).unwrap(),
            alias4: vec!["100.64.0.0/10".parse().unwrap()],
            state_dir: "state".into(),
        };
        let config = Config {
            ix,
            api: Api { socket: "state/ixgate.sock".into() },
            metrics: Metrics { listen: None },
            wireguard: WireGuard { listen: "127.0.0.1:51820".parse().unwrap(), private_key: None },
            ike: Ike {
                listen: "127.0.0.1".parse().unwrap(),
                port: 500,
                nat_t_port: 4500,
                local_id: None,
                certificate: None,
                raw_esp: false,
            },
            workers: Default::default(),
            gate: Default::default(),
            uplink: Default::default(),
            limits: Limits::default(),
            sessions: Sessions::default(),
            dns: Dns::default(),
            interfaces: Vec::new(),
            realms: Vec::new(),
            default_realm: None,
            hosts: Vec::new(),
            dns_forwards: Vec::new(),
            services: Vec::new(),
            grants: Vec::new(),
        };
        Sample { config }
    }

    pub fn alias4(mut self, pools: &[&str]) -> Self {
        self.config.ix.alias4 = pools.iter().map(|pool| pool.parse().unwrap()).collect();
        self
    }

    /// Networks as `PREFIX`, `PREFIX=hosts`, `PREFIX=auto`, `PREFIX=ALIAS` or `PREFIX6=CANONICAL6`;
    /// ranges as `FIRST-LAST` or `FIRST-LAST=FIRST-LAST`.
    pub fn realm(mut self, name: &str, networks: &[&str]) -> Self {
        let networks =
            networks.iter().flat_map(|text| if text.contains('-') { range(text) } else { vec![network(text)] });
        let networks = networks.collect();
        self.config.realms.push(Realm {
            name: name.into(),
            networks,
            dns: None,
            attachments: Vec::new(),
            routes_from: None,
            napt: None,
        });
        self
    }

    /// Takes networks of `realm` from a daemon, in the namespace `bgp-REALM`, with the addresses of [`port_peer`].
    pub fn routes_from(mut self, realm: &str, max_prefixes: usize) -> Self {
        let number = self.realm_ref(realm).0;
        self.config.realms[number].routes_from = Some(RoutesFrom {
            namespace: format!("bgp-{realm}"),
            tun: "ix0".into(),
            local: vec!["172.20.0.2".parse().unwrap()],
            peers: vec!["172.20.0.1".parse().unwrap()],
            allow: Vec::new(),
            max_prefixes,
            max_alias_addresses: None,
        });
        self
    }

    /// Shows `realm` by a pool.
    pub fn napt(mut self, realm: &str, napt: Napt) -> Self {
        let realm = self.realm_ref(realm);
        self.config.realms[realm.0].napt = Some(napt);
        self
    }

    /// One more realm: the default one, with `networks` besides.
    pub fn default_realm(mut self, name: &str, networks: &[&str]) -> Self {
        self.config.default_realm = Some(RealmRef(self.config.realms.len()));
        self.realm(name, networks)
    }

    /// One more tunnel of `realm`.
    pub fn ipsec(self, realm: &str, peer: IpsecPeer) -> Self {
        self.attach(realm, Peer::Ipsec(Box::new(peer)))
    }

    /// The same by WireGuard: with a key of nothing but `byte`.
    pub fn wireguard(self, realm: &str, byte: u8) -> Self {
        let peer = WireGuardPeer { public_key: [byte; 32], preshared_key: None, endpoint: None, keepalive: None };
        self.attach(realm, Peer::WireGuard(peer))
    }

    /// One more port of `realm`: with a VLAN and a gateway.
    pub fn port(self, realm: &str, interface: &str, vlan: u16) -> Self {
        self.attach(realm, Peer::Port(Box::new(port_peer(interface, vlan))))
    }

    pub fn tun(self, realm: &str, name: &str) -> Self {
        self.attach(realm, Peer::Tun(TunPeer { name: name.into() }))
    }

    pub fn attach(mut self, realm: &str, peer: Peer) -> Self {
        let realm = self.realm_ref(realm);
        let attachments = &mut self.config.realms[realm.0].attachments;
        let priority = attachments.len() as u8;
        attachments.push(Attachment { peer, mtu_bytes: 1390, priority, weight: 1 });
        self
    }

    pub fn host(mut self, name: &str, realm: &str, addresses: &[&str]) -> Self {
        let addresses = addresses.iter().map(|addr| addr.parse::<IpAddr>().unwrap()).collect();
        let realm = self.realm_ref(realm);
        self.config.hosts.push(Host { name: name.into(), realm, addresses });
        self
    }

    pub fn service(mut self, name: &str, host: &str, ports: &[PortRule]) -> Self {
        let host = HostRef(self.config.hosts.iter().position(|h| h.name == host).unwrap());
        self.config.services.push(Service { name: name.into(), host, ports: ports.to_vec() });
        self
    }

    pub fn grant_service(mut self, from: &str, service: &str) -> Self {
        let service = ServiceRef(self.config.services.iter().position(|s| s.name == service).unwrap());
        let from = vec![self.realm_ref(from)];
        self.config.grants.push(Grant { from, to: vec![GrantTarget::Service(service)] });
        self
    }

    pub fn grant_realm(mut self, from: &[&str], to: &str, ports: &[PortRule]) -> Self {
        let from = from.iter().map(|name| self.realm_ref(name)).collect();
        let to = vec![GrantTarget::Realm(self.realm_ref(to), ports.to_vec())];
        self.config.grants.push(Grant { from, to });
        self
    }

    pub fn build(self) -> Config {
        self.config
    }

    fn realm_ref(&self, name: &str) -> RealmRef {
        RealmRef(self.config.realms.iter().position(|realm| realm.name == name).unwrap())
    }
}

/// A peer that calls, with a pre-shared key.
pub fn ipsec_peer(remote_id: &str) -> IpsecPeer {
    let key = || b"correct horse battery".to_vec().into();
    let name = remote_id.strip_prefix("fqdn:").expect("a name");
    IpsecPeer {
        remote: None,
        remote_nat_t_port: 4500,
        remote_id: Identity::Fqdn(name.into()),
        local_id: Identity::Fqdn("ix.example".into()),
        local_auth: LocalAuth::Psk(key()),
        remote_auth: RemoteAuth::Psk(key()),
        ppk: None,
        profile: Profile::Modern,
        initiate: false,
        encapsulation: Encapsulation::Udp,
        selectors: Selectors::View,
        lifetimes: Lifetimes::default(),
        replay_window_packets: 1024,
        liveness: Duration::from_secs(30),
        copy_dscp: true,
    }
}

/// 172.20.0.2, whose gateway is 172.20.0.1.
pub fn port_peer(interface: &str, vlan: u16) -> PortPeer {
    PortPeer {
        interface: interface.into(),
        vlan: VlanTags { service: None, customer: Some(vlan) },
        addresses: vec!["172.20.0.2/30".parse().unwrap()],
        gateways: vec!["172.20.0.1".parse().unwrap()],
        routes: Vec::new(),
        accept_ra: false,
        proxy: false,
        liveness_interval: Duration::from_secs(1),
        liveness_multiplier: 3,
        bfd: None,
    }
}

fn range(text: &str) -> Vec<Network> {
    const MOST: usize = 64;
    let (range, alias) = text.split_once('=').map_or((text, None), |(range, alias)| (range, Some(alias)));
    let (range, alias) =
        (range.parse::<AddressRange>().unwrap(), alias.map(|text| text.parse::<AddressRange>().unwrap()));
    let network = |(native, alias)| Network { native, alias, canonical: None };
    match alias.map(|alias| alias.first()) {
        Some(IpAddr::V4(first)) => {
            let pairs = range.prefixes_with_aliases(first, MOST).unwrap().into_iter();
            pairs.map(|(native, alias)| network((native, AliasMode::Pinned(alias)))).collect()
        }
        _ => {
            let natives = range.prefixes(MOST).unwrap().into_iter();
            natives.map(|native| network((native, AliasMode::default_of(native)))).collect()
        }
    }
}

fn network(text: &str) -> Network {
    let (native, option) = text.split_once('=').map_or((text, None), |(native, option)| (native, Some(option)));
    let native: IpNet = native.parse().unwrap();
    let (alias, canonical) = match (native, option) {
        (_, None) => (AliasMode::default_of(native), None),
        (_, Some("hosts")) => (AliasMode::HostsOnly, None),
        (_, Some("auto")) => (AliasMode::Auto, None),
        (_, Some(prefix)) => match prefix.parse().unwrap() {
            IpNet::V4(alias) => (AliasMode::Pinned(alias), None),
            IpNet::V6(canonical) => (AliasMode::HostsOnly, Some(canonical)),
        },
    };
    Network { native, alias, canonical }
}
