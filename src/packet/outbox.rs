//! Outer datagrams on their way out: one contiguous buffer, cut into runs.
//!
//! A run is what one UDP GSO message carries: datagrams to one path and of one traffic class, all of the same size except
//! that the last may be shorter. Datagrams are written straight behind one another by whoever makes them (`space`, then `commit`), so a run
//! costs no copy, and the socket sends many runs in one call. Who makes many datagrams side by side takes a [`Place`] for each first
//! (`space_behind`), and commits all of them in that order when they are finished.

use std::ops::Range;

use crate::net::Path;

/// Most datagrams in one run: `UDP_MAX_SEGMENTS` of Linux.
pub const MAX_SEGMENTS: usize = 64;
/// Most bytes in one run: the largest UDP payload over IPv4.
pub const MAX_RUN_BYTES: usize = 65_507;
/// Where a large outbox begins: with a huge page, as `io::memory` has them.
const ALIGN_BYTES: usize = 2 << 20;

/// Datagrams to one path, `segment_bytes` each, the last perhaps shorter.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Run {
    pub path: Path,
    pub segment_bytes: usize,
    /// Where the run lies in [`Outbox::bytes_of`]'s buffer.
    start: usize,
    len: usize,
    segments: usize,
    /// Carries forwarded packets (counted), not handshakes and keepalives.
    pub data: bool,
    /// DSCP and ECN of the outer IP header, as its traffic class byte holds them.
    pub traffic_class: u8,
    /// The outer IP packet may be cut into IP fragments; any other goes with DF, or not at all.
    pub may_fragment: bool,
}

/// Where a datagram lies that is not finished.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Place {
    start: usize,
    len: usize,
}

/// Room behind all that has been committed, to be taken datagram by datagram.
#[derive(Default)]
pub struct Space<'a> {
    bytes: &'a mut [u8],
    start: usize,
    /// So many more.
    datagrams: usize,
}

/// How many datagrams, of how many bytes, there is room for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Room {
    pub datagrams: usize,
    pub bytes: usize,
}

impl<'a> Space<'a> {
    /// Where the next datagram is to be.
    pub fn start(&self) -> usize {
        self.start
    }

    /// `None`: there is none for another datagram of `len` bytes.
    #[inline(always)]
    pub fn take(&mut self, len: usize) -> Option<(Place, &'a mut [u8])> {
        let fits = self.datagrams > 0 && len <= self.bytes.len();
        if !fits {
            return None;
        }
        let (datagram, rest) = std::mem::take(&mut self.bytes).split_at_mut_checked(len)?;
        let place = Place { start: self.start, len };
        *self = Space { bytes: rest, start: self.start + len, datagrams: self.datagrams - 1 };
        Some((place, datagram))
    }
}

impl Room {
    /// Whether there is some for so many datagrams of so many bytes each.
    #[inline]
    pub fn is_for(&self, datagrams: usize, bytes: usize) -> bool {
        self.datagrams >= datagrams && self.bytes >= datagrams * bytes
    }

    /// `false`: there is none for another datagram of `len` bytes.
    #[inline]
    pub fn take(&mut self, len: usize) -> bool {
        let fits = self.datagrams > 0 && len <= self.bytes;
        if fits {
            self.datagrams -= 1;
            self.bytes -= len;
        }
        fits
    }
}

impl Run {
    pub fn segments(&self) -> usize {
        self.segments
    }

    #[inline]
    fn goes(&self, path: Path, data: bool, traffic_class: u8, may_fragment: bool) -> bool {
        self.data == data
            && self.traffic_class == traffic_class
            && self.may_fragment == may_fragment
            && self.path == path
    }

    /// Of what goes the same way. A shorter datagram ends a run.
    #[inline]
    fn accepts(&self, place: Place) -> bool {
        self.start + self.len == place.start
            && place.len <= self.segment_bytes
            && self.len == self.segments * self.segment_bytes
            && self.segments < MAX_SEGMENTS
            && self.len + place.len <= MAX_RUN_BYTES
    }

