//! What is signed (RFC 7296 section 2.15), and the proof by preshared key.
//!
//! ```text
//! octets = the signer's first message | the other side's nonce | prf(SK_p, ID type | 0 0 0 | ID) [ | IntAuth, RFC 9242 ]
//! AUTH   = prf(prf(shared secret, "Key Pad for IKEv2"), octets)          or a signature over the octets
//! ```

use aws_lc_rs::constant_time;
use zeroize::Zeroizing;

use crate::crypto::Prf;

const KEY_PAD: &[u8] = b"Key Pad for IKEv2";

/// The parts of the octets of one side: of ours when we sign, of the peer's when we verify.
#[derive(Clone, Copy)]
pub struct Signed<'a> {
    pub prf: Prf,
    /// SK_pi when the initiator signs, SK_pr when the responder does (with a PPK: those of RFC 8784).
    pub sk_p: &'a [u8],
    /// The signer's IKE_SA_INIT message, from the first byte of its header, as it was sent last.
    pub message: &'a [u8],
    /// The nonce of the side that does not sign.
    pub nonce_other: &'a [u8],
    /// ID type and identification data of the signer's ID payload.
    pub id: (u8, &'a [u8]),
    /// IntAuth_i | IntAuth_r | message id of IKE_AUTH (RFC 9242 section 3.3.2), when there was an IKE_INTERMEDIATE.
    pub int_auth: Option<&'a [u8]>,
}

impl Signed<'_> {
    pub(super) fn octets(&self) -> Vec<u8> {
        let (kind, data) = self.id;
        let id = self.prf.compute(self.sk_p, &[&[kind, 0, 0, 0], data]);
        [self.message, self.nonce_other, &id[..], self.int_auth.unwrap_or_default()].concat()
    }

    /// The AUTH data of a preshared key.
    pub(super) fn shared_key_code(&self, secret: &[u8]) -> Zeroizing<Vec<u8>> {
        let key = self.prf.compute(secret, &[KEY_PAD]);
        self.prf.compute(&key, &[&self.octets()])
    }

    pub(super) fn is_shared_key_code(&self, secret: &[u8], data: &[u8]) -> bool {
        constant_time::verify_slices_are_equal(&self.shared_key_code(secret), data).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signed(prf: Prf) -> Signed<'static> {
        Signed {
            prf,
            sk_p: &[7; 32],
            message: b"message",
            nonce_other: b"nonce",
            id: (2, b"gw.example"),
            int_auth: None,
        }
    }

    #[test]
    fn the_octets_are_laid_out_as_in_the_rfc() {
        let id = Prf::HmacSha256.compute(&[7; 32], &[b"\x02\0\0\0gw.example"]);
        let octets = [&b"messagenonce"[..], &id].concat();
        assert_eq!(signed(Prf::HmacSha256).octets(), octets);
        let with_intermediate = Signed { int_auth: Some(b"intauth"), ..signed(Prf::HmacSha256) };
        assert_eq!(with_intermediate.octets(), [&octets[..], b"intauth"].concat());
    }

    /// The nested prf of RFC 7296 section 2.15, computed beside our own prf.
    #[test]
    fn the_code_of_a_shared_key_is_the_nested_prf() {
        use aws_lc_rs::hmac;
        let signed = signed(Prf::HmacSha384);
        let inner = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA384, b"secret"), b"Key Pad for IKEv2");
        let outer = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA384, inner.as_ref()), &signed.octets());
        assert_eq!(signed.shared_key_code(b"secret").as_slice(), outer.as_ref());
    }

    #[test]
    fn every_part_counts() {
        let signed = signed(Prf::HmacSha256);
        let code = signed.shared_key_code(b"secret");
        assert!(signed.is_shared_key_code(b"secret", &code));
        for (other, what) in [
            (Signed { sk_p: &[8; 32], ..signed }, "SK_p"),
            (Signed { message: b"massage", ..signed }, "message"),
            (Signed { nonce_other: b"once", ..signed }, "nonce"),
            (Signed { id: (3, b"gw.example"), ..signed }, "ID type"),
            (Signed { id: (2, b"gw2.example"), ..signed }, "ID"),
            (Signed { int_auth: Some(b"x"), ..signed }, "IntAuth"),
            (Signed { prf: Prf::HmacSha512, ..signed }, "prf"),
        ] {
            assert!(!other.is_shared_key_code(b"secret", &code), "{what}");
        }
        assert!(!signed.is_shared_key_code(b"Secret", &code));
        for wrong in [&code[..31], &[], &[&code[..], &[0]].concat()] {
            assert!(!signed.is_shared_key_code(b"secret", wrong));
        }
    }
}
