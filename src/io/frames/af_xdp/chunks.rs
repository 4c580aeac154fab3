//! Who holds which piece of the frames' memory.
//!
//! The memory (UMEM) is cut into chunks of one size, each for one frame, and each chunk belongs to one direction for ever: a chunk
//! for receiving never carries a frame out. So neither direction can take the other's, and every ring has room for all chunks that
//! may ever go into it.
//!
//! ```text
//! receiving      fill ring --> kernel --> receive ring --> lent (Lent) --> fill ring
//! transmitting   free --> transmit ring --> kernel --> completion ring --> free
//! ```

#![allow(unsafe_code)]

use std::ops::Range;
use std::sync::Arc;

use super::memory::Mapping;
use super::ring::{Consumer, Descriptor, Producer};

/// Between the begin of a chunk and a received frame there are these many at least (`XDP_PACKET_HEADROOM`).
pub const HEADROOM_BYTES: u32 = 256;

/// The memory of one queue, in chunks.
#[derive(Clone, Debug)]
pub struct Umem {
    pub memory: Arc<Mapping>,
    /// A power of two, at most a page.
    pub chunk_bytes: u32,
}

impl Umem {
    fn chunk_of(&self, address: u64) -> u64 {
        address & !u64::from(self.chunk_bytes - 1)
    }

    /// Where these chunks lie.
    fn places(&self, chunks: &Range<u32>) -> Range<u64> {
        u64::from(chunks.start) * u64::from(self.chunk_bytes)..u64::from(chunks.end) * u64::from(self.chunk_bytes)
    }
}

/// A received frame in our hands: its chunk goes back by [`Receiving::give_back`].
#[derive(Debug)]
pub struct Lent(Descriptor);

#[derive(Debug)]
pub struct Receiving {
    umem: Umem,
    /// Where its chunks lie.
    places: Range<u64>,
    /// Frames that were said to lie elsewhere.
    astray: u64,
    pub fill: Producer<u64>,
    ring: Consumer<Descriptor>,
}

impl Receiving {
    /// Hands the chunks, which are nobody else's, to the kernel: at most as many as the fill ring has room for.
    pub fn new(umem: Umem, chunks: Range<u32>, fill: Producer<u64>, ring: Consumer<Descriptor>) -> Self {
        let mut receiving = Receiving { places: umem.places(&chunks), astray: 0, umem, fill, ring };
        for chunk in chunks {
            let has_room = receiving.fill.push(u64::from(chunk) * u64::from(receiving.umem.chunk_bytes));
            assert!(has_room, "the fill ring has room for all chunks");
        }
        receiving.fill.publish();
        receiving
    }

    /// The next frame that lies in a chunk of ours, and ends in it. Others are passed over and counted; what they lie in is not given
    /// back.
    #[inline]
    pub fn take(&mut self) -> Option<Lent> {
        loop {
            let descriptor = self.ring.pop()?;
            if self.is_ours(&descriptor) {
                return Some(Lent(descriptor));
            }
            self.astray += 1;
        }
    }

    pub fn astray(&self) -> u64 {
        self.astray
    }

    #[inline]
    fn is_ours(&self, Descriptor { address, len }: &Descriptor) -> bool {
        // No overflow: the address lies in the memory.
        self.places.contains(address)
            && address + u64::from(*len) <= self.umem.chunk_of(*address) + u64::from(self.umem.chunk_bytes)
    }

    /// Ends a round of [`Receiving::take`].
    pub fn release(&self) {
        self.ring.release();
    }

    #[inline]
    pub fn give_back(&mut self, lent: Lent) {
        let has_room = self.fill.push(self.umem.chunk_of(lent.0.address));
        debug_assert!(has_room, "the fill ring has room for all chunks");
    }

    /// Ends a round of [`Receiving::give_back`].
    pub fn publish(&self) {
        self.fill.publish();
    }

