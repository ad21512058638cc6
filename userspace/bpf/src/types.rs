//! Where this kernel has its fields: its own types, as it shows them (BTF).
//!
//! aya reads these too, but does not say where a field is; crates that do are under the LGPL, or
//! make a string of each of the 100,000 names.

use std::{fs, io};

/// The kernel's types. CONFIG_DEBUG_INFO_BTF has it show them.
const KERNEL: &str = "/sys/kernel/btf/vmlinux";

const MAGIC: u32 = 0xeb9f;
/// A type's name, kind and size.
const HEAD: usize = 12;
const MEMBER: usize = 12;
/// Anonymous structures within others do not go deeper.
const DEEPEST: usize = 8;

/// Kinds of types (`include/uapi/linux/btf.h`).
mod kind {
    pub(super) const INT: u32 = 1;
    pub(super) const ARRAY: u32 = 3;
    pub(super) const STRUCT: u32 = 4;
    pub(super) const UNION: u32 = 5;
    pub(super) const ENUM: u32 = 6;
    pub(super) const TYPEDEF: u32 = 8;
    pub(super) const VOLATILE: u32 = 9;
    pub(super) const CONST: u32 = 10;
    pub(super) const RESTRICT: u32 = 11;
    pub(super) const FUNC_PROTO: u32 = 13;
    pub(super) const VAR: u32 = 14;
    pub(super) const DATASEC: u32 = 15;
    pub(super) const DECL_TAG: u32 = 17;
    pub(super) const TYPE_TAG: u32 = 18;
    pub(super) const ENUM64: u32 = 19;
}

/// Types, read as they lie.
pub(crate) struct Types {
    bytes: Vec<u8>,
    /// Where each type is; the first is number 1.
    at: Vec<usize>,
    /// Where the names are.
    names: usize,
}

impl Types {
    /// Those of this kernel.
    pub(crate) fn of_kernel() -> io::Result<Self> {
        let malformed = || io::Error::new(io::ErrorKind::InvalidData, "not BTF as it is known");
        Self::parse(fs::read(KERNEL)?).ok_or_else(malformed)
    }

    fn parse(bytes: Vec<u8>) -> Option<Self> {
        let mut types = Self {
            bytes,
            at: Vec::new(),
            names: 0,
        };
        if types.word(0)? & 0xffff != MAGIC {
            return None;
        }
        let word = |at| Some(types.word(at)? as usize);
        let header = word(4)?;
        let (mut at, names) = (header + word(8)?, header + word(16)?);
        let end = at + word(12)?;
        let mut found = Vec::new();
        while at < end {
            found.push(at);
            let (kind, count) = types.kind(at)?;
            let more = match kind {
                kind::INT | kind::VAR | kind::DECL_TAG => 4,
                kind::ARRAY => 12,
                kind::STRUCT | kind::UNION | kind::DATASEC | kind::ENUM64 => 12 * count,
                kind::ENUM | kind::FUNC_PROTO => 8 * count,
                // What is not known may be longer than this.
                unknown if unknown > kind::ENUM64 => return None,
                _ => 0,
            };
            at += HEAD + more;
        }
        (types.at, types.names) = (found, names);
        Some(types)
    }

    /// How many bytes into a structure a field is: `a.b` is field `b` of its field `a`.
    pub(crate) fn offset(&self, structure: &str, path: &str) -> Option<u32> {
        let is_it = |at: &usize| {
            self.kind(*at).is_some_and(|(kind, _)| kind == kind::STRUCT)
                && self.is_named(*at, structure)
        };
        // A name can be that of several, of which the others are some driver's.
        let mut all = self.at.iter().copied().filter(is_it);
        all.find_map(|at| self.offset_in(at, path))
    }

    fn offset_in(&self, structure: usize, path: &str) -> Option<u32> {
        let (mut within, mut bits) = (structure, 0);
        for name in path.split('.') {
            let (offset, its_type) = self.member(within, name, DEEPEST)?;
            bits += offset;
            within = self.resolved(its_type).unwrap_or(usize::MAX);
        }
        (bits % 8 == 0).then_some(bits / 8)
    }

