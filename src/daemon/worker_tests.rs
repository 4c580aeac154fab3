//! The worker over loopback with small cores. Waits are bounded by read timeouts; nothing sleeps.

use std::net::UdpSocket as StdSocket;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, mpsc};

use super::super::upstream::Answers;
use super::handle::TUNNELS_AT_ONCE;
use super::*;
use crate::dataplane::report::{Pulse, Share, Totals, TunnelReport};
use crate::io::udp::{Offload, UdpSocket};
use crate::net::{Generation, LinkReport, PathReport, Port, RealmId, TunnelId};
use crate::packet::DropReason;

/// Sends every datagram back. `panic` makes it panic, `stop` makes it wait for the test.
pub(crate) struct Echo {
    outbox: Outbox,
    totals: Totals,
    generation: Generation,
    timeouts: u64,
    deadline: Option<Timestamp>,
    events: Vec<&'static str>,
    /// Of no capacity: who sends the first knows that the worker has stopped there, until the second.
    gate: Option<mpsc::Receiver<()>>,
    /// What it was told of interfaces.
    pub(crate) links: Arc<Mutex<Vec<LinkReport>>>,
    asks: Vec<Action>,
    /// What came of them: answers and failures.
    told: (u64, u64),
    tunnels: usize,
    /// Parts of reports that were asked for.
    parts: Arc<Mutex<Vec<Range<usize>>>>,
    /// Which of the next parts of reports find another configuration than they are asked for, bit by bit.
    overtaken: AtomicU64,
}

impl Echo {
    pub(crate) fn new() -> Self {
        Echo {
            outbox: Outbox::new(4 << 20, 4096),
            totals: Totals::default(),
            generation: Generation(1),
            timeouts: 0,
            deadline: None,
            events: Vec::new(),
            gate: None,
            links: Arc::default(),
            asks: Vec::new(),
            told: (0, 0),
            tunnels: 0,
            parts: Arc::default(),
            overtaken: AtomicU64::new(0),
        }
    }
}

impl Core for Echo {
    type Event = &'static str;
    type Snapshot = u32;

    fn handle_input<'a>(&mut self, datagrams: impl Iterator<Item = Datagram<'a>>, _: Timestamp) {
        for datagram in datagrams {
            match datagram.bytes {
                b"panic" => panic!("told to"),
                b"ask" => self.asks.extend((0..3).map(ask)),
                b"stop" => drop(self.gate.as_ref().map(|gate| (gate.recv(), gate.recv()))),
                _ => {}
            }
            self.totals.datagrams_in += 1;
            self.totals.forwarded += 1;
            self.events.push("echoed");
            assert!(self.outbox.push(datagram.path, true, datagram.bytes));
        }
    }

    fn handle_parcel(&mut self, parcel: &mut Parcel, now: Timestamp) {
        let left: Vec<_> = parcel.left().map(|datagram| (datagram.path, datagram.bytes.to_vec())).collect();
        self.handle_input(left.iter().map(|(path, bytes)| Datagram::new(*path, bytes)), now);
    }

    fn handle_path_report(&mut self, _: PathReport, _: Timestamp) {}

    fn handle_timeout(&mut self, now: Timestamp) {
        self.timeouts += 1;
        self.deadline = Some(now + Duration::from_millis(1));
    }

    fn handle_link(&mut self, report: LinkReport, _: Timestamp) {
        self.links.lock().unwrap().push(report);
    }

    fn publish(&mut self, snapshot: Arc<u32>, _: Timestamp) {
        self.generation = Generation(*snapshot);
    }

    fn say_goodbye(&mut self) -> bool {
        false
    }

    fn outbox(&mut self) -> &mut Outbox {
        &mut self.outbox
    }

    fn note_unsent(&mut self, data_datagrams: u64) {
        self.totals.forwarded -= data_datagrams;
    }

    fn poll_event(&mut self) -> Option<&'static str> {
        self.events.pop()
    }

    fn is_trouble(_event: &&'static str) -> bool {
        false
    }

    fn poll_timeout(&self) -> Option<(Timestamp, &'static str)> {
        self.deadline.map(|deadline| (deadline, "tick"))
    }

    fn poll_outside(&mut self) -> Option<Action> {
        self.asks.pop()
    }

    fn handle_outside(&mut self, _: ExchangeId, bytes: Option<&[u8]>, _: Timestamp) {
        match bytes {
            Some(_) => self.told.0 += 1,
            None => self.told.1 += 1,
        }
    }

    fn tunnel_reports(&self, numbers: Range<usize>, _: Timestamp) -> TunnelReports {
        self.parts.lock().unwrap().push(numbers.clone());
        let overtaken = self.overtaken.load(Ordering::Relaxed);
        self.overtaken.store(overtaken >> 1, Ordering::Relaxed);
        let generation = Generation(self.generation.0 + (overtaken & 1) as u32);
        let end = numbers.end.min(self.tunnels);
        let tunnels = (numbers.start as u32..end as u32).map(|number| TunnelReport {
            tunnel: TunnelId(number),
            realm: RealmId(1),
            up: false,
            remote: None,
            last_handshake: None,
            last_data_received: None,
            received: Default::default(),
            sent: Default::default(),
            ipsec: None,
            port: None,
            share: Share::All,
            mtu: Default::default(),
        });
        TunnelReports { generation, tunnels: tunnels.collect(), are_last: end == self.tunnels }
    }

    fn outline(&self, _: Timestamp) -> Report {
        let dns = crate::dns::forward::Counters { by_cache: self.told.0, failures: self.told.1, ..Default::default() };
        Report {
            made_at: Timestamp::ZERO,
            generation: self.generation,
            totals: Totals { originated: self.timeouts, ..self.totals },
            unattributed_drops: [0; DropReason::COUNT],
            realms: Vec::new(),
            tunnels: Vec::new(),
            strangers: Vec::new(),
            ike_sas: 0,
            ike_half_open: 0,
            sessions: 0,
            dns,
            dns_signatures: Default::default(),
            dns_now: Default::default(),
            dns_routes: Vec::new(),
            sessions_max: 1,
            known_flow_packets: 0,
            napt_bindings: 0,
            napt_bindings_max: 1,
            events_lost: 0,
        }
    }
}