    #[inline]
    pub fn bytes(&self, lent: &Lent) -> &[u8] {
        // SAFETY: the kernel has given the chunk up by putting it into the receive ring, and gets it back only with `lent` itself,
        // which cannot be copied and is kept with the number of its queue. `take` has seen that it lies in one chunk of ours.
        unsafe { self.umem.memory.bytes(lent.0.address as usize, lent.0.len as usize) }
    }

    #[inline]
    pub fn bytes_mut(&mut self, lent: &mut Lent) -> &mut [u8] {
        // SAFETY: as in `bytes`; and both are borrowed exclusively, so no other slice of it lives.
        unsafe { self.umem.memory.bytes_mut(lent.0.address as usize, lent.0.len as usize) }
    }
}

#[derive(Debug)]
pub struct Transmitting {
    umem: Umem,
    pub ring: Producer<Descriptor>,
    completion: Consumer<u64>,
    /// Where its chunks lie.
    places: Range<u64>,
    /// How many they are.
    chunks: usize,
    /// Chunks in our hands.
    free: Vec<u64>,
}

impl Transmitting {
    /// The chunks are nobody else's; each of the rings has room for all of them.
    pub fn new(umem: Umem, chunks: Range<u32>, ring: Producer<Descriptor>, completion: Consumer<u64>) -> Self {
        let places = umem.places(&chunks);
        let free: Vec<_> = chunks.map(|chunk| u64::from(chunk) * u64::from(umem.chunk_bytes)).collect();
        Transmitting { umem, ring, completion, places, chunks: free.len(), free }
    }

    /// Copies a frame in, to be sent after [`Transmitting::publish`]. `false`: no chunk is free; see [`Transmitting::reap`].
    ///
    /// # Panics
    /// When the frame is longer than a chunk.
    #[inline]
    #[must_use]
    pub fn put(&mut self, frame: &[u8]) -> bool {
        self.put_parts(&[], frame)
    }

    /// The same with a frame in two parts.
    #[inline]
    #[must_use]
    pub fn put_parts(&mut self, headers: &[u8], payload: &[u8]) -> bool {
        let len = headers.len() + payload.len();
        assert!(len <= self.umem.chunk_bytes as usize);
        let Some(address) = self.free.pop() else { return false };
        // SAFETY: a chunk in `free` is for sending (see `reap`) and in nobody else's hands: it was never given away, or the kernel said
        // that it is done with it.
        let chunk = unsafe { self.umem.memory.bytes_mut(address as usize, len) };
        chunk[..headers.len()].copy_from_slice(headers);
        chunk[headers.len()..].copy_from_slice(payload);
        let has_room = self.ring.push(Descriptor { address, len: len as u32 });
        debug_assert!(has_room, "the transmit ring has room for all chunks");
        true
    }

    pub fn longest_frame(&self) -> usize {
        self.umem.chunk_bytes as usize
    }

    pub fn has_free(&self) -> bool {
        !self.free.is_empty()
    }

    /// Ends a round of [`Transmitting::put`].
    pub fn publish(&self) {
        self.ring.publish();
    }

