//! A small HTTP server with a bound on everything: connections, header size, body size, time.
//!
//! Whoever can reach the socket may be slow, broken or hostile; none of that may cost the appliance more than one of the
//! places in `BOUNDS` for the time there. One request per connection: nobody asks often enough to notice.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::serve::Listener;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::sync::Semaphore;
use tokio::time::timeout;

/// What clients may take.
#[derive(Clone, Copy, Debug)]
struct Bounds {
    /// Connections served at once; further ones wait in the listener's backlog.
    connections: usize,
    /// For the request's header.
    header_time: Duration,
    /// From accepting to the last byte of the answer.
    connection_time: Duration,
}

const BOUNDS: Bounds =
    Bounds { connections: 32, header_time: Duration::from_secs(5), connection_time: Duration::from_secs(15) };
const MAX_HEADER_BYTES: usize = 16 << 10;
const MAX_BODY_BYTES: usize = 1 << 20;

/// Serves until it is dropped.
pub async fn serve<L: Listener>(listener: L, router: Router) {
    serve_within(BOUNDS, listener, router).await;
}

async fn serve_within<L: Listener>(bounds: Bounds, mut listener: L, router: Router) {
    let router = router.layer(DefaultBodyLimit::max(MAX_BODY_BYTES));
    let places = Arc::new(Semaphore::new(bounds.connections));
    loop {
        let place = places.clone().acquire_owned().await.expect("the semaphore is never closed");
        let (io, _) = listener.accept().await;
        let service = TowerToHyperService::new(router.clone());
        tokio::spawn(async move {
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(bounds.header_time)
                .max_buf_size(MAX_HEADER_BYTES)
                .keep_alive(false)
                .serve_connection(TokioIo::new(io), service);
            // A client that goes away or takes too long harms only itself.
            let _ = timeout(bounds.connection_time, connection).await;
            drop(place);
        });
    }
}

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    async fn start(bounds: Bounds) -> std::net::SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(serve_within(bounds, listener, Router::new().route("/", get(|| async { "hello" }))));
        address
    }

    async fn ask(address: std::net::SocketAddr, request: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        let _ = stream.read_to_string(&mut answer).await;
        answer
    }

    #[tokio::test]
    async fn answers_and_closes() {
        let address = start(BOUNDS).await;
        let answer = ask(address, "GET / HTTP/1.1\r\nHost: x\r\n\r\n").await;
        assert!(answer.starts_with("HTTP/1.1 200 OK") && answer.ends_with("hello"), "{answer}");
    }

    #[tokio::test]
    async fn an_endless_header_is_refused() {
        let address = start(BOUNDS).await;
        let answer = ask(address, &format!("GET / HTTP/1.1\r\nX: {}\r\n", "x".repeat(2 * MAX_HEADER_BYTES))).await;
        assert!(!answer.contains("200 OK"), "{answer}");
    }

    #[tokio::test]
    async fn silent_clients_lose_their_places() {
        let short = Duration::from_millis(20);
        let address = start(Bounds { connections: 2, header_time: short, connection_time: short }).await;
        let mut silent = Vec::new();
        for _ in 0..6 {
            silent.push(TcpStream::connect(address).await.unwrap());
        }
        // All places are taken, and four wait before us.
        let answer = ask(address, "GET / HTTP/1.1\r\nHost: x\r\n\r\n").await;
        assert!(answer.contains("200 OK"), "{answer}");
        for mut stream in silent {
            assert_eq!(stream.read(&mut [0; 1]).await.unwrap_or(0), 0, "closed");
        }
    }
}
