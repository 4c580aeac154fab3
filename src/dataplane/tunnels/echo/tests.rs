//! Peers that answer some requests and not others, in virtual time.

use super::*;
use crate::wire::icmp::{self, Report};

const TUNNEL: TunnelId = TunnelId(0);
const REMOTE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(203, 0, 113, 1));

struct World {
    echoes: EchoProbes,
    now: Timestamp,
    /// What a path carries, of packet and padding.
    carries: usize,
    /// Of each tunnel's targets.
    answering: Vec<usize>,
    random: u32,
    /// When, for whom, which target, how long.
    sent: Vec<(Timestamp, TunnelId, usize, usize)>,
}

fn targets() -> Vec<Target> {
    let target =
        |host: u8| Target { source: "100.64.0.1".parse().unwrap(), destination: IpAddr::from([192, 168, 1, host]) };
    vec![target(1), target(254)]
}

fn answer(echo: &Echo) -> Vec<u8> {
    let (mut request, mut reply) = ([0; MAX_ECHO_BYTES], vec![0; 576]);
    let len = echo.emit(&mut request).unwrap();
    let Target { source, destination } = echo.target;
    let len = icmp::emit_error(&mut reply, Report::TimeExceeded, destination, source, &request[..len]).unwrap();
    reply.truncate(len);
    reply
}

impl World {
    fn new(tunnels: usize) -> Self {
        let mut echoes = EchoProbes::default();
        echoes.configure(Arc::new(Targets::of_all(vec![targets().into(); tunnels])));
        let (now, answering) = (Timestamp::from_secs(100), vec![0, 1]);
        World { echoes, now, carries: 1400, answering, random: 0, sent: Vec::new() }
    }

    fn ask(&mut self, tunnel: TunnelId, padded_bytes: usize) -> &mut Self {
        let question = Question { remote: REMOTE, outer_bytes: padded_bytes as u16 + 60, padded_bytes };
        self.echoes.ask(tunnel, question, self.now);
        self
    }

    /// Sends what is due, and answers it at once.
    fn exchange(&mut self) {
        let random = &mut self.random;
        while let Some((tunnel, echo, padded_bytes)) = self.echoes.poll_request(self.now, || {
            *random += 1;
            *random
        }) {
            let target = targets().iter().position(|target| *target == echo.target).unwrap();
            self.sent.push((self.now, tunnel, target, padded_bytes));
            if padded_bytes <= self.carries && self.answering.contains(&target) {
                assert!(self.echoes.awaits_answers());
                assert!(self.echoes.take_answer(tunnel, &answer(&echo), self.now));
                assert!(!self.echoes.take_answer(tunnel, &answer(&echo), self.now), "an answer counts once");
            }
        }
    }

    /// The first verdict, and how long it took.
    fn verdict(&mut self) -> (Verdict, Duration) {
        let began = self.now;
        loop {
            self.exchange();
            if let Some((_, verdict)) = self.echoes.poll_verdict() {
                return (verdict, self.now.saturating_since(began));
            }
            let (at, _) = self.echoes.poll_timeout().expect("a deadline or a verdict");
            self.now = self.now.max(at);
        }
    }

    fn lengths(&self) -> Vec<usize> {
        self.sent.iter().map(|(_, _, _, bytes)| *bytes).collect()
    }
}

fn probed(padded_bytes: u16, arrived: bool) -> Verdict {
    Verdict::Probed { remote: REMOTE, outer_bytes: padded_bytes + 60, arrived }
}

#[test]
fn a_short_request_finds_who_answers_and_a_long_one_goes_there() {
    let mut world = World::new(1);
    assert_eq!(world.ask(TUNNEL, 1400).verdict(), (probed(1400, true), Duration::ZERO));
    assert_eq!(world.lengths(), [0, 1400]);
    assert_eq!(world.ask(TUNNEL, 1300).verdict(), (probed(1300, true), PACE), "and then no more than one in a second");
    assert_eq!(world.lengths(), [0, 1400, 1300]);
    assert!(!world.echoes.awaits_answers());
    assert_eq!(world.echoes.poll_timeout(), None);
}

#[test]
fn a_size_is_lost_when_a_short_request_after_it_is_answered() {
    let mut world = World::new(1);
    assert_eq!(world.ask(TUNNEL, 1401).verdict(), (probed(1401, false), ANSWER_WITHIN));
    assert_eq!(world.lengths(), [0, 1401, 0]);
}

#[test]
fn another_address_is_tried_when_one_does_not_answer() {
    let mut world = World::new(1);
    world.answering = vec![1];
    assert_eq!(world.ask(TUNNEL, 1400).verdict(), (probed(1400, true), ANSWER_WITHIN));
    assert_eq!(world.sent.iter().map(|(_, _, target, _)| *target).collect::<Vec<_>>(), [0, 1, 1]);
    world.ask(TUNNEL, 1400).verdict();
    assert_eq!(world.sent.last().unwrap().2, 1, "and is remembered");
}

