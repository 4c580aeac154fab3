//! Published packets, by the library and by the kernels of this processor.

use super::*;
use crate::crypto::hex::hex;

/// Seals and opens one published packet, both ways.
fn check(cipher: Cipher, key: &str, associated: Associated<'_>, iv: u64, plaintext: &str, sealed: &str) {
    for kernels in [Kernels::default(), Kernels::chosen()] {
        check_with(kernels, cipher, key, associated, iv, plaintext, sealed);
    }
}

fn check_with(
    kernels: Kernels,
    cipher: Cipher,
    key: &str,
    associated: Associated<'_>,
    iv: u64,
    plaintext: &str,
    sealed: &str,
) {
    let aead = Aead::new(cipher, &hex(key), kernels).unwrap();
    let (plaintext, sealed) = (hex(plaintext), [&iv.to_be_bytes()[..], &hex(sealed)].concat());

    let mut buf = [&[0; IV_BYTES][..], &plaintext, &[0; TAG_BYTES]].concat();
    aead.seal(associated, iv, &mut buf);
    assert_eq!(buf, sealed);

    let mut out = vec![0; plaintext.len()];
    assert_eq!(aead.open_into(associated, &sealed, &mut out), Ok(plaintext.len()));
    assert_eq!(out, plaintext);

    let range = aead.open(associated, &mut buf).unwrap();
    assert_eq!(buf[range], plaintext);
}

/// draft-mcgrew-gcm-test-01 section 4: AES-GCM-ESP with extended sequence numbers, 128-bit key.
#[test]
fn aes_gcm_128_in_esp_with_esn() {
    check(
        Cipher::AesGcm128,
        "4c80cdefbb5d10da906ac73c3613a634 2e443b68",
        Associated::Esp { spi: 0x4321, sequence: 0x8765_4321_0000_0000, esn: true },
        0x4956_ed7e_3b24_4cfe,
        "45000048699a000080114db7c0a80102c0a801010a9bf15638d3010000010000
         00000000045f736970045f756470037369700963796265726369747902646b00
         0021000101020201",
        "fecf537e729d5b07dc30df528dd22b768d1b98736696a6fd348509fa13ceac34
         cfa2436f14a3f3cf65925bf1f4a13c5d15b21e1884f5ff6247aeabb786b93bce
         61bc17d768fd9732 459018148f6cbe722fd04796562dfdb4",
    );
    check(
        Cipher::AesGcm128,
        "3de09874b388e6491988d0c3607eae1f 57690e43",
        Associated::Esp { spi: 0x42f6_7e3f, sequence: 0x1010_1010_1010_1010, esn: true },
        0x4e28_0000_a2fc_a1a3,
        "4500001c42a200008001441f406793b6e00000020a00f5ff01020201",
        "fba2ca845e5df9f0f22c3e6e86dd831e1fc65792cd1af9130e1379ed 369f071f35e034be95f112e4e7d05d35",
    );
}

/// draft-mcgrew-gcm-test-01 section 4: AES-GCM-ESP with 32-bit sequence numbers, 256-bit key.
#[test]
fn aes_gcm_256_in_esp() {
    check(
        Cipher::AesGcm256,
        "abbccddef00112233445566778899aababbccddef00112233445566778899aab 11223344",
        Associated::Esp { spi: 0x4a2c_bfe3, sequence: 2, esn: false },
        0x0102_0304_0506_0708,
        "4500003069a6400080062690c0a801029389155e0a9e008b2dc57ee000000000
         7002400020bf0000020405b40101040201020201",
        "ff425c9b724599df7a3bcd510194e00d6a78107f1b0b1cbf06efae9d65a5d763
         748a637985771d347f0545659f14e99def842d8e b335f4eecfdbf831824b4c4915956c96",
    );
}

/// RFC 7634 appendix A.
#[test]
fn chacha20_poly1305_in_esp() {
    check(
        Cipher::ChaCha20Poly1305,
        "808182838485868788898a8b8c8d8e8f909192939495969798999a9b9c9d9e9f a0a1a2a3",
        Associated::Esp { spi: 0x0102_0304, sequence: 5, esn: false },
        0x1011_1213_1415_1617,
        "45000054a6f200004001e778c6336405c000020508005b7a3a080000553bec10
         0007362708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f20212223
         2425262728292a2b2c2d2e2f3031323334353637 01020204",
        "24039428b97f417e3c13753a4f05087b67c352e6a7fab1b982d466ef407ae5c6
         14ee8099d52844eb61aa95dfab4c02f72aa71e7c4c4f64c9befe2facc638e8f3
         cbec163fac469b502773f6fb94e664da9165b82829f641e0 76aaa8266b7fb0f7b11b369907e1ad43",
    );
}

/// RFC 7634 appendix B.
#[test]
fn chacha20_poly1305_in_ike() {
    let message = hex("c0c1c2c3c4c5c6c7d0d1d2d3d4d5d6d72e202500000000090000004529000029");
    check(
        Cipher::ChaCha20Poly1305,
        "808182838485868788898a8b8c8d8e8f909192939495969798999a9b9c9d9e9f a0a1a2a3",
        Associated::Ike(&message),
        0x1011_1213_1415_1617,
        "0000000c000040010000000a00",
        "610394701f8d017f7c12924889 6b71bfe25236efd7cdc67066906315b2",
    );
}

/// The draft has no packet with a 32-bit number of which the high half is known: it must not matter.
#[test]
fn without_esn_only_32_bits_of_the_sequence_number_count() {
    let aead = Aead::new(Cipher::AesGcm128, &[7; 20], Kernels::chosen()).unwrap();
    let mut buf = [0; IV_BYTES + 4 + TAG_BYTES];
    aead.seal(Associated::Esp { spi: 1, sequence: 9, esn: false }, 1, &mut buf);
    let mut out = [0; 4];
    let high = Associated::Esp { spi: 1, sequence: 9 | 1 << 32, esn: false };
    assert_eq!(aead.open_into(high, &buf, &mut out), Ok(4));
    let extended = Associated::Esp { spi: 1, sequence: 9, esn: true };
    assert_eq!(aead.open_into(extended, &buf, &mut out), Err(NotAuthentic));
}
