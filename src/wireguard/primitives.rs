//! The primitives that WireGuard names, each a few lines over a library: HASH and MAC are BLAKE2s (RFC 7693), DH is
//! X25519 (RFC 7748), AEAD is ChaCha20-Poly1305 (RFC 8439), XAEAD the same under a key that HChaCha20 derives
//! (draft-irtf-cfrg-xchacha), KDF is HKDF (RFC 5869) over HMAC-BLAKE2s.

use aws_lc_rs::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::agreement::{PrivateKey, UnparsedPublicKey, X25519, agree};
use blake2::digest::consts::U16;
use blake2::digest::{Digest, FixedOutput, KeyInit, Update};
use blake2::{Blake2s256, Blake2sMac};
use chacha20::{R20, hchacha};
use zeroize::Zeroizing;

/// Fills a slice with random bytes fit for keys.
pub type Random = Box<dyn FnMut(&mut [u8]) + Send>;

pub const TAG_BYTES: usize = 16;
const HASH_BLOCK_BYTES: usize = 64;
/// For data messages the nonce is a counter; a handshake uses each key once.
const ONLY_NONCE: u64 = 0;

pub type Key = Zeroizing<[u8; 32]>;

/// An X25519 key pair, for a long time or for one handshake.
pub struct KeyPair {
    private: PrivateKey,
    public: [u8; 32],
}

impl KeyPair {
    /// Any 32 bytes are a private key: they are clamped on use (RFC 7748 section 5).
    pub fn new(private: &[u8; 32]) -> Self {
        let private = PrivateKey::from_private_key(&X25519, private).expect("any 32 bytes are a private key");
        let computed = private.compute_public_key().expect("every private key has a public key");
        let mut public = [0; 32];
        public.copy_from_slice(computed.as_ref());
        KeyPair { private, public }
    }

    pub fn generate(random: &mut Random) -> Self {
        let mut private = Zeroizing::new([0; 32]);
        random(&mut private[..]);
        KeyPair::new(&private)
    }

    pub fn public(&self) -> &[u8; 32] {
        &self.public
    }

    /// The shared secret. `None`: all zero (RFC 7748 section 6.1), which a public key of small order leads to.
    pub fn agree(&self, public: &[u8; 32]) -> Option<Key> {
        let theirs = UnparsedPublicKey::new(&X25519, public);
        let secret = agree(&self.private, theirs, (), |secret| {
            let mut key = Key::default();
            key.copy_from_slice(secret);
            Ok(key)
        });
        secret.ok().filter(|secret| **secret != [0; 32])
    }
}

/// HASH over the parts, joined.
pub fn hash(parts: &[&[u8]]) -> [u8; 32] {
    let mut state = Blake2s256::new();
    parts.iter().for_each(|part| Update::update(&mut state, part));
    state.finalize().into()
}

/// MAC: BLAKE2s with a key of at most 32 bytes, 16 bytes long.
pub fn mac(key: &[u8], parts: &[&[u8]]) -> [u8; 16] {
    let mut state = <Blake2sMac<U16> as KeyInit>::new_from_slice(key).expect("a key of at most 32 bytes");
    parts.iter().for_each(|part| state.update(part));
    state.finalize_fixed().into()
}

/// RFC 2104 over BLAKE2s. The key has at most 64 bytes.
fn hmac(key: &[u8], parts: &[&[u8]]) -> Key {
    let pad = |with: u8| {
        let mut block = Zeroizing::new([with; HASH_BLOCK_BYTES]);
        block.iter_mut().zip(key).for_each(|(byte, key)| *byte ^= key);
        block
    };
    debug_assert!(key.len() <= HASH_BLOCK_BYTES);
    let mut inner = Blake2s256::new_with_prefix(&pad(0x36)[..]);
    parts.iter().for_each(|part| Update::update(&mut inner, part));
    let inner = Key::new(inner.finalize().into());
    Key::new(hash(&[&pad(0x5c)[..], &inner[..]]))
}

