//! Whole ESP packets that others have published.

use proptest::prelude::*;

use super::world::*;
use crate::crypto::{Associated, Cipher, PacketKey, Stamp, Suite};
use crate::ipsec::esp::{self, Header, Overhead};
use crate::ipsec::{ChildSa, Endpoint, Limits};
use crate::net::Timestamp;
use crate::packet::{Datagram, Opened};
use crate::wire::ipv4;

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(|c| !c.is_ascii_whitespace()).collect();
    digits.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

/// RFC 7634 Appendix A: an ICMP packet, SPI 0x01020304, sequence number 5.
const RFC_7634_KEY: &str = "808182838485868788898a8b8c8d8e8f909192939495969798999a9b9c9d9e9fa0a1a2a3";
const RFC_7634_IV: u64 = 0x1011_1213_1415_1617;
const RFC_7634_INNER: &str = "45000054a6f200004001e778c6336405c000020508005b7a3a080000553bec10
    0007362708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f20212223
    2425262728292a2b2c2d2e2f3031323334353637";
const RFC_7634_PACKET: &str = "0102030400000005101112131415161724039428b97f417e3c13753a4f05087b
    67c352e6a7fab1b982d466ef407ae5c614ee8099d52844eb61aa95dfab4c02f7
    2aa71e7c4c4f64c9befe2facc638e8f3cbec163fac469b502773f6fb94e664da
    9165b82829f641e076aaa8266b7fb0f7b11b369907e1ad43";

#[test]
fn the_packet_of_rfc_7634_comes_out_of_an_endpoint() {
    let suite = Suite { cipher: Cipher::ChaCha20Poly1305, integrity: None };
    let key_in = PacketKey::new(suite, &hex(RFC_7634_KEY), &[]).unwrap();
    let mut endpoint = Endpoint::new(Limits::default(), SEED);
    let child = ChildSa { key_in, ..child_with(suite, 0x0102_0304, 0x2000) };
    endpoint.install(child, Timestamp::ZERO).unwrap();
    let (packet, inner) = (hex(RFC_7634_PACKET), hex(RFC_7634_INNER));
    let mut out = vec![0; packet.len()];
    let opened = endpoint.open(Datagram::new(path(4500), &packet), &mut out, Timestamp::ZERO);
    assert_eq!(opened, Opened::Packet { tunnel: TUNNEL, len: inner.len() });
    assert_eq!(out[..inner.len()], inner);
}

#[test]
fn the_packet_of_rfc_7634_is_what_we_seal() {
    let suite = Suite { cipher: Cipher::ChaCha20Poly1305, integrity: None };
    let key = PacketKey::new(suite, &hex(RFC_7634_KEY), &[]).unwrap();
    let inner = hex(RFC_7634_INNER);
    let mut space = vec![0; Overhead::of(&key).sealed_bytes(inner.len())];
    let stamp = Stamp::Esp { spi: 0x0102_0304, sequence: 5, esn: false };
    esp::seal(&key, stamp, RFC_7634_IV, &inner, 4, &mut space);
    assert_eq!(space, hex(RFC_7634_PACKET));
}

struct Gcm {
    key: &'static str,
    /// Salt, then IV.
    nonce: &'static str,
    spi: u32,
    sequence: u64,
    esn: bool,
    payload: &'static str,
    /// Ciphertext, then ICV.
    sealed: &'static str,
}

/// The next header of all of them.
const NEXT_HEADER: u8 = 1;

