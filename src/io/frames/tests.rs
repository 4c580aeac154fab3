//! Drivers over a veth pair with the kernel at its other end.

use std::time::Duration;

use super::testbed::{Testbed, with_testbed};
use super::*;
use crate::io::poller::Poller;

const PORT: InterfaceId = InterfaceId(3);

fn open_port() -> Box<dyn Driver> {
    open(PORT, "ixa", Choice::AfPacket).unwrap()
}

/// The next frames that are looked for, waited for at most ten seconds each time.
fn collect(driver: &mut dyn Driver, count: usize, is_it: impl Fn(&[u8]) -> bool) -> Vec<Vec<u8>> {
    let mut poller = Poller::new().unwrap();
    poller.add(driver.fd(), 0).unwrap();
    let mut seen = Vec::new();
    while seen.len() < count {
        let received = driver.receive().unwrap();
        seen.extend((0..received).map(|index| driver.frame(index)).filter(|bytes| is_it(bytes)).map(<[u8]>::to_vec));
        if received == 0 {
            let ready = poller.wait(Some(Duration::from_secs(10))).unwrap();
            assert!(ready.is_readable(0), "only {} of {count} have come", seen.len());
        }
    }
    seen
}

/// A frame to everybody, of a protocol for experiments.
fn frame(number: u8, len: usize) -> Vec<u8> {
    let mut frame = vec![number; len];
    frame[..14].copy_from_slice(&[255, 255, 255, 255, 255, 255, 2, 0, 0, 0, 0, 1, 0x88, 0xb5]);
    frame
}

fn tagged(frame: &[u8], tags: &[u8]) -> Vec<u8> {
    [&frame[..12], tags, &frame[12..]].concat()
}

fn send_there(bed: &Testbed, frames: Vec<Vec<u8>>) {
    bed.there().run(move || {
        let socket = sys::open_packet().unwrap();
        sys::bind_packet(std::os::fd::AsFd::as_fd(&socket), interface::index("ixb").unwrap(), 0).unwrap();
        for frame in frames {
            sys::send(std::os::fd::AsFd::as_fd(&socket), &[&frame]).unwrap();
        }
    });
}

#[test]
fn frames_come_as_they_were_sent_with_their_vlan_tags() {
    with_testbed(|bed| {
        let mut driver = open_port();
        let plain = frame(1, 60);
        let one = tagged(&frame(2, 60), &[0x81, 0, 0x20, 100]);
        let two = tagged(&frame(3, 60), &[0x88, 0xa8, 0, 7, 0x81, 0, 0x0f, 0xfe]);
        let full = tagged(&frame(4, 1514), &[0x81, 0, 0, 1]);
        let all = vec![plain, one, two, full];
        send_there(&bed, all.clone());
        assert_eq!(collect(&mut *driver, 4, |bytes| bytes.windows(2).any(|two| two == [0x88, 0xb5])), all);
        assert_eq!(driver.counters(), RecvCounters::default());
    });
}
