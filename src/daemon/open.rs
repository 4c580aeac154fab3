//! Opens everything that the appliance listens on, before anything starts: a start works or says why not.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;

use super::socket_file::{SocketFile, SocketFileError};
use crate::config::model::Config;
use crate::io::udp::{BindError, Offload, UdpSocket};
use crate::telemetry::source::Listen;

/// What to listen on.
#[derive(Clone, Debug)]
pub struct Plan {
    pub ix_name: String,
    pub wireguard: SocketAddr,
    pub offload: Offload,
    pub api_socket: PathBuf,
    pub metrics: Option<SocketAddr>,
}

/// All that is open.
#[derive(Debug)]
pub struct Opened {
    pub(super) ix_name: String,
    pub(super) wireguard: UdpSocket,
    pub(super) api: SocketFile,
    pub(super) metrics: Option<TcpListener>,
}

#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error(
        "this binary was built for simulation (feature `sim`): its WireGuard timers follow a mock clock; use a normal build"
    )]
    BuiltForSimulation,
    #[error(transparent)]
    WireGuard(#[from] BindError),
    #[error(transparent)]
    Api(#[from] SocketFileError),
    #[error("cannot serve metrics on tcp {address}: {source}; change `metrics.listen`, or set it to \"off\"")]
    Metrics { address: SocketAddr, source: io::Error },
}

impl Plan {
    pub fn of(config: &Config) -> Self {
        Plan {
            ix_name: config.ix.name.clone(),
            wireguard: config.wireguard.listen,
            offload: Offload::Auto,
            api_socket: config.api.socket.clone(),
            metrics: config.metrics.listen,
        }
    }

    /// The API's socket comes first: it tells most clearly that another ixgate is running.
    pub fn open(self) -> Result<Opened, OpenError> {
        if cfg!(feature = "sim") {
            return Err(OpenError::BuiltForSimulation);
        }
        let api = SocketFile::listen(&self.api_socket)?;
        let wireguard = UdpSocket::bind_with(self.wireguard, self.offload)?;
        let metrics = self.metrics.map(listen_for_metrics).transpose()?;
        Ok(Opened { ix_name: self.ix_name, wireguard, api, metrics })
    }
}

impl Opened {
    /// With the ports that the kernel chose, where 0 was asked for.
    pub fn wireguard_address(&self) -> SocketAddr {
        self.wireguard.local_address()
    }

    pub fn metrics_address(&self) -> Option<SocketAddr> {
        self.metrics.as_ref().and_then(|listener| listener.local_addr().ok())
    }

    pub fn listens(&self) -> Vec<Listen> {
        let mut listens = vec![
            Listen { what: "WireGuard", address: format!("udp {}", self.wireguard_address()) },
            Listen { what: "API", address: format!("unix:{}", self.api.path().display()) },
        ];
        if let Some(address) = self.metrics_address() {
            listens.push(Listen { what: "metrics", address: format!("http://{address}/metrics") });
        }
        listens
    }
}

fn listen_for_metrics(address: SocketAddr) -> Result<TcpListener, OpenError> {
    let fail = |source| OpenError::Metrics { address, source };
    let listener = TcpListener::bind(address).map_err(fail)?;
    listener.set_nonblocking(true).map_err(fail)?;
    Ok(listener)
}

#[cfg(all(test, not(feature = "sim")))]
pub(super) mod tests {
    use super::*;

    pub(crate) fn plan(directory: &tempfile::TempDir) -> Plan {
        Plan {
            ix_name: "ix-test".to_owned(),
            wireguard: "127.0.0.1:0".parse().unwrap(),
            offload: Offload::Auto,
            api_socket: directory.path().join("state/ixgate.sock"),
            metrics: Some("127.0.0.1:0".parse().unwrap()),
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
    fn what_cannot_be_opened_is_said_and_leaves_nothing_behind() {
        let directory = tempfile::tempdir().unwrap();
        let opened = plan(&directory).open().unwrap();
        assert!(matches!(plan(&directory).open(), Err(OpenError::Api(SocketFileError::Alive(_)))));

        let elsewhere = tempfile::tempdir().unwrap();
        let taken = Plan { wireguard: opened.wireguard_address(), ..plan(&elsewhere) };
        let api_socket = taken.api_socket.clone();
        assert!(matches!(taken.open(), Err(OpenError::WireGuard(BindError::InUse(_)))));
        assert!(!api_socket.exists());

        let taken = Plan { metrics: opened.metrics_address(), ..plan(&elsewhere) };
        let error = taken.open().unwrap_err();
        assert!(error.to_string().contains("cannot serve metrics on tcp 127.0.0.1:"), "{error}");
    }
}
