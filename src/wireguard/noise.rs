//! The handshake: Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s, one function for each side of each message.
//!
//! ```text
//! initiator                                                      responder
//! write_initiation    e, es, s, ss, payload (the stamp)   -->    read_sender (es, s), then Sender::authenticate (ss)
//! read_response       e, ee, se, psk, payload (empty)     <--    write_response
//! ```
//!
//! `e` and `s` are the ephemeral and static public keys; two letters are the Diffie-Hellman of one side's key with the
//! other's. Each is mixed into the chaining key, and everything sent into the hash, which each sealed part then vouches
//! for. The functions know nothing of headers, indices or stamps, and take the payload at any length, so that Noise's own
//! test vectors apply. `None` always means: not authentic, or not even the right length.

use zeroize::Zeroizing;

use super::primitives::{Key, KeyPair, TAG_BYTES, hash, kdf, open, seal};

const CONSTRUCTION: &[u8] = b"Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s";
/// What WireGuard has as Noise's prologue.
const IDENTIFIER: &[u8] = b"WireGuard v1 zx2c4 Jason@zx2c4.com";
const KEY_BYTES: usize = 32;
const SEALED_KEY_BYTES: usize = KEY_BYTES + TAG_BYTES;

/// What an initiation adds to its payload.
pub const INITIATION_OVERHEAD_BYTES: usize = KEY_BYTES + SEALED_KEY_BYTES + TAG_BYTES;
/// What a response adds to its payload.
pub const RESPONSE_OVERHEAD_BYTES: usize = KEY_BYTES + TAG_BYTES;

/// The peer's long-term secrets, as far as handshakes need them.
pub struct PeerSecrets {
    pub public: [u8; 32],
    /// The Diffie-Hellman of both static keys, which never changes.
    static_static: Key,
    preshared_key: Key,
}

impl PeerSecrets {
    /// `None`: the public key is a point of small order, with which nothing can be agreed.
    pub fn new(us: &KeyPair, public: [u8; 32], preshared_key: Option<&Zeroizing<[u8; 32]>>) -> Option<Self> {
        let preshared_key = preshared_key.cloned().unwrap_or_default();
        Some(PeerSecrets { public, static_static: us.agree(&public)?, preshared_key })
    }
}

/// Both directions' keys of a new session.
#[derive(Default)]
pub struct TransportKeys {
    pub send: Key,
    pub receive: Key,
}

/// Noise's symmetric state.
#[derive(Clone)]
pub struct Symmetric {
    chaining_key: Key,
    hash: [u8; 32],
}

impl Symmetric {
    /// The beginning of every WireGuard handshake with this responder.
    pub fn wireguard(responder: &[u8; 32]) -> Self {
        Symmetric::new(IDENTIFIER, responder)
    }

    fn new(prologue: &[u8], responder: &[u8; 32]) -> Self {
        let construction = hash(&[CONSTRUCTION]);
        let identified = hash(&[&construction, prologue]);
        Symmetric { chaining_key: Key::new(construction), hash: hash(&[&identified, responder]) }
    }

    fn mix_hash(&mut self, data: &[u8]) {
        self.hash = hash(&[&self.hash, data]);
    }

    /// A public key, or a secret that seals nothing itself.
    fn mix_key(&mut self, input: &[u8]) {
        [self.chaining_key] = kdf(&self.chaining_key[..], input);
    }

    fn mix_ephemeral(&mut self, public: &[u8; 32]) {
        self.mix_hash(public);
        self.mix_key(public);
    }

    /// A secret, and the key for the part that follows.
    fn mix_secret(&mut self, secret: &Key) -> Key {
        let [chaining_key, key] = kdf(&self.chaining_key[..], &secret[..]);
        self.chaining_key = chaining_key;
        key
    }

    fn mix_preshared_key(&mut self, preshared_key: &Key) -> Key {
        let [chaining_key, mixed, key] = kdf(&self.chaining_key[..], &preshared_key[..]);
        self.chaining_key = chaining_key;
        self.mix_hash(&mixed[..]);
        key
    }

