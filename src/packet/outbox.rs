//! Outer datagrams on their way out: one contiguous buffer, cut into runs.
//!
//! A run is what one UDP GSO message carries: datagrams to one path and of one traffic class, all of the same size except
//! that the last may be shorter. Datagrams are written straight behind one another by whoever makes them (`space`, then `commit`), so a run
//! costs no copy, and the socket sends many runs in one call. Who makes many datagrams before any is finished reserves a
//! [`Place`] for each first (`reserve_taken`), and commits or gives up every one of them later.

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

/// Room for one datagram that is not finished, or for several behind one another.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Place {
    start: usize,
    len: usize,
}

/// How many datagrams, of how many bytes, may still be reserved.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Room {
    pub datagrams: usize,
    pub bytes: usize,
}

impl Place {
    /// The first `len` bytes of it, and the rest. There must be as many.
    #[inline]
    pub fn split(self, len: usize) -> (Place, Place) {
        let Place { start, len: whole } = self;
        (Place { start, len }, Place { start: start + len, len: whole - len })
    }
}

impl Room {
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
    /// Places that are neither committed nor given up.
    reserved: usize,
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
            reserved: 0,
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
        if self.runs.len() + self.reserved >= self.max_runs {
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
        let datagrams = self.max_runs.saturating_sub(self.runs.len() + self.reserved);
        Room { datagrams, bytes: self.bytes.len() - self.used }
    }

    /// Room for datagrams behind one another, as many and of as many bytes as have been taken of [`Outbox::room`]; to be
    /// [split](Place::split) into their places, each of which is then committed or given up.
    #[inline]
    pub fn reserve_taken(&mut self, left: Room) -> Place {
        let room = self.room();
        debug_assert!(left.datagrams <= room.datagrams && left.bytes <= room.bytes);
        let place = Place { start: self.used, len: room.bytes - left.bytes };
        self.used += place.len;
        self.reserved += room.datagrams - left.datagrams;
        place
    }

    /// The bytes of reserved places, which must be in the order in which they were reserved.
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

    #[inline]
    fn place_mut(&mut self, place: Place) -> &mut [u8] {
        &mut self.bytes[place.start..place.start + place.len]
    }

    /// Makes a reserved place a datagram with a forwarded packet.
    #[inline]
    fn commit_place(&mut self, place: Place, path: Path, traffic_class: u8) {
        self.reserved -= 1;
        self.add(place, path, true, traffic_class);
    }

    /// Makes reserved places datagrams with forwarded packets, which all go the same way; nothing leaves of those that are not
    /// `true`, or of any if there is no way.
    #[inline]
    pub fn commit_places(
        &mut self,
        places: impl Iterator<Item = (Place, bool)>,
        path: Option<Path>,
        traffic_class: u8,
    ) {
        let mut places = places;
        for (place, is_finished) in places.by_ref() {
            match path.filter(|_| is_finished) {
                Some(path) => {
                    self.commit_place(place, path, traffic_class);
                    break;
                }
                None => self.give_up(place),
            }
        }
        for (place, is_finished) in places {
            match is_finished {
                true => {
                    self.reserved -= 1;
                    self.add_behind(place);
                }
                false => self.give_up(place),
            }
        }
    }

    /// The same for places of `len` bytes each, all of which are finished.
    pub fn commit_equal_places(&mut self, all: Place, len: usize, path: Path, traffic_class: u8) {
        let mut rest = all;
        while rest.len > 0 {
            let (place, behind) = rest.split(len);
            self.commit_place(place, path, traffic_class);
            rest = behind;
            // As many as go on with the run that the first of them has gone on with or begun.
            if let Some(run) = self.runs.last_mut().filter(|run| run.segment_bytes == len) {
                let more = (MAX_SEGMENTS - run.segments).min((MAX_RUN_BYTES - run.len) / len).min(rest.len / len);
                (run.segments, run.len) = (run.segments + more, run.len + more * len);
                self.reserved -= more;
                (_, rest) = rest.split(more * len);
            }
        }
    }

    /// Nothing leaves of what was written to this place.
    pub fn give_up(&mut self, place: Place) {
        self.reserved -= 1;
        self.place_mut(place).fill(0);
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
        debug_assert_eq!(self.reserved, 0, "a place was neither committed nor given up");
        (self.used, self.reserved) = (self.first_byte, 0);
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

    /// Room for datagrams of these lengths, one place for each.
    fn reserve(outbox: &mut Outbox, lens: &[usize]) -> Vec<Place> {
        let mut room = outbox.room();
        assert!(lens.iter().all(|len| room.take(*len)));
        let mut rest = outbox.reserve_taken(room);
        lens.iter()
            .map(|len| {
                let place;
                (place, rest) = rest.split(*len);
                place
            })
            .collect()
    }

    #[test]
    fn what_was_reserved_leaves_as_if_it_had_been_committed_at_once_but_for_what_was_given_up() {
        let lens = [100, 100, 60, 100, 100, 100];
        let (mut outbox, mut at_once) = (Outbox::new(10_000, 10), Outbox::new(10_000, 10));
        let places = reserve(&mut outbox, &lens);
        assert!(outbox.is_empty(), "nothing leaves before it is finished");
        for (n, bytes) in outbox.places_mut(places.iter().copied()).enumerate() {
            bytes.fill(n as u8);
        }
        let finished = places.iter().enumerate().map(|(n, place)| (*place, n != 1));
        outbox.commit_places(finished.clone().take(4), Some(path(1)), 0);
        outbox.commit_places(finished.skip(4), Some(path(2)), 0);
        for (n, len) in lens.iter().enumerate().filter(|(n, _)| *n != 1) {
            assert!(at_once.push(path(1 + n as u16 / 4), true, &vec![n as u8; *len]));
        }
        assert!(outbox.datagrams().eq(at_once.datagrams()));
        assert_eq!(shape(&outbox), [(1, 100, 1), (1, 60, 1), (1, 100, 1), (2, 100, 2)], "a gap ends a run");
        assert_eq!(shape(&at_once), [(1, 100, 2), (1, 100, 1), (2, 100, 2)]);
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
            let places = reserve(&mut outbox, &vec![len; count]);
            let all = Place { start: places[0].start, len: len * count };
            outbox.place_mut(all).fill(2);
            outbox.commit_equal_places(all, len, path(1), 0);
            assert!((0..count).all(|_| one_by_one.push(path(1), true, &vec![2; len])));
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
    fn each_reserved_place_may_become_a_run() {
        let mut outbox = Outbox::new(10_000, 2);
        let places = reserve(&mut outbox, &[10, 10]);
        assert!(!outbox.room().take(10) && outbox.space(10).is_none());
        outbox.commit_places(places.into_iter().map(|place| (place, true)), Some(path(1)), 0);
        assert!(outbox.space(10).is_some(), "both went into one");
    }

    #[test]
    fn there_is_room_for_as_much_as_fits_and_no_more() {
        let mut outbox = Outbox::new(250, 3);
        assert!(outbox.push(path(1), true, &[0; 100]));
        let mut room = outbox.room();
        assert_eq!(room, Room { datagrams: 2, bytes: 150 });
        assert!(!room.take(151) && room.take(100) && !room.take(51) && room.take(50) && !room.take(0));
        let place = outbox.reserve_taken(room);
        assert!(outbox.space(1).is_none());
        outbox.commit_places([(place, true)].into_iter(), None, 0);
        assert!(outbox.runs().len() == 1, "there was no way");
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
