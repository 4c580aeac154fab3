//! Questions to resolvers outside all realms, over UDP, TCP and TLS (RFC 7858).
//!
//! The packet path decides what is asked, whom, and for how long it waits; here the message is carried and what comes back
//! is brought. Every question has a socket of its own, connected to the one who is asked, so that the kernel gives it a
//! random port and lets nobody else answer; but those over TLS share a connection to each server (`tls_lines.rs`). TLS
//! proves the server's name against the system's certificate authorities, and takes up earlier sessions.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::timeout;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use super::tls_lines::{self, Line, Lines};
use crate::dns::forward::{Action, ExchangeId};
use crate::dns::{Transport, Upstream};

/// Questions under way; at most one socket each.
pub const MAX_QUESTIONS: usize = 1024;
/// Longer than the packet path waits: it closes what it waits for no more.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);
const MAX_MESSAGE_BYTES: usize = 65_535;

/// What came of a question, to the packet path. `None`: it failed.
pub trait Answers: Clone + Send + Sync + 'static {
    fn answer(&self, exchange: ExchangeId, bytes: Option<Vec<u8>>) -> impl Future<Output = ()> + Send;
}

/// The certificate authorities that a resolver's name is proved by; read when the first one is asked.
#[derive(Clone)]
pub struct Tls {
    config: Arc<OnceLock<Result<Arc<ClientConfig>, String>>>,
}

/// Carries questions until `actions` ends.
pub async fn serve(mut actions: mpsc::Receiver<Action>, answers: impl Answers, tls: Tls) {
    let mut tasks: JoinSet<ExchangeId> = JoinSet::new();
    let mut open: HashMap<ExchangeId, AbortHandle> = HashMap::new();
    let mut lines = Lines::default();
    loop {
        tokio::select! {
            action = actions.recv() => match action {
                None => return,
                Some(Action::Close { exchange, .. }) => {
                    if let Some(task) = open.remove(&exchange) {
                        task.abort();
                    }
                }
                Some(Action::Ask { exchange, upstream: Upstream::Outside { server, tls: name }, transport, bytes })
                    if open.len() < MAX_QUESTIONS =>
                {
                    let (answers, tls) = (answers.clone(), tls.clone());
                    let way = match name {
                        Some(name) => Way::Tls(lines.to(server, &name, &tls), name, tls),
                        None => Way::Plain(transport),
                    };
                    let task = tasks.spawn(async move {
                        let asked = timeout(PATIENCE, ask(exchange, server, way, &bytes, &answers));
                        if let Ok(Err(error)) | Err(error) = asked.await.map_err(io::Error::from) {
                            tracing::debug!("a resolver outside was not asked: {error}");
                            answers.answer(exchange, None).await;
                        }
                        exchange
                    });
                    open.insert(exchange, task);
                }
                Some(Action::Ask { exchange, .. }) => answers.answer(exchange, None).await,
            },
            Some(ended) = tasks.join_next(), if !tasks.is_empty() => {
                if let Ok(exchange) = ended {
                    open.remove(&exchange);
                }
            }
        }
    }
}

/// How a question travels.
enum Way {
    Plain(Transport),
    /// With the name that the server must prove.
    Tls(Line, Arc<str>, Tls),
}

async fn ask(
    exchange: ExchangeId,
    server: SocketAddr,
    way: Way,
    message: &[u8],
    answers: &impl Answers,
) -> io::Result<()> {
    let answer = match way {
        Way::Plain(Transport::Udp) => return ask_udp(exchange, server, message, answers).await,
        Way::Plain(Transport::Tcp) => converse(TcpStream::connect(server).await?, message).await?,
        Way::Tls(line, name, tls) => match line.ask(message.to_vec()).await {
            Some(answer) => answer,
            // RFC 7766 section 6.2.4: the server may close whenever it likes, also while a question is on its way.
            None => converse(tls_lines::connect(server, &name, &tls).await?, message).await?,
        },
    };
    answers.answer(exchange, Some(answer)).await;
    Ok(())
}

/// Brings everything that comes: which of it is the answer, the packet path decides, and closes.
async fn ask_udp(exchange: ExchangeId, server: SocketAddr, message: &[u8], answers: &impl Answers) -> io::Result<()> {
    let any: IpAddr = match server {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect(server).await?;
    socket.send(message).await?;
    let mut buffer = vec![0; MAX_MESSAGE_BYTES];
    loop {
        let len = socket.recv(&mut buffer).await?;
        answers.answer(exchange, Some(buffer[..len].to_vec())).await;
    }
}

async fn converse(mut stream: impl AsyncRead + AsyncWrite + Unpin, message: &[u8]) -> io::Result<Vec<u8>> {
    send(&mut stream, message).await?;
    receive(&mut stream).await
}

/// RFC 1035 section 4.2.2: a length, then the message. In one write, as RFC 7766 section 8 asks for.
pub(super) async fn send(stream: &mut (impl AsyncWrite + Unpin), message: &[u8]) -> io::Result<()> {
    let len = u16::try_from(message.len()).map_err(io::Error::other)?;
    stream.write_all(&[&len.to_be_bytes()[..], message].concat()).await?;
    stream.flush().await
}

pub(super) async fn receive(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Vec<u8>> {
    let len = stream.read_u16().await?;
    let mut message = vec![0; len.into()];
    stream.read_exact(&mut message).await?;
    Ok(message)
}

impl Tls {
    /// With the authorities that the system trusts.
    pub fn of_system() -> Self {
        Tls { config: Arc::default() }
    }

    #[cfg(test)]
    fn with(roots: RootCertStore) -> Self {
        Tls { config: Arc::new(OnceLock::from(client_config(roots))) }
    }

    pub(super) async fn config(&self) -> io::Result<Arc<ClientConfig>> {
        let cell = self.config.clone();
        let load = move || {
            let load = || {
                let mut roots = RootCertStore::empty();
                roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
                if roots.is_empty() {
                    tracing::warn!("the system has no certificate authorities, so no resolver can be asked over TLS");
                }
                client_config(roots)
            };
            cell.get_or_init(load).clone()
        };
        // It reads files.
        tokio::task::spawn_blocking(load).await.map_err(io::Error::other)?.map_err(io::Error::other)
    }
}

fn client_config(roots: RootCertStore) -> Result<Arc<ClientConfig>, String> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let versions = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = versions.map_err(|error| error.to_string())?.with_root_certificates(roots).with_no_client_auth();
    Ok(Arc::new(config))
}

#[cfg(test)]
#[path = "upstream_tests.rs"]
mod tests;
