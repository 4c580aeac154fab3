//! Postquantum preshared keys (PPK, RFC 8784).

use std::fmt;

use zeroize::Zeroizing;

/// A postquantum preshared key and the name by which both sides know it.
#[derive(Clone)]
pub struct Ppk {
    pub id: Vec<u8>,
    pub secret: Zeroizing<Vec<u8>>,
    /// Without it no tunnel comes up; otherwise a peer that knows no PPK is served all the same (NO_PPK_AUTH).
    pub required: bool,
}

impl fmt::Debug for Ppk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ppk")
            .field("id", &String::from_utf8_lossy(&self.id))
            .field("required", &self.required)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_secret_is_shown() {
        let ppk = Ppk { id: b"2026".to_vec(), secret: Zeroizing::new(b"secret".to_vec()), required: false };
        assert_eq!(format!("{ppk:?}"), "Ppk { id: \"2026\", required: false, .. }");
    }
}
