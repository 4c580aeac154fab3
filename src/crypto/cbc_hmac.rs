//! Packets under AES-CBC and an HMAC, encrypt then MAC: RFC 3602 and RFC 4868, in ESP (RFC 4303) and IKE (RFC 7296
//! section 3.14).
//!
//! The MAC is checked before anything is decrypted, and padding is looked at by the caller only behind that: there is no
//! padding oracle. Keys are scheduled and the HMAC's two key blocks hashed once; a packet copies that state to the stack
//! (aws-lc copies an HMAC context as plain memory, and wipes it) and allocates nothing.

use std::ops::Range;

use aws_lc_rs::cipher::{self, DecryptingKey, DecryptionContext, EncryptingKey, EncryptionContext, UnboundCipherKey};
use aws_lc_rs::iv::FixedLength;
use aws_lc_rs::{constant_time, hmac};

use super::packet_key::{Associated, NotAuthentic};
use super::suite::{Cipher, Integrity};

const BLOCK_BYTES: usize = 16;
const IV_BYTES: usize = 16;

pub(super) struct CbcHmac {
    encrypting: EncryptingKey,
    decrypting: DecryptingKey,
    mac: hmac::Key,
    icv_bytes: usize,
}

impl CbcHmac {
    /// `None` if the cipher is not AES-CBC or the key has not its length.
    pub(super) fn new(cipher: Cipher, key: &[u8], integrity: Integrity, integrity_key: &[u8]) -> Option<CbcHmac> {
        let algorithm = match cipher {
            Cipher::AesCbc128 => &cipher::AES_128,
            Cipher::AesCbc192 => &cipher::AES_192,
            Cipher::AesCbc256 => &cipher::AES_256,
            Cipher::AesGcm128 | Cipher::AesGcm256 | Cipher::ChaCha20Poly1305 => return None,
        };
        let hash = match integrity {
            Integrity::HmacSha256_128 => hmac::HMAC_SHA256,
            Integrity::HmacSha384_192 => hmac::HMAC_SHA384,
            Integrity::HmacSha512_256 => hmac::HMAC_SHA512,
        };
        Some(CbcHmac {
            encrypting: EncryptingKey::cbc(UnboundCipherKey::new(algorithm, key).ok()?).ok()?,
            decrypting: DecryptingKey::cbc(UnboundCipherKey::new(algorithm, key).ok()?).ok()?,
            mac: hmac::Key::new(hash, integrity_key),
            icv_bytes: integrity.icv_bytes(),
        })
    }

    pub(super) fn seal(&self, associated: Associated<'_>, counter: u64, buf: &mut [u8]) {
        let sealed_bytes = buf.len().checked_sub(self.icv_bytes).expect("room for the ICV");
        let (sealed, icv) = buf.split_at_mut(sealed_bytes);
        let (iv, plaintext) = sealed.split_first_chunk_mut().expect("room for the IV");
        *iv = self.unpredictable_iv(counter);
        self.encrypt(iv, plaintext);
        let tag = self.tag(associated, sealed);
        icv.copy_from_slice(&tag.as_ref()[..self.icv_bytes]);
    }

    /// From `text` to `sealed`, see [`super::batch::SealJob`]. Encryption works in place only, so the text is copied first.
    /// `None`: the lengths do not agree, and nothing of `text` is in `sealed`.
    pub(super) fn seal_into(
        &self,
        associated: Associated<'_>,
        counter: u64,
        text: &[u8],
        sealed: &mut [u8],
    ) -> Option<()> {
        let fits = sealed.len() == IV_BYTES + text.len() + self.icv_bytes && text.len().is_multiple_of(BLOCK_BYTES);
        let place = sealed.get_mut(IV_BYTES..IV_BYTES + text.len()).filter(|_| fits)?;
        place.copy_from_slice(text);
        self.seal(associated, counter, sealed);
        Some(())
    }

    pub(super) fn open(&self, associated: Associated<'_>, buf: &mut [u8]) -> Result<Range<usize>, NotAuthentic> {
        let (iv, ciphertext) = self.authenticate(associated, buf)?;
        let (iv, plaintext) = (*iv, IV_BYTES..IV_BYTES + ciphertext.len());
        self.decrypt(&iv, buf.get_mut(plaintext.clone()).ok_or(NotAuthentic)?)?;
        Ok(plaintext)
    }

