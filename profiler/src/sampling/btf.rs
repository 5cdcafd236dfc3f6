//! The running kernel's type information: where a struct keeps a member.
//!
//! In: the bytes of `/sys/kernel/btf/vmlinux`. Out: byte offsets. Format:
//! `include/uapi/linux/btf.h`. Only structs and unions are looked into; everything else is skipped
//! by its length.

use std::collections::HashMap;

/// Type information of a kernel.
pub struct Btf {
    data: Vec<u8>,
    /// Where each type begins, by id − 1.
    types: Vec<u32>,
    strings: usize,
    /// Structs by name.
    structs: HashMap<Vec<u8>, u32>,
}

const MAGIC: u16 = 0xeb9f;
const KIND_INT: u32 = 1;
const KIND_ARRAY: u32 = 3;
const KIND_STRUCT: u32 = 4;
const KIND_UNION: u32 = 5;
const KIND_ENUM: u32 = 6;
const KIND_TYPEDEF: u32 = 8;
const KIND_VOLATILE: u32 = 9;
const KIND_RESTRICT: u32 = 11;
const KIND_FUNC_PROTO: u32 = 13;
const KIND_VAR: u32 = 14;
const KIND_DATASEC: u32 = 15;
const KIND_DECL_TAG: u32 = 17;
const KIND_TYPE_TAG: u32 = 18;
const KIND_ENUM64: u32 = 19;
/// Structs within structs that a path may go through, named or not.
const MAX_DEPTH: u32 = 16;

struct Type {
    kind: u32,
    len: usize,
    /// Bitfields: member offsets also carry a size.
    flag: bool,
    /// Size, or the type that this one stands for.
    size_or_type: u32,
    /// Where what follows begins.
    rest: usize,
}

impl Btf {
    /// Parses BTF; `None` if it is not BTF.
    pub fn parse(data: Vec<u8>) -> Option<Self> {
        let header = |at: usize| word(&data, at);
        if u16::from_le_bytes(data.get(..2)?.try_into().ok()?) != MAGIC {
            return None;
        }
        let begin = header(4)? as usize;
        let first = begin.checked_add(header(8)? as usize)?;
        let end = first.checked_add(header(12)? as usize)?;
        let strings = begin.checked_add(header(16)? as usize)?;
        let mut btf = Self {
            data,
            types: Vec::new(),
            strings,
            structs: HashMap::new(),
        };
        let mut at = first;
        while at < end {
            btf.types.push(u32::try_from(at).ok()?);
            let type_ = btf.type_at(at)?;
            let extra = match type_.kind {
                KIND_INT | KIND_VAR | KIND_DECL_TAG => 4,
                KIND_ARRAY => 12,
                KIND_STRUCT | KIND_UNION | KIND_DATASEC | KIND_ENUM64 => 12 * type_.len,
                KIND_ENUM | KIND_FUNC_PROTO => 8 * type_.len,
                _ => 0,
            };
            if type_.kind == KIND_STRUCT {
                let id = btf.types.len() as u32;
                let name = btf.string(word(&btf.data, at)?)?.to_vec();
                if !name.is_empty() {
                    btf.structs.entry(name).or_insert(id);
                }
            }
            at = type_.rest.checked_add(extra)?;
        }
        Some(btf)
    }

    /// Byte offset of a member, by a dotted path; anonymous structs and unions are looked through.
    pub fn offset(&self, struct_: &str, path: &str) -> Option<u32> {
        let mut id = *self.structs.get(struct_.as_bytes())?;
        let mut bits = 0;
        for name in path.split('.') {
            let (offset, type_) = self.member(id, name.as_bytes(), 0)?;
            bits += offset;
            id = type_;
        }
        Some(bits / 8)
    }

    /// Offset in bits and type of a member.
    fn member(&self, id: u32, name: &[u8], depth: u32) -> Option<(u32, u32)> {
        if depth > MAX_DEPTH {
            return None;
        }
        let type_ = self.resolved(id)?;
        if type_.kind != KIND_STRUCT && type_.kind != KIND_UNION {
            return None;
        }
        for i in 0..type_.len {
            let at = type_.rest + 12 * i;
            let member_name = self.string(word(&self.data, at)?)?;
            let member_type = word(&self.data, at + 4)?;
            let raw = word(&self.data, at + 8)?;
            let bits = if type_.flag { raw & 0xff_ffff } else { raw };
            if member_name == name {
                return Some((bits, member_type));
            }
            if member_name.is_empty()
                && let Some((inner, found)) = self.member(member_type, name, depth + 1)
            {
                return Some((bits + inner, found));
            }
        }
        None
    }

    /// A type, typedefs and qualifiers taken off.
    fn resolved(&self, mut id: u32) -> Option<Type> {
        for _ in 0..MAX_DEPTH {
            let type_ = self.type_at(*self.types.get(id.checked_sub(1)? as usize)? as usize)?;
            match type_.kind {
                KIND_TYPEDEF..=KIND_RESTRICT | KIND_TYPE_TAG => id = type_.size_or_type,
                _ => return Some(type_),
            }
        }
        None
    }

    fn type_at(&self, at: usize) -> Option<Type> {
        let info = word(&self.data, at + 4)?;
        Some(Type {
            kind: info >> 24 & 31,
            len: (info & 0xffff) as usize,
            flag: info >> 31 != 0,
            size_or_type: word(&self.data, at + 8)?,
            rest: at + 12,
        })
    }

    fn string(&self, offset: u32) -> Option<&[u8]> {
        let from = self
            .data
            .get(self.strings.checked_add(offset as usize)?..)?;
        from.split(|&b| b == 0).next()
    }
}

const _: () = assert!(KIND_TYPEDEF < KIND_VOLATILE && KIND_VOLATILE < KIND_RESTRICT);

fn word(data: &[u8], at: usize) -> Option<u32> {
    let bytes = data.get(at..at.checked_add(4)?)?;
    Some(u32::from_le_bytes(bytes.try_into().ok()?))
}
