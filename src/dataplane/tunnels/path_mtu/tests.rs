//! One tunnel on a path that carries so much, in virtual time: probes are answered after a round trip or lost.

use std::net::Ipv4Addr;

use super::frame::samples::{gcm, path};
use super::frame::{Frame, Sealing};
use super::*;
use crate::net::Port;

const TUNNEL: TunnelId = TunnelId(0);
const CONFIGURED: u16 = 1390;
/// 1390 inside AES-GCM, UDP and IPv4.
const TOP: u16 = 1452;

struct Line {
    mtus: PathMtus,
    now: Timestamp,
    /// What the path carries.
    carries: u16,
    /// The peer answers probes.
    answers: bool,
    /// Sizes that were probed.
    probed: Vec<u16>,
    probing: Probing,
}

impl Line {
    fn new(carries: u16) -> Self {
        let mut mtus = PathMtus::default();
        mtus.configure([Some(CONFIGURED)].into_iter());
        Line {
            mtus,
            now: Timestamp::from_secs(1000),
            carries,
            answers: true,
            probed: Vec::new(),
            probing: Probing::Ike,
        }
    }

    fn at(&self) -> At {
        let path = path(Port::IkeNatT, "203.0.113.1:4500");
        At { remote: path.remote.ip(), frame: Frame::on(&path, gcm()), probing: self.probing }
    }

    fn up(&mut self) -> &mut Self {
        self.mtus.note_path(TUNNEL, self.at(), self.now);
        self.settle()
    }

    fn hint(&mut self, mtu: u16) -> &mut Self {
        self.mtus.note_hint(TUNNEL, self.at(), mtu, self.now);
        self.settle()
    }

    /// As a WireGuard tunnel whose peer answers echoes, or does not.
    fn wireguard(carries: u16) -> Self {
        Line { probing: Probing::Echo, ..Line::new(carries) }
    }

    /// Every question and its answer, each two seconds later.
    fn settle(&mut self) -> &mut Self {
        while let Some((tunnel, _, sizes)) = self.mtus.poll_probe() {
            let size = *sizes.start();
            self.probed.push(size);
            assert!(self.probed.len() < 200, "it probes for ever: {:?}", self.probed);
            if self.answers {
                self.now = self.now + Duration::from_secs(2);
                self.mtus.note_probed(tunnel, self.at().remote, size, size <= self.carries, self.now);
            } else if self.probing == Probing::Echo {
                self.mtus.note_silent(tunnel, self.now);
            }
        }
        self
    }

    fn pass(&mut self, time: Duration) -> &mut Self {
        let until = self.now + time;
        while let Some((at, _)) = self.mtus.poll_timeout().filter(|(at, _)| *at <= until) {
            self.now = self.now.max(at);
            self.mtus.handle_timeout(self.now);
            self.settle();
        }
        self.now = self.now.max(until);
        self
    }

    /// The longest inner packet, and whether outer packets go without DF.
    fn way(&self) -> (u16, bool) {
        let Way { mtu_bytes, may_fragment, .. } = self.mtus.way(TUNNEL);
        (mtu_bytes, may_fragment)
    }

    fn mtu(&self) -> u16 {
        self.mtus.way(TUNNEL).mtu_bytes
    }

    fn report(&self) -> MtuReport {
        self.mtus.report(TUNNEL, self.now).unwrap()
    }
}

#[test]
fn a_path_that_carries_all_is_known_after_one_probe() {
    let mut line = Line::new(1500);
    assert_eq!((line.mtu(), line.report().source), (CONFIGURED, MtuSource::Configured));
    line.up();
    assert_eq!(line.probed, [TOP]);
    let report = line.report();
    assert_eq!((report.inner_bytes, report.outer_bytes, report.source), (CONFIGURED, Some(TOP), MtuSource::Probe));
    assert!(!report.searching && !line.mtus.way(TUNNEL).may_fragment);
}

