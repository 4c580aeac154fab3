//! Transfers over real connections. Where the machine has `dig`, it is the name server: it signs and verifies by itself.

use std::process::Command;

use super::*;
use crate::config::{self, MemorySecrets};
use crate::control::allocate::allocate;
use crate::control::allocations::Allocations;
use crate::control::compile::compile_addresses;
use crate::control::snapshot::{TunnelNumbers, snapshot};
use crate::net::Generation;

const SECRET: &str = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";
const FILE: &str = r#"
[dns.transfer]
listen = "127.0.0.1:5353"
[[dns.transfer.key]]
name = "of-a"
secret_file = "axfr.tsig"
view = "a"
[[dns.transfer.key]]
name = "all"
secret_file = "axfr.tsig"
algorithm = "hmac-sha512"
view = "canonical"
[[realm]]
name = "a"
networks = ["192.168.1.0/24"]
[[realm]]
name = "b"
networks = ["192.168.1.0/24"]
[[host]]
name = "pacs"
realm = "b"
address = "192.168.1.20"
[[host]]
name = "hidden"
realm = "b"
address = "192.168.1.21"
[[service]]
name = "pacs"
host = "pacs.b"
ports = ["tcp/443"]
[[grant]]
from = ["a"]
to = ["pacs"]
"#;

async fn start(connections: usize) -> (SocketAddr, Arc<Counters>, watch::Sender<Arc<Snapshot>>) {
    let mut secrets = MemorySecrets::default();
    secrets.insert("axfr.tsig", SECRET);
    let config = config::parse(FILE, std::path::Path::new("ix.toml"), &secrets).unwrap().config;
    let (allocations, _) = allocate(&config, &Allocations::default()).unwrap();
    let compiled = compile_addresses(&config, &allocations).unwrap();
    let snapshot = snapshot(&config, compiled, &mut TunnelNumbers::default(), Generation(7)).unwrap();
    let (published, current) = watch::channel(Arc::new(snapshot));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let counters = Arc::new(Counters::default());
    tokio::spawn(serve(listener, connections, current, Clock::start(), counters.clone()));
    (address, counters, published)
}

fn soa_query() -> Vec<u8> {
    b"\x12\x34\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x02ix\x07example\x00\x00\x06\x00\x01".to_vec()
}

async fn ask(stream: &mut TcpStream, query: &[u8]) -> io::Result<Vec<u8>> {
    write_message(stream, query).await?;
    let len = timeout(Duration::from_secs(10), stream.read_u16()).await??;
    let mut answer = vec![0; len.into()];
    stream.read_exact(&mut answer).await?;
    Ok(answer)
}

#[tokio::test]
async fn without_a_key_nothing_is_told_and_the_connection_stays() {
    let (address, counters, _published) = start(8).await;
    let mut stream = TcpStream::connect(address).await.unwrap();
    for count in 1..=MAX_QUERIES as u64 {
        let answer = ask(&mut stream, &soa_query()).await.unwrap();
        assert_eq!((answer[3] & 15, &answer[6..12]), (5, &[0; 6][..]));
        assert_eq!(counters.read(), TransferCounts { served: 0, refused: count });
    }
    assert!(ask(&mut stream, &soa_query()).await.is_err(), "no more on one connection");
    for nonsense in [vec![0; MAX_QUERY_BYTES + 1], vec![0; 5], vec![0xff; 40]] {
        let mut stream = TcpStream::connect(address).await.unwrap();
        assert!(ask(&mut stream, &nonsense).await.is_err(), "closed");
    }
}

#[tokio::test]
async fn connections_are_bounded() {
    let (address, counters, _published) = start(2).await;
    let mut first = TcpStream::connect(address).await.unwrap();
    let mut second = TcpStream::connect(address).await.unwrap();
    ask(&mut first, &soa_query()).await.unwrap();
    ask(&mut second, &soa_query()).await.unwrap();
    let mut third = TcpStream::connect(address).await.unwrap();
    write_message(&mut third, &soa_query()).await.unwrap();
    // Others go on being served, while the third waits in the backlog.
    ask(&mut first, &soa_query()).await.unwrap();
    assert_eq!(counters.read().refused, 3);
    drop(first);
    assert_eq!(timeout(Duration::from_secs(10), third.read_u16()).await.unwrap().unwrap(), 28);
}

#[tokio::test]
async fn dig_fetches_the_zone_with_a_key_and_not_without() {
    let (address, counters, published) = start(8).await;
    let dig = move |args: &'static [&'static str]| {
        tokio::task::spawn_blocking(move || {
            let mut dig = Command::new("dig");
            dig.args(["@127.0.0.1", "-p", &address.port().to_string(), "+tcp", "+tries=1", "+time=5", "+nocmd"]);
            dig.args(args).output()
        })
    };
    let Ok(output) =
        dig(&["-y", "hmac-sha256:of-a:MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=", "ix.example", "AXFR"])
            .await
            .unwrap()
    else {
        return eprintln!("NOT RUN: there is no dig");
    };
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success() && text.contains("NOERROR"), "{text}");
    assert!(!text.contains("verify") && !text.contains("BAD"), "{text}");
    assert!(text.contains("pacs.ix.example.") && text.contains("100.64.2.20"), "{text}");
    assert!(!text.contains("hidden"), "a has no grant for it: {text}");
    let output =
        dig(&["-y", "hmac-sha512:all:MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=", "ix.example", "IXFR=1"]).await;
    let text = String::from_utf8(output.unwrap().unwrap().stdout).unwrap();
    assert!(text.contains("hidden.b.ix.example.") && text.contains("fd69:7867:6174:2::c0a8:115"), "{text}");
    assert_eq!(counters.read(), TransferCounts { served: 2, refused: 0 });
    for refused in [
        &["ix.example", "AXFR"][..],
        &["-y", "hmac-sha256:of-a:AAAAMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=", "ix.example", "AXFR"],
        &["-y", "hmac-sha256:who:MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=", "ix.example", "AXFR"],
    ] {
        let text = String::from_utf8(dig(refused).await.unwrap().unwrap().stdout).unwrap();
        assert!(!text.contains("pacs"), "{text}");
    }
    assert_eq!(counters.read(), TransferCounts { served: 2, refused: 3 });
    drop(published);
}
