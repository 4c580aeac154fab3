//! What is signed (RFC 7296 section 2.15), and the proof by preshared key.
//!
//! ```text
//! octets = the signer's first message | the other side's nonce | prf(SK_p, ID type | 0 0 0 | ID) [ | IntAuth, RFC 9242 ]
//! AUTH   = prf(prf(shared secret, "Key Pad for IKEv2"), octets)          or a signature over the octets
//! ```

use aws_lc_rs::constant_time;
use zeroize::Zeroizing;

use crate::crypto::Prf;
use crate::wire::ike::Identification;

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
    pub id: &'a Identification,
    /// IntAuth_i | IntAuth_r | message id of IKE_AUTH (RFC 9242 section 3.3.2), when there was an IKE_INTERMEDIATE.
    pub int_auth: Option<&'a [u8]>,
}

impl Signed<'_> {
    pub fn octets(&self) -> Vec<u8> {
        let id = self.prf.compute(self.sk_p, &[&self.id.body()]);
        [self.message, self.nonce_other, &id[..], self.int_auth.unwrap_or_default()].concat()
    }
}

/// The AUTH data of a preshared key.
pub(super) fn shared_key_code(prf: Prf, secret: &[u8], octets: &[u8]) -> Zeroizing<Vec<u8>> {
    prf.compute(&prf.compute(secret, &[KEY_PAD]), &[octets])
}

pub(super) fn is_shared_key_code(prf: Prf, secret: &[u8], octets: &[u8], data: &[u8]) -> bool {
    constant_time::verify_slices_are_equal(&shared_key_code(prf, secret, octets), data).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PRF: Prf = Prf::HmacSha256;

    fn id(kind: u8, data: &str) -> Identification {
        Identification { kind, data: data.into() }
    }

    fn signed(id: &Identification) -> Signed<'_> {
        Signed { prf: PRF, sk_p: &[7; 32], message: b"message", nonce_other: b"nonce", id, int_auth: None }
    }

    #[test]
    fn the_octets_are_laid_out_as_in_the_rfc() {
        let id = id(2, "gw.example");
        let mac = PRF.compute(&[7; 32], &[b"\x02\0\0\0gw.example"]);
        let octets = [&b"messagenonce"[..], &mac].concat();
        assert_eq!(signed(&id).octets(), octets);
        let with_intermediate = Signed { int_auth: Some(b"intauth"), ..signed(&id) };
        assert_eq!(with_intermediate.octets(), [&octets[..], b"intauth"].concat());
    }

    /// The nested prf of RFC 7296 section 2.15, computed beside our own prf.
    #[test]
    fn the_code_of_a_shared_key_is_the_nested_prf() {
        use aws_lc_rs::hmac;
        let inner = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA384, b"secret"), b"Key Pad for IKEv2");
        let outer = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA384, inner.as_ref()), b"octets");
        assert_eq!(shared_key_code(Prf::HmacSha384, b"secret", b"octets").as_slice(), outer.as_ref());
    }

    #[test]
    fn every_part_counts() {
        let (named, other_type, other_name) = (id(2, "gw.example"), id(3, "gw.example"), id(2, "gw2.example"));
        let signed = signed(&named);
        let code = shared_key_code(PRF, b"secret", &signed.octets());
        let holds = |signed: Signed<'_>, secret, code: &[u8]| is_shared_key_code(PRF, secret, &signed.octets(), code);
        assert!(holds(signed, b"secret", &code));
        for (other, what) in [
            (Signed { sk_p: &[8; 32], ..signed }, "SK_p"),
            (Signed { message: b"massage", ..signed }, "message"),
            (Signed { nonce_other: b"once", ..signed }, "nonce"),
            (Signed { id: &other_type, ..signed }, "ID type"),
            (Signed { id: &other_name, ..signed }, "ID"),
            (Signed { int_auth: Some(b"x"), ..signed }, "IntAuth"),
            (Signed { prf: Prf::HmacSha512, ..signed }, "prf"),
        ] {
            assert!(!holds(other, b"secret", &code), "{what}");
        }
        assert!(!holds(signed, b"Secret", &code));
        for wrong in [&code[..31], &[], &[&code[..], &[0]].concat()] {
            assert!(!holds(signed, b"secret", wrong));
        }
    }
}