    #[inline]
    fn add(&mut self, len: usize) {
        self.len += len;
        self.segments += 1;
    }
}

/// Bounded: `space` refuses when the buffer is full, and the caller drops.
#[derive(Debug)]
pub struct Outbox {
    bytes: Box<[u8]>,
    /// Where the first datagram lies.
    first_byte: usize,
    used: usize,
    runs: Vec<Run>,
    max_runs: usize,
    /// Of what is committed from now on.
    may_fragment: bool,
}

impl Outbox {
    /// Room for `capacity_bytes` of datagrams in at most `max_runs` runs.
    pub fn new(capacity_bytes: usize, max_runs: usize) -> Self {
        // What is used of a large one is nearly always its beginning.
        let spare_bytes = if capacity_bytes >= ALIGN_BYTES { ALIGN_BYTES } else { 0 };
        let bytes: Box<[u8]> = vec![0; capacity_bytes + spare_bytes].into();
        let first_byte = bytes.as_ptr().align_offset(ALIGN_BYTES).min(spare_bytes);
        Outbox {
            bytes,
            first_byte,
            used: first_byte,
            runs: Vec::with_capacity(max_runs),
            max_runs,
            may_fragment: false,
        }
    }

    /// Where the datagrams are written.
    pub fn addresses(&self) -> Range<usize> {
        let bytes = self.bytes[self.first_byte..].as_ptr_range();
        bytes.start.addr()..bytes.end.addr()
    }

    /// Whether the outer IP packets of what is committed from now on may be cut into fragments. At first they may not.
    #[inline]
    pub fn let_fragment(&mut self, may_fragment: bool) {
        self.may_fragment = may_fragment;
    }

    /// Room for one datagram of up to `len` bytes, to be followed by [`Outbox::commit`]. `None`: full.
    #[inline]
    pub fn space(&mut self, len: usize) -> Option<&mut [u8]> {
        if self.runs.len() >= self.max_runs {
            return None;
        }
        self.bytes.get_mut(self.used..self.used + len)
    }

    /// Makes the first `len` bytes of the last `space` a datagram to `path`.
    #[inline]
    pub fn commit(&mut self, path: Path, data: bool, len: usize) {
        self.commit_marked(path, data, 0, len);
    }

    /// The same, with a traffic class for the outer IP header.
    #[inline]
    pub fn commit_marked(&mut self, path: Path, data: bool, traffic_class: u8, len: usize) {
        let place = Place { start: self.used, len };
        self.used += len;
        debug_assert!(len > 0 && self.used <= self.bytes.len());
        self.add(place, path, data, traffic_class);
    }

    /// The same for a datagram that goes the very way of the one that was committed last.
    #[inline]
    pub fn commit_behind(&mut self, len: usize) {
        let place = Place { start: self.used, len };
        self.used += len;
        debug_assert!(len > 0 && self.used <= self.bytes.len());
        self.add_behind(place);
    }

    #[inline]
    pub fn room(&self) -> Room {
        // Each may become a run.
        Room { datagrams: self.max_runs.saturating_sub(self.runs.len()), bytes: self.bytes.len() - self.used }
    }

    /// Where the next datagram is to be.
    pub fn end(&self) -> usize {
        self.used
    }

