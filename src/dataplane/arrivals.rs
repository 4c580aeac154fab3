//! Datagrams that are to be opened together, in stretches of one sender, or frames of ports, in stretches of one interface.
//!
//! Most datagrams of a batch are of one session or SA and came by one path. That they are is told when they come, by their first bytes and their
//! path, so that everything else that is the same for them is asked once.

use std::ops::RangeInclusive;

use heapless::Vec;

use crate::net::{Path, Port};
use crate::packet::Datagram;
use crate::packet::batch::{BATCH_PACKETS, MAX_PACKET_BYTES};
use crate::wireguard;

/// Of so many bytes a datagram may have been sealed whatever it is. There are others that may, of a few bytes less or more.
const ORDINARY_BYTES: RangeInclusive<usize> = wireguard::DATA_OVERHEAD_BYTES..=MAX_PACKET_BYTES;

/// See the module.
pub(super) struct Arrivals<'a> {
    /// The first so many.
    datagrams: [&'a [u8]; BATCH_PACKETS],
    len: usize,
    stretches: Vec<Stretch, BATCH_PACKETS>,
}

/// Datagrams behind one another that came by one path, have one receiver index or SPI, and, if they are ESP, were marked alike; or frames of
/// one interface.
pub(super) struct Stretch {
    pub path: Path,
    pub ecn: u8,
    /// Its first datagram.
    start: usize,
    /// How all of them begin, as far as the mask says: type and receiver index, or the SPI.
    head: u64,
    mask: u64,
}

impl Default for Arrivals<'_> {
    fn default() -> Self {
        Arrivals { datagrams: [&[]; BATCH_PACKETS], len: 0, stretches: Vec::new() }
    }
}

impl<'a> Arrivals<'a> {
    #[inline]
    pub fn len(&self) -> usize {
        self.len
    }

    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Takes a datagram that is certainly of the sender of the one before, and can be looked up as that can. There must be room for it.
    #[inline(always)]
    pub fn push_behind(&mut self, datagram: &Datagram<'a>) -> bool {
        let Some(stretch) = self.stretches.last() else { return false };
        let goes_on = stretch.goes_on_with(datagram);
        if goes_on {
            self.datagrams[self.len] = datagram.bytes;
            self.len += 1;
        }
        goes_on
    }

    /// They are frames, and not what can be looked up. Never both.
    #[inline]
    pub fn are_frames(&self) -> bool {
        matches!(self.stretches.first(), Some(Stretch { path: Path { port: Port::Frames(_), .. }, .. }))
    }

    /// Takes any that can be looked up, or any frame. There must be room for it.
    #[inline(never)]
    pub fn push(&mut self, datagram: &Datagram<'a>) {
        let Datagram { path, bytes, ecn } = *datagram;
        let mask = match path.port {
            Port::WireGuard => u64::MAX,
            // One interface's begin with any address.
            Port::Frames(_) => 0,
            _ => u32::MAX.into(),
        };
        let stretch = Stretch { path, ecn, start: self.len, head: head(bytes).unwrap_or_default(), mask };
        let pushed = self.stretches.push(stretch);
        debug_assert!(pushed.is_ok() && (head(bytes).is_some() || mask == 0));
        self.datagrams[self.len] = bytes;
        self.len += 1;
    }

    /// Of each stretch the port and the first datagram.
    #[inline]
    pub fn firsts(&self) -> impl Iterator<Item = (Port, &'a [u8])> {
        self.stretches.iter().map(|stretch| (stretch.path.port, self.datagrams[stretch.start]))
    }

    #[inline]
    pub fn stretches(&self) -> &[Stretch] {
        &self.stretches
    }

    /// All of them, never none in a stretch.
    #[inline]
    pub fn by_stretch(&self) -> impl Iterator<Item = (&Stretch, &[&'a [u8]])> {
        (1..).zip(&self.stretches).map(|(next, stretch)| {
            let end = self.stretches.get(next).map_or(self.len, |next| next.start);
            (stretch, &self.datagrams[stretch.start..end])
        })
    }

    /// They are of more than one sender, or one has come by several paths.
    #[inline]
    pub fn are_mixed(&self) -> bool {
        self.stretches.len() > 1
    }

    pub fn datagram(&self, number: usize) -> &'a [u8] {
        self.datagrams[number]
    }

