//! From an outbox into the transmit ring.

use std::io;
use std::thread;
use std::time::Duration;

use super::chunks::Transmitting;
use super::socket::Queue;
use crate::io::frames::transmit::Patience;
use crate::io::udp::SendReport;
use crate::net::Path;
use crate::packet::Outbox;

/// Waits for a free chunk in one call, 1 ms in all: then the interface is full, and what is left is dropped and counted.
const MAX_WAITS: u32 = 4;
const WAIT: Duration = Duration::from_micros(250);
/// An Ethernet header.
const SHORTEST_BYTES: usize = 14;

/// What a transmit ring is filled for: the kernel, or a test's.
pub trait Wire {
    fn transmitting(&mut self) -> &mut Transmitting;
    /// Has it look at the ring. An error: nothing goes out, the interface is down or gone.
    fn kick(&mut self) -> io::Result<()>;
    fn is_stuck(&self) -> bool;
    fn patience(&mut self) -> &mut Patience;
    fn wait(&mut self);
}

impl Wire for Queue {
    fn transmitting(&mut self) -> &mut Transmitting {
        &mut self.transmitting
    }

    fn kick(&mut self) -> io::Result<()> {
        Queue::kick(self)
    }

    fn is_stuck(&self) -> bool {
        Queue::is_stuck(self)
    }

    fn patience(&mut self) -> &mut Patience {
        &mut self.patience
    }

    fn wait(&mut self) {
        thread::sleep(WAIT);
    }
}

/// Sends the runs that are its own, every segment as a frame.
pub fn send(wire: &mut impl Wire, outbox: &Outbox, carries: &dyn Fn(&Path) -> bool) -> SendReport {
    let mut sending = Sending::begin(wire);
    for run in outbox.runs().iter().filter(|run| carries(&run.path)) {
        for frame in outbox.bytes_of(run).chunks(run.segment_bytes) {
            sending.send(&[], frame, run.data);
        }
    }
    sending.end()
}

/// One call's frames: [`Sending::begin`], any number of [`Sending::send`], [`Sending::end`].
pub struct Sending<'a, W> {
    wire: &'a mut W,
    report: SendReport,
    waits: u32,
    /// Frames put into the ring since the last kick.
    unkicked: u64,
    /// Of these, those that carry forwarded packets.
    unkicked_data: u64,
    /// The last kick failed: nothing more is put in, so that little is stale when the interface comes back.
    is_down: bool,
}

impl<'a, W: Wire> Sending<'a, W> {
    pub fn begin(wire: &'a mut W) -> Self {
        let waits = if wire.patience().is_spent() { MAX_WAITS } else { 0 };
        let mut sending =
            Sending { wire, report: SendReport::default(), waits, unkicked: 0, unkicked_data: 0, is_down: false };
        if sending.wire.is_stuck() {
            sending.kick();
        }
        sending.wire.transmitting().reap();
        sending
    }

    pub fn end(mut self) -> SendReport {
        self.kick();
        let was_full = self.report.congested_datagrams > 0;
        self.wire.patience().note(was_full);
        self.report
    }

    /// A frame in two parts, of which the first may be empty.
    #[inline]
    pub fn send(&mut self, headers: &[u8], payload: &[u8], data: bool) {
        if self.is_down {
            return self.report.refuse(1, data, io::ErrorKind::NetworkDown.into());
        }
        let len = headers.len() + payload.len();
        if !(SHORTEST_BYTES..=self.wire.transmitting().longest_frame()).contains(&len) {
            return self.report.refuse(1, data, io::Error::from_raw_os_error(libc::EMSGSIZE));
        }
        let put = |wire: &mut W| wire.transmitting().put_parts(headers, payload);
        if put(self.wire) || self.make_room() && put(self.wire) {
            self.unkicked += 1;
            self.unkicked_data += u64::from(data);
        } else if self.is_down {
            self.report.refuse(1, data, io::ErrorKind::NetworkDown.into());
        } else {
            self.report.congested_datagrams += 1;
            self.report.unsent_data_datagrams += u64::from(data);
        }
    }

    /// All chunks are on their way: `true` when one has come back.
    fn make_room(&mut self) -> bool {
        self.kick();
        loop {
            self.wire.transmitting().reap();
            if self.wire.transmitting().has_free() {
                return true;
            }
            if self.is_down || self.waits == MAX_WAITS {
                return false;
            }
            self.waits += 1;
            self.wire.wait();
            self.kick();
        }
    }

