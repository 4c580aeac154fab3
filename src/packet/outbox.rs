//! Outer datagrams on their way out: one contiguous buffer, cut into runs.
//!
//! A run is what one UDP GSO message carries: datagrams to one path and of one traffic class, all of the same size except
//! that the last may be shorter. Datagrams are written straight behind one another by whoever makes them (`space`, then `commit`), so a run
//! costs no copy, and the socket sends many runs in one call.

use crate::net::Path;

/// Most datagrams in one run: `UDP_MAX_SEGMENTS` of Linux.
pub const MAX_SEGMENTS: usize = 64;
/// Most bytes in one run: the largest UDP payload over IPv4.
pub const MAX_RUN_BYTES: usize = 65_507;

/// Datagrams to one path, `segment_bytes` each, the last perhaps shorter.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Run {
    pub path: Path,
    pub segment_bytes: usize,
    /// Where the run lies in [`Outbox::bytes_of`]'s buffer.
    start: usize,
    len: usize,
    /// Carries forwarded packets (counted), not handshakes and keepalives.
    pub data: bool,
    /// DSCP and ECN of the outer IP header, as its traffic class byte holds them.
    pub traffic_class: u8,
    /// The outer IP packet may be cut into IP fragments; any other goes with DF, or not at all.
    pub may_fragment: bool,
}

impl Run {
    pub fn segments(&self) -> usize {
        self.len.div_ceil(self.segment_bytes.max(1))
    }

    /// A shorter datagram ends a run.
    fn accepts(&self, path: Path, data: bool, traffic_class: u8, may_fragment: bool, len: usize) -> bool {
        self.path == path
            && self.data == data
            && self.traffic_class == traffic_class
            && self.may_fragment == may_fragment
            && len <= self.segment_bytes
            && self.len.is_multiple_of(self.segment_bytes)
            && self.len / self.segment_bytes < MAX_SEGMENTS
            && self.len + len <= MAX_RUN_BYTES
    }
}

/// Bounded: `space` refuses when the buffer is full, and the caller drops.
#[derive(Debug)]
pub struct Outbox {
    bytes: Box<[u8]>,
    used: usize,
    runs: Vec<Run>,
    max_runs: usize,
    /// Of what is committed from now on.
    may_fragment: bool,
}

impl Outbox {
    /// Room for `capacity_bytes` of datagrams in at most `max_runs` runs.
    pub fn new(capacity_bytes: usize, max_runs: usize) -> Self {
        Outbox {
            bytes: vec![0; capacity_bytes].into(),
            used: 0,
            runs: Vec::with_capacity(max_runs),
            max_runs,
            may_fragment: false,
        }
    }

    /// Whether the outer IP packets of what is committed from now on may be cut into fragments. At first they may not.
    #[inline]
    pub fn let_fragment(&mut self, may_fragment: bool) {
        self.may_fragment = may_fragment;
    }

    /// Room for one datagram of up to `len` bytes, to be followed by [`Outbox::commit`]. `None`: full.
    pub fn space(&mut self, len: usize) -> Option<&mut [u8]> {
        if self.runs.len() == self.max_runs {
            return None;
        }
        self.bytes.get_mut(self.used..self.used + len)
    }

    /// Makes the first `len` bytes of the last `space` a datagram to `path`.
    pub fn commit(&mut self, path: Path, data: bool, len: usize) {
        self.commit_marked(path, data, 0, len);
    }

    /// The same, with a traffic class for the outer IP header.
    pub fn commit_marked(&mut self, path: Path, data: bool, traffic_class: u8, len: usize) {
        let (start, may_fragment) = (self.used, self.may_fragment);
        self.used += len;
        debug_assert!(len > 0 && self.used <= self.bytes.len());
        match self.runs.last_mut() {
            Some(run) if run.accepts(path, data, traffic_class, may_fragment, len) => run.len += len,
            _ => self.runs.push(Run { path, segment_bytes: len, start, len, data, traffic_class, may_fragment }),
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
        self.used = 0;
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