#[test]
fn a_black_hole_is_found_and_the_configuration_is_believed_until_three_probes_are_lost() {
    let mut line = Line::new(1400);
    line.mtus.note_path(TUNNEL, line.at(), line.now);
    for lost in 1..=3 {
        assert_eq!(line.mtu(), CONFIGURED, "after {} lost probes", lost - 1);
        assert_eq!(*line.mtus.poll_probe().unwrap().2.start(), TOP);
        line.mtus.note_probed(TUNNEL, line.at().remote, TOP, false, line.now);
    }
    assert_eq!(line.mtu(), MIN_INNER_BYTES, "until something has arrived");
    line.settle();
    let report = line.report();
    assert_eq!((report.outer_bytes, report.inner_bytes, report.source), (Some(1400), 1338, MtuSource::Probe));
    assert!(line.probed.len() < 15, "{:?}", line.probed);
}

#[test]
fn a_path_that_grows_is_found_out_after_ten_minutes_and_one_that_shrinks_as_well() {
    let mut line = Line::new(1400);
    line.up().carries = 1500;
    assert_eq!(line.pass(RAISE_EVERY - Duration::from_secs(1)).mtu(), 1338);
    assert_eq!(line.pass(Duration::from_secs(2)).mtu(), CONFIGURED);
    line.carries = 1360;
    line.probed.clear();
    assert_eq!(line.pass(RAISE_EVERY).mtu(), 1360 - 60 - 2);
    assert_eq!(line.probed[..4], [TOP, TOP, TOP, line.probed[3]]);
    line.probed.clear();
    line.pass(RAISE_EVERY);
    assert_eq!((line.mtu(), line.probed[3]), (1298, 1360), "what was found before is asked about before all else");
}

#[test]
fn a_forged_word_changes_nothing_and_none_is_heard_for_a_while() {
    let mut line = Line::new(1500);
    line.up().probed.clear();
    let next_search = line.mtus.poll_timeout();
    line.hint(1280);
    assert_eq!((line.mtu(), line.probed.as_slice()), (CONFIGURED, [TOP].as_slice()), "one probe refutes it");
    for _ in 0..100 {
        line.hint(600);
    }
    assert_eq!(line.probed, [TOP]);
    assert_eq!(line.mtus.poll_timeout(), next_search, "nor does it put off the next search");
    line.pass(DEAF_FOR).carries = 1400;
    assert_eq!(line.hint(1400).mtu(), 1338, "then a true one is heard");
}

#[test]
fn a_true_word_is_taken_after_one_lost_probe_and_verified() {
    let mut line = Line::new(1500);
    line.up();
    (line.carries, line.probed) = (1372, Vec::new());
    line.hint(1372);
    assert_eq!(line.probed[..2], [TOP, 1372]);
    assert_eq!((line.report().outer_bytes, line.report().source), (Some(1372), MtuSource::Probe));
    line.hint(1400).hint(9000);
    assert_eq!(line.report().outer_bytes, Some(1372), "words about more say nothing");
}

#[test]
fn without_probes_a_word_is_taken_for_ten_minutes_and_does_not_go_below_1280() {
    let mut line = Line::new(1500);
    line.probing = Probing::None;
    line.up();
    assert_eq!(line.hint(1420).mtu(), 1420 - 60 - 2);
    assert_eq!(line.report().source, MtuSource::Icmp);
    line.hint(100);
    let report = line.report();
    assert_eq!((report.outer_bytes, report.inner_bytes), (Some(MIN_OUTER_BYTES), MIN_INNER_BYTES));
    assert!(line.mtus.way(TUNNEL).may_fragment, "what every tunnel must carry goes in fragments");
    assert_eq!(line.mtus.way(TUNNEL).unfragmented_bytes, 1280 - 60 - 2, "but TCP's segments stay long");
    assert!(line.probed.is_empty());
    assert_eq!(line.pass(RAISE_EVERY - Duration::from_secs(1)).mtu(), MIN_INNER_BYTES);
    assert_eq!(line.pass(Duration::from_secs(1)).mtu(), CONFIGURED);
    assert_eq!(line.mtus.poll_timeout(), None);
}

