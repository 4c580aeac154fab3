//! From configured IPsec peers to what IKE runs on: identities parsed, certificates and trust loaded, selectors taken from
//! the realm's view.

use std::sync::Arc;

use super::view::View;
use crate::config::model::{self, Config, IkeLimits, IpsecPeer};
use crate::ike::auth::{CrlPolicy, IdentityError, LoadError, LocalCertificate, RsaPadding, TrustAnchors};
use crate::ike::{self, Identity, LocalAuth, PeerConfig, Ppk, Profile, RemoteAuth, SelectorMode};
use crate::net::TunnelId;
use crate::net::selector::Selector;

/// What passed `check` and yet cannot be used; `check` and IKE then disagree about a rule.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum IpsecError {
    #[error("the identity {0} cannot be used: {1}")]
    Identity(String, IdentityError),
    #[error("our certificate cannot be used: {0}")]
    OurCertificate(LoadError),
    #[error("the peer {0} is to be known by our certificate, and there is none in [ike]")]
    NoCertificate(String),
    #[error("the certificates or lists for the peer {0} cannot be used: {1}")]
    Trust(String, LoadError),
}

/// Loads our certificate once, then every peer.
pub struct Peers {
    certificate: Option<Arc<LocalCertificate>>,
}

impl Peers {
    pub fn new(config: &Config) -> Result<Self, IpsecError> {
        let load = |certificate: &model::Certificate| {
            let padding = match certificate.rsa_padding {
                model::RsaPadding::Pss => RsaPadding::Pss,
                model::RsaPadding::Pkcs1 => RsaPadding::Pkcs1,
            };
            let loaded = LocalCertificate::load(&certificate.chain, &certificate.private_key);
            loaded.map(|loaded| Arc::new(loaded.with_rsa_padding(padding))).map_err(IpsecError::OurCertificate)
        };
        // Without a peer nobody asks for it, and it stays unread.
        let certificate = config.ike.certificate.as_ref().filter(|_| config.uses_ipsec());
        Ok(Peers { certificate: certificate.map(load).transpose()? })
    }

    /// `view`: of the realm that is attached by this tunnel.
    pub fn peer(&self, peer: &IpsecPeer, tunnel: TunnelId, view: &View) -> Result<PeerConfig, IpsecError> {
        let (selector_mode, ours, theirs) = selectors(peer.selectors, view);
        Ok(PeerConfig {
            tunnel,
            remote: peer.remote,
            remote_nat_t_port: peer.remote_nat_t_port,
            initiate: peer.initiate,
            local_id: identity(&peer.local_id)?,
            remote_id: identity(&peer.remote_id)?,
            local_auth: self.local_auth(peer)?,
            remote_auth: remote_auth(peer)?,
            ppk: peer.ppk.as_ref().map(ppk),
            profile: match peer.profile {
                model::Profile::Modern => Profile::Modern,
                model::Profile::Pq => Profile::Pq,
                model::Profile::Compat => Profile::Compat,
            },
            encapsulation: match peer.encapsulation {
                model::Encapsulation::Udp => ike::Encapsulation::Udp,
                model::Encapsulation::Auto => ike::Encapsulation::Auto,
                model::Encapsulation::Esp => ike::Encapsulation::Esp,
            },
            ours,
            theirs,
            selector_mode,
            lifetimes: ike::Lifetimes {
                ike: peer.lifetimes.ike,
                child: peer.lifetimes.child,
                child_bytes: peer.lifetimes.child_bytes,
                child_packets: peer.lifetimes.child_packets,
            },
            replay_window: peer.replay_window_packets,
            liveness: peer.liveness,
        })
    }

    fn local_auth(&self, peer: &IpsecPeer) -> Result<LocalAuth, IpsecError> {
        match (&peer.local_auth, &self.certificate) {
            (model::LocalAuth::Psk(key), _) => Ok(LocalAuth::Psk(key.clone())),
            (model::LocalAuth::Certificate, Some(certificate)) => Ok(LocalAuth::Certificate(certificate.clone())),
            (model::LocalAuth::Certificate, None) => Err(IpsecError::NoCertificate(peer.remote_id.to_string())),
        }
    }
}

fn identity(identity: &model::Identity) -> Result<Identity, IpsecError> {
    let written = identity.to_string();
    written.parse().map_err(|error| IpsecError::Identity(written, error))
}