#[test]
fn who_answers_nothing_is_silent_and_no_size_is_lost_by_it() {
    let mut world = World::new(1);
    world.answering.clear();
    let (verdict, took) = world.ask(TUNNEL, 1400).verdict();
    assert_eq!((verdict, took), (Verdict::Silent, ANSWER_WITHIN * MAX_UNANSWERED as u32));
    assert_eq!(world.lengths(), [0; MAX_UNANSWERED], "nothing long was ever sent");
    // One that falls silent in between.
    let mut world = World::new(1);
    world.ask(TUNNEL, 1000).verdict();
    world.answering.clear();
    assert_eq!(world.ask(TUNNEL, 1400).verdict().0, Verdict::Silent);
    let mut nowhere = World::new(0);
    assert_eq!(nowhere.ask(TUNNEL, 1400).verdict().0, Verdict::Silent, "there is nobody to be asked");
}

#[test]
fn an_answer_counts_for_the_latest_request_of_its_tunnel_only() {
    let mut world = World::new(2);
    world.answering.clear();
    world.ask(TUNNEL, 1400);
    let (_, first, _) = world.echoes.poll_request(world.now, || 77).unwrap();
    assert!(!world.echoes.take_answer(TunnelId(1), &answer(&first), world.now), "of another tunnel");
    assert!(!world.echoes.take_answer(TunnelId(9), &answer(&first), world.now));
    world.now = world.now + ANSWER_WITHIN;
    let (_, second, _) = world.echoes.poll_request(world.now, || 78).unwrap();
    assert!(!world.echoes.take_answer(TUNNEL, &answer(&first), world.now), "a late one, or a recorded one");
    for cookie in (0..1000).filter(|cookie| *cookie != 78) {
        assert!(!world.echoes.take_answer(TUNNEL, &answer(&Echo { cookie, ..second }), world.now));
    }
    world.ask(TUNNEL, 1300);
    assert!(!world.echoes.take_answer(TUNNEL, &answer(&second), world.now), "of a question that was replaced");
    assert!(!world.echoes.awaits_answers());
    world.echoes.forget(TUNNEL);
    assert_eq!(world.echoes.poll_timeout(), None);
}

#[test]
fn a_request_that_cannot_be_sent_ends_the_question() {
    let mut world = World::new(1);
    world.ask(TUNNEL, 1400);
    assert!(world.echoes.poll_request(world.now, || 1).is_some());
    world.echoes.note_unsent(TUNNEL);
    assert_eq!(world.echoes.poll_verdict(), Some((TUNNEL, Verdict::Down)));
    assert!(!world.echoes.awaits_answers());
    assert_eq!(world.ask(TUNNEL, 1400).verdict().0, probed(1400, true));
}

/// Ten thousand tunnels come up at once, each is asked again and again, and half of them are silent.
#[test]
fn only_so_many_go_in_a_second_and_every_tunnel_has_its_turn() {
    const TUNNELS: usize = 10_000;
    let mut world = World::new(TUNNELS);
    let all = || (0..TUNNELS as u32).map(TunnelId);
    all().for_each(|tunnel| {
        world.ask(tunnel, 1400).ask(tunnel, 1300);
    });
    assert_eq!((world.echoes.deadlines.len(), world.echoes.verdicts.len()), (TUNNELS, 0));
    let mut answered = std::collections::BTreeSet::new();
    while let Some((at, _)) = world.echoes.poll_timeout() {
        world.now = world.now.max(at);
        world.exchange();
        assert!(world.echoes.verdicts.len() <= PROBES_PER_SEC as usize);
        while let Some((tunnel, verdict)) = world.echoes.poll_verdict() {
            assert_eq!(verdict, probed(1300, true));
            assert!(answered.insert(tunnel));
        }
    }
    assert_eq!(answered.len(), TUNNELS);
    assert_eq!(world.sent.len(), 2 * TUNNELS);
    let took = world.now.saturating_since(Timestamp::from_secs(100));
    assert_eq!(took.as_secs() as usize, (2 * TUNNELS).div_ceil(PROBES_PER_SEC as usize) - 1);
    for second in 0..=took.as_secs() {
        let sent = world.sent.iter().filter(|(at, ..)| at.as_secs() as u64 == 100 + second).count();
        assert!(sent <= PROBES_PER_SEC as usize);
    }
    // And the tunnels of which there are none any more.
    world.ask(TUNNEL, 1400);
    world.echoes.configure(Arc::default());
    assert!(world.echoes.tunnels.iter().all(Option::is_none) && world.echoes.deadlines.is_empty());
}
