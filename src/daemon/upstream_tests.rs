//! Resolvers on this machine's loopback interface. Waits are bounded by the channel's timeout; nothing sleeps.

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;
use tokio_rustls::server::TlsStream;

use super::*;

#[derive(Clone)]
struct Told(mpsc::Sender<(ExchangeId, Option<Vec<u8>>)>);

impl Answers for Told {
    async fn answer(&self, exchange: ExchangeId, bytes: Option<Vec<u8>>) {
        let _ = self.0.send((exchange, bytes)).await;
    }
}

struct Bench {
    actions: mpsc::Sender<Action>,
    told: mpsc::Receiver<(ExchangeId, Option<Vec<u8>>)>,
}

impl Bench {
    fn start(tls: Tls) -> Bench {
        let (actions, received) = mpsc::channel(16);
        let (sender, told) = mpsc::channel(16);
        tokio::spawn(serve(received, Told(sender), tls));
        Bench { actions, told }
    }

    async fn ask(&self, id: u64, server: SocketAddr, tls: Option<&str>, transport: Transport) {
        let upstream = Upstream::Outside { server, tls: tls.map(Into::into) };
        self.put(id, upstream, transport, b"question").await;
    }

    async fn put(&self, id: u64, upstream: Upstream, transport: Transport, bytes: &[u8]) {
        let action = Action::Ask { exchange: ExchangeId(id), upstream, transport, bytes: bytes.to_vec() };
        self.actions.send(action).await.unwrap();
    }

    /// `gone`: where nobody listens; told as a failure, after which the exchange is surely closed.
    async fn give_up(&mut self, id: u64, upstream: &Upstream, gone: SocketAddr) {
        let action = Action::Close { exchange: ExchangeId(id), upstream: upstream.clone() };
        self.actions.send(action).await.unwrap();
        self.ask(1000 + id, gone, None, Transport::Udp).await;
        assert_eq!(self.told().await, (1000 + id, None));
    }

    async fn told(&mut self) -> (u64, Option<Vec<u8>>) {
        let (exchange, bytes) = timeout(Duration::from_secs(10), self.told.recv()).await.expect("in time").unwrap();
        (exchange.0, bytes)
    }
}

/// With the question's id, which is its first two bytes.
const ANSWER: &[u8] = b"quite so";

fn loopback() -> (IpAddr, u16) {
    (Ipv4Addr::LOCALHOST.into(), 0)
}

/// Reads one framed question and gives one framed answer.
async fn answer_stream(mut stream: impl AsyncRead + AsyncWrite + Unpin) {
    assert_eq!(receive(&mut stream).await.unwrap(), b"question");
    send(&mut stream, ANSWER).await.unwrap();
    // Until the other side has read it.
    let _ = stream.read(&mut [0]).await;
}

#[tokio::test]
async fn udp_brings_all_that_comes_until_it_is_closed() {
    let mut bench = Bench::start(Tls::of_system());
    let server = UdpSocket::bind(loopback()).await.unwrap();
    bench.ask(7, server.local_addr().unwrap(), None, Transport::Udp).await;
    let mut buffer = [0; 100];
    let (len, client) = server.recv_from(&mut buffer).await.unwrap();
    assert_eq!(&buffer[..len], b"question");
    // A stranger on the same machine is not heard.
    let stranger = UdpSocket::bind(loopback()).await.unwrap();
    stranger.send_to(b"lie", (Ipv4Addr::LOCALHOST, client.port())).await.unwrap();
    for said in [&b"one"[..], b"two"] {
        server.send_to(said, client).await.unwrap();
        assert_eq!(bench.told().await, (7, Some(said.to_vec())));
    }
    let upstream = Upstream::Outside { server: server.local_addr().unwrap(), tls: None };
    bench.actions.send(Action::Close { exchange: ExchangeId(7), upstream }).await.unwrap();
    // Nobody listens at this port: told as a failure, after which the first is surely closed.
    let gone = UdpSocket::bind(loopback()).await.unwrap().local_addr().unwrap();
    bench.ask(8, gone, None, Transport::Udp).await;
    assert_eq!(bench.told().await, (8, None));
}

