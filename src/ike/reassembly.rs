//! Fragments of one message put together again (RFC 7383 section 2.6). Only authentic fragments come here.

use super::protect::Inside;
use crate::wire::ike::Fragment;

/// The fragments of one message in one direction. A message with another ID takes its place.
#[derive(Default)]
pub(super) struct Reassembly {
    message_id: u32,
    parts: Vec<Option<Vec<u8>>>,
    first: u8,
    bytes: usize,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    pub fragments: u16,
    pub bytes: usize,
}

impl Reassembly {
    /// Some fragments are here, others are not: (present, total).
    pub fn incomplete(&self) -> Option<(usize, usize)> {
        let present = self.parts.iter().flatten().count();
        (present > 0).then_some((present, self.parts.len()))
    }

    /// What is kept of an incomplete message.
    pub fn bytes(&self) -> usize {
        self.bytes + self.parts.len() * size_of::<Option<Vec<u8>>>()
    }

    /// A fragment that has come before, or one of a message that has since come in smaller pieces.
    pub fn has_seen(&self, id: u32, fragment: Fragment) -> bool {
        let slot = usize::from(fragment.number).checked_sub(1);
        let is_here = slot.and_then(|slot| self.parts.get(slot)).is_some_and(Option::is_some);
        let (total, known) = (usize::from(fragment.total), self.parts.len());
        id == self.message_id && (total < known || total == known && is_here)
    }

    /// Takes one authentic fragment; gives the whole message with the last of them.
    pub fn take(&mut self, id: u32, fragment: Fragment, first: u8, plain: Vec<u8>, bounds: &Bounds) -> Option<Inside> {
        let total = usize::from(fragment.total);
        if fragment.number == 0 || fragment.number > fragment.total || fragment.total > bounds.fragments {
            return None;
        }
        // "A larger Total Fragments: the peer sends it anew in smaller pieces; a smaller one is old."
        if id != self.message_id || total > self.parts.len() {
            *self = Reassembly { message_id: id, parts: vec![None; total], first: 0, bytes: 0 };
        }
        if total < self.parts.len() {
            return None;
        }
        let slot = self.parts.get_mut(usize::from(fragment.number) - 1)?;
        if slot.is_some() || self.bytes + plain.len() > bounds.bytes {
            return None;
        }
        self.bytes += plain.len();
        *slot = Some(plain);
        if fragment.number == 1 {
            self.first = first;
        }
        if self.parts.iter().any(|part| part.is_none()) {
            return None;
        }
        let whole = std::mem::take(self);
        Some(Inside { first: whole.first, bytes: whole.parts.into_iter().flatten().flatten().collect() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: Bounds = Bounds { fragments: 4, bytes: 100 };

    fn take(reassembly: &mut Reassembly, id: u32, number: u16, total: u16, plain: &[u8]) -> Option<Vec<u8>> {
        let first = if number == 1 { 35 } else { 0 };
        let whole = reassembly.take(id, Fragment { number, total }, first, plain.to_vec(), &BOUNDS)?;
        assert_eq!(whole.first, 35);
        Some(whole.bytes)
    }

    #[test]
    fn fragments_in_any_order_and_twice_make_one_message() {
        let mut r = Reassembly::default();
        assert_eq!(take(&mut r, 1, 3, 3, b"c"), None);
        assert_eq!(take(&mut r, 1, 1, 3, b"a"), None);
        assert_eq!(take(&mut r, 1, 1, 3, b"x"), None, "the first of each counts");
        assert_eq!(r.incomplete(), Some((2, 3)));
        assert_eq!(take(&mut r, 1, 2, 3, b"b"), Some(b"abc".to_vec()));
        assert_eq!(r.incomplete(), None);
    }

    #[test]
    fn another_message_or_smaller_pieces_begin_anew_and_larger_pieces_are_old() {
        let mut r = Reassembly::default();
        assert_eq!(take(&mut r, 1, 1, 2, b"old"), None);
        assert_eq!(take(&mut r, 2, 2, 2, b"b"), None);
        assert_eq!(take(&mut r, 2, 1, 2, b"a"), Some(b"ab".to_vec()));
        assert_eq!(take(&mut r, 3, 1, 2, b"large"), None);
        assert_eq!(take(&mut r, 3, 1, 3, b"1"), None);
        assert_eq!(take(&mut r, 3, 2, 2, b"large"), None);
        assert_eq!(take(&mut r, 3, 2, 3, b"2"), None);
        assert_eq!(take(&mut r, 3, 3, 3, b"3"), Some(b"123".to_vec()));
    }

    #[test]
    fn numbers_out_of_range_too_many_fragments_and_too_many_bytes_are_refused() {
        let mut r = Reassembly::default();
        assert_eq!(take(&mut r, 1, 0, 1, b"a"), None);
        assert_eq!(take(&mut r, 1, 2, 1, b"a"), None);
        assert_eq!(take(&mut r, 1, 1, 5, b"a"), None);
        assert_eq!(r.incomplete(), None, "nothing was kept");
        assert_eq!(take(&mut r, 1, 1, 2, &[0; 60]), None);
        assert_eq!(take(&mut r, 1, 2, 2, &[0; 60]), None);
        assert_eq!(r.incomplete(), Some((1, 2)));
    }
}