fn remote_auth(peer: &IpsecPeer) -> Result<RemoteAuth, IpsecError> {
    let (cas, crls, policy) = match &peer.remote_auth {
        model::RemoteAuth::Psk(key) => return Ok(RemoteAuth::Psk(key.clone())),
        model::RemoteAuth::Certificate { cas, crls, require_crl } => {
            (slices(cas), slices(crls), if *require_crl { CrlPolicy::Require } else { CrlPolicy::IfPresent })
        }
    };
    let anchors = TrustAnchors::load(&cas, &crls, policy);
    let anchors = anchors.map_err(|error| IpsecError::Trust(peer.remote_id.to_string(), error))?;
    Ok(RemoteAuth::Certificate(Arc::new(anchors)))
}

fn slices(list: &[Vec<u8>]) -> Vec<&[u8]> {
    list.iter().map(Vec::as_slice).collect()
}

fn ppk(ppk: &model::Ppk) -> Ppk {
    Ppk { id: ppk.id.as_bytes().to_vec(), secret: ppk.key.clone(), required: ppk.required }
}

/// What we offer and accept. With `any`, everything of the families that the realm speaks.
fn selectors(wanted: model::Selectors, view: &View) -> (SelectorMode, Vec<Selector>, Vec<Selector>) {
    let of = |nets: &[ipnet::IpNet]| nets.iter().map(|net| Selector::from_net(*net)).collect();
    match wanted {
        model::Selectors::View => (SelectorMode::View, of(&view.ours), of(&view.theirs)),
        model::Selectors::Pairs => (SelectorMode::Pairs, of(&view.ours), of(&view.theirs)),
        model::Selectors::Any => {
            let all = [Selector::ANY4, Selector::ANY6];
            let speaks = |all: &Selector| view.theirs.iter().any(|net| net.addr().is_ipv4() == all.is_ipv4());
            let all: Vec<Selector> = all.into_iter().filter(speaks).collect();
            (SelectorMode::Any, all.clone(), all)
        }
    }
}

/// The file's bounds among those of the core.
pub fn limits(limits: &IkeLimits) -> ike::Limits {
    let mut core = ike::Limits {
        half_open: limits.half_open,
        half_open_per_source: limits.half_open_per_source,
        cookie_threshold: limits.cookie_threshold,
        sas_per_peer: limits.sas_per_peer,
        children_per_sa: limits.children_per_sa,
        fragments: limits.fragments,
        message_bytes: limits.message_bytes,
        selectors: limits.selectors,
        ..ike::Limits::default()
    };
    core.wire.payloads = limits.payloads;
    core.wire.proposals = limits.proposals;
    core.wire.transforms = limits.transforms;
    core.wire.fragments = limits.fragments;
    // A peer may offer more than we take; it is narrowed.
    core.wire.selectors = core.wire.selectors.max(limits.selectors);
    core
}

/// Our UDP ports, as the file gives them.
pub fn ports(config: &Config) -> ike::Ports {
    ike::Ports { ike: config.ike.port, nat_t: config.ike.nat_t_port }
}

