//! Asks a running appliance over its API.
//!
//! Where it is: `--api ADDRESS`, else `IXGATE_API`, else [`DEFAULT_ADDRESS`], relative to the working directory. When
//! nobody answers there, the error says what was tried and what to do; commands then exit with 3.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper::{Request, StatusCode, header};
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::api::ErrorAnswer;

pub const DEFAULT_ADDRESS: &str = "unix:state/ixgate.sock";
/// The environment variable with the address.
pub const ADDRESS_VARIABLE: &str = "IXGATE_API";
/// For the whole exchange.
const TIMEOUT: Duration = Duration::from_secs(5);
/// 10,000 tunnels take about 5 MB.
const MAX_ANSWER_BYTES: usize = 64 << 20;

/// Where an appliance's API is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ApiAddress {
    socket: PathBuf,
    is_default: bool,
}

#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    #[error("\"{0}\" is no API address; use unix:PATH, for example {DEFAULT_ADDRESS}")]
    Address(String),
    #[error("no appliance answers at unix:{}: {reason}{}", .address.socket.display(), .address.hint())]
    Unreachable { address: ApiAddress, reason: String },
    #[error("{message}")]
    Refused { status: StatusCode, message: String },
    #[error("the answer makes no sense ({0}); is ixgate there of another version?")]
    Answer(String),
}

impl ClientError {
    /// 1: the answer is no, 2: wrong usage, 3: cannot be reached.
    pub fn exit_code(&self) -> u8 {
        match self {
            ClientError::Address(_) => 2,
            ClientError::Unreachable { .. } => 3,
            ClientError::Refused { .. } | ClientError::Answer(_) => 1,
        }
    }
}

impl ApiAddress {
    /// `given`: from `--api` or `IXGATE_API`.
    pub fn find(given: Option<&str>) -> Result<Self, ClientError> {
        let address = given.unwrap_or(DEFAULT_ADDRESS);
        match address.strip_prefix("unix:") {
            Some(path) if !path.is_empty() => Ok(ApiAddress { socket: path.into(), is_default: given.is_none() }),
            _ => Err(ClientError::Address(address.to_owned())),
        }
    }

    pub fn socket(&self) -> &Path {
        &self.socket
    }

    fn hint(&self) -> &'static str {
        if self.is_default {
            "; this is the default, in the working directory: run it there, or give --api unix:PATH (or IXGATE_API)"
        } else {
            ""
        }
    }

    fn unreachable(&self, reason: impl Into<String>) -> ClientError {
        ClientError::Unreachable { address: self.clone(), reason: reason.into() }
    }
}

/// `GET path`: the body of a good answer. Blocks; not for use inside the appliance.
pub fn get(address: &ApiAddress, path: &str) -> Result<String, ClientError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| address.unreachable(error.to_string()))?;
    runtime.block_on(async {
        let exchange = timeout(TIMEOUT, exchange(address, path));
        exchange.await.unwrap_or_else(|_| Err(address.unreachable("it took the connection but gave no answer in 5 s")))
    })
}

async fn exchange(address: &ApiAddress, path: &str) -> Result<String, ClientError> {
    let stream = UnixStream::connect(&address.socket).await.map_err(|error| address.unreachable(words_for(&error)))?;
    let lost = |error: hyper::Error| address.unreachable(format!("the connection broke: {error}"));
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(lost)?;
    tokio::spawn(connection);
    let request = Request::get(path).header(header::HOST, "ixgate").body(Empty::<Bytes>::new());
    let request = request.map_err(|error| ClientError::Answer(error.to_string()))?;
    let answer = sender.send_request(request).await.map_err(lost)?;
    let status = answer.status();
    let body = Limited::new(answer.into_body(), MAX_ANSWER_BYTES).collect().await;
    let body = body.map_err(|error| ClientError::Answer(error.to_string()))?.to_bytes();
    let body = String::from_utf8(body.into()).map_err(|error| ClientError::Answer(error.to_string()))?;
    if status == StatusCode::OK {
        return Ok(body);
    }
    let message =
        serde_json::from_str(&body).map_or_else(|_| format!("it answers {status}"), |error: ErrorAnswer| error.error);
    Err(ClientError::Refused { status, message })
}

fn words_for(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "no such socket; is `ixgate run` running?".to_owned(),
        io::ErrorKind::ConnectionRefused => "the socket is there, but nobody listens; ixgate has ended".to_owned(),
        io::ErrorKind::PermissionDenied => "permission denied; ask as the user that ixgate runs as".to_owned(),
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use tokio::net::UnixListener;

    use super::super::api::{self, samples::Still};
    use super::super::http;
    use super::*;
    use crate::telemetry::status::Status;

    /// The API of an appliance that always tells the same, on a socket of its own.
    fn start(answers: bool) -> (tempfile::TempDir, ApiAddress) {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("api.sock");
        let listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        listener.set_nonblocking(true).unwrap();
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                http::serve(UnixListener::from_std(listener).unwrap(), api::router(Still { answers })).await;
            });
        });
        (directory, ApiAddress::find(Some(&format!("unix:{}", socket.display()))).unwrap())
    }

    #[test]
    fn status_and_metrics_are_fetched() {
        let (_directory, address) = start(true);
        let status: Status = serde_json::from_str(&get(&address, "/v1/status?window_secs=1").unwrap()).unwrap();
        assert_eq!((status.ix.as_str(), status.data_window_secs), ("ix-east", 1));
        assert!(!status.realms[0].data_passed, "2.5 seconds ago is outside one second");
        assert!(get(&address, "/v1/metrics").unwrap().contains("ixgate_uptime_seconds 7500"));
    }

    #[test]
    fn a_refusal_is_told_in_its_own_words() {
        let (_directory, address) = start(false);
        let error = get(&address, "/v1/status").unwrap_err();
        assert_eq!((error.to_string().as_str(), error.exit_code()), ("it sleeps", 1));
        let error = get(&address, "/v1/nothing").unwrap_err();
        assert!(error.to_string().contains("no such resource"), "{error}");
        assert!(matches!(get(&address, "/v1/status?window_secs=x"), Err(ClientError::Refused { .. })));
    }

    #[test]
    fn unreachable_says_what_was_tried() {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("gone.sock");
        let address = ApiAddress::find(Some(&format!("unix:{}", socket.display()))).unwrap();
        let error = get(&address, "/v1/status").unwrap_err();
        assert_eq!(error.exit_code(), 3);
        assert!(error.to_string().contains("gone.sock: no such socket"), "{error}");
        drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
        assert!(get(&address, "/v1/status").unwrap_err().to_string().contains("nobody listens"));
        let default = ApiAddress::find(None).unwrap().unreachable("x").to_string();
        assert!(default.contains("state/ixgate.sock") && default.contains("--api"), "{default}");
    }

    #[test]
    fn only_unix_addresses_are_known() {
        for wrong in ["http://localhost", "unix:", "state/ixgate.sock"] {
            assert_eq!(ApiAddress::find(Some(wrong)).unwrap_err().exit_code(), 2, "{wrong}");
        }
    }
}
