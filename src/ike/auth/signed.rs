//! What is signed (RFC 7296 section 2.15), and the proof by preshared key.
//!
//! ```text
//! octets = the signer's first message | the other side's nonce | prf(SK_p, ID type | 0 0 0 | ID) [ | IntAuth, RFC 9242 ]
//! AUTH   = prf(prf(shared secret, "Key Pad for IKEv2"), octets)          or a signature over the octets
//! ```

use aws_lc_rs::constant_time;
use zeroize::Zeroizing;

/// The negotiated prf over the concatenation of parts.
pub type Prf<'a> = dyn Fn(&[u8], &[&[u8]]) -> Zeroizing<Vec<u8>> + 'a;

const KEY_PAD: &[u8] = b"Key Pad for IKEv2";

/// The parts of the octets of one side: of ours when we sign, of the peer's when we verify.
#[derive(Clone, Copy)]
pub struct Signed<'a> {
    pub prf: &'a Prf<'a>,
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
        let id = (self.prf)(self.sk_p, &[&[kind, 0, 0, 0], data]);
        [self.message, self.nonce_other, &id[..], self.int_auth.unwrap_or_default()].concat()
    }

    /// The AUTH data of a preshared key.
    pub(super) fn shared_key_code(&self, secret: &[u8]) -> Zeroizing<Vec<u8>> {
        let key = (self.prf)(secret, &[KEY_PAD]);
        (self.prf)(&key, &[&self.octets()])
    }

    pub(super) fn is_shared_key_code(&self, secret: &[u8], data: &[u8]) -> bool {
        constant_time::verify_slices_are_equal(&self.shared_key_code(secret), data).is_ok()
    }
}
