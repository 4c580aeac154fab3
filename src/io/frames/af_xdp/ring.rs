//! One ring between us and the kernel: one side only puts entries in, the other only takes them out.
//!
//! Both count for ever, modulo 2^32. An entry is written before the producer's count is published (release) and read after that was
//! seen (acquire); it is read before the consumer's count is published (release), and its place written anew after that was seen
//! (acquire). These pair with the kernel's own barriers (net/xdp/xsk_queue.h).

use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::memory::Mapping;

/// `XDP_RING_NEED_WAKEUP`.
const NEED_WAKEUP: u32 = 1;

/// Where a ring has its parts (`struct xdp_ring_offset`).
#[derive(Clone, Copy, Debug)]
pub struct Offsets {
    pub producer: usize,
    pub consumer: usize,
    pub entries: usize,
    pub flags: usize,
}

impl Offsets {
    /// What they are counted from is at least so long, with `size` entries of `E`. `None`: they are no ring's.
    pub fn len<E: Entry>(&self, size: u32) -> Option<usize> {
        let entries_end = self.entries.checked_add((size as usize).checked_mul(E::BYTES)?)?;
        let counts = [self.producer, self.consumer, self.flags];
        let is_aligned = self.entries.is_multiple_of(8) && counts.iter().all(|at| at.is_multiple_of(4));
        let ends = counts.map(|at| at.checked_add(size_of::<u32>()));
        ends.into_iter().try_fold(entries_end, |len, end| Some(len.max(end?))).filter(|_| is_aligned)
    }
}

/// What a ring is made of.
pub trait Entry: Copy {
    const BYTES: usize;
    fn read(memory: &Mapping, at: usize) -> Self;
    fn write(self, memory: &Mapping, at: usize);
}

/// An address in the frames' memory: fill and completion rings.
impl Entry for u64 {
    const BYTES: usize = 8;

    fn read(memory: &Mapping, at: usize) -> Self {
        memory.u64_at(at).load(Ordering::Relaxed)
    }

    fn write(self, memory: &Mapping, at: usize) {
        memory.u64_at(at).store(self, Ordering::Relaxed);
    }
}

/// A frame (`struct xdp_desc`): receive and transmit rings.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Descriptor {
    pub address: u64,
    pub len: u32,
}

impl Entry for Descriptor {
    const BYTES: usize = 16;

    fn read(memory: &Mapping, at: usize) -> Self {
        let address = memory.u64_at(at).load(Ordering::Relaxed);
        Descriptor { address, len: memory.u32_at(at + 8).load(Ordering::Relaxed) }
    }

    fn write(self, memory: &Mapping, at: usize) {
        memory.u64_at(at).store(self.address, Ordering::Relaxed);
        memory.u32_at(at + 8).store(self.len, Ordering::Relaxed);
        memory.u32_at(at + 12).store(0, Ordering::Relaxed); // options
    }
}

#[derive(Clone, Debug)]
pub struct Ring<E> {
    memory: Arc<Mapping>,
    offsets: Offsets,
    /// A power of two.
    size: u32,
    entry: PhantomData<E>,
}

impl<E: Entry> Ring<E> {
    /// # Panics
    /// When the ring does not lie within the memory.
    pub fn new(memory: Arc<Mapping>, offsets: Offsets, size: u32) -> Self {
        let is_within = offsets.len::<E>(size).is_some_and(|len| len <= memory.len());
        assert!(size.is_power_of_two() && is_within, "a ring within the memory");
        Ring { memory, offsets, size, entry: PhantomData }
    }

    fn place(&self, count: u32) -> usize {
        self.offsets.entries + (count & (self.size - 1)) as usize * E::BYTES
    }

    fn produced(&self) -> u32 {
        self.memory.u32_at(self.offsets.producer).load(Ordering::Acquire)
    }

    fn consumed(&self) -> u32 {
        self.memory.u32_at(self.offsets.consumer).load(Ordering::Acquire)
    }
}

/// Our end of a ring that we fill.
#[derive(Debug)]
pub struct Producer<E> {
    ring: Ring<E>,
    /// Written, perhaps not published yet.
    produced: u32,
    /// As last seen.
    consumed: u32,
}

impl<E: Entry> Producer<E> {
    pub fn new(ring: Ring<E>) -> Self {
        Producer { produced: ring.produced(), consumed: ring.consumed(), ring }
    }

    /// `false`: full.
    #[inline]
    #[must_use]
    pub fn push(&mut self, entry: E) -> bool {
        if self.is_full() {
            self.consumed = self.ring.consumed();
            if self.is_full() {
                return false;
            }
        }
        entry.write(&self.ring.memory, self.ring.place(self.produced));
        self.produced = self.produced.wrapping_add(1);
        true
    }

    /// Lets the other side see what was pushed.
    pub fn publish(&self) {
        self.ring.memory.u32_at(self.ring.offsets.producer).store(self.produced, Ordering::Release);
    }

