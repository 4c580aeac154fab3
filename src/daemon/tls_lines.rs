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

/// Questions on their way, by id.
#[derive(Default)]
struct Open {
    /// With how many messages had come before.
    asked: HashMap<[u8; 2], (oneshot::Sender<Vec<u8>>, u64)>,
    heard: u64,
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
    let mut open = Open::default();
    loop {
        tokio::select! {
            question = questions.recv() => {
                let Some(Question { message, answer }) = question else { return Ok(()) };
                open.tidy()?;
                let Some(id) = message.first_chunk().copied() else { continue };
                if open.take(id, answer) {
                    timeout(PATIENCE, send(&mut writer, &message)).await??;
                }
            }
            Some(answer) = answers.recv() => open.answer(answer),
            ended = &mut reading => return ended,
            () = sleep(IDLE) => {
                open.tidy()?;
                if open.asked.is_empty() {
                    return Ok(());
                }
            }
        }
    }
}

impl Open {
    /// Forgets questions that nobody waits for any more. `Err`: nothing at all has come since one of them was asked. A path
    /// whose firewall has forgotten the connection is silent, and TCP itself needs a quarter of an hour to notice (RFC 1122
    /// section 4.2.3.5).
    fn tidy(&mut self) -> io::Result<()> {
        let heard = self.heard;
        if self.asked.values().any(|(answer, before)| answer.is_closed() && *before == heard) {
            return Err(io::ErrorKind::TimedOut.into());
        }
        self.asked.retain(|_, (answer, _)| !answer.is_closed());
        Ok(())
    }

    /// `false`: there is no place for it, or one has its id; of two their answers could not be told apart.
    fn take(&mut self, id: [u8; 2], answer: oneshot::Sender<Vec<u8>>) -> bool {
        let has_place = self.asked.len() < MAX_QUESTIONS && !self.asked.contains_key(&id);
        if has_place {
            self.asked.insert(id, (answer, self.heard));
        }
        has_place
    }

    fn answer(&mut self, message: Vec<u8>) {
        self.heard += 1;
        if let Some((asker, _)) = message.first_chunk().and_then(|id| self.asked.remove(id)) {
            let _ = asker.send(message); // it may have given up
        }
    }
}