    /// Takes back the chunks of frames that are sent; what is none of them, or more than all of them, is passed over.
    pub fn reap(&mut self) {
        while let Some(address) = self.completion.pop() {
            if self.places.contains(&address) && self.free.len() < self.chunks {
                self.free.push(self.umem.chunk_of(address));
            }
        }
        self.completion.release();
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::super::ring::tests::both_ends;
    use super::*;

    const CHUNK_BYTES: u32 = 2048;
    const RECEIVE: u32 = 8;
    const TRANSMIT: u32 = 4;

    /// The other end of all rings, with the chunks that it holds.
    struct Kernel {
        fill: Consumer<u64>,
        receive: Producer<Descriptor>,
        transmit: Consumer<Descriptor>,
        completion: Producer<u64>,
        empty: VecDeque<u64>,
        in_flight: Vec<u64>,
    }

    fn queue() -> (Receiving, Transmitting, Kernel) {
        let memory = Arc::new(Mapping::for_frames(((RECEIVE + TRANSMIT) * CHUNK_BYTES) as usize).unwrap());
        let umem = Umem { memory, chunk_bytes: CHUNK_BYTES };
        let (our_fill, fill) = both_ends(RECEIVE, u32::MAX - 20);
        let (receive, our_receive) = both_ends(RECEIVE, u32::MAX - 7);
        let (our_transmit, transmit) = both_ends(TRANSMIT, u32::MAX - 3);
        let (completion, our_completion) = both_ends(TRANSMIT, 0);
        let receiving = Receiving::new(umem.clone(), 0..RECEIVE, our_fill, our_receive);
        let transmitting = Transmitting::new(umem, RECEIVE..RECEIVE + TRANSMIT, our_transmit, our_completion);
        let (empty, in_flight) = Default::default();
        (receiving, transmitting, Kernel { fill, receive, transmit, completion, empty, in_flight })
    }

    #[derive(Clone, Copy, Debug)]
    enum Step {
        KernelReceives(usize),
        WeTake(usize),
        WeGiveBack(usize),
        WePut(usize),
        KernelSends(usize),
        KernelCompletes(usize),
        WeReap,
    }

    fn step() -> impl Strategy<Value = Step> {
        let some = || 0..12usize;
        prop_oneof![
            some().prop_map(Step::KernelReceives),
            some().prop_map(Step::WeTake),
            some().prop_map(Step::WeGiveBack),
            some().prop_map(Step::WePut),
            some().prop_map(Step::KernelSends),
            some().prop_map(Step::KernelCompletes),
            Just(Step::WeReap),
        ]
    }

    impl Kernel {
        fn receive(&mut self, count: usize) {
            self.empty.extend(std::iter::from_fn(|| self.fill.pop()));
            self.fill.release();
            for chunk in self.empty.drain(..count.min(self.empty.len())) {
                let address = chunk + u64::from(HEADROOM_BYTES);
                assert!(self.receive.push(Descriptor { address, len: 60 }), "the receive ring overflows");
            }
            self.receive.publish();
        }

        fn send(&mut self, count: usize) {
            let chunks = std::iter::from_fn(|| self.transmit.pop()).take(count);
            self.in_flight.extend(chunks.map(|frame| frame.address));
            self.transmit.release();
        }

        /// In any order.
        fn complete(&mut self, which: usize) {
            if !self.in_flight.is_empty() {
                let chunk = self.in_flight.swap_remove(which % self.in_flight.len());
                assert!(self.completion.push(chunk), "the completion ring overflows");
                self.completion.publish();
            }
        }
    }

    proptest! {
        /// In whatever order both sides act, every chunk is in one place, and in the end all are where they began.
        #[test]
        fn no_chunk_is_lost_or_held_twice(steps in proptest::collection::vec(step(), 1..200)) {
            let (mut receiving, mut transmitting, mut kernel) = queue();
            let mut lent = VecDeque::new();
            for step in steps {
                match step {
                    Step::KernelReceives(count) => kernel.receive(count),
                    Step::WeTake(count) => {
                        lent.extend(std::iter::from_fn(|| receiving.take()).take(count));
                        receiving.release();
                    }
                    Step::WeGiveBack(count) => {
                        for frame in lent.drain(..count.min(lent.len())) {
                            receiving.give_back(frame);
                        }
                        receiving.publish();
                    }
                    Step::WePut(count) => {
                        for _ in 0..count {
                            let had_one = !transmitting.free.is_empty();
                            prop_assert_eq!(transmitting.put(&[7; 60]), had_one);
                        }
                        transmitting.publish();
                    }
                    Step::KernelSends(count) => kernel.send(count),
                    Step::KernelCompletes(which) => kernel.complete(which),
                    Step::WeReap => transmitting.reap(),
                }
                let mut held: Vec<u64> = lent.iter().map(|frame: &Lent| frame.0.address & !2047).collect();
                held.extend(&kernel.empty);
                held.extend(&transmitting.free);
                held.extend(&kernel.in_flight);
                held.sort_unstable();
                let count = held.len();
                held.dedup();
                prop_assert_eq!(held.len(), count, "one chunk in two places");
            }
            // Let everything come home.
            for frame in lent.drain(..) {
                receiving.give_back(frame);
            }
            receiving.publish();
            kernel.receive(usize::MAX);
            let home: Vec<_> = std::iter::from_fn(|| receiving.take()).collect();
            prop_assert_eq!(home.len(), RECEIVE as usize);
            kernel.send(usize::MAX);
            while !kernel.in_flight.is_empty() {
                kernel.complete(0);
            }
            transmitting.reap();
            let mut free = transmitting.free.clone();
            free.sort_unstable();
            let all: Vec<_> = (RECEIVE..RECEIVE + TRANSMIT).map(|chunk| u64::from(chunk * CHUNK_BYTES)).collect();
            prop_assert_eq!(free, all);
        }
    }

    #[test]
    fn a_frame_goes_through_whole_and_can_be_changed_in_place() {
        let (mut receiving, mut transmitting, mut kernel) = queue();
        assert!(transmitting.put(&[9; 2048]));
        transmitting.publish();
        let sent = kernel.transmit.pop().unwrap();
        assert_eq!(sent.len, 2048);
        // SAFETY: the chunk is the test's, as the kernel's.
        assert_eq!(unsafe { transmitting.umem.memory.bytes(sent.address as usize, 2048) }, [9; 2048]);
        kernel.receive(1);
        let mut lent = receiving.take().unwrap();
        receiving.bytes_mut(&mut lent)[0] = 5;
        assert_eq!(receiving.bytes(&lent)[..2], [5, 0]);
        assert_eq!(receiving.bytes(&lent).len(), 60);
    }

    #[test]
    fn when_all_chunks_are_on_their_way_the_next_frame_has_none() {
        let (_, mut transmitting, mut kernel) = queue();
        assert!((0..TRANSMIT).all(|_| transmitting.put(&[1; 60])));
        assert!(!transmitting.put(&[1; 60]));
        transmitting.publish();
        kernel.send(1);
        transmitting.reap();
        assert!(!transmitting.put(&[1; 60]), "taken by the kernel, not done");
        kernel.complete(0);
        transmitting.reap();
        assert!(transmitting.put(&[1; 60]));
    }

    #[test]
    fn frames_that_lie_elsewhere_are_passed_over_and_counted() {
        let (mut receiving, _, mut kernel) = queue();
        let end = u64::from(RECEIVE * CHUNK_BYTES);
        let wrong =
            [(2048, 2049), (2300, 2048), (end, 60), (end - 60, 61), (u64::MAX - 10, 60), (1 << 40, 0), (0, u32::MAX)];
        for (address, len) in wrong {
            assert!(kernel.receive.push(Descriptor { address, len }));
        }
        assert!(kernel.receive.push(Descriptor { address: 2048, len: 2048 }));
        kernel.receive.publish();
        let lent = receiving.take().unwrap();
        assert_eq!((receiving.bytes(&lent).len(), receiving.astray()), (2048, 7));
        assert!(receiving.take().is_none());
    }

    #[test]
    fn chunks_that_were_never_for_sending_are_not_sent_from() {
        let (_, mut transmitting, mut kernel) = queue();
        let end = u64::from((RECEIVE + TRANSMIT) * CHUNK_BYTES);
        assert!(transmitting.put(&[1; 60]));
        for address in [0, end, u64::MAX, end - 2048] {
            assert!(kernel.completion.push(address));
        }
        kernel.completion.publish();
        transmitting.reap();
        assert_eq!(transmitting.free.len(), TRANSMIT as usize);
        assert!(kernel.completion.push(end - 2048));
        kernel.completion.publish();
        transmitting.reap();
        assert_eq!(transmitting.free.len(), TRANSMIT as usize, "no more than there are");
    }
}
