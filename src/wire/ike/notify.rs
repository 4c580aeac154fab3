//! The Notify payload (RFC 7296 section 3.10), and the types that are sent or understood here.
//!
//! ```text
//! |  protocol ID  |   SPI size    |         notify type           |   then the SPI, then the data
//! ```

use super::reader::Reader;
use super::writer::counted_u8;
use super::{Malformed, ParseError};

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Notify {
    /// Zero unless there is an SPI. Senders disagree on it where there is none, so nothing may hang on it then.
    pub protocol: u8,
    pub spi: Vec<u8>,
    pub kind: u16,
    pub data: Vec<u8>,
}

impl Notify {
    /// About the IKE SA, or about nothing yet: no protocol, no SPI.
    pub fn new(kind: u16, data: Vec<u8>) -> Self {
        Notify { protocol: 0, spi: Vec::new(), kind, data }
    }

    /// Types below 16384 say that a request failed.
    pub fn is_error(&self) -> bool {
        self.kind < FIRST_STATUS
    }

    pub(super) fn parse(mut body: Reader<'_>) -> Result<Self, ParseError> {
        let [protocol, spi_bytes] = body.array()?;
        let kind = body.u16()?;
        body.require(matches!(spi_bytes, 0 | 4 | 8), Malformed::SpiSize)?;
        let spi = body.take(usize::from(spi_bytes))?.to_vec();
        Ok(Notify { protocol, spi, kind, data: body.rest() })
    }

    pub(super) fn emit(&self, out: &mut Vec<u8>) {
        let (spi_bytes, spi) = counted_u8(&self.spi);
        out.extend([self.protocol, spi_bytes]);
        out.extend(self.kind.to_be_bytes());
        out.extend(spi);
        out.extend(&self.data);
    }
}

const FIRST_STATUS: u16 = 16384;