    fn seal(&mut self, key: &Key, plain: &[u8], sealed: &mut [u8]) {
        seal(key, plain, &self.hash, sealed);
        self.mix_hash(sealed);
    }

    fn open(&mut self, key: &Key, sealed: &[u8], plain: &mut [u8]) -> Option<()> {
        open(key, sealed, &self.hash, plain)?;
        self.mix_hash(sealed);
        Some(())
    }

    /// The initiator's sending key first.
    fn split(self) -> (Key, Key) {
        let [first, second] = kdf(&self.chaining_key[..], &[]);
        (first, second)
    }
}

/// What the initiator keeps until the response.
pub struct Initiated {
    symmetric: Symmetric,
    ephemeral: KeyPair,
}

/// `message` must have room for the payload and [`INITIATION_OVERHEAD_BYTES`].
pub fn write_initiation(
    mut symmetric: Symmetric,
    us: &KeyPair,
    peer: &PeerSecrets,
    ephemeral: KeyPair,
    payload: &[u8],
    message: &mut [u8],
) -> Option<Initiated> {
    debug_assert_eq!(message.len(), payload.len() + INITIATION_OVERHEAD_BYTES);
    let (sent_ephemeral, rest) = message.split_at_mut(KEY_BYTES);
    let (sent_static, sent_payload) = rest.split_at_mut(SEALED_KEY_BYTES);
    sent_ephemeral.copy_from_slice(ephemeral.public());
    symmetric.mix_ephemeral(ephemeral.public());
    let key = symmetric.mix_secret(&ephemeral.agree(&peer.public)?);
    symmetric.seal(&key, us.public(), sent_static);
    let key = symmetric.mix_secret(&peer.static_static);
    symmetric.seal(&key, payload, sent_payload);
    Some(Initiated { symmetric, ephemeral })
}

/// An initiation of which only the sender's name has been read.
pub struct Sender<'a> {
    /// Claimed, not proved.
    pub public: [u8; 32],
    symmetric: Symmetric,
    ephemeral: &'a [u8; 32],
    sealed_payload: &'a [u8],
}

/// The dearer half of the way to know who calls: one Diffie-Hellman.
pub fn read_sender<'a>(mut symmetric: Symmetric, us: &KeyPair, message: &'a [u8]) -> Option<Sender<'a>> {
    let (ephemeral, rest) = message.split_first_chunk::<KEY_BYTES>()?;
    let (sealed_static, sealed_payload) = rest.split_first_chunk::<SEALED_KEY_BYTES>()?;
    symmetric.mix_ephemeral(ephemeral);
    let key = symmetric.mix_secret(&us.agree(ephemeral)?);
    let mut public = [0; KEY_BYTES];
    symmetric.open(&key, sealed_static, &mut public)?;
    Some(Sender { public, symmetric, ephemeral, sealed_payload })
}

/// An authentic initiation, to be answered.
pub struct Received<'a> {
    symmetric: Symmetric,
    ephemeral: &'a [u8; 32],
}

impl<'a> Sender<'a> {
    /// Proves that the sender has the private key to its name. `peer` must be the peer of that name.
    pub fn authenticate(mut self, peer: &PeerSecrets, payload: &mut [u8]) -> Option<Received<'a>> {
        debug_assert_eq!(self.public, peer.public);
        let key = self.symmetric.mix_secret(&peer.static_static);
        self.symmetric.open(&key, self.sealed_payload, payload)?;
        Some(Received { symmetric: self.symmetric, ephemeral: self.ephemeral })
    }
}