/// KDF1, KDF2 and KDF3: so many keys out of one.
pub fn kdf<const N: usize>(key: &[u8], input: &[u8]) -> [Key; N] {
    let secret = hmac(key, &[input]);
    let mut outputs = std::array::from_fn::<Key, N, _>(|_| Key::default());
    for at in 0..N {
        let before: &[u8] = if at == 0 { &[] } else { &outputs[at - 1][..] };
        outputs[at] = hmac(&secret[..], &[before, &[at as u8 + 1]]);
    }
    outputs
}

/// A key prepared for many messages.
pub fn cipher(key: &Key) -> LessSafeKey {
    LessSafeKey::new(UnboundKey::new(&CHACHA20_POLY1305, &key[..]).expect("a key of 32 bytes"))
}

#[inline]
pub fn nonce(counter: u64) -> Nonce {
    let mut nonce = [0; 12];
    nonce[4..].copy_from_slice(&counter.to_le_bytes());
    Nonce::assume_unique_for_key(nonce)
}

/// AEAD under a key that is used once. `sealed` must be 16 bytes longer than `plain`.
pub fn seal(key: &Key, plain: &[u8], aad: &[u8], sealed: &mut [u8]) {
    seal_under(&cipher(key), nonce(ONLY_NONCE), plain, aad, sealed);
}

/// `plain` must be 16 bytes shorter than `sealed`. `None`: not authentic.
pub fn open(key: &Key, sealed: &[u8], aad: &[u8], plain: &mut [u8]) -> Option<()> {
    open_under(&cipher(key), nonce(ONLY_NONCE), sealed, aad, plain)
}

/// XAEAD, with a nonce so long that it can be random.
pub fn xseal(key: &[u8; 32], nonce: &[u8; 24], plain: &[u8], aad: &[u8], sealed: &mut [u8]) {
    let (cipher, nonce) = extended(key, nonce);
    seal_under(&cipher, nonce, plain, aad, sealed);
}

pub fn xopen(key: &[u8; 32], nonce: &[u8; 24], sealed: &[u8], aad: &[u8], plain: &mut [u8]) -> Option<()> {
    let (cipher, nonce) = extended(key, nonce);
    open_under(&cipher, nonce, sealed, aad, plain)
}

/// draft-irtf-cfrg-xchacha section 2.3: a key of its own from the first 16 bytes of the nonce, the rest is the nonce.
fn extended(key: &[u8; 32], nonce: &[u8; 24]) -> (LessSafeKey, Nonce) {
    let mut first = [0; 16];
    let mut rest = [0; 12];
    first.copy_from_slice(&nonce[..16]);
    rest[4..].copy_from_slice(&nonce[16..]);
    let derived = Key::new(hchacha::<R20>(&(*key).into(), &first.into()).into());
    (cipher(&derived), Nonce::assume_unique_for_key(rest))
}

fn seal_under(cipher: &LessSafeKey, nonce: Nonce, plain: &[u8], aad: &[u8], sealed: &mut [u8]) {
    let (text, tag) = sealed.split_at_mut(plain.len());
    cipher
        .seal_out_of_place_scatter(nonce, Aad::from(aad), plain, text, &[], tag)
        .expect("short messages, and room for the tag");
}

fn open_under(cipher: &LessSafeKey, nonce: Nonce, sealed: &[u8], aad: &[u8], plain: &mut [u8]) -> Option<()> {
    let (text, tag) = sealed.split_last_chunk::<TAG_BYTES>()?;
    cipher.open_separate_gather(nonce, Aad::from(aad), text, tag, plain).ok()
}

#[cfg(test)]
mod tests {
    use super::super::tests::hex::hex;
    use super::*;

    #[test]
    fn blake2s_of_rfc_7693_appendix_b() {
        let expected = "508c5e8c327c14e2e1a72ba34eeb452f37458b209ed63a294d999b4c86675982";
        assert_eq!(hash(&[b"abc"])[..], hex(expected));
        assert_eq!(hash(&[b"a", b"", b"bc"])[..], hex(expected));
    }

