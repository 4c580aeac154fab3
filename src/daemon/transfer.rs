//! The zone over TCP to the operators' name servers: connections, lengths and patience. What is answered is decided in
//! [`crate::dns::transfer`]; here nothing of the packet path is touched.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::time::{sleep, timeout};

use crate::dataplane::Snapshot;
use crate::dns::transfer::{Answer, MAX_QUERY_BYTES, Server};
use crate::io::clock::Clock;
use crate::telemetry::source::TransferCounts;

/// A connection without a query for this long is closed ...
const IDLE_TIME: Duration = Duration::from_secs(10);
/// ... as is one that takes no message for this long ...
const WRITE_TIME: Duration = Duration::from_secs(30);
/// ... or that lasts longer than any transfer.
const CONNECTION_TIME: Duration = Duration::from_secs(600);
/// Of one connection: a name server asks for the SOA, then for the zone.
const MAX_QUERIES: usize = 16;
/// When the system has no room for a connection.
const PAUSE: Duration = Duration::from_millis(100);

/// Since the start.
#[derive(Default, Debug)]
pub struct Counters {
    served: AtomicU64,
    refused: AtomicU64,
}

impl Counters {
    pub fn read(&self) -> TransferCounts {
        TransferCounts { served: self.served.load(Ordering::Relaxed), refused: self.refused.load(Ordering::Relaxed) }
    }
}

/// What is served, and where.
#[derive(Debug)]
pub struct Transfers {
    pub listener: std::net::TcpListener,
    /// At a time.
    pub connections: usize,
    /// What runs now. `None`: nothing is served yet.
    pub current: Option<watch::Receiver<Arc<Snapshot>>>,
}

/// Serves until it is dropped, or until nobody publishes any more.
pub async fn serve(
    listener: TcpListener,
    connections: usize,
    current: watch::Receiver<Arc<Snapshot>>,
    clock: Clock,
    counters: Arc<Counters>,
) {
    let places = Arc::new(Semaphore::new(connections));
    loop {
        let place = places.clone().acquire_owned().await.expect("the semaphore is never closed");
        let (stream, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(_) => {
                sleep(PAUSE).await;
                continue;
            }
        };
        let (current, counters) = (current.clone(), counters.clone());
        tokio::spawn(async move {
            // A name server that goes away or takes too long harms only itself.
            let _ = timeout(CONNECTION_TIME, converse(stream, peer, current, clock, &counters)).await;
            drop(place);
        });
    }
}

async fn converse(
    mut stream: TcpStream,
    peer: SocketAddr,
    current: watch::Receiver<Arc<Snapshot>>,
    clock: Clock,
    counters: &Counters,
) -> io::Result<()> {
    for _ in 0..MAX_QUERIES {
        let query = timeout(IDLE_TIME, read_message(&mut stream)).await??;
        // The same generation from the first to the last message.
        let snapshot = current.borrow().clone();
        let Snapshot { zone, mapping, policy, transfer_keys, .. } = &*snapshot;
        let server = Server { zone, mapping, policy, keys: transfer_keys };
        match server.handle_message(&query, unix_secs(clock)) {
            Answer::Nothing => return Ok(()),
            Answer::Message { bytes, is_refused } => {
                counters.refused.fetch_add(is_refused.into(), Ordering::Relaxed);
                write_message(&mut stream, &bytes).await?;
            }
            Answer::Transfer(mut transfer) => {
                while let Some(message) = transfer.poll_message(unix_secs(clock)) {
                    write_message(&mut stream, &message.map_err(io::Error::other)?).await?;
                }
                counters.served.fetch_add(1, Ordering::Relaxed);
                tracing::info!("the zone was sent to {peer}");
            }
        }
    }
    Ok(())
}

/// RFC 1035 section 4.2.2: a length, then the message.
async fn read_message(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let len = usize::from(stream.read_u16().await?);
    if len > MAX_QUERY_BYTES {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut message = vec![0; len];
    stream.read_exact(&mut message).await?;
    Ok(message)
}

async fn write_message(stream: &mut TcpStream, message: &[u8]) -> io::Result<()> {
    let len = u16::try_from(message.len()).map_err(io::Error::other)?;
    let framed = [&len.to_be_bytes()[..], message].concat();
    timeout(WRITE_TIME, stream.write_all(&framed)).await?
}

/// By the time of day, as the other side's clock has it.
fn unix_secs(clock: Clock) -> u64 {
    clock.wall().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
}

#[cfg(all(test, not(feature = "sim")))]
#[path = "transfer_tests.rs"]
mod tests;
