//! Where there are no kernels: on other processors than x86-64. Nothing of this is ever made.

pub mod avx512 {
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub enum Avx512 {}

    impl Avx512 {
        pub fn detect() -> Option<Avx512> {
            None
        }
    }
}

pub mod chacha20_poly1305 {
    use super::avx512::Avx512;

    pub const PACKETS: usize = 64;

    pub type Packet<'a> = super::super::packets::Packet<'a, Key>;

    #[derive(Clone, Debug)]
    pub struct Key(Avx512);

    impl Key {
        pub fn new(_: &[u8; 32], processor: Avx512) -> Key {
            match processor {}
        }

        pub fn bytes(&self) -> &[u8; 32] {
            match self.0 {}
        }

        pub fn touch(&self) {
            match self.0 {}
        }

        pub fn identity(&self) -> usize {
            match self.0 {}
        }
    }

    pub fn apply(_: &mut [Packet<'_>]) {}
}

pub mod aes_gcm {
    use super::avx512::Avx512;

    pub type Packet<'a> = super::super::packets::Packet<'a, Key>;

    #[derive(Clone, Debug)]
    pub struct Key(Avx512);

    impl Key {
        pub fn new_128(_: &[u8; 16], processor: Avx512) -> Key {
            match processor {}
        }

        pub fn new_256(_: &[u8; 32], processor: Avx512) -> Key {
            match processor {}
        }

        pub fn with_bytes<Answer>(&self, _: impl FnOnce(&[u8]) -> Answer) -> Answer {
            match self.0 {}
        }

        pub fn touch(&self) {
            match self.0 {}
        }

        pub fn identity(&self) -> usize {
            match self.0 {}
        }
    }

    pub fn apply(packet: &mut Packet<'_>) {
        packet.key.touch()
    }

    pub fn wipe() {}
}