    #[test]
    fn x25519_of_rfc_7748_section_6_1() {
        let pair = |private| KeyPair::new(&hex(private).try_into().unwrap());
        let alice = pair("77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a");
        let bob = pair("5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb");
        assert_eq!(alice.public()[..], hex("8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a"));
        let secret = hex("4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742");
        assert_eq!(alice.agree(bob.public()).unwrap()[..], secret);
        assert_eq!(bob.agree(alice.public()).unwrap()[..], secret);
    }

    #[test]
    fn public_keys_of_small_order_agree_on_nothing() {
        // RFC 7748 section 6.1 asks for the check; the points are those of order 1, 2, 4 and 8, and other spellings.
        let pair = KeyPair::new(&[0x42; 32]);
        for point in [
            "0000000000000000000000000000000000000000000000000000000000000000",
            "0100000000000000000000000000000000000000000000000000000000000000",
            "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
            "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
            "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
            "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
            "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        ] {
            assert!(pair.agree(&hex(point).try_into().unwrap()).is_none(), "{point}");
        }
    }

    #[test]
    fn kdf_of_the_reference_implementation() {
        // wireguard-go, device/kdf_test.go.
        for (key, input, outputs) in [
            (
                "746573742d6b6579",
                "746573742d696e707574",
                [
                    "6f0e5ad38daba1bea8a0d213688736f19763239305e0f58aba697f9ffc41c633",
                    "df1194df20802a4fe594cde27e92991c8cae66c366e8106aaa937a55fa371e8a",
                    "fac6e2745a325f5dc5d11a5b165aad08b0ada28e7b4e666b7c077934a4d76c24",
                ],
            ),
            (
                "776972656775617264",
                "776972656775617264",
                [
                    "491d43bbfdaa8750aaf535e334ecbfe5129967cd64635101c566d4caefda96e8",
                    "1e71a379baefd8a79aa4662212fcafe19a23e2b609a3db7d6bcba8f560e3d25f",
                    "31e1ae48bddfbe5de38f295e5452b1909a1b4e38e183926af3780b0c1e1f0160",
                ],
            ),
            (
                "",
                "",
                [
                    "8387b46bf43eccfcf349552a095d8315c4055beb90208fb1be23b894bc2ed5d0",
                    "58a0e5f6faefccf4807bff1f05fa8a9217945762040bcec2f4b4a62bdfe0e86e",
                    "0ce6ea98ec548f8e281e93e32db65621c45eb18dc6f0a7ad94178610a2f7338e",
                ],
            ),
        ] {
            let found = kdf::<3>(&hex(key), &hex(input)).map(|key| key.to_vec());
            assert_eq!(found, outputs.map(hex));
            assert_eq!(kdf::<1>(&hex(key), &hex(input))[0][..], found[0]);
        }
    }

    #[test]
    fn xchacha20_poly1305_of_the_draft_appendix_a_3_1() {
        let plain = b"Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the future, \
                      sunscreen would be it.";
        let aad = hex("50515253c0c1c2c3c4c5c6c7");
        let key: [u8; 32] = std::array::from_fn(|i| 0x80 + i as u8);
        let nonce: [u8; 24] = std::array::from_fn(|i| 0x40 + i as u8);
        let expected = hex(concat!(
            "bd6d179d3e83d43b9576579493c0e939572a1700252bfaccbed2902c21396cbb",
            "731c7f1b0b4aa6440bf3a82f4eda7e39ae64c6708c54c216cb96b72e1213b452",
            "2f8c9ba40db5d945b11b69b982c1bb9e3f3fac2bc369488f76b2383565d3fff9",
            "21f9664c97637da9768812f615c68b13b52e",
            "c0875924c1c7987947deafd8780acf49",
        ));
        let mut sealed = vec![0; plain.len() + TAG_BYTES];
        xseal(&key, &nonce, plain, &aad, &mut sealed);
        assert_eq!(sealed, expected);
        let mut opened = vec![0; plain.len()];
        assert!(xopen(&key, &nonce, &sealed, &aad, &mut opened).is_some());
        assert_eq!(opened, plain);
        sealed[3] ^= 1;
        assert!(xopen(&key, &nonce, &sealed, &aad, &mut opened).is_none());
    }
}
