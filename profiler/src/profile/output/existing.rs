//! Whether a file may be replaced. An open file comes in, yes or no goes out: yes only for an empty
//! file and for what is a profile by its first bytes. It reads a bounded piece, and never writes.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;

use flate2::read::GzDecoder;
use pprof::protos::{Message, ValueType};

use crate::profile::{firefox, svg};

/// Bytes looked at, before and after inflating.
const HEAD: usize = 64 << 10;

/// Whether this is an empty file or a profile in one of the formats rprof writes.
///
/// # Errors
/// Those of reading.
pub(super) fn is_replaceable(file: &File) -> io::Result<bool> {
    let mut head = vec![0; HEAD];
    let mut len = 0;
    while let Some(rest) = head.get_mut(len..).filter(|rest| !rest.is_empty()) {
        match file.read_at(rest, len as u64)? {
            0 => break,
            n => len += n,
        }
    }
    head.truncate(len);
    Ok(
        head.is_empty()
            || is_pprof(&head)
            || is_svg(&head)
            || is_firefox(&head)
            || is_folded(&head),
    )
}

fn is_pprof(head: &[u8]) -> bool {
    if !head.starts_with(&[0x1f, 0x8b]) {
        return false;
    }
    let mut bytes = Vec::new();
    // An error is the end of the head, or of what can be inflated; what came before counts.
    let _ = GzDecoder::new(head)
        .take(HEAD as u64)
        .read_to_end(&mut bytes);
    let mut rest = bytes.as_slice();
    // All writers begin with field 1, a ValueType.
    let first = field(&mut rest);
    if !matches!(first, Some((1, Some(value))) if ValueType::decode(value).is_ok_and(|v| v.ty > 0))
    {
        return false;
    }
    while !rest.is_empty() {
        match field(&mut rest) {
            // Numbers and kinds of `profile.proto`: messages and texts, then numbers.
            Some((1..=6 | 11 | 13, Some(_)) | (7..=10 | 12..=15, None)) => {}
            Some(_) => return false,
            // Nothing but a head that is too short may cut a field.
            None => return bytes.len() == HEAD || head.len() == HEAD,
        }
    }
    true
}

/// Number of the next field, and its bytes if it has a length. `None`: cut, or no such kind.
fn field<'a>(rest: &mut &'a [u8]) -> Option<(u64, Option<&'a [u8]>)> {
    let tag = varint(rest)?;
    match tag & 7 {
        0 => varint(rest).map(|_| (tag >> 3, None)),
        2 => {
            let len = usize::try_from(varint(rest)?).ok()?;
            let (value, after) = rest.split_at_checked(len)?;
            *rest = after;
            Some((tag >> 3, Some(value)))
        }
        _ => None,
    }
}

fn varint(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (&byte, after) = rest.split_first()?;
        *rest = after;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

fn is_svg(head: &[u8]) -> bool {
    let mark = svg::MARK.as_bytes();
    head.starts_with(b"<?xml") && head.windows(mark.len()).any(|window| window == mark)
}

fn is_firefox(head: &[u8]) -> bool {
    let mark = firefox::MARK.as_bytes();
    head.starts_with(br#"{"meta":{"#) && head.windows(mark.len()).any(|window| window == mark)
}

fn is_folded(head: &[u8]) -> bool {
    // The last line may be cut, also within a character.
    let whole = match head.iter().rposition(|&b| b == b'\n') {
        Some(end) if end > 0 => head.get(..end).unwrap_or_default(),
        _ => return false,
    };
    let Ok(text) = str::from_utf8(whole) else {
        return false;
    };
    text.lines().all(|line| {
        line.rsplit_once(' ')
            .is_some_and(|(stack, count)| stack.contains(';') && count.parse::<u64>().is_ok())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn judged(bytes: &[u8]) -> bool {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        is_replaceable(&file).unwrap()
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        out.write_all(bytes).unwrap();
        out.finish().unwrap()
    }

    #[test]
    fn only_profiles_may_be_replaced() {
        let profile = pprof::protos::Profile {
            sample_type: vec![ValueType { ty: 1, unit: 2 }],
            string_table: vec!["".into(), "cpu".into(), "nanoseconds".into()],
            duration_nanos: 5,
            ..Default::default()
        };
        let encoded = profile.encode_to_vec();
        assert!(judged(b""));
        assert!(judged(&gzip(&encoded)));
        // Larger than what is looked at, and as dense as gzip can make it.
        let mut state = 1u32;
        let noise = std::iter::repeat_with(|| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            char::from((state >> 24) as u8)
        });
        let long = pprof::protos::Profile {
            string_table: noise.take(300_000).map(String::from).collect(),
            ..profile.clone()
        };
        assert!(judged(&gzip(&long.encode_to_vec())));
        assert!(judged(b"sh;main;read 5\nsh;main 1\n"));
        assert!(judged(br#"{"meta":{"categories":[],"product":"rprof","os"#));
        for other in [
            b"fn main() {}\n".to_vec(),
            b"\n".to_vec(),
            b"a 1\nb 2\n".to_vec(),
            b"sh;main;read 5".to_vec(),
            b"<?xml version=\"1.0\"?><svg></svg>".to_vec(),
            br#"{"meta":{"categories":[],"product":"Firefox"}}"#.to_vec(),
            br#"[{"product":"rprof","meta":{}}]"#.to_vec(),
            vec![0x1f, 0x8b],
            encoded,
            gzip(b""),
            gzip(b"a tar archive, or a log that was rotated\n"),
            gzip(&[0x0a, 0x7f, 1, 2, 3]),
            gzip(&[&[0x0a, 4, 8, 1, 16, 2][..], &[0xff; 40]].concat()),
            b"\x7fELF\x02\x01\x01".to_vec(),
        ] {
            assert!(!judged(&other), "{:?}", String::from_utf8_lossy(&other));
        }
    }
}