    fn kick(&mut self) {
        let (frames, data) = (std::mem::take(&mut self.unkicked), std::mem::take(&mut self.unkicked_data));
        match self.wire.kick() {
            Ok(()) => self.report.sent_datagrams += frames,
            Err(error) => {
                self.is_down = true;
                self.report.refused_datagrams += frames;
                self.report.unsent_data_datagrams += data;
                self.report.first_error.get_or_insert(error);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::chunks::Umem;
    use super::super::memory::Mapping;
    use super::super::ring::tests::both_ends;
    use super::super::ring::{Consumer, Descriptor, Producer};
    use super::*;
    use crate::net::InterfaceId;

    const CHUNKS: u32 = 8;
    const PATH: InterfaceId = InterfaceId(0);

    /// A card that sends when it is called, and says only when it is waited for that it is done.
    struct Card {
        transmitting: Transmitting,
        ring: Consumer<Descriptor>,
        completion: Producer<u64>,
        in_flight: Vec<u64>,
        sent: usize,
        waits: u32,
        /// Frames that it is done with in each wait.
        speed: usize,
        is_down: bool,
        patience: Patience,
    }

    impl Card {
        fn new(speed: usize) -> Self {
            let memory = Arc::new(Mapping::for_frames(CHUNKS as usize * 2048).unwrap());
            let (our_ring, ring) = both_ends(CHUNKS, 0);
            let (completion, our_completion) = both_ends(CHUNKS, 0);
            let transmitting =
                Transmitting::new(Umem { memory, chunk_bytes: 2048 }, 0..CHUNKS, our_ring, our_completion);
            Card {
                transmitting,
                ring,
                completion,
                in_flight: Vec::new(),
                sent: 0,
                waits: 0,
                speed,
                is_down: false,
                patience: Patience::default(),
            }
        }
    }

    impl Wire for Card {
        fn transmitting(&mut self) -> &mut Transmitting {
            &mut self.transmitting
        }

        fn kick(&mut self) -> io::Result<()> {
            self.transmitting.publish();
            if self.is_down {
                return Err(io::Error::from_raw_os_error(libc::ENETDOWN));
            }
            let before = self.in_flight.len();
            self.in_flight.extend(std::iter::from_fn(|| self.ring.pop()).map(|frame| frame.address));
            self.sent += self.in_flight.len() - before;
            self.ring.release();
            Ok(())
        }

        fn is_stuck(&self) -> bool {
            self.transmitting.ring.pending() > 0
        }

        fn patience(&mut self) -> &mut Patience {
            &mut self.patience
        }

        fn wait(&mut self) {
            self.waits += 1;
            for address in self.in_flight.drain(..self.speed.min(self.in_flight.len())) {
                assert!(self.completion.push(address));
            }
            self.completion.publish();
        }
    }

    /// (sent, congested, refused, unsent of data)
    fn send_frames(card: &mut Card, count: usize) -> (u64, u64, u64, u64) {
        let mut outbox = Outbox::new(count * 60, count);
        assert!((0..count).all(|_| outbox.push(Path::frames(PATH), true, &[1; 60])));
        let report = send(card, &outbox, &|_| true);
        let SendReport { sent_datagrams, congested_datagrams, refused_datagrams, unsent_data_datagrams, .. } = report;
        (sent_datagrams, congested_datagrams, refused_datagrams, unsent_data_datagrams)
    }

    #[test]
    fn a_card_that_keeps_up_is_waited_for() {
        let mut card = Card::new(8);
        assert_eq!(send_frames(&mut card, 30), (30, 0, 0, 0));
        assert_eq!((card.sent, card.waits), (30, 3));
    }

    #[test]
    fn a_card_that_does_not_is_waited_for_a_little_and_the_rest_is_congestion() {
        let mut card = Card::new(1);
        assert_eq!(send_frames(&mut card, 30), (12, 18, 0, 18));
        assert_eq!((card.sent, card.waits), (12, MAX_WAITS));
        let mut card = Card::new(0);
        assert_eq!(send_frames(&mut card, 30), (8, 22, 0, 22));
        assert_eq!((card.sent, card.waits), (8, MAX_WAITS));
    }

    #[test]
    fn a_card_that_stays_full_is_waited_for_once() {
        let mut card = Card::new(0);
        assert_eq!(send_frames(&mut card, 30), (8, 22, 0, 22));
        assert_eq!((send_frames(&mut card, 30), send_frames(&mut card, 1)), ((0, 30, 0, 30), (0, 1, 0, 1)));
        assert_eq!(card.waits, MAX_WAITS);
    }

    #[test]
    fn while_it_is_down_at_most_one_ring_full_waits_and_nothing_counts_as_sent() {
        let mut card = Card::new(8);
        card.is_down = true;
        assert_eq!(send_frames(&mut card, 3), (0, 0, 3, 3));
        assert_eq!(send_frames(&mut card, 30), (0, 0, 30, 30));
        assert_eq!(card.transmitting.ring.pending(), 3);
        card.is_down = false;
        assert_eq!(send_frames(&mut card, 2), (2, 0, 0, 0));
        assert_eq!(card.sent, 5, "those that waited, and these");

        let mut card = Card::new(8);
        card.is_down = true;
        assert_eq!(send_frames(&mut card, 30), (0, 0, 30, 30));
        assert_eq!(card.transmitting.ring.pending(), CHUNKS);
    }
}