#[test]
fn a_peer_that_answers_nothing_says_nothing_about_sizes() {
    let mut line = Line::new(1500);
    line.answers = false;
    line.up();
    assert_eq!(line.pass(Duration::from_secs(3600)).mtu(), CONFIGURED);
    let tries = 3600 / (ANSWER_WITHIN + RETRY_AFTER).as_secs() as usize + 1;
    assert_eq!(line.probed.len(), tries);
    line.answers = true;
    assert_eq!(line.pass(RAISE_EVERY).report().source, MtuSource::Probe);
}

#[test]
fn packets_go_without_df_until_echoes_tell_the_size_and_the_configuration_is_believed_so_long() {
    let mut line = Line::wireguard(1400);
    assert_eq!(line.way(), (CONFIGURED, true), "nobody is there yet");
    line.mtus.note_path(TUNNEL, line.at(), line.now);
    let mut answers = 0;
    while let Some((_, _, sizes)) = line.mtus.poll_probe() {
        assert_eq!(line.way(), (CONFIGURED, true), "after {answers} answers");
        let size = *sizes.start();
        line.mtus.note_probed(TUNNEL, line.at().remote, size, size <= line.carries, line.now);
        answers += 1;
    }
    assert!((5..20).contains(&answers));
    assert_eq!((line.way(), line.report().source), ((1338, false), MtuSource::Probe));
    assert_eq!(Line::wireguard(1500).up().way(), (CONFIGURED, false));
}

#[test]
fn a_path_that_shrank_loses_nothing_once_three_probes_are_lost() {
    let mut line = Line::wireguard(1500);
    line.up();
    (line.carries, line.now) = (1400, line.now + RAISE_EVERY);
    line.mtus.handle_timeout(line.now);
    line.mtus.note_path(TUNNEL, line.at(), line.now);
    for _ in 0..3 {
        assert_eq!(line.way(), (CONFIGURED, false));
        assert_eq!(*line.mtus.poll_probe().unwrap().2.start(), TOP);
        line.mtus.note_probed(TUNNEL, line.at().remote, TOP, false, line.now);
    }
    assert_eq!(line.way(), (CONFIGURED, true));
    assert_eq!(line.settle().way(), (1338, false));
}

#[test]
fn a_silent_peer_is_asked_again_with_the_first_session_after_ten_minutes() {
    let mut line = Line::wireguard(1500);
    line.answers = false;
    line.up();
    assert_eq!((line.way(), line.report().searching, line.probed.len()), ((CONFIGURED, true), false, 1));
    line.pass(RAISE_EVERY - Duration::from_secs(1)).up();
    assert_eq!(line.probed.len(), 1, "other sessions change nothing");
    line.answers = true;
    line.pass(Duration::from_secs(7200));
    assert_eq!((line.probed.len(), line.mtus.poll_timeout()), (1, None), "and without one it is left alone");
    assert_eq!(line.up().way(), (CONFIGURED, false));
    // Who falls silent keeps the size, but it is relied upon no longer.
    line.answers = false;
    line.pass(RAISE_EVERY).up();
    assert_eq!((line.way(), line.report().source), ((CONFIGURED, true), MtuSource::Probe));
}

#[test]
fn a_silent_peers_router_is_believed_for_ten_minutes() {
    let mut line = Line::wireguard(1500);
    line.answers = false;
    // Not so far that what is longer than the path carries would be lost: it may be forged.
    line.up().hint(1400);
    assert_eq!((line.way(), line.report().source), ((1338, true), MtuSource::Icmp));
    assert_eq!(line.hint(100).way(), (MIN_INNER_BYTES, true));
    assert_eq!(line.pass(RAISE_EVERY).way(), (CONFIGURED, true));
    // One whose word comes before the silence is noticed.
    let mut line = Line::wireguard(1500);
    line.mtus.note_path(TUNNEL, line.at(), line.now);
    line.mtus.note_hint(TUNNEL, line.at(), 1400, line.now);
    assert!(line.mtus.poll_probe().is_some());
    line.mtus.note_silent(TUNNEL, line.now);
    assert_eq!((line.way(), line.report().source), ((1338, true), MtuSource::Icmp));
}