/// `message` must have room for the payload and [`RESPONSE_OVERHEAD_BYTES`].
pub fn write_response(
    received: Received<'_>,
    peer: &PeerSecrets,
    ephemeral: &KeyPair,
    payload: &[u8],
    message: &mut [u8],
) -> Option<TransportKeys> {
    debug_assert_eq!(message.len(), payload.len() + RESPONSE_OVERHEAD_BYTES);
    let Received { mut symmetric, ephemeral: their_ephemeral } = received;
    let (sent_ephemeral, sent_payload) = message.split_at_mut(KEY_BYTES);
    sent_ephemeral.copy_from_slice(ephemeral.public());
    symmetric.mix_ephemeral(ephemeral.public());
    symmetric.mix_key(&ephemeral.agree(their_ephemeral)?[..]);
    symmetric.mix_key(&ephemeral.agree(&peer.public)?[..]);
    let key = symmetric.mix_preshared_key(&peer.preshared_key);
    symmetric.seal(&key, payload, sent_payload);
    let (receive, send) = symmetric.split();
    Some(TransportKeys { send, receive })
}

/// Changes nothing: what is not authentic must not spoil the handshake for the response that is.
pub fn read_response(
    initiated: &Initiated,
    us: &KeyPair,
    peer: &PeerSecrets,
    message: &[u8],
    payload: &mut [u8],
) -> Option<TransportKeys> {
    let mut symmetric = initiated.symmetric.clone();
    let (ephemeral, sealed_payload) = message.split_first_chunk::<KEY_BYTES>()?;
    symmetric.mix_ephemeral(ephemeral);
    symmetric.mix_key(&initiated.ephemeral.agree(ephemeral)?[..]);
    symmetric.mix_key(&us.agree(ephemeral)?[..]);
    let key = symmetric.mix_preshared_key(&peer.preshared_key);
    symmetric.open(&key, sealed_payload, payload)?;
    let (send, receive) = symmetric.split();
    Some(TransportKeys { send, receive })
}

#[cfg(test)]
mod tests {
    use super::super::primitives::{cipher, nonce};
    use super::super::tests::hex::hex;
    use super::*;

    const PROLOGUE: &str = "4a6f686e2047616c74";
    const PSK: &str = "54686973206973206d7920417573747269616e20706572737065637469766521";

    fn array(text: &str) -> [u8; 32] {
        hex(text).try_into().unwrap()
    }

    fn pair(private: &str) -> KeyPair {
        KeyPair::new(&array(private))
    }

    /// The key pairs of cacophony's vector for Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s, which many Noise libraries share.
    struct Vector {
        initiator: KeyPair,
        initiator_ephemeral: KeyPair,
        responder: KeyPair,
        responder_ephemeral: KeyPair,
    }

    impl Vector {
        fn new() -> Self {
            Vector {
                initiator: pair("e61ef9919cde45dd5f82166404bd08e38bceb5dfdfded0a34c8df7ed542214d1"),
                initiator_ephemeral: pair("893e28b9dc6ca8d611ab664754b8ceb7bac5117349a4439a6b0569da977c464a"),
                responder: pair("4a3acbfdb163dec651dfa3194dece676d437029c62a408b4c5ea9114246e4893"),
                responder_ephemeral: pair("bbdb4cdbd309f1a1f2e1456967fe288cadd6f712d65dc7b7793d5e63da6b375b"),
            }
        }

        fn start(&self) -> Symmetric {
            Symmetric::new(&hex(PROLOGUE), self.responder.public())
        }
    }

    fn secrets(us: &KeyPair, them: &KeyPair) -> PeerSecrets {
        PeerSecrets::new(us, *them.public(), Some(&Zeroizing::new(array(PSK)))).unwrap()
    }

