//! Opens everything that the appliance listens on, before anything starts: a start works or says why not. Only interfaces may come
//! later.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::watch;

use super::gates::{Gates, Named};
use super::interfaces::{self, InterfaceError, InterfacePlan, States};
use super::socket_file::{SocketFile, SocketFileError};
use super::transfer::Transfers;
use super::uplinks;
use crate::config::model::{self, Config, Ike};
use crate::dataplane::Snapshot;
use crate::dataplane::snapshot::Interface;
use crate::io::gate::Gate;
use crate::io::raw_esp::{RawError, RawEspSocket};
use crate::io::sockets::Sockets;
use crate::io::udp::{BindError, Offload, UdpSocket};
use crate::io::uplink::keeper::Keeper;
use crate::net::Port;
use crate::telemetry::source::Listen;

/// What to listen on.
#[derive(Clone, Debug)]
pub struct Plan {
    pub ix_name: String,
    /// `None`: there is no key, and so no peer that could call.
    pub wireguard: Option<SocketAddr>,
    /// `None`: no realm is attached by IPsec.
    pub ike: Option<IkePlan>,
    pub offload: Offload,
    pub api_socket: PathBuf,
    pub metrics: Option<SocketAddr>,
    pub transfer: Option<TransferPlan>,
    /// Of ports.
    pub interfaces: Vec<InterfacePlan>,
    pub gate: model::Gate,
    /// Of the packet path.
    pub threads: usize,
    pub uplink: model::Uplink,
}

/// Where name servers fetch the zone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TransferPlan {
    pub listen: SocketAddr,
    pub connections: usize,
}

/// Where IKE and ESP are listened for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct IkePlan {
    pub listen: IpAddr,
    pub port: u16,
    pub nat_t_port: u16,
    pub raw_esp: bool,
}

/// All that is open.
#[derive(Debug)]
pub struct Opened {
    pub(super) ix_name: String,
    pub(super) sockets: Sockets,
    pub(super) api: SocketFile,
    pub(super) metrics: Option<TcpListener>,
    pub(super) transfers: Option<Transfers>,
    pub(super) interfaces: Vec<InterfacePlan>,
    pub(super) states: States,
    /// With the interfaces that the configuration names for it.
    pub(super) gate: Option<(Gate, Named)>,
    pub(super) gates: Gates,
    pub(super) threads: usize,
    /// For the uplinks, if any are by AF_XDP, and how they are.
    pub(super) uplinks: (Option<Keeper>, uplinks::States),
}