    #[inline]
    pub fn clear(&mut self) {
        self.len = 0;
        self.stretches.clear();
    }
}

impl Stretch {
    #[inline(always)]
    fn goes_on_with(&self, datagram: &Datagram<'_>) -> bool {
        let Some(head) = head(datagram.bytes) else { return false };
        (head ^ self.head) & self.mask == 0
            && ORDINARY_BYTES.contains(&datagram.bytes.len())
            && (datagram.ecn == self.ecn || self.path.port == Port::WireGuard)
            && datagram.path.port == self.path.port
            && datagram.path.remote == self.path.remote
            && datagram.path.local == self.path.local
    }
}

#[inline(always)]
fn head(bytes: &[u8]) -> Option<u64> {
    Some(u64::from_le_bytes(*bytes.first_chunk()?))
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use super::*;

    fn path(port: Port, remote_port: u16) -> Path {
        Path::from_port(port, ([192, 0, 2, 1], remote_port).into())
    }

    fn datagram(head: [u8; 8], len: usize) -> Vec<u8, 2048> {
        let mut bytes: Vec<u8, 2048> = head.into_iter().collect();
        bytes.resize(len, 0x5a).unwrap();
        bytes
    }

    /// Whether the second goes on with the stretch of the first.
    fn goes_on(first: Datagram<'_>, second: Datagram<'_>) -> bool {
        let mut arrivals = Arrivals::default();
        assert!(!arrivals.push_behind(&first));
        arrivals.push(&first);
        let goes_on = arrivals.push_behind(&second);
        if !goes_on {
            arrivals.push(&second);
        }
        let lens: Vec<usize, 2> = arrivals.by_stretch().map(|(_, datagrams)| datagrams.len()).collect();
        assert_eq!(lens, if goes_on { &[2][..] } else { &[1, 1] });
        assert_eq!((arrivals.len(), arrivals.are_mixed()), (2, !goes_on));
        assert_eq!(arrivals.datagram(1), second.bytes);
        goes_on
    }

    #[test]
    fn messages_of_one_session_go_on_by_one_path_however_they_are_marked() {
        let message = |index: u8, len| datagram([4, 0, 0, 0, index, 0, 0, 9], len);
        let by = path(Port::WireGuard, 5000);
        let (first, other) = (message(1, 96), message(2, 96));
        let goes_on = |second: Datagram<'_>| goes_on(Datagram::new(by, &first), second);
        assert!(goes_on(Datagram::new(by, &message(1, 200))));
        assert!(goes_on(Datagram { ecn: 3, ..Datagram::new(by, &first) }));
        assert!(!goes_on(Datagram::new(by, &other)));
        assert!(!goes_on(Datagram::new(path(Port::WireGuard, 5001), &first)));
        assert!(!goes_on(Datagram::new(Path { local: Some(IpAddr::V4(Ipv4Addr::LOCALHOST)), ..by }, &first)));
        for (len, is_ordinary) in [(31, false), (32, true), (MAX_PACKET_BYTES, true), (MAX_PACKET_BYTES + 1, false)] {
            assert_eq!(goes_on(Datagram::new(by, &message(1, len))), is_ordinary, "{len}");
        }
    }

    #[test]
    fn packets_of_one_sa_go_on_if_they_are_marked_alike() {
        let packet = |spi: u8, sequence: u8| datagram([0, 0, 1, spi, 0, 0, 0, sequence], 96);
        let by = path(Port::IkeNatT, 4500);
        let first = packet(1, 7);
        let goes_on = |second: Datagram<'_>| goes_on(Datagram::new(by, &first), second);
        assert!(goes_on(Datagram::new(by, &packet(1, 8))));
        assert!(!goes_on(Datagram { ecn: 3, ..Datagram::new(by, &packet(1, 8)) }));
        assert!(!goes_on(Datagram::new(by, &packet(2, 8))));
        assert!(!goes_on(Datagram::new(path(Port::RawEsp, 4500), &packet(1, 8))));
    }
}