    #[test]
    fn the_handshake_of_noises_test_vector() {
        let vector = Vector::new();
        let (to_responder, to_initiator) =
            (secrets(&vector.initiator, &vector.responder), secrets(&vector.responder, &vector.initiator));
        let start = vector.start();

        let payload = hex("4c756477696720766f6e204d69736573");
        let mut initiation = vec![0; payload.len() + INITIATION_OVERHEAD_BYTES];
        let ephemeral = vector.initiator_ephemeral;
        let initiated =
            write_initiation(start.clone(), &vector.initiator, &to_responder, ephemeral, &payload, &mut initiation);
        let expected = "ca35def5ae56cec33dc2036731ab14896bc4c75dbb07a61f879f8e3afa4c7944001e21de9f98ddd8e2ad5752720\
                        7feb56253c9c94a9e496782ecfcb2a75fbcaf1b52948cc48daefe660c62119ab5000980c84831215f2441eba616\
                        548e832985464cf17e51ee93109008399a21f7e13f";
        assert_eq!(initiation, hex(expected));

        let sender = read_sender(start, &vector.responder, &initiation).unwrap();
        assert_eq!(sender.public, *vector.initiator.public());
        let mut read = [0; 16];
        let received = sender.authenticate(&to_initiator, &mut read).unwrap();
        assert_eq!(read[..], payload);

        let payload = hex("4d757272617920526f746862617264");
        let mut response = vec![0; payload.len() + RESPONSE_OVERHEAD_BYTES];
        let ephemeral = &vector.responder_ephemeral;
        let responders = write_response(received, &to_initiator, ephemeral, &payload, &mut response).unwrap();
        let expected = "95ebc60d2b1fa672c1f46a8aa265ef51bfe38e7ccb39ec5be34069f144808843cb765f2caef0751b8f007572dab\
                        0322217755c0632f365717edbf34d33e87a";
        assert_eq!(response, hex(expected));

        let mut read = [0; 15];
        let initiators =
            read_response(&initiated.unwrap(), &vector.initiator, &to_responder, &response, &mut read).unwrap();
        assert_eq!(read[..], payload);
        assert_eq!((&initiators.send, &initiators.receive), (&responders.receive, &responders.send));
        let first = sealed(&initiators.send, 0, "462e20412e20486179656b");
        assert_eq!(first, hex("8153ca9833bc3c1b91a7e66e5f4d4f5b59bf9e64c2f20d15f0bba7"));
        let second = sealed(&responders.send, 0, "4361726c204d656e676572");
        assert_eq!(second, hex("07af0c9c86e1b4e80f36b04ff7688d51141af3debd0332f0a705ef"));
        let third = sealed(&initiators.send, 1, "4a65616e2d426170746973746520536179");
        assert_eq!(third, hex("6ab1467c0448cc78394494abaaf23afce0e234315d6e2624dcbfa8a21c1c4d073d"));
    }

    /// A transport message of Noise.
    fn sealed(key: &Key, counter: u64, payload: &str) -> Vec<u8> {
        let mut message = hex(payload);
        let aad = aws_lc_rs::aead::Aad::empty();
        cipher(key).seal_in_place_append_tag(nonce(counter), aad, &mut message).unwrap();
        message
    }

    #[test]
    fn the_beginning_is_that_of_the_paper() {
        // HASH(CONSTRUCTION), and HASH of it with IDENTIFIER: constants in every implementation.
        let construction = hash(&[CONSTRUCTION]);
        assert_eq!(construction[..], hex("60e26daef327efc02ec335e2a025d2d016eb4206f87277f52d38d1988b78cd36"));
        let identified = hash(&[&construction, IDENTIFIER]);
        assert_eq!(identified[..], hex("2211b361081ac566691243db458ad5322d9c6c662293e8b70ee19c65ba079ef3"));
    }

    #[test]
    fn what_is_cut_short_is_not_authentic() {
        let vector = Vector::new();
        let peer = secrets(&vector.initiator, &vector.responder);
        let mut initiation = [0; INITIATION_OVERHEAD_BYTES];
        let ephemeral = KeyPair::new(&[9; 32]);
        let start = vector.start();
        write_initiation(start.clone(), &vector.initiator, &peer, ephemeral, &[], &mut initiation).unwrap();
        for len in 0..initiation.len() {
            let sender = read_sender(start.clone(), &vector.responder, &initiation[..len]);
            let peer = secrets(&vector.responder, &vector.initiator);
            assert!(sender.and_then(|sender| sender.authenticate(&peer, &mut [])).is_none(), "{len}");
        }
    }
}
