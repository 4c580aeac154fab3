//! Packets that leave by one port together come to the same as one by one, and so do datagrams that go the way of the one before.

use proptest::prelude::*;

use super::*;
use crate::packet::outbox::Run;

/// Two that are known, one that nobody is, and one of the other IP version.
const HOSTS: [&str; 4] = ["10.20.0.9", "10.20.0.10", "10.20.0.77", "2001:db8:99::9"];

/// Those that are known have been sent to.
fn lab() -> Lab {
    let mut lab =
        Lab::new(vec![port(PORT, ETH, on_link())], vec![station(9, &[HOSTS[0]]), station(10, &[HOSTS[1], HOSTS[3]])]);
    for host in [0, 1, 3] {
        assert_eq!(lab.send_to(HOSTS[host]), Ok(()));
    }
    lab
}

type Datagrams = Vec<(Path, bool, Vec<u8>)>;

fn all(outbox: &Outbox) -> (Vec<Run>, Datagrams) {
    let datagrams = outbox.datagrams().map(|(path, data, bytes)| (path, data, bytes.to_vec()));
    (outbox.runs().to_vec(), datagrams.collect())
}

proptest! {
    #[test]
    fn packets_together_are_as_one_by_one(
        packets in prop::collection::vec((0usize..HOSTS.len(), prop_oneof![Just(100usize), 0usize..200]), 1..80),
        bytes in prop_oneof![3 => Just(1usize << 16), 1 => 100usize..4000],
        runs in prop_oneof![3 => Just(1000usize), 1 => 1usize..6],
        has_link: bool,
    ) {
        let packets: Vec<_> = packets.iter().map(|(host, len)| to_host(HOSTS[*host], &vec![0x5a; *len])).collect();
        let [mut together, mut alone] = [(); 2].map(|()| lab());
        for lab in [&mut together, &mut alone] {
            lab.link(ETH, has_link);
        }
        let [mut outbox, mut expected] = [(); 2].map(|()| Outbox::new(bytes, runs));
        let mut answers = Vec::new();
        let all_of_them = packets.iter().map(|packet| (REALM, packet.as_slice()));
        together.endpoint.seal_all(PORT, all_of_them, &mut outbox, |answer| answers.push(answer));
        let answers_alone: Vec<_> =
            packets.iter().map(|packet| alone.endpoint.seal(PORT, REALM, packet, &mut expected)).collect();
        prop_assert_eq!(answers, answers_alone);
        prop_assert_eq!(all(&outbox), all(&expected));
        prop_assert_eq!(together.status(PORT), alone.status(PORT));
        prop_assert_eq!(together.endpoint.poll_timeout(), alone.endpoint.poll_timeout());
    }
}

#[test]
fn a_number_that_is_no_ports_refuses_them_all() {
    let mut lab = lab();
    let (packet, mut answers) = (to_host(HOSTS[0], b"?"), Vec::new());
    let packets = [&packet[..]; 3].into_iter().map(|packet| (REALM, packet));
    lab.endpoint.seal_all(TunnelId(99), packets, &mut Outbox::new(4096, 8), |answer| answers.push(answer));
    assert_eq!(answers, [Err(DropReason::NoTunnel); 3]);
}
