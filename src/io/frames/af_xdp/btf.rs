//! Looks up one function of the running kernel, by name, in the types that it publishes (BTF, Documentation/bpf/btf.rst).

use std::fs;
use std::io;

const PATH: &str = "/sys/kernel/btf/vmlinux";
const MAGIC: u16 = 0xeb9f;
const FUNCTION: u32 = 12;

/// The number by which a program may call it.
pub fn function_of_kernel(name: &str) -> io::Result<u32> {
    let bytes = fs::read(PATH)?;
    find_function(&bytes, name).ok_or_else(|| io::Error::new(io::ErrorKind::Unsupported, format!("it has no {name}")))
}

fn find_function(bytes: &[u8], name: &str) -> Option<u32> {
    if u16::from_ne_bytes(*bytes.first_chunk()?) != MAGIC {
        return None;
    }
    let header = Words(bytes);
    let [header_len, types_at, types_len, strings_at] = [4, 8, 12, 16].map(|at| header.at(at));
    let body = bytes.get(header_len? as usize..)?;
    let strings = body.get(strings_at? as usize..)?;
    let types = Words(body.get(types_at? as usize..)?.get(..types_len? as usize)?);
    let (mut at, mut number) = (0, 1);
    while let (Some(name_at), Some(info)) = (types.at(at), types.at(at + 4)) {
        let (kind, members) = (info >> 24 & 31, (info & 0xffff) as usize);
        if kind == FUNCTION && is_name(strings, name_at as usize, name) {
            return Some(number);
        }
        at += 12 + details_bytes(kind, members)?;
        number += 1;
    }
    None
}

/// What follows a type's three words.
fn details_bytes(kind: u32, members: usize) -> Option<usize> {
    Some(match kind {
        2 | 7..=12 | 16 | 18 => 0,       // pointers, qualifiers, names, functions, floats
        1 | 14 | 17 => 4,                // integers, variables, tags of declarations
        3 => 12,                         // arrays
        6 | 13 => 8 * members,           // enumerations, prototypes
        4 | 5 | 15 | 19 => 12 * members, // structures, unions, sections, wide enumerations
        _ => return None,
    })
}

fn is_name(strings: &[u8], at: usize, name: &str) -> bool {
    strings.get(at..).and_then(|rest| rest.strip_prefix(name.as_bytes())).is_some_and(|rest| rest.first() == Some(&0))
}

/// In this machine's byte order, as the kernel writes them.
struct Words<'a>(&'a [u8]);

impl Words<'_> {
    fn at(&self, at: usize) -> Option<u32> {
        Some(u32::from_ne_bytes(*self.0.get(at..)?.first_chunk()?))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// An integer, a structure of two members, a typedef, then functions.
    fn small(functions: &[&str]) -> Vec<u8> {
        let (mut strings, mut types) = (vec![0], Vec::new());
        types.extend([0, 1 << 24, 4, 0]);
        types.extend([0, 4 << 24 | 2, 8, 0, 1, 0, 0, 1, 32]);
        types.extend([0, 8 << 24, 1]);
        for function in functions {
            types.extend([strings.len() as u32, FUNCTION << 24, 0]);
            strings.extend(function.bytes().chain([0]));
        }
        let lens = [24, 0, types.len() as u32 * 4, types.len() as u32 * 4, strings.len() as u32];
        let mut bytes = [MAGIC.to_ne_bytes(), [1, 0]].concat();
        bytes.extend(lens.iter().chain(&types).flat_map(|word| word.to_ne_bytes()));
        bytes.extend(strings);
        bytes
    }

    #[test]
    fn a_function_is_found_by_its_whole_name() {
        let bytes = small(&["one", "one_more", "two"]);
        assert_eq!(
            ["one", "one_more", "two", "one_", "ne"].map(|name| find_function(&bytes, name)),
            [Some(4), Some(5), Some(6), None, None]
        );
    }

    proptest! {
        #[test]
        fn nothing_panics(cut in 0..200usize, place in 0..200usize, value: u8) {
            let mut bytes = small(&["one", "two"]);
            if let Some(byte) = bytes.get_mut(place) {
                *byte = value;
            }
            bytes.truncate(cut);
            find_function(&bytes, "two");
            find_function(&bytes, "three");
        }
    }
}