/// draft-mcgrew-gcm-test-01 section 4: all that have a key of 128 or 256 bits.
const GCM_TEST: &[Gcm] = &[
    Gcm {
        key: "4c80cdefbb5d10da906ac73c3613a634",
        nonce: "2e443b684956ed7e3b244cfe",
        spi: 0x4321,
        sequence: 0x8765_4321_0000_0000,
        esn: true,
        payload: "45000048699a000080114db7c0a80102c0a801010a9bf15638d3010000010000
            00000000045f736970045f756470037369700963796265726369747902646b00
            00210001",
        sealed: "fecf537e729d5b07dc30df528dd22b768d1b98736696a6fd348509fa13ceac34
            cfa2436f14a3f3cf65925bf1f4a13c5d15b21e1884f5ff6247aeabb786b93bce
            61bc17d768fd9732459018148f6cbe722fd04796562dfdb4",
    },
    Gcm {
        key: "feffe9928665731c6d6a8f9467308308",
        nonce: "cafebabefacedbaddecaf888",
        spi: 0xa5f8,
        sequence: 0xa,
        esn: false,
        payload: "4500003e698f000080114dccc0a80102c0a801010a980035002a2343b2d00100
            0001000000000000037369700963796265726369747902646b0000010001",
        sealed: "deb22cd9b07c72c16e3a65beeb8df304a5a5897d33ae530f1ba76d5d114d2a5c
            3de81827c10e9a4f51330d0eec416642cfbb85a5b47e48a4ec3b9ba95d918bd1
            83b70d3aa8bc6ee4c309e9d85a41ad4a",
    },
    Gcm {
        key: "abbccddef00112233445566778899aababbccddef00112233445566778899aab",
        nonce: "112233440102030405060708",
        spi: 0x4a2c_bfe3,
        sequence: 0x2,
        esn: false,
        payload: "4500003069a6400080062690c0a801029389155e0a9e008b2dc57ee000000000
            7002400020bf0000020405b401010402",
        sealed: "ff425c9b724599df7a3bcd510194e00d6a78107f1b0b1cbf06efae9d65a5d763
            748a637985771d347f0545659f14e99def842d8eb335f4eecfdbf831824b4c49
            15956c96",
    },
    Gcm {
        key: "00000000000000000000000000000000",
        nonce: "000000000000000000000000",
        spi: 0x0,
        sequence: 0x1,
        esn: false,
        payload: "4500003c99c500008001cb7a40679318010101010800075c0200440061626364
            65666768696a6b6c6d6e6f7071727374757677616263646566676869",
        sealed: "4688daf2f973a392732909c331d56d60f694abaa414b5e7ff5fdcdfff5e9a284
            456476492719ffb64de7d9dca1e1d894bc3bd57873ed4d181d19d4d5c8c18af3
            f821d496eeb096e98ad2b69e4799c71d",
    },
    Gcm {
        key: "3de09874b388e6491988d0c3607eae1f",
        nonce: "57690e434e280000a2fca1a3",
        spi: 0x42f6_7e3f,
        sequence: 0x1010_1010_1010_1010,
        esn: true,
        payload: "4500003c99c300008001cb7c40679318010101010800085c0200430061626364
            65666768696a6b6c6d6e6f7071727374757677616263646566676869",
        sealed: "fba2caa4853cf9f0f22cb10d86dd83b0fec75691cf1a04b00d1138ec9c357917
            65acbd8701ad79845bf9fe3fba487bc91755e6662b4c8d0d1f5e22739530320a
            e0d731cc978ecafaeae88f00e80d6e48",
    },
    Gcm {
        key: "3de09874b388e6491988d0c3607eae1f",
        nonce: "57690e434e280000a2fca1a3",
        spi: 0x42f6_7e3f,
        sequence: 0x1010_1010_1010_1010,
        esn: true,
        payload: "4500001c42a200008001441f406793b6e00000020a00f5ff",
        sealed: "fba2ca845e5df9f0f22c3e6e86dd831e1fc65792cd1af9130e1379ed369f071f
            35e034be95f112e4e7d05d35",
    },
    Gcm {
        key: "abbccddef00112233445566778899aab",
        nonce: "decaf888cafedebaceface74",
        spi: 0x100,
        sequence: 0x1,
        esn: true,
        payload: "4500004933ba00007f119106c3fb1d10c2b1d326c02831ce0035dd7b800302d5
            00004e20001e8c18d75b81dc91baa0476b91b924b280389d92c963bac046ec95
            9b6266c04722b14923",
        sealed: "18a6fd42f72cbf4ab2a2ea901f73d814e3e7f243d95412e1c349c1d2fbec168f
            9190feebaf2cb01984e65863965d7472b79da345e0e780191f0d2f0e0f496c22
            6f2127b27db35724e7845d68651f57e65f354f75ff17015769623436",
    },
    Gcm {
        key: "abbccddef00112233445566778899aababbccddef00112233445566778899aab",
        nonce: "73616c74616e640169766563",
        spi: 0x1740_5e67,
        sequence: 0x156f_3126_dd0d_b99b,
        esn: true,
        payload: "45080028732c00004006e9f90a0106120a01038f06b88023dd6bafbecb712602
            50101f646d54",
        sealed: "f2d69ecdbd5a0d5b8d5ef38bad4da58d1f278fde98ef67549d524a3018d9a57f
            f4d3a31ce673119e451626c2415771e3b7eebca614c89b35",
    },
    Gcm {
        key: "3de09874b388e6491988d0c3607eae1f",
        nonce: "57690e434e280000a2fca1a3",
        spi: 0x42f6_7e3f,
        sequence: 0x1010_1010_1010_1010,
        esn: true,
        payload: "45000049333e00007f119182c3fb1d10c2b1d326c02831ce0035cb458003025b
            000001e0001e8c18d65759d52284a0352c71475c8880391c764d6e5ee0496b32
            5ae270c03899493915",
        sealed: "fba2cad12fc1f9f00d3cebf305410db83d7784b607323d220f24b0a97d541828
            00cadb0f68d99ef0e0c0c89ae9bea8884e52d65bc1afd0740f742444747b5b39
            ab533163aad4550ee5160975cdb608c5769189609763b8e18caa81e2",
    },
    Gcm {
        key: "abbccddef00112233445566778899aababbccddef00112233445566778899aab",
        nonce: "73616c74616e640169766563",
        spi: 0x1740_5e67,
        sequence: 0x156f_3126_dd0d_b99b,
        esn: true,
        payload: "636973636f0172756c657301746865016e6574776501646566696e6501746865
            746563686e6f6c6f67696573017468617477696c6c01646566696e65746f6d6f
            72726f77",
        sealed: "d4b7ed86a1777f2ea13d6973d324c69e7b43f826fb56831226508bebd2dceb18
            d0a6df10e5487df074113e14c641024e3e6773d91a62ee429b043a10e3efe6b0
            12a49363412364f8c0cac587f249e56b11e24f30e44ccc76",
    },
    Gcm {
        key: "7d773d00c144c525ac619d18c84a3f47",
        nonce: "d966426743457e9182443bc6",
        spi: 0x3354_67ae,
        sequence: 0xffff_ffff,
        esn: false,
        payload: "",
        sealed: "437f866bcb3f699fe9b0822bac961c4504bef270",
    },
    Gcm {
        key: "abbccddef00112233445566778899aab",
        nonce: "decaf888cafedebaceface74",
        spi: 0x100,
        sequence: 0x1,
        esn: true,
        payload: "746f016265016f72016e6f7401746f016265",
        sealed: "29c9fc69a197d038ccdd14e2ddfcaa0543332164412503524303ed3c6c5f2838
            43af8c3e",
    },
    Gcm {
        key: "6c6567616c697a656d6172696a75616e61616e64646f69746265666f72656961",
        nonce: "7475726e333021696765746d",
        spi: 0x796b_6963,
        sequence: 0xffff_ffff_ffff_ffff,
        esn: true,
        payload: "45000030da3a00008001df3bc0a80005c0a800010800c6cd0200070061626364
            65666768696a6b6c6d6e6f7071727374",
        sealed: "f97ab2aa356d8edce17644ac8c78e25dd24dedbb29ebf1b64a274b39b49c3a86
            4cd3d78ca4ae68a32b42458fb57dbe821dcc63b9d0937ba2945f669368661a32
            9fb4c053",
    },
];