#[tokio::test]
async fn tcp_carries_one_question_and_tells_when_it_cannot() {
    let mut bench = Bench::start(Tls::of_system());
    let server = TcpListener::bind(loopback()).await.unwrap();
    let at = server.local_addr().unwrap();
    bench.ask(1, at, None, Transport::Tcp).await;
    answer_stream(server.accept().await.unwrap().0).await;
    assert_eq!(bench.told().await, (1, Some(ANSWER.to_vec())));
    drop(server);
    bench.ask(2, at, None, Transport::Tcp).await;
    assert_eq!(bench.told().await, (2, None));
}

/// A server that proves to be `dns.example`, and the authority that says so.
fn proved() -> (TlsAcceptor, RootCertStore) {
    let ca_key = KeyPair::generate().unwrap();
    let mut ca = CertificateParams::default();
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca_certificate = ca.self_signed(&ca_key).unwrap();
    let key = KeyPair::generate().unwrap();
    let leaf = CertificateParams::new(vec!["dns.example".to_owned()]).unwrap();
    let certificate = leaf.signed_by(&key, &Issuer::new(ca, ca_key)).unwrap();
    let versions = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()));
    let private_key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let config = versions
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], private_key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let mut roots = RootCertStore::empty();
    roots.add(ca_certificate.der().clone()).unwrap();
    (acceptor, roots)
}

#[tokio::test]
async fn tls_asks_only_who_proves_the_name() {
    let (acceptor, roots) = proved();
    let server = TcpListener::bind(loopback()).await.unwrap();
    let at = server.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (stream, acceptor) = (server.accept().await.unwrap().0, acceptor.clone());
            tokio::spawn(async move {
                if let Ok(stream) = acceptor.accept(stream).await {
                    answer_stream(stream).await;
                }
            });
        }
    });
    let mut bench = Bench::start(Tls::with(roots));
    bench.ask(1, at, Some("dns.example"), Transport::Tcp).await;
    assert_eq!(bench.told().await, (1, Some(ANSWER.to_vec())));
    bench.ask(2, at, Some("other.example"), Transport::Tcp).await;
    assert_eq!(bench.told().await, (2, None), "another name");
    let mut bench = Bench::start(Tls::with(RootCertStore::empty()));
    bench.ask(3, at, Some("dns.example"), Transport::Tcp).await;
    assert_eq!(bench.told().await, (3, None), "an authority that nobody trusts");
}

async fn accept(acceptor: &TlsAcceptor, server: &TcpListener) -> TlsStream<TcpStream> {
    let (stream, _) = timeout(Duration::from_secs(10), server.accept()).await.expect("a connection in time").unwrap();
    acceptor.accept(stream).await.unwrap()
}

#[tokio::test]
async fn questions_over_tls_share_a_connection_until_the_server_closes_it() {
    let (acceptor, roots) = proved();
    let mut bench = Bench::start(Tls::with(roots));
    let server = TcpListener::bind(loopback()).await.unwrap();
    let upstream = Upstream::Outside { server: server.local_addr().unwrap(), tls: Some("dns.example".into()) };
    let put = |id, message: &'static [u8]| bench.put(id, upstream.clone(), Transport::Tcp, message);
    put(1, b"aa first").await;
    put(2, b"bb second").await;
    let mut stream = accept(&acceptor, &server).await;
    let mut heard = vec![receive(&mut stream).await.unwrap(), receive(&mut stream).await.unwrap()];
    heard.sort();
    assert_eq!(heard, [b"aa first".to_vec(), b"bb second".to_vec()], "both on one connection");
    // A third with the id of the first has a connection of its own.
    put(3, b"aa third").await;
    let mut own = accept(&acceptor, &server).await;
    assert_eq!(receive(&mut own).await.unwrap(), b"aa third");
    send(&mut own, b"aa 3").await.unwrap();
    assert_eq!(bench.told().await, (3, Some(b"aa 3".to_vec())));
    // In any order, and what nobody asked is nobody's.
    for (said, asked) in [(&b"zz"[..], None), (b"bb 2", Some(2)), (b"bb 2", None), (b"aa 1", Some(1))] {
        send(&mut stream, said).await.unwrap();
        if let Some(asked) = asked {
            assert_eq!(bench.told().await, (asked, Some(said.to_vec())));
        }
    }
    // The server closes while a question is on its way: it is asked again, on a new connection.
    bench.put(4, upstream.clone(), Transport::Tcp, b"dd fourth").await;
    assert_eq!(receive(&mut stream).await.unwrap(), b"dd fourth");
    drop(stream);
    let mut stream = accept(&acceptor, &server).await;
    assert_eq!(receive(&mut stream).await.unwrap(), b"dd fourth");
    send(&mut stream, b"dd 4").await.unwrap();
    assert_eq!(bench.told().await, (4, Some(b"dd 4".to_vec())));
}