    /// All the room there is. What has been taken of it is to be committed before anything else is put here.
    #[inline]
    pub fn space_behind(&mut self) -> Space<'_> {
        let Room { datagrams, .. } = self.room();
        Space { bytes: &mut self.bytes[self.used..], start: self.used, datagrams }
    }

    /// The bytes of places, which must be in the order in which they were taken.
    #[inline]
    pub fn places_mut(&mut self, places: impl Iterator<Item = Place>) -> impl Iterator<Item = &mut [u8]> {
        let (mut rest, mut at) = (&mut self.bytes[..], 0);
        places.map(move |place| {
            let (_, behind) = std::mem::take(&mut rest).split_at_mut(place.start - at);
            let (bytes, behind) = behind.split_at_mut(place.len);
            (rest, at) = (behind, place.start + place.len);
            bytes
        })
    }

    /// Makes the next places that have been taken, of these lengths, datagrams with forwarded packets, which all go the same way; nothing leaves of
    /// those that are not finished (`false`), or of any if there is no way.
    #[inline]
    pub fn commit_all(&mut self, lens: impl Iterator<Item = (usize, bool)>, path: Option<Path>, traffic_class: u8) {
        let mut is_behind = false;
        for (len, is_finished) in lens {
            match &path {
                Some(_) if is_finished && is_behind => self.commit_behind(len),
                Some(path) if is_finished => {
                    self.commit_marked(*path, true, traffic_class, len);
                    is_behind = true;
                }
                _ => self.give_up(len),
            }
        }
    }

    /// The same for so many places of `len` bytes each, all of which are finished.
    pub fn commit_equal(&mut self, count: usize, len: usize, path: Path, traffic_class: u8) {
        let mut rest = count;
        while rest > 0 {
            self.commit_marked(path, true, traffic_class, len);
            rest -= 1;
            // As many as go on with the run that the first of them has gone on with or begun.
            if let Some(run) = self.runs.last_mut().filter(|run| run.segment_bytes == len) {
                let more = (MAX_SEGMENTS - run.segments).min((MAX_RUN_BYTES - run.len) / len).min(rest);
                (run.segments, run.len) = (run.segments + more, run.len + more * len);
                self.used += more * len;
                rest -= more;
            }
        }
    }

    /// Nothing leaves of what was written to the next place.
    fn give_up(&mut self, len: usize) {
        self.bytes[self.used..self.used + len].fill(0);
        self.used += len;
    }

    /// A datagram that goes the very way of the last one.
    #[inline]
    fn add_behind(&mut self, place: Place) {
        debug_assert!(!self.runs.is_empty());
        match self.runs.last_mut() {
            Some(run) if run.accepts(place) => run.add(place.len),
            Some(&mut run) => {
                let Place { start, len } = place;
                self.runs.push(Run { segment_bytes: len, start, len, segments: 1, ..run });
            }
            None => {}
        }
    }

    #[inline]
    fn add(&mut self, place: Place, path: Path, data: bool, traffic_class: u8) {
        let may_fragment = self.may_fragment;
        match self.runs.last_mut() {
            Some(run) if run.accepts(place) && run.goes(path, data, traffic_class, may_fragment) => run.add(place.len),
            _ => {
                let Place { start, len } = place;
                self.runs.push(Run {
                    path,
                    segment_bytes: len,
                    start,
                    len,
                    segments: 1,
                    data,
                    traffic_class,
                    may_fragment,
                });
            }
        }
    }

    /// Copies a whole datagram in. `false`: full, not taken.
    pub fn push(&mut self, path: Path, data: bool, datagram: &[u8]) -> bool {
        let Some(space) = self.space(datagram.len()) else { return false };
        space.copy_from_slice(datagram);
        self.commit(path, data, datagram.len());
        true
    }

    pub fn runs(&self) -> &[Run] {
        &self.runs
    }

    pub fn bytes_of(&self, run: &Run) -> &[u8] {
        &self.bytes[run.start..run.start + run.len]
    }

    /// Every single datagram, in order.
    pub fn datagrams(&self) -> impl Iterator<Item = (Path, bool, &[u8])> {
        self.runs.iter().flat_map(|run| self.bytes_of(run).chunks(run.segment_bytes).map(|d| (run.path, run.data, d)))
    }

    pub fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    pub fn clear(&mut self) {
        self.used = self.first_byte;
        self.runs.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(port: u16) -> Path {
        Path::to(([127, 0, 0, 1], port).into())
    }

    fn shape(outbox: &Outbox) -> Vec<(u16, usize, usize)> {
        outbox.runs().iter().map(|r| (r.path.remote.port(), r.segment_bytes, r.segments())).collect()
    }

    #[test]
    fn equal_datagrams_to_one_path_make_one_run_and_a_shorter_one_ends_it() {
        let mut outbox = Outbox::new(10_000, 10);
        for len in [100, 100, 60, 60, 100] {
            assert!(outbox.push(path(1), true, &vec![1; len]));
        }
        assert!(outbox.push(path(2), true, &[2; 100]));
        assert!(outbox.push(path(2), false, &[2; 100]));
        assert_eq!(shape(&outbox), [(1, 100, 3), (1, 60, 1), (1, 100, 1), (2, 100, 1), (2, 100, 1)]);
        assert_eq!(outbox.datagrams().map(|(_, _, d)| d.len()).sum::<usize>(), 100 * 5 + 120);
        outbox.clear();
        assert!(outbox.is_empty());
    }

    #[test]
    fn a_run_stays_within_what_the_kernel_takes() {
        let mut outbox = Outbox::new(1 << 20, 100);
        for _ in 0..MAX_SEGMENTS + 1 {
            assert!(outbox.push(path(1), true, &[0; 10]));
        }
        for _ in 0..60 {
            assert!(outbox.push(path(2), true, &[0; 1500]));
        }
        assert_eq!(shape(&outbox), [(1, 10, 64), (1, 10, 1), (2, 1500, 43), (2, 1500, 17)]);
    }

    #[test]
    fn runs_of_different_traffic_classes_are_not_joined() {
        let mut outbox = Outbox::new(10_000, 10);
        for class in [0, 0, 0xb8, 0xb8, 0xb9] {
            outbox.space(10).unwrap().fill(1);
            outbox.commit_marked(path(1), true, class, 10);
        }
        let classes: Vec<_> = outbox.runs().iter().map(|run| (run.traffic_class, run.segments())).collect();
        assert_eq!(classes, [(0, 2), (0xb8, 2), (0xb9, 1)]);
    }

    #[test]
    fn what_may_be_cut_and_what_may_not_are_not_joined() {
        let mut outbox = Outbox::new(10_000, 10);
        for may_fragment in [false, true, true, false] {
            outbox.let_fragment(may_fragment);
            assert!(outbox.push(path(1), true, &[1; 10]));
        }
        let seen: Vec<_> = outbox.runs().iter().map(|run| (run.may_fragment, run.segments())).collect();
        assert_eq!(seen, [(false, 1), (true, 2), (false, 1)]);
    }

    /// Takes a place for each, and fills it with its number.
    fn fill(outbox: &mut Outbox, lens: &[usize]) -> Vec<Place> {
        let mut space = outbox.space_behind();
        let take = |(n, len): (usize, &usize)| {
            let (place, bytes) = space.take(*len).expect("room");
            bytes.fill(n as u8);
            place
        };
        lens.iter().enumerate().map(take).collect()
    }

    #[test]
    fn what_was_taken_leaves_as_if_it_had_been_committed_at_once_but_for_what_was_given_up() {
        let lens = [100, 100, 60, 100, 100, 100];
        let (mut outbox, mut at_once) = (Outbox::new(10_000, 10), Outbox::new(10_000, 10));
        let places = fill(&mut outbox, &lens);
        assert!(outbox.is_empty(), "nothing leaves before it is finished");
        let finished = lens.iter().enumerate().map(|(n, len)| (*len, n != 1));
        outbox.commit_all(finished.clone().take(4), Some(path(1)), 0);
        outbox.commit_all(finished.skip(4), Some(path(2)), 0);
        for (n, len) in lens.iter().enumerate().filter(|(n, _)| *n != 1) {
            assert!(at_once.push(path(1 + n as u16 / 4), true, &vec![n as u8; *len]));
        }
        assert!(outbox.datagrams().eq(at_once.datagrams()));
        assert_eq!(shape(&outbox), [(1, 100, 1), (1, 60, 1), (1, 100, 1), (2, 100, 2)], "a gap ends a run");
        assert_eq!(shape(&at_once), [(1, 100, 2), (1, 100, 1), (2, 100, 2)]);
        let bytes: Vec<_> = outbox.places_mut(places.into_iter()).map(|bytes| (bytes[0], bytes.len())).collect();
        assert_eq!(bytes, [(0, 100), (0, 100), (2, 60), (3, 100), (4, 100), (5, 100)], "nothing is left of the second");
        outbox.clear();
    }

    #[test]
    fn equal_places_leave_as_if_one_by_one() {
        for (lens, len, count) in [
            (&[][..], 10, 3),
            (&[10; 60], 10, 130),
            (&[20, 10], 10, 3),
            (&[20], 10, 3),
            (&[20, 20], 20, 63),
            (&[10], 20, 3),
            (&[1500; 40], 1500, 50),
        ] {
            let [mut outbox, mut one_by_one] = [(); 2].map(|()| Outbox::new(1 << 18, 200));
            for outbox in [&mut outbox, &mut one_by_one] {
                assert!(lens.iter().all(|len| outbox.push(path(1), true, &vec![1; *len])));
            }
            fill(&mut outbox, &vec![len; count]);
            outbox.commit_equal(count, len, path(1), 0);
            assert!((0..count).all(|n| one_by_one.push(path(1), true, &vec![n as u8; len])));
            assert!(outbox.datagrams().eq(one_by_one.datagrams()));
            assert_eq!(shape(&outbox), shape(&one_by_one), "{count} of {len} behind {lens:?}");
            assert_eq!(outbox.room(), one_by_one.room());
            outbox.clear();
        }
    }

    #[test]
    fn a_datagram_behind_another_leaves_as_if_its_way_had_been_told() {
        for lens in [&[100, 100, 60, 100][..], &[100, 60, 60], &[10; 130], &[1500; 50], &[60, 100, 100]] {
            let [mut outbox, mut told] = [(); 2].map(|()| Outbox::new(1 << 18, 100));
            for (n, len) in lens.iter().enumerate() {
                assert!(told.push(path(1), true, &vec![n as u8; *len]));
                outbox.space(*len).unwrap().fill(n as u8);
                if n == 0 { outbox.commit(path(1), true, *len) } else { outbox.commit_behind(*len) }
            }
            assert!(outbox.datagrams().eq(told.datagrams()));
            assert_eq!(shape(&outbox), shape(&told), "{lens:?}");
        }
    }

    #[test]
    fn each_place_may_become_a_run() {
        let mut outbox = Outbox::new(10_000, 2);
        let mut space = outbox.space_behind();
        assert!(space.take(10).is_some() && space.take(10).is_some() && space.take(10).is_none());
        outbox.commit_all([(10, true); 2].into_iter(), Some(path(1)), 0);
        assert!(outbox.space(10).is_some(), "both went into one");
    }

    #[test]
    fn there_is_room_for_as_much_as_fits_and_no_more() {
        let mut outbox = Outbox::new(250, 3);
        assert!(outbox.push(path(1), true, &[0; 100]));
        let mut room = outbox.room();
        assert_eq!(room, Room { datagrams: 2, bytes: 150 });
        assert!(!room.take(151) && room.take(100) && !room.take(51) && room.take(50) && !room.take(0));
        let mut space = outbox.space_behind();
        assert!(space.take(151).is_none() && space.take(100).is_some() && space.take(51).is_none());
        assert!(space.take(50).is_some() && space.take(0).is_none());
        outbox.commit_all([(100, true), (50, true)].into_iter(), None, 0);
        assert!(outbox.runs().len() == 1, "there was no way");
        assert!(outbox.space(1).is_none());
    }

    #[test]
    fn refuses_when_full() {
        let mut outbox = Outbox::new(250, 2);
        assert!(outbox.push(path(1), true, &[0; 100]));
        assert!(outbox.push(path(1), true, &[0; 100]));
        assert!(!outbox.push(path(1), true, &[0; 100]), "bytes");
        assert!(outbox.push(path(2), true, &[0; 1]));
        assert!(!outbox.push(path(3), true, &[0; 1]), "runs");
    }
}