fn ask(id: u64) -> Action {
    let upstream = crate::dns::Upstream::Outside { server: "127.0.0.1:53".parse().unwrap(), tls: None };
    Action::Ask { exchange: ExchangeId(id), upstream, transport: crate::dns::Transport::Udp, bytes: Vec::new() }
}

struct Bench {
    asked: tokio::sync::mpsc::Receiver<Action>,
    handle: Handle<Echo>,
    ending: oneshot::Receiver<Ending>,
    client: StdSocket,
}

fn start(core: Echo) -> Bench {
    let socket = UdpSocket::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let client = StdSocket::bind("127.0.0.1:0").unwrap();
    client.connect(socket.local_address()).unwrap();
    client.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let mut sockets = Sockets::default();
    sockets.add_udp(socket);
    let (outside, asked) = tokio::sync::mpsc::channel(1);
    let (handle, ending) = spawn(sockets, Vec::new(), core, Clock::start(), outside, States::default()).unwrap();
    Bench { asked, handle, ending, client }
}

impl Bench {
    fn echo(&self, bytes: &[u8]) {
        let mut answer = [0; 2_000];
        self.client.send(bytes).unwrap();
        assert_eq!(self.client.recv(&mut answer).unwrap(), bytes.len());
        assert_eq!(answer[..bytes.len()], *bytes);
    }
}

#[tokio::test]
async fn questions_for_the_outside_are_passed_on_and_fail_when_there_is_no_room() {
    let mut bench = start(Echo::new());
    bench.echo(b"ask");
    // A question to the worker is answered in its next turn, when it has passed on what it had.
    let failed = bench.handle.report().await.unwrap().path.dns.failures;
    assert_eq!(failed, 2, "one found room, two did not");
    assert_eq!(bench.asked.recv().await, Some(ask(2)));
    bench.handle.answer(ExchangeId(2), Some(b"answer".to_vec())).await;
    assert_eq!(bench.handle.report().await.unwrap().path.dns.by_cache, 1);
}

#[tokio::test]
async fn moves_datagrams_reports_adopts_snapshots_and_drains() {
    let bench = start(Echo::new());
    for len in [1, 100, 1400] {
        bench.echo(&vec![5; len]);
    }
    let report = bench.handle.report().await.unwrap();
    assert_eq!(bench.handle.pulse().await.unwrap(), Pulse::from(&report.path));
    assert_eq!((report.path.totals.forwarded, report.path.generation), (3, Generation(1)));
    assert!(report.socket.receive_buffer_bytes > 0 && report.socket.refused_datagrams == 0);

    let mut further = Sockets::default();
    further.add_udp(UdpSocket::bind_for(Port::Ike, "127.0.0.1:0".parse().unwrap(), Offload::Auto).unwrap());
    let ike = further.udp_address(Port::Ike).unwrap();
    bench.handle.publish(Arc::new(7), further, Vec::new()).await.unwrap();
    assert_eq!(bench.handle.report().await.unwrap().path.generation, Generation(7));
    bench.echo(b"as before");
    bench.client.connect(ike).unwrap();
    bench.echo(b"by a port that came with the snapshot");

    bench.handle.shut_down().unwrap();
    match bench.ending.await.unwrap() {
        Ending::Drained(last) => assert_eq!(last.path.totals.datagrams_in, 5),
        other => panic!("{other:?}"),
    }
    assert_eq!(bench.handle.report().await.unwrap_err(), WorkerError::Gone);
}