#[tokio::test]
async fn a_connection_that_has_fallen_silent_is_left() {
    let (acceptor, roots) = proved();
    let mut bench = Bench::start(Tls::with(roots));
    let server = TcpListener::bind(loopback()).await.unwrap();
    let upstream = Upstream::Outside { server: server.local_addr().unwrap(), tls: Some("dns.example".into()) };
    let gone = UdpSocket::bind(loopback()).await.unwrap().local_addr().unwrap();
    bench.put(1, upstream.clone(), Transport::Tcp, b"aa first").await;
    let mut silent = accept(&acceptor, &server).await;
    assert_eq!(receive(&mut silent).await.unwrap(), b"aa first");
    send(&mut silent, b"aa 1").await.unwrap();
    assert_eq!(bench.told().await, (1, Some(b"aa 1".to_vec())));
    // One is given up, but others have been answered since: the connection is alive.
    for (id, message) in [(2, b"bb slow"), (3, b"cc fast")] {
        bench.put(id, upstream.clone(), Transport::Tcp, message).await;
        assert_eq!(receive(&mut silent).await.unwrap(), message);
    }
    send(&mut silent, b"cc 3").await.unwrap();
    assert_eq!(bench.told().await, (3, Some(b"cc 3".to_vec())));
    bench.give_up(2, &upstream, gone).await;
    bench.put(4, upstream.clone(), Transport::Tcp, b"dd last").await;
    assert_eq!(receive(&mut silent).await.unwrap(), b"dd last");
    // Nothing has come since this one was asked: the next goes elsewhere, and the one after it by a new shared connection.
    bench.give_up(4, &upstream, gone).await;
    for id in [5, 6] {
        bench.put(id, upstream.clone(), Transport::Tcp, b"ee").await;
        let mut fresh = accept(&acceptor, &server).await;
        assert_eq!(receive(&mut fresh).await.unwrap(), b"ee");
        send(&mut fresh, b"ee !").await.unwrap();
        assert_eq!(bench.told().await, (id, Some(b"ee !".to_vec())));
    }
}

#[tokio::test]
async fn questions_on_one_connection_are_bounded() {
    let (acceptor, roots) = proved();
    let bench = Bench::start(Tls::with(roots));
    let server = TcpListener::bind(loopback()).await.unwrap();
    let upstream = Upstream::Outside { server: server.local_addr().unwrap(), tls: Some("dns.example".into()) };
    let most = tls_lines::MAX_QUESTIONS as u16;
    for id in 0..=most {
        bench.put(id.into(), upstream.clone(), Transport::Tcp, &id.to_be_bytes()).await;
    }
    let mut shared = accept(&acceptor, &server).await;
    for _ in 0..most {
        receive(&mut shared).await.unwrap();
    }
    receive(&mut accept(&acceptor, &server).await).await.unwrap();
}

#[tokio::test]
async fn questions_under_way_are_bounded() {
    let (actions, received) = mpsc::channel(2 * MAX_QUESTIONS);
    let (sender, mut told) = mpsc::channel(16);
    let server = TcpListener::bind(loopback()).await.unwrap();
    let upstream = Upstream::Outside { server: server.local_addr().unwrap(), tls: None };
    let ask = |id| Action::Ask {
        exchange: ExchangeId(id),
        upstream: upstream.clone(),
        transport: Transport::Tcp,
        bytes: b"question".to_vec(),
    };
    for id in 0..=MAX_QUESTIONS as u64 {
        actions.try_send(ask(id)).unwrap();
    }
    // Without a turn of the runtime in between, so none of them can have ended.
    tokio::spawn(serve(received, Told(sender), Tls::of_system()));
    let (exchange, bytes) = timeout(Duration::from_secs(10), told.recv()).await.unwrap().unwrap();
    assert_eq!((exchange.0, bytes), (MAX_QUESTIONS as u64, None));
}
