//! Writes programs of BPF down (RFC 9669) with registers and labels, so that nobody counts instructions.
//!
//! Only what our programs use. What is wrong (a label that is never placed, a jump too far) is a defect of the program's text and panics when
//! it is assembled, which a test does; what is unsafe the kernel refuses.

use super::{Instruction, instruction};

/// 0 holds results, 1 to 5 arguments, 6 to 9 are kept by calls, 10 is the end of the stack.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Register(pub u8);

pub const R0: Register = Register(0);
pub const R1: Register = Register(1);
pub const R2: Register = Register(2);
pub const R3: Register = Register(3);
pub const R4: Register = Register(4);
pub const R6: Register = Register(6);
pub const R7: Register = Register(7);
pub const R8: Register = Register(8);
pub const R9: Register = Register(9);
pub const STACK: Register = Register(10);

/// A place in the program, known before it is reached.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Label(usize);

/// Of a load or store, in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Width {
    One = 0x10,
    Two = 0x08,
    Four = 0x00,
    Eight = 0x18,
}

/// What a jump looks at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum If {
    Equal = 0x10,
    NotEqual = 0x50,
    Greater = 0x20,
    Less = 0xa0,
    /// As signed numbers, both.
    NotAbove = 0xd0,
    Below = 0xc0,
    /// As signed numbers, both.
    AtLeast = 0x70,
    /// Bits in common.
    Any = 0x40,
}

/// What is done to a register.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Do {
    Add = 0x00,
    Subtract = 0x10,
    Multiply = 0x20,
    And = 0x50,
    ShiftLeft = 0x60,
    ShiftRight = 0x70,
    Set = 0xb0,
}

// Classes.
const LOAD: u8 = 0x01;
const STORE_VALUE: u8 = 0x02;
const STORE: u8 = 0x03;
const ON_32_BITS: u8 = 0x04;
const JUMP: u8 = 0x05;
const ON_64_BITS: u8 = 0x07;
// Modes and sources.
const MEMORY: u8 = 0x60;
const ATOMIC: u8 = 0xc0;
const BY_REGISTER: u8 = 0x08;
/// The source of a load of 64 bits: the value is a map's descriptor, and meant is where its only value lies.
const VALUE_OF_MAP: u8 = 2;
/// The same, and meant is the map itself.
const MAP: u8 = 1;

#[derive(Default)]
pub struct Assembler {
    instructions: Vec<Instruction>,
    /// Where each is.
    labels: Vec<Option<usize>>,
    /// Which instruction jumps to which.
    jumps: Vec<(usize, Label)>,
}

impl Assembler {
    pub fn label(&mut self) -> Label {
        self.labels.push(None);
        Label(self.labels.len() - 1)
    }

    /// The next instruction is there.
    pub fn place(&mut self, label: Label) {
        let before = self.labels[label.0].replace(self.instructions.len());
        assert!(before.is_none(), "a label is one place");
    }

    pub fn load(&mut self, width: Width, to: Register, from: Register, offset: i16) {
        self.push(LOAD | MEMORY | width as u8, to.0, from.0, offset, 0);
    }

    pub fn store(&mut self, width: Width, to: Register, offset: i16, from: Register) {
        self.push(STORE | MEMORY | width as u8, to.0, from.0, offset, 0);
    }

    pub fn store_value(&mut self, width: Width, to: Register, offset: i16, value: i32) {
        self.push(STORE_VALUE | MEMORY | width as u8, to.0, 0, offset, value);
    }

    /// Eight bytes, whoever else adds at the same time.
    pub fn atomic_add(&mut self, to: Register, offset: i16, from: Register) {
        self.push(STORE | ATOMIC | Width::Eight as u8, to.0, from.0, offset, 0);
    }

    /// `value` is extended by its sign.
    pub fn with_value(&mut self, what: Do, register: Register, value: i32) {
        self.push(ON_64_BITS | what as u8, register.0, 0, 0, value);
    }

    pub fn with(&mut self, what: Do, register: Register, other: Register) {
        self.push(ON_64_BITS | BY_REGISTER | what as u8, register.0, other.0, 0, 0);
    }

    /// The same with the low half of the register; the other half is zero then.
    pub fn with_value_32(&mut self, what: Do, register: Register, value: i32) {
        self.push(ON_32_BITS | what as u8, register.0, 0, 0, value);
    }

