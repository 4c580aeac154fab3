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

    #[derive(Debug)]
    pub struct Key(Avx512);

    impl Key {
        pub fn new(_: &[u8; 32], processor: Avx512) -> Key {
            match processor {}
        }

        pub fn bytes(&self) -> &[u8; 32] {
            match self.0 {}
        }
    }

    pub fn apply(_: &mut [Packet<'_>]) {}
}