    /// A field's offset in bits, and its type: of the structure, or of one without a name in it.
    fn member(&self, structure: usize, name: &str, depth: usize) -> Option<(u32, u32)> {
        let (kind, count) = self.kind(structure)?;
        let depth = depth.checked_sub(1)?;
        if kind != kind::STRUCT && kind != kind::UNION {
            return None;
        }
        let members = (0..count).map(|member| structure + HEAD + member * MEMBER);
        for at in members {
            let (its_type, offset) = (self.word(at + 4)?, self.word(at + 8)? & 0x00ff_ffff);
            if self.is_named(at, name) {
                return Some((offset, its_type));
            }
            if self.word(at)? == 0
                && let Some(inner) = self.resolved(its_type)
                && let Some((more, its_type)) = self.member(inner, name, depth)
            {
                return Some((offset + more, its_type));
            }
        }
        None
    }

    /// Where a type is that has other names, `const` or `volatile`.
    fn resolved(&self, number: u32) -> Option<usize> {
        let mut number = number;
        for _ in 0..DEEPEST {
            let at = *self.at.get((number as usize).checked_sub(1)?)?;
            match self.kind(at)?.0 {
                kind::TYPEDEF | kind::VOLATILE | kind::CONST | kind::RESTRICT | kind::TYPE_TAG => {
                    number = self.word(at + 8)?;
                }
                _ => return Some(at),
            }
        }
        None
    }

    /// A type's kind, and how many parts it has.
    fn kind(&self, at: usize) -> Option<(u32, usize)> {
        let info = self.word(at + 4)?;
        Some((info >> 24 & 0x1f, (info & 0xffff) as usize))
    }

    /// Whether the name that is noted here is this one.
    fn is_named(&self, at: usize, name: &str) -> bool {
        let noted = || {
            let from = self.names.checked_add(self.word(at)? as usize)?;
            self.bytes.get(from..)?.strip_prefix(name.as_bytes())
        };
        noted().is_some_and(|rest| rest.first() == Some(&0))
    }

    fn word(&self, at: usize) -> Option<u32> {
        let bytes = self.bytes.get(at..)?.first_chunk()?;
        Some(u32::from_ne_bytes(*bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `struct outer { int first; union { struct { int a; int b; }; int c; }; typedef inner; }`,
    /// in words.
    fn example() -> Vec<u8> {
        let names = b"\0outer\0first\0a\0b\0c\0inner\0";
        let (outer, first, a, b, c, inner) = (1, 7, 13, 15, 17, 19);
        let of = |kind: u32, count: u32| kind << 24 | count;
        let types: Vec<u32> = [
            vec![0, of(kind::INT, 0), 4, 32],
            vec![0, of(kind::STRUCT, 2), 8, a, 1, 0, b, 1, 32],
            vec![0, of(kind::UNION, 2), 8, 0, 2, 0, c, 1, 0],
            vec![inner, of(kind::TYPEDEF, 0), 2],
            vec![
                outer,
                of(kind::STRUCT, 3),
                20,
                first,
                1,
                0,
                0,
                3,
                32,
                inner,
                4,
                96,
            ],
        ]
        .concat();
        let length = u32::try_from(4 * types.len()).unwrap();
        let names_length = u32::try_from(names.len()).unwrap();
        let header = [MAGIC | 1 << 16, 24, 0, length, length, names_length];
        let words = header.iter().chain(&types);
        let mut bytes: Vec<u8> = words.flat_map(|word| word.to_ne_bytes()).collect();
        bytes.extend(names);
        bytes
    }

    #[test]
    fn fields_are_found_in_what_has_no_name() {
        let types = Types::parse(example()).unwrap();
        for (path, offset) in [
            ("first", Some(0)),
            ("a", Some(4)),
            ("b", Some(8)),
            ("c", Some(4)),
            ("inner", Some(12)),
            ("inner.b", Some(16)),
            ("inner.c", None),
            ("first.a", None),
            ("firs", None),
        ] {
            assert_eq!(types.offset("outer", path), offset, "{path}");
        }
        assert_eq!(types.offset("oute", "first"), None);
    }

    #[test]
    fn what_is_malformed_has_no_fields() {
        let whole = example();
        for length in 0..whole.len() {
            if let Some(types) = Types::parse(whole[..length].to_vec()) {
                assert_eq!(types.offset("outer", "nothing"), None, "{length}");
            }
        }
        for at in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[at] ^= 0xff;
            if let Some(types) = Types::parse(bytes) {
                assert_eq!(types.offset("outer", "nothing"), None, "{at}");
            }
        }
    }
}
