//! What has come to a site.

use std::time::Instant;

use crate::traffic::{AS_SENT, Stamp, TRANSLATED, sent_at};

/// Of packets, since it was made.
#[derive(Default)]
pub struct Tally {
    /// Of data.
    pub packets: u64,
    /// As they came: the payload of UDP, or whole frames.
    pub bytes: usize,
    /// Of those that were opened: how long they were under way, in ns.
    pub latencies: Vec<u32>,
    /// Opened, and not what was sent.
    pub wrong: u64,
    pub first_wrong: Option<String>,
    /// One of how many is opened.
    pub open_every: u64,
}

impl Tally {
    pub fn opening(every: u64) -> Self {
        Tally { open_every: every, ..Tally::default() }
    }

    /// Counts a packet. `true`: this one is to be opened.
    pub fn wants(&mut self, bytes: usize) -> bool {
        self.packets += 1;
        self.bytes += bytes;
        self.packets.is_multiple_of(self.open_every)
    }

    /// What was opened has to be as the gateway translates it. What is no data may be anything.
    pub fn note(&mut self, packet: Option<&[u8]>, is_data: bool, epoch: Instant) {
        let sent =
            packet.ok_or_else(|| "it cannot be opened".to_owned()).and_then(|packet| sent_at(packet, TRANSLATED));
        match sent {
            Err(_) if !is_data => {}
            sent => self.note_sent(sent, epoch),
        }
    }

    /// As it was sent: nobody translates.
    pub fn note_plain(&mut self, packet: &[u8], epoch: Instant) {
        self.note_sent(sent_at(packet, AS_SENT), epoch);
    }

    fn note_sent(&mut self, sent: Result<Stamp, String>, epoch: Instant) {
        match sent {
            Ok(sent) => self.latencies.push(Stamp::now(epoch).0.wrapping_sub(sent.0)),
            Err(words) => {
                self.wrong += 1;
                self.first_wrong.get_or_insert(words);
            }
        }
    }
}
