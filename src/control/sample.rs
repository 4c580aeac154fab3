//! Configurations for tests, written as short as they can be read.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::config::model::{
    AliasMode, Api, Config, Grant, GrantTarget, Host, HostRef, Ike, Ix, Limits, Metrics, Network, Realm, RealmRef,
    Service, ServiceRef, WireGuard,
};
use crate::net::Space6;
use crate::net::policy::PortRule;

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
            limits: Limits::default(),
            realms: Vec::new(),
            hosts: Vec::new(),
            services: Vec::new(),
            grants: Vec::new(),
        };
        Sample { config }
    }

    pub fn alias4(mut self, pools: &[&str]) -> Self {
        self.config.ix.alias4 = pools.iter().map(|pool| pool.parse().unwrap()).collect();
        self
    }

    /// Networks as `PREFIX`, `PREFIX=hosts`, `PREFIX=ALIAS` or `PREFIX6=CANONICAL6`.
    pub fn realm(mut self, name: &str, networks: &[&str]) -> Self {
        let networks = networks.iter().map(|text| network(text)).collect();
        self.config.realms.push(Realm { name: name.into(), networks, attachments: Vec::new() });
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

fn network(text: &str) -> Network {
    let (native, option) = text.split_once('=').map_or((text, None), |(native, option)| (native, Some(option)));
    let native: IpNet = native.parse().unwrap();
    let (alias, canonical) = match (native, option) {
        (_, None) => (AliasMode::Auto, None),
        (IpNet::V4(_), Some("hosts")) => (AliasMode::HostsOnly, None),
        (IpNet::V4(_), Some(alias)) => (AliasMode::Pinned(alias.parse().unwrap()), None),
        (IpNet::V6(_), Some(prefix)) => (AliasMode::Auto, Some(prefix.parse().unwrap())),
    };
    Network { native, alias, canonical }
}
