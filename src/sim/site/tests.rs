//! Two sites whose gateways are each other's peer, with nothing in between.

use super::super::peer::public_key;
use super::*;

const A: Ipv4Addr = Ipv4Addr::new(10, 0, 1, 1);
const B: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 1);
const NOBODY: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 9);
const PORT: u16 = 80;

struct Pair {
    sites: [Site; 2],
    now: Timestamp,
}

impl Pair {
    fn start() -> Self {
        let now = Timestamp::from_secs(1);
        let site = |own: u8, other: u8, host: Ipv4Addr| {
            let peer = Peer::new([own; 32], public_key(&[other; 32]), None, u32::from(own));
            Site::new(peer, &[host], u64::from(own), now).unwrap()
        };
        let mut pair = Pair { sites: [site(1, 2, A), site(2, 1, B)], now };
        pair.run();
        assert!(pair.sites.iter().all(Site::is_up));
        pair
    }

    /// Half a second.
    fn run(&mut self) {
        for _ in 0..50 {
            self.now = self.now + Duration::from_millis(10);
            for from in 0..2 {
                self.sites[from].handle_timeout(self.now);
                while let Some(datagram) = self.sites[from].poll_transmit() {
                    self.sites[1 - from].handle_input(&datagram, self.now);
                }
            }
        }
    }

    fn fetch(&mut self, to: (Ipv4Addr, u16), request: &[u8]) -> Progress {
        let call = self.sites[0].call_tcp(A, to, request).unwrap();
        self.run();
        let progress = self.sites[0].progress(call);
        self.sites[0].end(call);
        progress
    }
}

#[test]
fn a_page_is_served_again_and_again_and_every_connection_is_counted() {
    let mut pair = Pair::start();
    pair.sites[1].serve(B, PORT, "hello").unwrap();
    for times in 1..=3 {
        let Progress::Answered(answer) = pair.fetch((B, PORT), b"GET / HTTP/1.0\r\n\r\n") else { panic!("no answer") };
        let answer = String::from_utf8(answer).unwrap();
        assert!(answer.starts_with("HTTP/1.0 200 OK\r\n") && answer.ends_with("\r\n\r\nhello"), "{answer}");
        assert_eq!((pair.sites[1].accepted(PORT), pair.sites[1].accepted(81)), (times, 0));
    }
}

#[test]
fn a_closed_port_refuses_and_nobody_is_silent() {
    let mut pair = Pair::start();
    assert_eq!(pair.fetch((B, PORT), b"x"), Progress::Refused);
    assert_eq!(pair.fetch((NOBODY, PORT), b"x"), Progress::Waiting);
    let gone = Call(0);
    assert_eq!(pair.sites[0].progress(gone), Progress::Refused, "a call that has ended");
}

#[test]
fn what_is_too_long_is_cut_off() {
    let mut pair = Pair::start();
    pair.sites[1].serve(B, PORT, &"x".repeat(MAX_PAGE_BYTES)).unwrap();
    let Progress::Answered(answer) = pair.fetch((B, PORT), b"GET / HTTP/1.0\r\n\r\n") else { panic!("no answer") };
    assert_eq!(answer.len(), MAX_RESPONSE_BYTES);
    // A request that never ends.
    assert_eq!(pair.fetch((B, PORT), &[b'x'; MAX_REQUEST_BYTES]), Progress::Refused);
    assert_eq!(pair.sites[1].accepted(PORT), 2);
}

#[test]
fn a_site_refuses_more_than_it_holds() {
    let peer = || Peer::new([1; 32], public_key(&[2; 32]), None, 1);
    let now = Timestamp::from_secs(1);
    for hosts in [&[][..], &[A; MAX_HOSTS + 1]] {
        assert_eq!(Site::new(peer(), hosts, 1, now).err(), Some(SiteError::Hosts));
    }
    let mut site = Site::new(peer(), &[A], 1, now).unwrap();
    assert_eq!(site.serve(A, PORT, &"x".repeat(MAX_PAGE_BYTES + 1)), Err(SiteError::Page));
    assert_eq!(site.serve(B, PORT, ""), Err(SiteError::Unaddressable(B, B)));
    for port in 1..=MAX_SERVERS as u16 {
        assert_eq!(site.serve(A, port, ""), Ok(()));
    }
    assert_eq!(site.serve(A, 1000, ""), Err(SiteError::Servers));

    assert_eq!(site.call_tcp(A, (B, 0), b""), Err(SiteError::Unaddressable(B, A)));
    assert_eq!(site.call_udp(A, (B, 53), &[0; MAX_REQUEST_BYTES + 1]), Err(SiteError::Message));
    let calls: Vec<_> = (0..MAX_CALLS).map(|_| site.call_udp(A, (B, 53), b"?").unwrap()).collect();
    assert_eq!(site.call_tcp(A, (B, PORT), b""), Err(SiteError::Calls));
    site.end(calls[3]);
    assert_eq!(site.call_tcp(A, (B, PORT), b""), Ok(calls[3]));
}

#[test]
fn datagrams_that_nobody_takes_are_bounded() {
    let mut pair = Pair::start();
    let site = &mut pair.sites[0];
    for _ in 0..2 * MAX_WAITING_DATAGRAMS {
        site.forge(&[0x45; 40]);
    }
    assert_eq!(std::iter::from_fn(|| site.poll_transmit()).count(), MAX_WAITING_DATAGRAMS);
}

#[test]
fn client_ports_start_over_when_they_run_out() {
    let mut pair = Pair::start();
    pair.sites[0].next_port = u16::MAX;
    assert_eq!([pair.sites[0].take_port(), pair.sites[0].take_port()], [u16::MAX, FIRST_CLIENT_PORT]);
}