#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error(
        "this binary was built for simulation (feature `sim`): its WireGuard timers follow a mock clock; use a normal build"
    )]
    BuiltForSimulation,
    #[error(transparent)]
    WireGuard(#[from] BindError),
    #[error("IKE: {0} (`listen`, `port` and `nat_t_port` in [ike])")]
    Ike(BindError),
    #[error(transparent)]
    RawEsp(#[from] RawError),
    #[error(transparent)]
    Api(#[from] SocketFileError),
    #[error(transparent)]
    Interface(#[from] InterfaceError),
    #[error("cannot serve metrics on tcp {address}: {source}; change `metrics.listen`, or set it to \"off\"")]
    Metrics { address: SocketAddr, source: io::Error },
    #[error("cannot serve zone transfers on tcp {address}: {source}; change `listen` in [dns.transfer]")]
    Transfer { address: SocketAddr, source: io::Error },
}

impl Plan {
    /// `interfaces`: of the configuration, by number.
    pub fn of(config: &Config, interfaces: &[Option<Interface>]) -> Self {
        Plan {
            interfaces: interfaces::plans(config, interfaces),
            gate: config.gate.clone(),
            threads: config.workers.threads,
            uplink: config.uplink.clone(),
            ix_name: config.ix.name.clone(),
            wireguard: config.wireguard.private_key.as_ref().map(|_| config.wireguard.listen),
            ike: config.uses_ipsec().then(|| IkePlan::of(&config.ike)),
            offload: Offload::Auto,
            api_socket: config.api.socket.clone(),
            metrics: config.metrics.listen,
            transfer: config
                .dns
                .transfer
                .as_ref()
                .map(|transfer| TransferPlan { listen: transfer.listen, connections: config.limits.dns.transfers }),
        }
    }

    /// The API's socket comes first: it tells most clearly that another ixgate is running.
    pub fn open(self) -> Result<Opened, OpenError> {
        if cfg!(feature = "sim") {
            return Err(OpenError::BuiltForSimulation);
        }
        let api = SocketFile::listen(&self.api_socket)?;
        let mut sockets = Sockets::default();
        if let Some(address) = self.wireguard {
            let (udp, lanes) = UdpSocket::bind_lanes(Port::WireGuard, address, self.offload)?;
            sockets.add_udp_with_lanes(udp, lanes);
        }
        if let Some(ike) = self.ike {
            ike.open(&mut sockets, self.offload)?;
        }
        let states = interfaces::open_all(&self.interfaces, &mut sockets)?;
        let (gate, gates) = load_gate(self.gate, &mut sockets);
        let uplinks = uplinks::prepare(&self.uplink.af_xdp, &mut sockets);
        let metrics = self.metrics.map(listen_for_metrics).transpose()?;
        let transfers = self.transfer.map(TransferPlan::open).transpose()?;
        let Plan { ix_name, interfaces, threads, .. } = self;
        Ok(Opened { ix_name, sockets, api, metrics, transfers, interfaces, states, gate, gates, threads, uplinks })
    }
}

impl IkePlan {
    pub fn of(ike: &Ike) -> Self {
        IkePlan { listen: ike.listen, port: ike.port, nat_t_port: ike.nat_t_port, raw_esp: ike.raw_esp }
    }

    fn open(self, sockets: &mut Sockets, offload: Offload) -> Result<(), OpenError> {
        for (port, number) in [(Port::Ike, self.port), (Port::IkeNatT, self.nat_t_port)] {
            let address = SocketAddr::new(self.listen, number);
            let (udp, lanes) = UdpSocket::bind_lanes(port, address, offload).map_err(OpenError::Ike)?;
            sockets.add_udp_with_lanes(udp, lanes);
        }
        if self.raw_esp {
            RawEspSocket::bind_all(self.listen)?.into_iter().for_each(|raw| sockets.add_raw_esp(raw));
        }
        Ok(())
    }
}

/// An appliance without a gate works, less well in overload. Nobody needs to be told twice.
fn load_gate(wanted: model::Gate, sockets: &mut Sockets) -> (Option<(Gate, Named)>, Gates) {
    if !wanted.enabled {
        return (None, Gates::without("switched off in the configuration".to_owned()));
    }
    match Gate::load() {
        Ok(gate) => {
            sockets.set_gate(gate.accounts());
            (Some((gate, wanted.interfaces)), Gates::default())
        }
        Err(error) => {
            tracing::info!(
                "no gate before the network stack: {error}; overload takes processor time from what is carried"
            );
            (None, Gates::without(error.to_string()))
        }
    }
}

/// What a new configuration needs beside what is `open`: the ports of IKE, if it is the first to attach a realm by IPsec, and
/// interfaces.
pub fn open_later(
    ike: Option<IkePlan>,
    interfaces: &[InterfacePlan],
    running: &[InterfacePlan],
) -> Result<Sockets, OpenError> {
    let mut sockets = Sockets::default();
    if let Some(ike) = ike {
        ike.open(&mut sockets, Offload::Auto)?;
    }
    interfaces::open_new(interfaces, running, &mut sockets)?;
    Ok(sockets)
}

impl TransferPlan {
    fn open(self) -> Result<Transfers, OpenError> {
        let fail = |source| OpenError::Transfer { address: self.listen, source };
        let listener = listen_tcp(self.listen).map_err(fail)?;
        Ok(Transfers { listener, connections: self.connections, current: None })
    }
}

impl Opened {
    /// What name servers are given, where they are listened for: the snapshot that runs.
    pub fn serve_zone(&mut self, current: watch::Receiver<Arc<Snapshot>>) {
        if let Some(transfers) = &mut self.transfers {
            transfers.current = Some(current);
        }
    }

    pub fn transfer_address(&self) -> Option<SocketAddr> {
        self.transfers.as_ref().and_then(|transfers| transfers.listener.local_addr().ok())
    }

    /// With the ports that the kernel chose, where 0 was asked for.
    pub fn udp_address(&self, port: Port) -> Option<SocketAddr> {
        self.sockets.udp_address(port)
    }

    pub fn metrics_address(&self) -> Option<SocketAddr> {
        self.metrics.as_ref().and_then(|listener| listener.local_addr().ok())
    }

    pub fn listens(&self) -> Vec<Listen> {
        let mut listens = listens_of(&self.sockets);
        listens.push(Listen { what: "API", address: format!("unix:{}", self.api.path().display()) });
        if let Some(address) = self.metrics_address() {
            listens.push(Listen { what: "metrics", address: format!("http://{address}/metrics") });
        }
        if let Some(address) = self.transfer_address() {
            listens.push(Listen { what: "zone transfers", address: format!("tcp {address}") });
        }
        listens
    }
}

/// Sockets for outer datagrams, in words; without interfaces.
pub(super) fn listens_of(sockets: &Sockets) -> Vec<Listen> {
    let ports = [(Port::WireGuard, "WireGuard"), (Port::Ike, "IKE"), (Port::IkeNatT, "IKE and ESP in UDP")];
    let udp = ports.into_iter().filter_map(|(port, what)| Some((what, sockets.udp_address(port)?)));
    let mut listens: Vec<_> = udp.map(|(what, address)| Listen { what, address: format!("udp {address}") }).collect();
    let raw = sockets.raw_esp_addresses();
    listens.extend(raw.map(|address| Listen { what: "ESP", address: format!("ip protocol 50 {address}") }));
    listens
}

fn listen_for_metrics(address: SocketAddr) -> Result<TcpListener, OpenError> {
    listen_tcp(address).map_err(|source| OpenError::Metrics { address, source })
}

fn listen_tcp(address: SocketAddr) -> io::Result<TcpListener> {
    let listener = TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

#[cfg(all(test, not(feature = "sim")))]
pub(super) mod tests {
    use super::*;

    pub(crate) fn plan(directory: &tempfile::TempDir) -> Plan {
        Plan {
            ix_name: "ix-test".to_owned(),
            wireguard: "127.0.0.1:0".parse().ok(),
            ike: None,
            offload: Offload::Auto,
            api_socket: directory.path().join("state/ixgate.sock"),
            metrics: Some("127.0.0.1:0".parse().unwrap()),
            transfer: None,
            interfaces: Vec::new(),
            gate: model::Gate { enabled: false, interfaces: None },
            threads: 1,
            uplink: model::Uplink::default(),
        }
    }

    #[test]
    fn tells_what_it_listens_on() {
        let directory = tempfile::tempdir().unwrap();
        let opened = plan(&directory).open().unwrap();
        let words: Vec<_> = opened.listens().into_iter().map(|l| format!("{} {}", l.what, l.address)).collect();
        assert_eq!(words.len(), 3);
        assert!(words[0].starts_with("WireGuard udp 127.0.0.1:") && !words[0].ends_with(":0"), "{words:?}");
        assert!(words[1].ends_with("state/ixgate.sock") && words[2].ends_with("/metrics"), "{words:?}");
    }

    #[test]
    fn the_ports_of_ike_are_opened_where_they_are_wanted() {
        let directory = tempfile::tempdir().unwrap();
        let ike = IkePlan { listen: "127.0.0.1".parse().unwrap(), port: 0, nat_t_port: 0, raw_esp: false };
        let opened = Plan { ike: Some(ike), ..plan(&directory) }.open().unwrap();
        let words: Vec<_> = opened.listens().into_iter().map(|l| format!("{} {}", l.what, l.address)).collect();
        assert_eq!(words.len(), 5);
        assert!(words[1].starts_with("IKE udp 127.0.0.1:"), "{words:?}");
        assert!(words[2].starts_with("IKE and ESP in UDP udp 127.0.0.1:"), "{words:?}");

        let elsewhere = tempfile::tempdir().unwrap();
        let without_key = Plan { wireguard: None, ike: Some(ike), ..plan(&elsewhere) }.open().unwrap();
        assert_eq!(without_key.listens()[0].what, "IKE");
        drop(without_key);
        let port = opened.udp_address(Port::IkeNatT).unwrap().port();
        let taken = Plan { ike: Some(IkePlan { nat_t_port: port, ..ike }), ..plan(&elsewhere) };
        let error = taken.open().unwrap_err();
        assert!(matches!(error, OpenError::Ike(BindError::InUse(_))), "{error}");
        assert!(error.to_string().contains("`nat_t_port` in [ike]"), "{error}");

        match (Plan { ike: Some(IkePlan { raw_esp: true, ..ike }), ..plan(&elsewhere) }).open() {
            Ok(opened) => assert!(opened.listens().iter().any(|l| l.address == "ip protocol 50 127.0.0.1")),
            Err(error @ OpenError::RawEsp(RawError::NotPermitted(_))) => eprintln!("NOT RUN: {error}"),
            Err(error) => panic!("{error}"),
        }
    }

    #[test]
    fn what_cannot_be_opened_is_said_and_leaves_nothing_behind() {
        let directory = tempfile::tempdir().unwrap();
        let opened = plan(&directory).open().unwrap();
        assert!(matches!(plan(&directory).open(), Err(OpenError::Api(SocketFileError::Alive(_)))));

        let elsewhere = tempfile::tempdir().unwrap();
        let wireguard = opened.udp_address(Port::WireGuard);
        let taken = Plan { wireguard, ..plan(&elsewhere) };
        let api_socket = taken.api_socket.clone();
        assert!(matches!(taken.open(), Err(OpenError::WireGuard(BindError::InUse(_)))));
        assert!(!api_socket.exists());

        let taken = Plan { metrics: opened.metrics_address(), ..plan(&elsewhere) };
        let error = taken.open().unwrap_err();
        assert!(error.to_string().contains("cannot serve metrics on tcp 127.0.0.1:"), "{error}");
    }
}