    /// The other side sleeps until it is called.
    pub fn wants_wakeup(&self) -> bool {
        self.ring.memory.u32_at(self.ring.offsets.flags).load(Ordering::Relaxed) & NEED_WAKEUP != 0
    }

    /// What the other side has not taken yet.
    pub fn pending(&self) -> u32 {
        self.produced.wrapping_sub(self.ring.consumed())
    }

    fn is_full(&self) -> bool {
        self.produced.wrapping_sub(self.consumed) >= self.ring.size
    }
}

/// Our end of a ring that the other side fills.
#[derive(Debug)]
pub struct Consumer<E> {
    ring: Ring<E>,
    /// As last seen.
    produced: u32,
    /// Read, perhaps not released yet.
    consumed: u32,
}

impl<E: Entry> Consumer<E> {
    pub fn new(ring: Ring<E>) -> Self {
        let consumed = ring.consumed();
        Consumer { produced: consumed, consumed, ring }
    }

    /// The next one; of a ring whose count says what cannot be, none.
    #[inline]
    pub fn pop(&mut self) -> Option<E> {
        if self.consumed == self.produced {
            let produced = self.ring.produced();
            // More than there is room for is no count.
            if !(1..=self.ring.size).contains(&produced.wrapping_sub(self.consumed)) {
                return None;
            }
            self.produced = produced;
        }
        let entry = E::read(&self.ring.memory, self.ring.place(self.consumed));
        self.consumed = self.consumed.wrapping_add(1);
        Some(entry)
    }

    /// Gives the places of what was popped back to the other side.
    pub fn release(&self) {
        self.ring.memory.u32_at(self.ring.offsets.consumer).store(self.consumed, Ordering::Release);
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// Both ends of a ring in memory of our own, as they are after `begun` entries have gone through it.
    pub fn both_ends<E: Entry>(size: u32, begun: u32) -> (Producer<E>, Consumer<E>) {
        let memory = Arc::new(Mapping::for_frames(64 + size as usize * E::BYTES).unwrap());
        let offsets = Offsets { producer: 0, consumer: 16, flags: 32, entries: 64 };
        memory.u32_at(offsets.producer).store(begun, Ordering::Relaxed);
        memory.u32_at(offsets.consumer).store(begun, Ordering::Relaxed);
        let ring = Ring::new(memory, offsets, size);
        (Producer::new(ring.clone()), Consumer::new(ring))
    }

    #[test]
    fn entries_come_out_in_order_and_only_when_published_across_the_end_of_the_count() {
        let (mut producer, mut consumer) = both_ends::<u64>(4, u32::MAX - 5);
        for round in 0..10 {
            assert!(producer.push(round) && producer.push(100 + round));
            assert_eq!(consumer.pop(), None, "not published");
            producer.publish();
            assert_eq!([consumer.pop(), consumer.pop(), consumer.pop()], [Some(round), Some(100 + round), None]);
            consumer.release();
        }
    }

    #[test]
    fn a_full_ring_takes_nothing_until_places_are_released() {
        let (mut producer, mut consumer) = both_ends::<Descriptor>(4, u32::MAX - 1);
        let frame = |address| Descriptor { address, len: 60 + address as u32 };
        assert_eq!([0, 1, 2, 3, 4].map(|n| producer.push(frame(n))), [true, true, true, true, false]);
        producer.publish();
        assert_eq!(producer.pending(), 4);
        assert_eq!(consumer.pop(), Some(frame(0)));
        assert!(!producer.push(frame(4)), "read, not released");
        consumer.release();
        assert!(producer.push(frame(4)));
        assert!(!producer.push(frame(5)));
        assert_eq!(producer.pending(), 4);
    }

    #[test]
    fn a_count_that_cannot_be_gives_no_entries() {
        let (mut producer, mut consumer) = both_ends::<u64>(4, 10);
        assert!(producer.push(1));
        for wrong in [10 + 5, 9, 10 + (1 << 31)] {
            consumer.ring.memory.u32_at(0).store(wrong, Ordering::Relaxed);
            assert_eq!(consumer.pop(), None, "{wrong}");
            assert_eq!(Consumer::new(consumer.ring.clone()).pop(), None, "{wrong}, from the start");
        }
        producer.publish();
        assert_eq!([consumer.pop(), consumer.pop()], [Some(1), None]);
    }

    #[test]
    fn places_that_are_no_rings_have_no_length() {
        let good = Offsets { producer: 0, consumer: 64, flags: 128, entries: 192 };
        assert_eq!((good.len::<u64>(4), good.len::<Descriptor>(4)), (Some(192 + 32), Some(192 + 64)));
        assert_eq!(Offsets { flags: 4096, ..good }.len::<u64>(4), Some(4100), "whatever lies last");
        let far = usize::MAX - 7;
        for wrong in [
            Offsets { producer: 2, ..good },
            Offsets { entries: 196, ..good },
            Offsets { entries: far, ..good },
            Offsets { consumer: usize::MAX - 3, ..good },
        ] {
            assert_eq!(wrong.len::<u64>(4), None, "{wrong:?}");
        }
    }
}