    /// The low 16 or 32 bits between network order and the machine's; the others are zero then.
    pub fn swap(&mut self, register: Register, bits: i32) {
        self.push(0xdc, register.0, 0, 0, bits);
    }

    /// Where a map's only value lies.
    pub fn address_of_value(&mut self, to: Register, map: i32) {
        self.push(0x18, to.0, VALUE_OF_MAP, 0, map);
        self.push(0, 0, 0, 0, 0);
    }

    /// A map, as the functions take it.
    pub fn map(&mut self, to: Register, map: i32) {
        self.push(0x18, to.0, MAP, 0, map);
        self.push(0, 0, 0, 0, 0);
    }

    pub fn call(&mut self, function: i32) {
        self.push(0x85, 0, 0, 0, function);
    }

    pub fn jump(&mut self, to: Label) {
        self.push_jump(JUMP, 0, 0, 0, to);
    }

    pub fn jump_if(&mut self, register: Register, is: If, value: i32, to: Label) {
        self.push_jump(JUMP | is as u8, register.0, 0, value, to);
    }

    pub fn jump_if_register(&mut self, register: Register, is: If, other: Register, to: Label) {
        self.push_jump(JUMP | BY_REGISTER | is as u8, register.0, other.0, 0, to);
    }

    pub fn answer(&mut self, value: i32) {
        self.with_value(Do::Set, R0, value);
        self.answer_result();
    }

    /// What the register for results holds.
    pub fn answer_result(&mut self) {
        self.push(0x95, 0, 0, 0, 0);
    }

    /// # Panics
    /// When a label was never placed.
    pub fn assemble(mut self) -> Vec<Instruction> {
        for (at, label) in self.jumps {
            let target = self.labels[label.0].expect("every label is placed");
            let offset = i16::try_from(target as isize - at as isize - 1).expect("no jump is so far");
            self.instructions[at].offset = offset;
        }
        self.instructions
    }

    fn push_jump(&mut self, code: u8, destination: u8, source: u8, value: i32, to: Label) {
        self.jumps.push((self.instructions.len(), to));
        self.push(code, destination, source, 0, value);
    }

    fn push(&mut self, code: u8, destination: u8, source: u8, offset: i16, value: i32) {
        self.instructions.push(instruction(code, destination, source, offset, value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jumps_go_to_their_labels_forward_and_over_wide_loads() {
        let mut program = Assembler::default();
        let end = program.label();
        program.jump_if(R1, If::Equal, 7, end);
        program.address_of_value(R2, 5);
        program.with_value(Do::Set, R0, 1);
        program.place(end);
        program.answer(2);
        let expected = [
            instruction(0x15, 1, 0, 3, 7),
            instruction(0x18, 2, 2, 0, 5),
            instruction(0, 0, 0, 0, 0),
            instruction(0xb7, 0, 0, 0, 1),
            instruction(0xb7, 0, 0, 0, 2),
            instruction(0x95, 0, 0, 0, 0),
        ];
        assert_eq!(program.assemble(), expected);
    }

    #[test]
    fn codes_are_those_of_the_standard() {
        let mut program = Assembler::default();
        program.load(Width::One, R1, R2, -3);
        program.load(Width::Two, R1, R2, 0);
        program.load(Width::Four, R1, R2, 0);
        program.load(Width::Eight, R1, R2, 0);
        program.store(Width::Four, R1, 4, R2);
        program.store_value(Width::Eight, STACK, -8, -1);
        program.atomic_add(R1, 8, R2);
        program.with(Do::Subtract, R1, R2);
        program.with_value_32(Do::Multiply, R1, 3);
        program.with_value_32(Do::ShiftRight, R1, 27);
        program.swap(R1, 32);
        program.call(26);
        let codes: Vec<_> = program.assemble().iter().map(|one| one.code).collect();
        assert_eq!(codes, [0x71, 0x69, 0x61, 0x79, 0x63, 0x7a, 0xdb, 0x1f, 0x24, 0x74, 0xdc, 0x85]);
    }

    #[test]
    #[should_panic(expected = "every label is placed")]
    fn a_label_that_is_nowhere_is_found_out() {
        let mut program = Assembler::default();
        let nowhere = program.label();
        program.jump(nowhere);
        program.assemble();
    }
}