/// Addresses that our sockets are bound to; empty when they are bound to all.
pub fn local_addresses(config: &Config) -> Vec<std::net::IpAddr> {
    let listen = config.ike.listen;
    if listen.is_unspecified() { Vec::new() } else { vec![listen] }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::sample::Sample;
    use super::*;

    fn view() -> View {
        let nets = |nets: &[&str]| nets.iter().map(|net| net.parse().unwrap()).collect();
        View { ours: nets(&["100.64.0.0/24", "100.64.2.0/24"]), theirs: nets(&["192.168.1.0/24"]) }
    }

    fn loaded(peer: &IpsecPeer) -> PeerConfig {
        let peers = Peers::new(&Sample::new().build()).unwrap();
        peers.peer(peer, TunnelId(7), &view()).unwrap()
    }

    #[test]
    fn a_peer_is_what_the_file_says() {
        let peer = super::super::sample::ipsec_peer("fqdn:gw.example");
        let config = loaded(&peer);
        assert_eq!(config.tunnel, TunnelId(7));
        assert_eq!(config.remote_id.to_string(), "fqdn:gw.example");
        assert_eq!(config.local_id.to_string(), "fqdn:ix.example");
        assert!(matches!(&config.local_auth, LocalAuth::Psk(key) if key[..] == *b"correct horse battery"));
        assert_eq!(config.theirs, [Selector::from_net("192.168.1.0/24".parse().unwrap())]);
        assert_eq!((config.ours.len(), config.selector_mode), (2, SelectorMode::View));
        assert_eq!((config.replay_window, config.liveness), (1024, Duration::from_secs(30)));
    }

    #[test]
    fn any_is_everything_of_the_families_that_the_realm_speaks() {
        let peer = super::super::sample::ipsec_peer("fqdn:gw.example");
        let any = loaded(&IpsecPeer { selectors: model::Selectors::Any, ..peer.clone() });
        assert_eq!((any.ours, any.theirs), (vec![Selector::ANY4], vec![Selector::ANY4]));
        let pairs = loaded(&IpsecPeer { selectors: model::Selectors::Pairs, ..peer });
        assert_eq!((pairs.selector_mode, pairs.ours.len()), (SelectorMode::Pairs, 2));
    }

    /// What `check` accepts, IKE accepts, and as the same identity.
    #[test]
    fn identities_mean_the_same_to_check_and_to_ike() {
        use model::Identity::{Address, Dn, Email, Fqdn};
        for written in [
            Fqdn("gw_1.Example".into()),
            Email("vpn@clinic.example".into()),
            Address("198.51.100.7".parse().unwrap()),
            Address("2001:db8::7".parse().unwrap()),
            Dn("C=DE, ST=x, L=y, O=\"Region A, Inc\", OU=z, CN=gw\\,1".into()),
            Dn("DC=example,UID=7,E=a@b.example,emailAddress=a@b.example,serialNumber=1,street=s,postalCode=1".into()),
        ] {
            let parsed = identity(&written).unwrap_or_else(|error| panic!("{error}"));
            let upper = match &written {
                Fqdn(name) => Fqdn(name.to_uppercase()),
                other => other.clone(),
            };
            assert_eq!(parsed, identity(&upper).unwrap());
            assert_eq!(written.folded(), upper.folded());
        }
    }

    #[test]
    fn the_defaults_of_the_file_are_those_of_the_core() {
        assert_eq!(limits(&IkeLimits::default()), ike::Limits::default());
        let few = limits(&IkeLimits { half_open: 7, payloads: 8, selectors: 200, ..IkeLimits::default() });
        assert_eq!((few.half_open, few.wire.payloads, few.wire.selectors), (7, 8, 200));
    }

    #[test]
    fn a_certificate_is_loaded_once_and_needed_by_who_asks_for_it() {
        let certificate_peer = IpsecPeer {
            local_auth: model::LocalAuth::Certificate,
            ..super::super::sample::ipsec_peer("fqdn:gw.example")
        };
        let mut config = Sample::new().realm("a", &["192.168.1.0/24"]).ipsec("a", certificate_peer.clone()).build();
        let none = Peers::new(&config).unwrap().peer(&certificate_peer, TunnelId(0), &view());
        assert_eq!(none.unwrap_err(), IpsecError::NoCertificate("fqdn:gw.example".into()));

        let key = rcgen::KeyPair::generate().unwrap();
        let own = rcgen::CertificateParams::new(vec!["ix.example".to_owned()]).unwrap().self_signed(&key).unwrap();
        config.ike.certificate = Some(model::Certificate {
            chain: own.pem().into_bytes(),
            private_key: key.serialize_pem().into_bytes().into(),
            rsa_padding: model::RsaPadding::Pss,
        });
        let peers = Peers::new(&config).unwrap();
        let trusting = IpsecPeer {
            remote_auth: model::RemoteAuth::Certificate { cas: vec![own.der().to_vec()], crls: Vec::new(), require_crl: false },
            ..certificate_peer
        };
        let loaded = peers.peer(&trusting, TunnelId(0), &view()).unwrap();
        assert!(matches!(loaded.local_auth, LocalAuth::Certificate(_)));
        assert!(matches!(loaded.remote_auth, RemoteAuth::Certificate(_)));
        config.ike.certificate.as_mut().unwrap().chain = b"-----".to_vec();
        assert!(matches!(Peers::new(&config), Err(IpsecError::OurCertificate(_))));
    }
}
