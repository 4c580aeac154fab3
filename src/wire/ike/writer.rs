//! Length fields, written once what they count is there.

/// Appends a 16-bit length field, lets `write` append what it counts, and fills it in. The length runs from `start` to the
/// end; what would make it more than 65,535 is cut off.
pub(super) fn with_length(out: &mut Vec<u8>, start: usize, write: impl FnOnce(&mut Vec<u8>)) {
    let field = out.len();
    out.extend([0; 2]);
    write(out);
    out.truncate(start + usize::from(u16::MAX));
    let length = u16::try_from(out.len() - start).unwrap_or(u16::MAX);
    if let Some(field) = out.get_mut(field..field + 2) {
        field.copy_from_slice(&length.to_be_bytes());
    }
}

/// As many of `items` as a count of one byte can say, with that count.
pub(super) fn counted_u8<T>(items: &[T]) -> (u8, &[T]) {
    let count = u8::try_from(items.len()).unwrap_or(u8::MAX);
    (count, items.get(..usize::from(count)).unwrap_or(items))
}
