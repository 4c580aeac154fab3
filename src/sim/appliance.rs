//! TEMP
use super::peer::public_key;
use crate::dataplane::snapshot::*;
use crate::dataplane::{Engine, Setup, Snapshot};
use crate::host::HostConfig;
use crate::net::mapping::*;
use crate::net::policy::*;
use crate::net::*;
use std::net::Ipv4Addr;
use std::sync::Arc;
use zeroize::Zeroizing;
pub struct Appliance {
    pub public_key: [u8; 32],
    snapshot: Arc<Snapshot>,
    private_key: [u8; 32],
}
impl Appliance {
    pub fn build(_text: &str) -> Self {
        let private_key = [9u8; 32];
        let space = Space6::new("fd69:7867:6174::/48".parse().unwrap()).unwrap();
        let net = |r: u16, n: &str, a: &str| Network {
            realm: RealmId(r),
            native: n.parse().unwrap(),
            canonical: space.embed_net(RealmId(r), n.parse().unwrap()),
            alias: Some(a.parse().unwrap()),
        };
        let mapping = Mapping::new(
            space,
            vec![
                net(0, "0.0.0.0/24", "100.64.0.0/24"),
                net(1, "10.0.0.0/16", "100.65.0.0/16"),
                net(2, "10.0.0.0/16", "100.66.0.0/16"),
            ],
            &[],
        );
        let at = |x: [u8; 4]| mapping.locate_native4(RealmId::IX, x.into()).unwrap();
        let policy = Policy::new([Grant {
            from: RealmId(1),
            to: RealmId(2),
            target: Target::Realm,
            rules: vec![PortRule::Any],
        }]);
        let tunnel = |n: u32, r: u16, name: &str| {
            Some(Tunnel {
                realm: RealmId(r),
                mtu_bytes: 1420,
                peer: crate::wireguard::PeerConfig {
                    tunnel: TunnelId(n),
                    public_key: public_key(&key(name)),
                    preshared_key: None,
                    endpoint: None,
                    keepalive: None,
                },
            })
        };
        let zone = crate::dns::Zone::new(crate::dns::ZoneSpec {
            domain: "ix.example".into(),
            serial: 1,
            alias4: vec![],
            dns: at([0, 0, 0, 53]).canonical,
            realms: vec![(RealmId(1), "a".into()), (RealmId(2), "b".into())],
            hosts: vec![],
            services: vec![],
        })
        .unwrap_or_else(|_| panic!());
        let snapshot = Snapshot {
            generation: Generation(1),
            zone,
            realms: vec![
                None,
                Some(Realm { name: "a".into(), tunnels: vec![TunnelId(0)] }),
                Some(Realm { name: "b".into(), tunnels: vec![TunnelId(1)] }),
            ],
            tunnels: vec![tunnel(0, 1, "a"), tunnel(1, 2, "b")],
            service: Service { gateway: at([0, 0, 0, 1]), dns: at([0, 0, 0, 53]) },
            limits: Limits { icmp_errors_per_sec: 100 },
            mapping: mapping.clone(),
            policy,
        };
        Appliance { public_key: public_key(&private_key), snapshot: Arc::new(snapshot), private_key }
    }
    pub fn site_key(&self, name: &str) -> [u8; 32] {
        key(name)
    }
    pub fn alias_of(&self, _n: &str) -> Ipv4Addr {
        Ipv4Addr::new(100, 66, 0, 10)
    }
    pub fn engine(&self, now: Timestamp) -> Engine {
        let s = self.snapshot.service;
        Engine::new(
            Setup {
                private_key: Zeroizing::new(self.private_key),
                handshakes_per_sec: 500,
                sessions: crate::nat::Limits { sessions: 1_100_000, per_realm: 1_100_000 },
                host: HostConfig { gateway: s.gateway.canonical, dns: s.dns.canonical },
                seed: 77,
            },
            self.snapshot.clone(),
            now,
        )
    }
}
fn key(name: &str) -> [u8; 32] {
    let mut k = [3u8; 32];
    k[5] = name.as_bytes()[0];
    k
}
