//! One connection to each resolver that is asked over TLS, for many questions at once (RFC 7766 section 6.2, RFC 7858
//! section 3.4): answers come in any order and are told apart by their ids.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::pki_types::ServerName;

use super::upstream::{PATIENCE, Tls, receive, send};

/// A connection on which nothing is asked is closed (RFC 7766 section 6.2.3: a few seconds).
const IDLE: Duration = Duration::from_secs(10);
/// Questions under way on one connection; more are asked on connections of their own.
pub(super) const MAX_QUESTIONS: usize = 128;
/// Questions that wait until the connection stands.
const MAX_WAITING: usize = 64;

/// The connections that stand or are being made, by address and proved name.
#[derive(Default)]
pub(super) struct Lines {
    by_server: HashMap<(SocketAddr, Arc<str>), Line>,
}

/// Questions on one connection are sent here.
#[derive(Clone)]
pub(super) struct Line {
    questions: mpsc::Sender<Question>,
}

struct Question {
    message: Vec<u8>,
    /// Dropped when this connection brings none.
    answer: oneshot::Sender<Vec<u8>>,
}

impl Lines {
    /// The connection to this server; a new one if there is none.
    pub(super) fn to(&mut self, server: SocketAddr, name: &Arc<str>, tls: &Tls) -> Line {
        self.by_server.retain(|_, line| !line.questions.is_closed());
        let line = self.by_server.entry((server, name.clone())).or_insert_with(|| {
            let (questions, received) = mpsc::channel(MAX_WAITING);
            let (name, tls) = (name.clone(), tls.clone());
            tokio::spawn(async move {
                if let Err(error) = run(server, &name, &tls, received).await {
                    tracing::debug!("the connection to a resolver outside has ended: {error}");
                }
            });
            Line { questions }
        });
        line.clone()
    }
}

impl Line {
    /// `None`: the connection has ended, or has no place for this question.
    pub(super) async fn ask(&self, message: Vec<u8>) -> Option<Vec<u8>> {
        let (answer, received) = oneshot::channel();
        self.questions.send(Question { message, answer }).await.ok()?;
        received.await.ok()
    }
}

pub(super) async fn connect(server: SocketAddr, name: &str, tls: &Tls) -> io::Result<TlsStream<TcpStream>> {
    let name = ServerName::try_from(name.to_owned()).map_err(io::Error::other)?;
    let connector = TlsConnector::from(tls.config().await?);
    connector.connect(name, TcpStream::connect(server).await?).await
}

async fn run(server: SocketAddr, name: &str, tls: &Tls, questions: mpsc::Receiver<Question>) -> io::Result<()> {
    converse(timeout(PATIENCE, connect(server, name, tls)).await??, questions).await
}

/// Until either side closes, or nothing is asked for a while. Questions without an answer are dropped.
async fn converse(stream: impl AsyncRead + AsyncWrite, mut questions: mpsc::Receiver<Question>) -> io::Result<()> {
    let (mut reader, mut writer) = tokio::io::split(stream);
    let (heard, mut answers) = mpsc::channel(1);
    let reading = async move {
        loop {
            let answer = receive(&mut reader).await?;
            let _ = heard.send(answer).await;
        }
    };
    tokio::pin!(reading);
    let mut open: HashMap<[u8; 2], oneshot::Sender<Vec<u8>>> = HashMap::new();
    loop {
        tokio::select! {
            question = questions.recv() => {
                let Some(Question { message, answer }) = question else { return Ok(()) };
                open.retain(|_, answer| !answer.is_closed());
                let Some(id) = message.first_chunk().copied() else { continue };
                // Of two questions with one id the answers could not be told apart.
                if open.len() < MAX_QUESTIONS && !open.contains_key(&id) {
                    open.insert(id, answer);
                    timeout(PATIENCE, send(&mut writer, &message)).await??;
                }
            }
            Some(answer) = answers.recv() => {
                let asker = answer.first_chunk().and_then(|id| open.remove(id));
                if let Some(asker) = asker {
                    let _ = asker.send(answer); // it may have given up
                }
            }
            ended = &mut reading => return ended,
            () = sleep(IDLE) => {
                open.retain(|_, answer| !answer.is_closed());
                if open.is_empty() {
                    return Ok(());
                }
            }
        }
    }
}