    /// Decryption works in place only, so the ciphertext is copied first: a few per cent of what decrypting it costs.
    pub(super) fn open_into(
        &self,
        associated: Associated<'_>,
        sealed: &[u8],
        out: &mut [u8],
    ) -> Result<usize, NotAuthentic> {
        let (iv, ciphertext) = self.authenticate(associated, sealed)?;
        let out = out.get_mut(..ciphertext.len()).ok_or(NotAuthentic)?;
        out.copy_from_slice(ciphertext);
        self.decrypt(iv, out)?;
        Ok(ciphertext.len())
    }

    /// IV and ciphertext of a packet whose ICV is right.
    fn authenticate<'a>(
        &self,
        associated: Associated<'_>,
        buf: &'a [u8],
    ) -> Result<(&'a [u8; IV_BYTES], &'a [u8]), NotAuthentic> {
        let sealed_bytes = buf.len().checked_sub(self.icv_bytes).ok_or(NotAuthentic)?;
        let (sealed, icv) = buf.split_at_checked(sealed_bytes).ok_or(NotAuthentic)?;
        let (iv, ciphertext) = sealed.split_first_chunk().ok_or(NotAuthentic)?;
        if !ciphertext.len().is_multiple_of(BLOCK_BYTES) {
            return Err(NotAuthentic);
        }
        let tag = self.tag(associated, sealed);
        constant_time::verify_slices_are_equal(&tag.as_ref()[..self.icv_bytes], icv).map_err(|_| NotAuthentic)?;
        Ok((iv, ciphertext))
    }

    /// ESP: SPI | low half of the sequence number | IV | ciphertext, and with ESN the high half, which is not in the
    /// packet, behind it (RFC 4303 section 2.2.1). IKE: the message up to the ICV (RFC 7296 section 3.14).
    fn tag(&self, associated: Associated<'_>, sealed: &[u8]) -> hmac::Tag {
        let mut mac = hmac::Context::with_key(&self.mac);
        match associated {
            Associated::Esp { spi, sequence, esn } => {
                let mut header = [0; 8];
                header[..4].copy_from_slice(&spi.to_be_bytes());
                header[4..].copy_from_slice(&(sequence as u32).to_be_bytes());
                mac.update(&header);
                mac.update(sealed);
                if esn {
                    mac.update(&((sequence >> 32) as u32).to_be_bytes());
                }
            }
            Associated::Ike(message) => {
                mac.update(message);
                mac.update(sealed);
            }
        }
        mac.sign()
    }

    /// SP 800-38A appendix C, first method: the cipher, under the same key, over a value that never repeats.
    fn unpredictable_iv(&self, counter: u64) -> [u8; IV_BYTES] {
        let mut block = [0; IV_BYTES];
        block[8..].copy_from_slice(&counter.to_be_bytes());
        self.encrypt(&[0; IV_BYTES], &mut block);
        block
    }

    fn encrypt(&self, iv: &[u8; IV_BYTES], blocks: &mut [u8]) {
        self.encrypting
            .less_safe_encrypt(blocks, EncryptionContext::Iv128(FixedLength::from(*iv)))
            .expect("the plaintext is padded to whole blocks");
    }

    fn decrypt(&self, iv: &[u8; IV_BYTES], blocks: &mut [u8]) -> Result<(), NotAuthentic> {
        self.decrypting
            .decrypt(blocks, DecryptionContext::Iv128(FixedLength::from(*iv)))
            .map(drop)
            .map_err(|_| NotAuthentic)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::Prf;
    use crate::crypto::hex::hex;

    fn key(cipher: Cipher, key: &str) -> CbcHmac {
        CbcHmac::new(cipher, &hex(key), Integrity::HmacSha256_128, &[0; 32]).unwrap()
    }

    fn check_cipher(cbc: &CbcHmac, iv: &str, plaintext: &str, ciphertext: &str) {
        let iv: [u8; IV_BYTES] = hex(iv).try_into().unwrap();
        let mut blocks = hex(plaintext);
        cbc.encrypt(&iv, &mut blocks);
        assert_eq!(blocks, hex(ciphertext));
        cbc.decrypt(&iv, &mut blocks).unwrap();
        assert_eq!(blocks, hex(plaintext));
    }

    /// RFC 3602 section 4, cases 1, 2 and 5 (the payload of a transport mode ESP packet, with its padding).
    #[test]
    fn aes_cbc_of_rfc_3602() {
        check_cipher(
            &key(Cipher::AesCbc128, "06a9214036b8a15b512e03d534120006"),
            "3dafba429d9eb430b422da802c9fac41",
            "53696e676c6520626c6f636b206d7367", // "Single block msg"
            "e353779c1079aeb82708942dbe77181a",
        );
        check_cipher(
            &key(Cipher::AesCbc128, "c286696d887c9aa0611bbb3e2025a45a"),
            "562e17996d093d28ddb3ba695a2e6f58",
            "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f",
            "d296cd94c2cccf8a3a863028b5e1dc0a7586602d253cfff91b8266bea6d61ab1",
        );
        check_cipher(
            &key(Cipher::AesCbc128, "90d382b410eeba7ad938c46cec1a82bf"),
            "e96e8c08ab465763fd098d45dd3ff893",
            "08000ebda70a00008e9c083db95b070008090a0b0c0d0e0f1011121314151617
             18191a1b1c1d1e1f202122232425262728292a2b2c2d2e2f3031323334353637
             0102030405060708090a0b0c0d0e0e01",
            "f663c25d325c18c6a9453e194e120849a4870b66cc6b9965330013b4898dc856
             a4699e523a55db080b59ec3a8e4b7e52775b07d1db34ed9c538ab50c551b874a
             a269add047ad2d5913ac19b7cfbad4a6",
        );
    }

    /// NIST SP 800-38A, F.2.1 to F.2.6.
    #[test]
    fn aes_cbc_of_sp_800_38a() {
        let plaintext = "6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e51
                         30c81c46a35ce411e5fbc1191a0a52eff69f2445df4f9b17ad2b417be66c3710";
        let vectors = [
            (
                Cipher::AesCbc128,
                "2b7e151628aed2a6abf7158809cf4f3c",
                "7649abac8119b246cee98e9b12e9197d5086cb9b507219ee95db113a917678b2
                 73bed6b8e3c1743b7116e69e222295163ff1caa1681fac09120eca307586e1a7",
            ),
            (
                Cipher::AesCbc192,
                "8e73b0f7da0e6452c810f32b809079e562f8ead2522c6b7b",
                "4f021db243bc633d7178183a9fa071e8b4d9ada9ad7dedf4e5e738763f69145a
                 571b242012fb7ae07fa9baac3df102e008b0e27988598881d920a9e64f5615cd",
            ),
            (
                Cipher::AesCbc256,
                "603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4",
                "f58c4c04d6e5f1ba779eabfb5f7bfbd69cfc4e967edb808d679f777bc6702c7d
                 39f23369a9d9bacfa530e26304231461b2eb05e2c39be9fcda6c19078c6a9d1b",
            ),
        ];
        for (cipher, bytes, ciphertext) in vectors {
            check_cipher(&key(cipher, bytes), "000102030405060708090a0b0c0d0e0f", plaintext, ciphertext);
        }
    }

    /// RFC 4868 section 2.7.2, the first three cases of each: keys as long as the hash, output cut to half of it.
    #[test]
    fn truncated_hmacs_of_rfc_4868() {
        let question = b"what do ya want for nothing?";
        let vectors: [(Integrity, &[u8], &[u8], &str); 9] = [
            (Integrity::HmacSha256_128, b"\x0b", b"Hi There", "198a607eb44bfbc69903a0f1cf2bbdc5"),
            (Integrity::HmacSha256_128, b"Jefe", question, "167f928588c5cc2eef8e3093caa0e87c"),
            (Integrity::HmacSha256_128, b"\xaa", &[0xdd; 50], "cdcb1220d1ecccea91e53aba3092f962"),
            (Integrity::HmacSha384_192, b"\x0b", b"Hi There", "b6a8d5636f5c6a7224f9977dcf7ee6c7fb6d0c48cbdee973"),
            (Integrity::HmacSha384_192, b"Jefe", question, "2c7353974f1842fd66d53c452ca42122b28c0b594cfb184d"),
            (Integrity::HmacSha384_192, b"\xaa", &[0xdd; 50], "809f439be00274321d4a538652164b53554a508184a0c316"),
            (
                Integrity::HmacSha512_256,
                b"\x0b",
                b"Hi There",
                "637edc6e01dce7e6742a99451aae82df23da3e92439e590e43e761b33e910fb8",
            ),
            (
                Integrity::HmacSha512_256,
                b"Jefe",
                question,
                "cb370917ae8a7ce28cfd1d8f4705d6141c173b2a9362c15df235dfb251b15454",
            ),
            (
                Integrity::HmacSha512_256,
                b"\xaa",
                &[0xdd; 50],
                "2ee7acd783624ca9398710f3ee05ae41b9f9b0510c87e49e586cc9bf961733d8",
            ),
        ];
        for (integrity, pattern, data, expected) in vectors {
            let integrity_key = pattern.repeat(integrity.key_bytes() / pattern.len());
            let cbc = CbcHmac::new(Cipher::AesCbc128, &[0; 16], integrity, &integrity_key).unwrap();
            let tag = cbc.tag(Associated::Ike(data), &[]);
            assert_eq!(tag.as_ref()[..integrity.icv_bytes()], hex(expected));
        }
    }

    /// RFC 4303 section 2.2.1 and figure 3: where the two halves of the sequence number stand in what is authenticated.
    #[test]
    fn the_icv_of_esp_covers_header_packet_and_the_high_half_of_the_number() {
        let cbc = CbcHmac::new(Cipher::AesCbc256, &[1; 32], Integrity::HmacSha512_256, &[2; 64]).unwrap();
        let mut buf = [3; IV_BYTES + 32 + 32];
        cbc.seal(Associated::Esp { spi: 0x1122_3344, sequence: 0x5566_7788_99aa_bbcc, esn: true }, 1, &mut buf);
        let (sealed, icv) = buf.split_at(IV_BYTES + 32);
        let expected = Prf::HmacSha512.compute(&[2; 64], &[&hex("11223344 99aabbcc"), sealed, &hex("55667788")]);
        assert_eq!(icv, &expected[..32]);

        let mut buf = [3; IV_BYTES + 32 + 32];
        cbc.seal(Associated::Esp { spi: 0x1122_3344, sequence: 0x99aa_bbcc, esn: false }, 1, &mut buf);
        let (sealed, icv) = buf.split_at(IV_BYTES + 32);
        let expected = Prf::HmacSha512.compute(&[2; 64], &[&hex("11223344 99aabbcc"), sealed]);
        assert_eq!(icv, &expected[..32]);
    }

    /// NIST SP 800-38A, F.1.5 shows the cipher alone; FIPS 197 appendix B gives one block to hold the IV against.
    #[test]
    fn the_iv_is_the_counter_encrypted() {
        let cbc = key(Cipher::AesCbc128, "2b7e151628aed2a6abf7158809cf4f3c");
        let mut block = hex("3243f6a8885a308d313198a2e0370734");
        cbc.encrypt(&[0; IV_BYTES], &mut block);
        assert_eq!(block, hex("3925841d02dc09fbdc118597196a0b32"), "with an IV of zeros, CBC is the cipher");

        let mut counter = [0; IV_BYTES];
        counter[15] = 5;
        cbc.encrypt(&[0; IV_BYTES], &mut counter);
        assert_eq!(cbc.unpredictable_iv(5), counter);
        assert_ne!(cbc.unpredictable_iv(5), cbc.unpredictable_iv(6));
    }

    #[test]
    fn half_blocks_are_refused_even_if_their_icv_is_right() {
        let cbc = key(Cipher::AesCbc128, "2b7e151628aed2a6abf7158809cf4f3c");
        let message = [9; 28];
        for body_bytes in [0, 16, 20, 32, 47] {
            let mut buf = vec![4; IV_BYTES + body_bytes];
            let tag = cbc.tag(Associated::Ike(&message), &buf);
            buf.extend_from_slice(&tag.as_ref()[..16]);
            let opened = cbc.open(Associated::Ike(&message), &mut buf);
            assert_eq!(opened.is_ok(), body_bytes % BLOCK_BYTES == 0, "{body_bytes}");
        }
    }
}
