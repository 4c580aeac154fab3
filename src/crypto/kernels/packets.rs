//! A packet as a kernel takes it.

pub const TAG_BYTES: usize = 16;

/// Who gets the tag.
#[derive(Debug)]
pub enum Tag<'a> {
    /// Written.
    Seal(&'a mut [u8; TAG_BYTES]),
    /// Compared. Where it differs, what was put into [`Packet::to`] is wiped.
    Open(&'a [u8; TAG_BYTES], &'a mut bool),
}

#[derive(Debug)]
pub struct Packet<'a, Key> {
    pub key: &'a Key,
    /// Behind four bytes for the block's number.
    pub nonce: [u8; 16],
    /// Padded with zeros.
    pub associated: [u8; 16],
    pub associated_bytes: usize,
    /// Where the bytes are. `None`: where they are wanted; not for opening.
    pub from: Option<&'a [u8]>,
    /// As long.
    pub to: &'a mut [u8],
    pub tag: Tag<'a>,
}

impl<'a, Key> Packet<'a, Key> {
    /// `associated` is a SPI and a sequence number, of which so many bytes count, and zeros behind them.
    #[inline]
    pub fn new(
        key: &'a Key,
        nonce: [u8; 12],
        (associated, associated_bytes): ([u8; 12], usize),
        from: Option<&'a [u8]>,
        to: &'a mut [u8],
        tag: Tag<'a>,
    ) -> Self {
        debug_assert!(from.is_none_or(|from| from.len() == to.len()));
        let mut padded = [0; 16];
        padded[..12].copy_from_slice(&associated);
        let mut behind = [0; 16];
        behind[4..].copy_from_slice(&nonce);
        Packet { key, nonce: behind, associated: padded, associated_bytes, from, to, tag }
    }

    /// What the tag is of, besides what is associated. For sealing only when it has been encrypted.
    #[inline]
    pub fn ciphertext(&self) -> &[u8] {
        match self.tag {
            Tag::Seal(_) => self.to,
            Tag::Open(..) => self.from.unwrap_or_default(),
        }
    }

    /// Ends it.
    #[inline]
    pub fn finish(&mut self, tag: [u8; TAG_BYTES]) {
        match &mut self.tag {
            Tag::Seal(place) => **place = tag,
            Tag::Open(expected, is_authentic) => {
                // Whole words, and no branch before all of them are known.
                let difference = u128::from_ne_bytes(tag) ^ u128::from_ne_bytes(**expected);
                **is_authentic = std::hint::black_box(difference) == 0;
                if !**is_authentic {
                    self.to.fill(0);
                }
            }
        }
    }
}