#[test]
fn a_search_that_a_lost_session_ended_begins_with_the_next() {
    let mut line = Line::wireguard(1400);
    line.mtus.note_path(TUNNEL, line.at(), line.now);
    assert!(line.mtus.poll_probe().is_some());
    line.mtus.note_down(TUNNEL);
    assert_eq!((line.way(), line.mtus.poll_timeout()), ((CONFIGURED, true), None));
    assert_eq!(line.up().way(), (1338, false));
}

#[test]
fn a_path_that_carries_less_than_every_tunnel_must_says_what_fits_it_whole() {
    let mut line = Line::wireguard(1280);
    line.up();
    assert_eq!(line.way(), (MIN_INNER_BYTES, true));
    assert_eq!(line.mtus.way(TUNNEL).unfragmented_bytes, 1280 - 60 - 2);
}

#[test]
fn a_probe_that_cannot_be_sent_leaves_the_routers_word() {
    let mut line = Line::new(1500);
    line.up();
    line.mtus.note_hint(TUNNEL, line.at(), 1400, line.now);
    assert!(line.mtus.poll_probe().is_some());
    line.mtus.note_unasked(TUNNEL, line.now);
    assert_eq!((line.mtu(), line.report().source), (1338, MtuSource::Icmp));
    assert_eq!(line.pass(RAISE_EVERY).mtu(), CONFIGURED);
}

#[test]
fn another_path_is_another_matter() {
    let mut line = Line::new(1400);
    line.up();
    let other = path(Port::IkeNatT, "203.0.113.2:4500");
    let moved = At { remote: other.remote.ip(), frame: Frame::on(&other, gcm()), probing: Probing::Ike };
    line.mtus.note_path(TUNNEL, moved, line.now);
    assert_eq!(line.mtu(), CONFIGURED);
    line.mtus.note_probed(TUNNEL, line.at().remote, TOP, false, line.now);
    assert_eq!(line.mtus.poll_probe().map(|(_, _, sizes)| *sizes.start()), Some(TOP), "an answer from where it was");
    line.mtus.configure([Some(1300)].into_iter());
    assert_eq!((line.mtu(), line.mtus.poll_timeout()), (1300, None), "another configuration");
    line.mtus.configure([None].into_iter());
    line.mtus.note_path(TUNNEL, moved, line.now);
    assert_eq!((line.mtus.poll_probe(), line.mtus.report(TUNNEL, line.now)), (None, None));
}

#[test]
fn the_same_tunnel_with_new_keys_is_not_probed_again() {
    let mut line = Line::new(1400);
    line.up().probed.clear();
    line.up();
    assert!(line.probed.is_empty());
    let wireguard = Frame::on(&path(Port::IkeNatT, "203.0.113.1:4500"), Sealing::WireGuard);
    line.mtus.note_path(TUNNEL, At { frame: wireguard, ..line.at() }, line.now);
    assert!(line.mtus.poll_probe().is_some(), "but one whose packets have another length is");
}

#[test]
fn only_so_many_words_are_heard_in_a_second() {
    let mut line = Line::new(1500);
    let heard = (0..1000).filter(|_| line.mtus.take_hint(line.now)).count();
    assert_eq!(heard, HINTS_PER_SEC as usize);
    assert!(line.mtus.take_hint(line.now + Duration::from_secs(1)));
}

/// Every tunnel has an entry, a deadline and a question at most: nothing grows with what is said about it.
#[test]
fn nothing_grows_with_what_is_said() {
    let mut line = Line::new(1500);
    for host in 0..=255 {
        let remote = Ipv4Addr::new(198, 51, 100, host).into();
        line.mtus.note_path(TUNNEL, At { remote, ..line.at() }, line.now);
        line.mtus.note_hint(TUNNEL, At { remote, ..line.at() }, 1300, line.now);
    }
    assert_eq!((line.mtus.deadlines.len(), line.mtus.asking.len(), line.mtus.tunnels.len()), (1, 1, 1));
}