/// One constant and one name for each, so that neither can be forgotten.
macro_rules! notify_types {
    ($($(#[$meta:meta])* $name:ident = $value:literal,)*) => {
        $($(#[$meta])* pub const $name: u16 = $value;)*

        /// As the RFCs write it.
        pub fn name(kind: u16) -> &'static str {
            match kind {
                $($name => stringify!($name),)*
                40960.. => "private status",
                FIRST_STATUS.. => "unknown status",
                8192.. => "private error",
                _ => "unknown error",
            }
        }
    };
}

notify_types! {
    UNSUPPORTED_CRITICAL_PAYLOAD = 1,
    INVALID_IKE_SPI = 4,
    INVALID_MAJOR_VERSION = 5,
    INVALID_SYNTAX = 7,
    INVALID_MESSAGE_ID = 9,
    INVALID_SPI = 11,
    NO_PROPOSAL_CHOSEN = 14,
    INVALID_KE_PAYLOAD = 17,
    AUTHENTICATION_FAILED = 24,
    SINGLE_PAIR_REQUIRED = 34,
    NO_ADDITIONAL_SAS = 35,
    INTERNAL_ADDRESS_FAILURE = 36,
    FAILED_CP_REQUIRED = 37,
    TS_UNACCEPTABLE = 38,
    INVALID_SELECTORS = 39,
    /// RFC 4555, as the two below 16384 that follow.
    UNACCEPTABLE_ADDRESSES = 40,
    UNEXPECTED_NAT_DETECTED = 41,
    TEMPORARY_FAILURE = 43,
    CHILD_SA_NOT_FOUND = 44,
    /// RFC 9370.
    STATE_NOT_FOUND = 47,

    INITIAL_CONTACT = 16384,
    SET_WINDOW_SIZE = 16385,
    ADDITIONAL_TS_POSSIBLE = 16386,
    IPCOMP_SUPPORTED = 16387,
    NAT_DETECTION_SOURCE_IP = 16388,
    NAT_DETECTION_DESTINATION_IP = 16389,
    COOKIE = 16390,
    USE_TRANSPORT_MODE = 16391,
    HTTP_CERT_LOOKUP_SUPPORTED = 16392,
    REKEY_SA = 16393,
    ESP_TFC_PADDING_NOT_SUPPORTED = 16394,
    NON_FIRST_FRAGMENTS_ALSO = 16395,
    /// RFC 4555, up to COOKIE2.
    MOBIKE_SUPPORTED = 16396,
    ADDITIONAL_IP4_ADDRESS = 16397,
    ADDITIONAL_IP6_ADDRESS = 16398,
    NO_ADDITIONAL_ADDRESSES = 16399,
    UPDATE_SA_ADDRESSES = 16400,
    COOKIE2 = 16401,
    NO_NATS_ALLOWED = 16402,
    /// RFC 4478.
    AUTH_LIFETIME = 16403,
    /// RFC 4739.
    MULTIPLE_AUTH_SUPPORTED = 16404,
    ANOTHER_AUTH_FOLLOWS = 16405,
    /// RFC 5685.
    REDIRECT_SUPPORTED = 16406,
    REDIRECT = 16407,
    REDIRECTED_FROM = 16408,
    /// RFC 5998.
    EAP_ONLY_AUTHENTICATION = 16417,
    /// RFC 6023.
    CHILDLESS_IKEV2_SUPPORTED = 16418,
    /// RFC 6290.
    QUICK_CRASH_DETECTION = 16419,
    /// RFC 6311.
    IKEV2_MESSAGE_ID_SYNC_SUPPORTED = 16420,
    /// RFC 7383.
    IKEV2_FRAGMENTATION_SUPPORTED = 16430,
    /// RFC 7427.
    SIGNATURE_HASH_ALGORITHMS = 16431,
    /// RFC 8784, as the two that follow.
    USE_PPK = 16435,
    PPK_IDENTITY = 16436,
    NO_PPK_AUTH = 16437,
    /// RFC 9242.
    INTERMEDIATE_EXCHANGE_SUPPORTED = 16438,
    /// RFC 8983.
    IP4_ALLOWED = 16439,
    IP6_ALLOWED = 16440,
    /// RFC 9370.
    ADDITIONAL_KEY_EXCHANGE = 16441,
    /// RFC 9347.
    USE_AGGFRAG = 16442,
    /// RFC 9593.
    SUPPORTED_AUTH_METHODS = 16443,
    /// Ours, of the range for private use: padding that makes a message as long as the path is to be asked about.
    PATH_PROBE = 54321,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::ike::kind;

    fn parse(bytes: &[u8]) -> Result<Notify, ParseError> {
        Notify::parse(Reader::new(kind::NOTIFY, 0, bytes))
    }

    #[test]
    fn protocol_type_spi_data() {
        let bytes = [3, 4, 0x40, 0x09, 0, 0, 1, 2, 0xaa];
        let notify = parse(&bytes).unwrap();
        assert_eq!(notify, Notify { protocol: 3, spi: vec![0, 0, 1, 2], kind: REKEY_SA, data: vec![0xaa] });
        let mut out = Vec::new();
        notify.emit(&mut out);
        assert_eq!(out, bytes);
        assert_eq!(parse(&[0, 0, 0, 14]), Ok(Notify::new(NO_PROPOSAL_CHOSEN, vec![])));
        assert_eq!(parse(&[1, 0, 0, 14]).unwrap().kind, NO_PROPOSAL_CHOSEN, "some name a protocol without an SPI");
    }

    #[test]
    fn spis_that_no_protocol_has_or_that_are_not_there() {
        for size in [1, 2, 3, 5, 7, 9, 16, 255] {
            let bytes = [&[3, size, 0, 1][..], &[0; 255]].concat();
            assert!(matches!(parse(&bytes), Err(ParseError::Malformed { why: Malformed::SpiSize, .. })), "{size}");
        }
        for bytes in [&[3, 4, 0, 1, 0, 0, 0][..], &[1, 8, 0, 1, 0], &[0, 0, 0], &[]] {
            assert!(matches!(parse(bytes), Err(ParseError::Malformed { why: Malformed::Short, .. })), "{bytes:?}");
        }
    }

    #[test]
    fn names_and_which_are_errors() {
        assert_eq!(name(INVALID_KE_PAYLOAD), "INVALID_KE_PAYLOAD");
        assert_eq!(name(IKEV2_FRAGMENTATION_SUPPORTED), "IKEV2_FRAGMENTATION_SUPPORTED");
        let unknown =
            [(8000, "unknown error"), (8192, "private error"), (16999, "unknown status"), (40960, "private status")];
        for (kind, expected) in unknown {
            assert_eq!(name(kind), expected);
        }
        assert!(Notify::new(16383, vec![]).is_error());
        assert!(!Notify::new(INITIAL_CONTACT, vec![]).is_error());
    }
}
