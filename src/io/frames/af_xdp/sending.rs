//! From an outbox into the transmit ring.

use std::io;
use std::thread;
use std::time::Duration;

use super::chunks::Transmitting;
use super::socket::Queue;
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

    fn wait(&mut self) {
        thread::sleep(WAIT);
    }
}

/// Sends the runs that are its own, every segment as a frame.
pub fn send(wire: &mut impl Wire, outbox: &Outbox, carries: &dyn Fn(&Path) -> bool) -> SendReport {
    let mut sending =
        Sending { wire, report: SendReport::default(), waits: 0, unkicked: 0, unkicked_data: 0, is_down: false };
    if sending.wire.is_stuck() {
        sending.kick();
    }
    sending.wire.transmitting().reap();
    for run in outbox.runs().iter().filter(|run| carries(&run.path)) {
        for frame in outbox.bytes_of(run).chunks(run.segment_bytes) {
            sending.send(frame, run.data);
        }
    }
    sending.kick();
    sending.report
}

struct Sending<'a, W> {
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

impl<W: Wire> Sending<'_, W> {
    fn send(&mut self, frame: &[u8], data: bool) {
        if self.is_down {
            return self.report.refuse(1, data, io::ErrorKind::NetworkDown.into());
        }
        if !(SHORTEST_BYTES..=self.wire.transmitting().longest_frame()).contains(&frame.len()) {
            return self.report.refuse(1, data, io::Error::from_raw_os_error(libc::EMSGSIZE));
        }
        if self.wire.transmitting().put(frame) || self.make_room() && self.wire.transmitting().put(frame) {
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