#[tokio::test]
async fn a_report_of_many_tunnels_comes_in_parts() {
    for tunnels in [0, 1, TUNNELS_AT_ONCE - 1, TUNNELS_AT_ONCE, TUNNELS_AT_ONCE + 1, 1_000] {
        let core = Echo { tunnels, ..Echo::new() };
        let parts = core.parts.clone();
        let bench = start(core);
        let report = bench.handle.report().await.unwrap();
        assert!(parts.lock().unwrap().iter().all(|part| part.len() == TUNNELS_AT_ONCE));
        assert_eq!(parts.lock().unwrap().len(), tunnels.div_ceil(TUNNELS_AT_ONCE).max(1));
        let numbers: Vec<u32> = report.path.tunnels.iter().map(|tunnel| tunnel.tunnel.0).collect();
        assert_eq!(numbers, (0..tunnels as u32).collect::<Vec<_>>());
        bench.handle.shut_down().unwrap();
        match bench.ending.await.unwrap() {
            Ending::Drained(last) => assert_eq!(last.path.tunnels.len(), tunnels),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn a_report_that_a_configuration_overtakes_begins_anew() {
    for (overtaken, told) in [(0b100, true), (0b1_0001, true), (0b111, false)] {
        let bench = start(Echo { tunnels: 200, overtaken: AtomicU64::new(overtaken), ..Echo::new() });
        match bench.handle.report().await {
            Ok(report) => assert!(told && report.path.tunnels.len() == 200, "{overtaken:b}"),
            Err(error) => assert!(!told && error == WorkerError::Overtaken, "{overtaken:b}"),
        }
    }
}

fn ike_socket() -> Sockets {
    let mut sockets = Sockets::default();
    sockets.add_udp(UdpSocket::bind_for(Port::Ike, "127.0.0.1:0".parse().unwrap(), Offload::Auto).unwrap());
    sockets
}

#[tokio::test]
async fn ports_that_the_worker_did_not_get_are_known_to_be_closed() {
    let (open_gate, gate) = mpsc::sync_channel(0);
    let bench = start(Echo { gate: Some(gate), ..Echo::new() });
    bench.echo(b"hello");
    let first = ike_socket();
    let watch = first.watch();
    bench.client.send(b"stop").unwrap();
    open_gate.send(()).unwrap();
    let mut answers = Vec::new();
    loop {
        let (reply, answer) = oneshot::channel();
        answers.push(answer);
        if bench.handle.send(Command::Outline(reply)).is_err() {
            break;
        }
    }
    assert!(watch.is_open());
    assert_eq!(bench.handle.publish(Arc::new(7), first, Vec::new()).await, Err(WorkerError::Busy));
    assert!(!watch.is_open(), "nobody has them: the next reload opens them anew");
    open_gate.send(()).unwrap();
    answers.pop();
    for answer in answers {
        answer.await.unwrap();
    }
    let again = ike_socket();
    let watch = again.watch();
    bench.handle.publish(Arc::new(8), again, Vec::new()).await.unwrap();
    bench.handle.publish(Arc::new(9), Sockets::default(), Vec::new()).await.unwrap();
    assert!(watch.is_open(), "the worker has them");
    bench.handle.shut_down().unwrap();
    assert!(matches!(bench.ending.await.unwrap(), Ending::Drained(_)));
    assert!(!watch.is_open());
}

#[tokio::test]
async fn a_flooded_socket_starves_neither_timers_nor_commands() {
    let bench = start(Echo { deadline: Some(Timestamp::ZERO), ..Echo::new() });
    let flooding = Arc::new(AtomicBool::new(true));
    let flooder = {
        let (client, flooding) = (bench.client.try_clone().unwrap(), flooding.clone());
        thread::spawn(move || {
            while flooding.load(Ordering::Relaxed) {
                let _ = client.send(&[1; 1_000]);
            }
        })
    };
    let mut last = bench.handle.report().await.unwrap().path.totals;
    for _ in 0..20 {
        // Wait for the flood and for the timer to have gone on: both must, else this never ends.
        loop {
            let totals = bench.handle.report().await.unwrap().path.totals;
            if totals.datagrams_in > last.datagrams_in && totals.originated > last.originated {
                last = totals;
                break;
            }
        }
    }
    bench.handle.shut_down().unwrap();
    assert!(matches!(bench.ending.await.unwrap(), Ending::Drained(_)));
    flooding.store(false, Ordering::Relaxed);
    flooder.join().unwrap();
}

#[tokio::test]
async fn a_panic_is_told_with_its_words() {
    let bench = start(Echo::new());
    bench.client.send(b"panic").unwrap();
    match bench.ending.await.unwrap() {
        Ending::Panicked(words) => assert_eq!(words, "told to"),
        other => panic!("{other:?}"),
    }
    assert_eq!(bench.handle.report().await.unwrap_err(), WorkerError::Gone);
}

#[tokio::test]
async fn the_command_queue_is_bounded() {
    let (open_gate, gate) = mpsc::sync_channel(0);
    let bench = start(Echo { gate: Some(gate), ..Echo::new() });
    bench.echo(b"hello");
    bench.client.send(b"stop").unwrap();
    open_gate.send(()).unwrap();
    // The worker stands still: never more than the queue is taken.
    let mut answers = Vec::new();
    let full = loop {
        let (reply, answer) = oneshot::channel();
        answers.push(answer);
        if let Err(error) = bench.handle.send(Command::Outline(reply)) {
            break error;
        }
    };
    assert_eq!(full, WorkerError::Busy);
    open_gate.send(()).unwrap();
    answers.pop();
    for answer in answers {
        answer.await.unwrap();
    }
}
