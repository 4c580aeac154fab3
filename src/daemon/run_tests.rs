//! The whole daemon with an echoing core: real sockets in a temporary directory, orders in place of signals.

use std::net::UdpSocket as StdSocket;
use std::path::PathBuf;

use super::super::open::tests::plan;
use super::super::worker::tests::Echo;
use super::*;
use crate::control::client::{self, ApiAddress};
use crate::io::udp::{Offload, UdpSocket};
use crate::net::{Port, RealmId};
use crate::telemetry::source::RealmName;
use crate::telemetry::status::Status;

struct Running {
    directory: tempfile::TempDir,
    orders: mpsc::Sender<Order>,
    wireguard: std::net::SocketAddr,
    metrics: std::net::SocketAddr,
    task: JoinHandle<Result<(), RunError>>,
}

fn names(realm: &str) -> Names {
    Names { realms: vec![RealmName { realm: RealmId(1), name: realm.to_owned(), routes: None }], tunnels: Vec::new() }
}

fn further() -> Sockets {
    let mut sockets = Sockets::default();
    let socket = UdpSocket::bind_for(Port::IkeNatT, "127.0.0.1:0".parse().unwrap(), Offload::Auto).unwrap();
    sockets.add_udp(socket);
    sockets
}

/// The first reload is bad, the next one names the realm otherwise.
fn reload() -> impl FnMut(Cause) -> Result<Option<Reloaded<u32>>, &'static str> {
    let mut attempts = 0;
    move |_| {
        attempts += 1;
        match attempts {
            1 => Err("line 3: no such realm"),
            _ => Ok(Some(Reloaded {
                snapshot: Arc::new(9),
                sockets: further(),
                interfaces: Vec::new(),
                names: names("renamed"),
                summary: "1 realm".to_owned(),
                waiting: vec!["ix.name".to_owned()],
                adopted: Box::new(|| {}),
            })),
        }
    }
}

fn start() -> Running {
    start_with(reload())
}

fn start_with(reload: impl FnMut(Cause) -> Result<Option<Reloaded<u32>>, &'static str> + Send + 'static) -> Running {
    let directory = tempfile::tempdir().unwrap();
    let opened = plan(&directory).open().unwrap();
    let (wireguard, metrics) = (opened.udp_address(Port::WireGuard).unwrap(), opened.metrics_address().unwrap());
    let (orders, receiver) = mpsc::channel(4);
    let task = tokio::spawn(supervise(opened, Echo::new(), names("first"), Clock::start(), reload, receiver, None));
    Running { directory, orders, wireguard, metrics, task }
}

impl Running {
    fn socket(&self) -> PathBuf {
        self.directory.path().join("state/ixgate.sock")
    }

    /// Asks as the command line does, on a thread of its own because that blocks.
    async fn get(&self, path: &'static str) -> String {
        let address = ApiAddress::find(Some(&format!("unix:{}", self.socket().display()))).unwrap();
        tokio::task::spawn_blocking(move || client::get(&address, path)).await.unwrap().unwrap()
    }

    async fn status(&self) -> Status {
        serde_json::from_str(&self.get("/v1/status").await).unwrap()
    }

    fn client(&self) -> StdSocket {
        let client = StdSocket::bind("127.0.0.1:0").unwrap();
        client.connect(self.wireguard).unwrap();
        client.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        client
    }
}

#[tokio::test]
async fn forwards_answers_and_drains() {
    let running = start();
    assert_eq!(running.status().await.totals.datagrams_in, 0);
    let client = running.client();
    client.send(b"hello").unwrap();
    let mut answer = [0; 100];
    assert_eq!(client.recv(&mut answer).unwrap(), 5);

    let status = running.status().await;
    assert_eq!((status.ix.as_str(), status.totals.forwarded, status.totals.balanced), ("ix-test", 1, true));
    assert_eq!(status.realms[0].name, "first");
    assert_eq!(status.listens.len(), 3);
    assert!(running.get("/v1/metrics").await.contains("ixgate_path_received_datagrams_total 1\n"));

    running.orders.send(Order::Drain).await.unwrap();
    timeout(Duration::from_secs(2), running.task).await.expect("within 2 s").unwrap().unwrap();
    assert!(!running.directory.path().join("state/ixgate.sock").exists());
}

#[tokio::test]
async fn prometheus_can_scrape_over_http() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let running = start();
    let mut stream = tokio::net::TcpStream::connect(running.metrics).await.unwrap();
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK") && answer.contains("text/plain; version=0.0.4"), "{answer}");
    assert!(answer.contains("# HELP ixgate_uptime_seconds"), "{answer}");
}

#[tokio::test]
async fn a_bad_reload_changes_nothing_and_a_good_one_is_adopted() {
    let running = start();
    running.orders.send(Order::Reload(Cause::File)).await.unwrap();
    let before = running.status().await;
    assert_eq!((before.generation, before.realms[0].name.as_str()), (1, "first"));
    running.orders.send(Order::Reload(Cause::File)).await.unwrap();
    let after = loop {
        let status = running.status().await;
        if status.realms[0].name == "renamed" {
            break status;
        }
    };
    assert_eq!((after.generation, before.waits_for_restart.len()), (9, 0));
    assert_eq!(after.waits_for_restart, ["ix.name"]);
    let listens = |status: &Status| status.listens.iter().map(|listen| listen.what.to_string()).collect::<Vec<_>>();
    assert_eq!(listens(&before), ["WireGuard", "API", "metrics"]);
    assert_eq!(listens(&after), ["WireGuard", "API", "metrics", "IKE and ESP in UDP"]);
}

#[tokio::test]
async fn a_panic_in_the_path_ends_the_process_with_words() {
    let running = start();
    running.client().send(b"panic").unwrap();
    let error = timeout(Duration::from_secs(10), running.task).await.unwrap().unwrap().unwrap_err();
    assert!(matches!(&error, RunError::Panicked(words) if words == "told to"), "{error}");
    assert!(error.to_string().contains("defect"));
}

#[tokio::test]
async fn a_slow_reload_delays_neither_answers_nor_the_end() {
    let (open_gate, gate) = std::sync::mpsc::channel::<()>();
    let running = start_with(move |_| {
        let _ = gate.recv();
        Err("too late")
    });
    for _ in 0..3 {
        running.orders.send(Order::Reload(Cause::File)).await.unwrap();
    }
    assert_eq!(running.status().await.generation, 1);
    running.orders.send(Order::Drain).await.unwrap();
    timeout(Duration::from_secs(2), running.task).await.expect("within 2 s").unwrap().unwrap();
    drop(open_gate);
}