#[test]
fn the_packets_of_the_gcm_draft_are_what_we_seal_and_open() {
    for case in GCM_TEST {
        let (key, nonce, payload) = (hex(case.key), hex(case.nonce), hex(case.payload));
        let (salt, iv) = nonce.split_at(4);
        let cipher = if key.len() == 16 { Cipher::AesGcm128 } else { Cipher::AesGcm256 };
        let key = PacketKey::new(Suite { cipher, integrity: None }, &[&key, salt].concat(), &[]).unwrap();
        let header = [&case.spi.to_be_bytes()[..], &(case.sequence as u32).to_be_bytes()].concat();
        let packet = [&header, iv, &hex(case.sealed)].concat();

        let stamp = Stamp::Esp { spi: case.spi, sequence: case.sequence, esn: case.esn };
        let mut space = vec![0; Overhead::of(&key).sealed_bytes(payload.len())];
        let counter = u64::from_be_bytes(*iv.first_chunk().unwrap());
        esp::seal(&key, stamp, counter, &payload, NEXT_HEADER, &mut space);
        assert_eq!(space, packet, "SPI {:#x}", case.spi);

        assert_eq!(Header::parse(&packet), Some(Header { spi: case.spi, sequence_low: case.sequence as u32 }));
        let mut out = vec![0; packet.len()];
        let associated = Associated::Esp { spi: case.spi, sequence: case.sequence, esn: case.esn };
        let len = key.open_into(associated, &packet[esp::HEADER_BYTES..], &mut out).unwrap();
        assert_eq!(esp::parse_trailer(&out[..len]), Some((payload.len(), NEXT_HEADER)));
        assert_eq!(out[..payload.len()], payload);
    }
}

proptest! {
    #[test]
    fn a_trailer_is_read_as_it_was_written(payload in prop::collection::vec(any::<u8>(), 0..100), next: u8, shift in 0..=4) {
        let block = 1usize << shift;
        let mut bytes = payload.clone();
        bytes.resize(esp::padded_bytes(payload.len(), block), 0xff);
        esp::finish(&mut bytes, payload.len(), next);
        prop_assert_eq!(bytes.len() % block, 0);
        prop_assert_eq!(esp::parse_trailer(&bytes), Some((payload.len(), next)));
        prop_assert_eq!(&bytes[..payload.len()], &payload[..]);
    }

    #[test]
    fn an_inner_packet_is_one_that_the_walk_can_read(
        version in 0u8..16, ihl in 0u8..16, total in 0u16..100, len in 0usize..100,
    ) {
        let mut payload = [0; 100];
        payload[0] = version << 4 | ihl;
        payload[2..4].copy_from_slice(&total.to_be_bytes());
        let payload = &payload[..len];
        let parsed = ipv4::parse(payload).map(|header| header.total_bytes).filter(|total| *total <= len);
        prop_assert_eq!(esp::ipv4_bytes(payload), parsed);
    }

    #[test]
    fn reading_a_trailer_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = esp::parse_trailer(&bytes).map(|(len, _)| (esp::ipv4_bytes(&bytes[..len]), esp::ipv6_bytes(&bytes[..len])));
    }
}
