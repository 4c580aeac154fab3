//! BFD control packets (RFC 5880 section 4.1), as UDP datagrams of a single hop carry them (RFC 5881).

/// Without authentication: the mandatory section alone.
pub const PACKET_BYTES: usize = 24;
/// UDP destination port (RFC 5881 section 4).
pub const PORT: u16 = 3784;
/// What every packet leaves with and must still have: nobody who is further away can send it (RFC 5881 section 5).
pub const HOP_LIMIT: u8 = 255;

const VERSION: u8 = 1;
const POLL: u8 = 0x20;
const FINAL: u8 = 0x10;
const CONTROL_PLANE_INDEPENDENT: u8 = 0x08;
const AUTHENTICATION: u8 = 0x04;
const DEMAND: u8 = 0x02;
const MULTIPOINT: u8 = 0x01;

/// Of a session, as one of its ends sees it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    AdminDown,
    Down,
    Init,
    Up,
}

/// Why a session is not up any more. Others have others: they are kept as they came.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Diagnostic(pub u8);

impl Diagnostic {
    pub const NONE: Diagnostic = Diagnostic(0);
    pub const DETECTION_TIME_EXPIRED: Diagnostic = Diagnostic(1);
    pub const NEIGHBOR_SIGNALED_DOWN: Diagnostic = Diagnostic(3);
    pub const PATH_DOWN: Diagnostic = Diagnostic(5);
    pub const ADMINISTRATIVELY_DOWN: Diagnostic = Diagnostic(7);
}

/// The mandatory section.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Control {
    pub diagnostic: Diagnostic,
    pub state: State,
    pub is_poll: bool,
    pub is_final: bool,
    pub is_control_plane_independent: bool,
    pub is_demand: bool,
    pub multiplier: u8,
    /// Never 0.
    pub my_discriminator: u32,
    /// 0: not known yet. Then the state is [`State::Down`] or [`State::AdminDown`].
    pub your_discriminator: u32,
    pub desired_min_tx_us: u32,
    /// 0: wants no periodic packets.
    pub required_min_rx_us: u32,
    /// 0: takes no echo.
    pub required_min_echo_rx_us: u32,
}

/// Reads a datagram's payload, and makes all those checks of RFC 5880 section 6.8.6 that need no session. `None`: discard it.
/// Nothing here uses authentication, so a packet that has some is discarded as well.
pub fn parse(payload: &[u8]) -> Option<Control> {
    let packet: &[u8; PACKET_BYTES] = payload.first_chunk()?;
    let [first, flags, multiplier, length] = [packet[0], packet[1], packet[2], packet[3]];
    let is_length_good = usize::from(length) >= PACKET_BYTES && usize::from(length) <= payload.len();
    if first >> 5 != VERSION || !is_length_good || multiplier == 0 || flags & (MULTIPOINT | AUTHENTICATION) != 0 {
        return None;
    }
    let control = Control {
        diagnostic: Diagnostic(first & 0x1f),
        state: State::from_bits(flags >> 6),
        is_poll: flags & POLL != 0,
        is_final: flags & FINAL != 0,
        is_control_plane_independent: flags & CONTROL_PLANE_INDEPENDENT != 0,
        is_demand: flags & DEMAND != 0,
        multiplier,
        my_discriminator: word(packet, 4),
        your_discriminator: word(packet, 8),
        desired_min_tx_us: word(packet, 12),
        required_min_rx_us: word(packet, 16),
        required_min_echo_rx_us: word(packet, 20),
    };
    let is_addressed = control.your_discriminator != 0 || matches!(control.state, State::Down | State::AdminDown);
    (control.my_discriminator != 0 && is_addressed).then_some(control)
}

impl Control {
    pub fn emit(&self) -> [u8; PACKET_BYTES] {
        let flag = |is_set: bool, bit: u8| if is_set { bit } else { 0 };
        let mut packet = [0; PACKET_BYTES];
        packet[0] = VERSION << 5 | self.diagnostic.0 & 0x1f;
        packet[1] = self.state.bits() << 6
            | flag(self.is_poll, POLL)
            | flag(self.is_final, FINAL)
            | flag(self.is_control_plane_independent, CONTROL_PLANE_INDEPENDENT)
            | flag(self.is_demand, DEMAND);
        packet[2] = self.multiplier;
        packet[3] = PACKET_BYTES as u8;
        let words = [
            self.my_discriminator,
            self.your_discriminator,
            self.desired_min_tx_us,
            self.required_min_rx_us,
            self.required_min_echo_rx_us,
        ];
        for (place, word) in packet[4..].chunks_exact_mut(4).zip(words) {
            place.copy_from_slice(&word.to_be_bytes());
        }
        packet
    }
}

impl State {
    fn from_bits(bits: u8) -> Self {
        match bits & 3 {
            0 => State::AdminDown,
            1 => State::Down,
            2 => State::Init,
            _ => State::Up,
        }
    }

    fn bits(self) -> u8 {
        match self {
            State::AdminDown => 0,
            State::Down => 1,
            State::Init => 2,
            State::Up => 3,
        }
    }

    /// As the RFC writes it.
    pub fn name(self) -> &'static str {
        match self {
            State::AdminDown => "AdminDown",
            State::Down => "Down",
            State::Init => "Init",
            State::Up => "Up",
        }
    }
}

fn word(packet: &[u8; PACKET_BYTES], at: usize) -> u32 {
    u32::from_be_bytes([packet[at], packet[at + 1], packet[at + 2], packet[at + 3]])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Figure of RFC 5880 section 4.1, filled in by hand: version 1, no diagnostic, Up, poll, multiplier 3, 24 bytes,
    /// discriminators 0x11223344 and 0x55667788, 100 ms, 300 ms, no echo.
    const UP: [u8; PACKET_BYTES] = [
        0x20, 0xe0, 0x03, 0x18, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88, 0x00, 0x01, 0x86, 0xa0, 0x00, 0x04,
        0x93, 0xe0, 0x00, 0x00, 0x00, 0x00,
    ];

    fn with(at: usize, byte: u8) -> [u8; PACKET_BYTES] {
        let mut packet = UP;
        packet[at] = byte;
        packet
    }

    #[test]
    fn the_figure_of_the_rfc_is_read_and_written() {
        let control = parse(&UP).unwrap();
        let expected = Control {
            diagnostic: Diagnostic::NONE,
            state: State::Up,
            is_poll: true,
            is_final: false,
            is_control_plane_independent: false,
            is_demand: false,
            multiplier: 3,
            my_discriminator: 0x1122_3344,
            your_discriminator: 0x5566_7788,
            desired_min_tx_us: 100_000,
            required_min_rx_us: 300_000,
            required_min_echo_rx_us: 0,
        };
        assert_eq!(control, expected);
        assert_eq!(control.emit(), UP);
    }

    /// As BIRD 2.0.12 sent it when it was told that the session is administratively down.
    #[test]
    fn a_packet_of_bird_is_read() {
        let packet = [
            0x23, 0x60, 0x03, 0x18, 0x6b, 0x54, 0x5d, 0x1c, 0x22, 0xf2, 0xf9, 0xad, 0x00, 0x0f, 0x42, 0x40, 0x00, 0x01,
            0x86, 0xa0, 0x00, 0x00, 0x00, 0x00,
        ];
        let control = parse(&packet).unwrap();
        assert_eq!((control.state, control.diagnostic), (State::Down, Diagnostic::NEIGHBOR_SIGNALED_DOWN));
        assert!(control.is_poll && !control.is_final && !control.is_demand);
        assert_eq!((control.my_discriminator, control.your_discriminator), (0x6b54_5d1c, 0x22f2_f9ad));
        assert_eq!(
            (control.desired_min_tx_us, control.required_min_rx_us, control.multiplier),
            (1_000_000, 100_000, 3)
        );
        assert_eq!(control.emit(), packet);
    }

    #[test]
    fn every_field_has_its_place() {
        assert_eq!(parse(&with(0, 0x21)).unwrap().diagnostic, Diagnostic::DETECTION_TIME_EXPIRED);
        assert_eq!(parse(&with(0, 0x27)).unwrap().diagnostic, Diagnostic::ADMINISTRATIVELY_DOWN);
        assert_eq!(parse(&with(1, 0x00)).unwrap().state, State::AdminDown);
        assert_eq!(parse(&with(1, 0x40)).unwrap().state, State::Down);
        assert_eq!(parse(&with(1, 0x80)).unwrap().state, State::Init);
        assert!(parse(&with(1, 0xd0)).unwrap().is_final);
        assert!(parse(&with(1, 0xc8)).unwrap().is_control_plane_independent);
        assert!(parse(&with(1, 0xc2)).unwrap().is_demand);
        assert_eq!(parse(&with(23, 1)).unwrap().required_min_echo_rx_us, 1);
    }

    #[test]
    fn what_section_6_8_6_discards_is_discarded() {
        assert_eq!(parse(&with(0, 0x00)), None, "version 0");
        assert_eq!(parse(&with(0, 0x40)), None, "version 2");
        assert_eq!(parse(&with(3, 23)), None, "a length below the mandatory section");
        assert_eq!(parse(&with(3, 25)), None, "a length beyond the datagram");
        assert_eq!(parse(&UP[..23]), None, "cut short");
        assert_eq!(parse(&with(2, 0)), None, "multiplier 0");
        assert_eq!(parse(&with(1, 0xc1)), None, "multipoint");
        assert_eq!(parse(&with(1, 0xc4)), None, "authentication");
        let mut nobody = UP;
        nobody[4..8].fill(0);
        assert_eq!(parse(&nobody), None, "my discriminator 0");
    }

    #[test]
    fn without_your_discriminator_it_must_say_that_it_is_down() {
        let mut packet = UP;
        packet[8..12].fill(0);
        for (bits, is_taken) in [(0x00, true), (0x40, true), (0x80, false), (0xc0, false)] {
            packet[1] = bits;
            assert_eq!(parse(&packet).is_some(), is_taken, "{bits:#x}");
        }
    }

    #[test]
    fn what_follows_the_packet_in_the_datagram_is_nothing() {
        let mut long = UP.to_vec();
        long.extend([0xff; 8]);
        assert_eq!(parse(&long), parse(&UP));
    }

    proptest! {
        #[test]
        fn anything_may_come(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let _ = parse(&bytes);
        }

        #[test]
        fn what_is_read_is_written_as_it_came(flags in any::<[u8; 3]>(), rest in any::<[u8; 20]>()) {
            let mut packet = [0; PACKET_BYTES];
            packet[..4].copy_from_slice(&[0x20 | flags[0] & 0x1f, flags[1], flags[2], 24]);
            packet[4..].copy_from_slice(&rest);
            if let Some(control) = parse(&packet) {
                prop_assert_eq!(control.emit(), packet);
            }
        }
    }
}
