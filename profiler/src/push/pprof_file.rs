//! A pprof profile out of a file that anyone may have made. Bytes come in, a profile leaves all of whose
//! numbers lead somewhere, so that nobody behind it has to ask again.

use std::collections::HashSet;
use std::io::Read;

use flate2::read::MultiGzDecoder;
use pprof::protos::{Message, Profile};
use prost_0_14::encoding::{self, DecodeContext, WireType};

/// Bytes that a profile may unpack to, and that it may take in memory, about.
const MAX_BYTES: u64 = 256 << 20;
const MAX_MEMORY: usize = 1 << 30;
/// Of a message, a list or a text itself, at most.
const EACH: usize = 96;

/// Reads a profile, packed or not.
///
/// # Errors
/// Why it is none: words that go on after "FILE is no profile that can be sent: ".
pub fn read(bytes: &[u8]) -> Result<Profile, String> {
    if bytes.is_empty() {
        return Err("it is empty".into());
    }
    let mut plain = Vec::new();
    if bytes.starts_with(&[0x1f, 0x8b]) {
        let mut unpacked = MultiGzDecoder::new(bytes).take(MAX_BYTES + 1);
        unpacked
            .read_to_end(&mut plain)
            .map_err(|error| match error.kind() {
                std::io::ErrorKind::UnexpectedEof => "it is cut off".to_string(),
                _ => format!("it cannot be unpacked ({error})"),
            })?;
    } else {
        plain.extend_from_slice(bytes);
    }
    if plain.len() as u64 > MAX_BYTES {
        return Err(format!("it has more than {} MiB", MAX_BYTES >> 20));
    }
    match memory(&plain) {
        Some(bytes) if bytes > MAX_MEMORY => {
            return Err(format!("it would take more than {} MiB", MAX_MEMORY >> 20));
        }
        _ => {}
    }
    let profile = Profile::decode(plain.as_slice())
        .map_err(|_| "it is not in the format of pprof".to_string())?;
    check(&profile)?;
    Ok(profile)
}

/// What it takes in memory, about: two bytes of a file may be a message. `None`: it is no message.
fn memory(profile: &[u8]) -> Option<usize> {
    // Samples have labels in them, locations lines.
    fields(profile, |field, bytes| match field {
        2 => fields(bytes, |field, bytes| match field {
            // Numbers of a byte each, at worst.
            1 | 2 => Some(bytes.len() * size_of::<u64>()),
            _ => Some(bytes.len()),
        }),
        4 => fields(bytes, |_, bytes| Some(bytes.len())),
        _ => Some(bytes.len()),
    })
}

/// Sums what the fields of a message take that have bytes in them.
fn fields(mut message: &[u8], inside: impl Fn(u32, &[u8]) -> Option<usize>) -> Option<usize> {
    let mut sum = 0usize;
    while !message.is_empty() {
        let (field, kind) = encoding::decode_key(&mut message).ok()?;
        sum = sum.saturating_add(match kind {
            WireType::LengthDelimited => {
                let len = encoding::decode_varint(&mut message).ok()?;
                let (bytes, rest) = message.split_at_checked(usize::try_from(len).ok()?)?;
                message = rest;
                EACH.saturating_add(inside(field, bytes)?)
            }
            kind => {
                encoding::skip_field(kind, field, &mut message, DecodeContext::default()).ok()?;
                size_of::<u64>()
            }
        });
    }
    Some(sum)
}

/// Whether each number in it leads somewhere.
fn check(profile: &Profile) -> Result<(), String> {
    if profile.sample_type.is_empty()
        || profile
            .string_table
            .first()
            .is_none_or(|text| !text.is_empty())
    {
        return Err("it is not in the format of pprof".into());
    }
    let texts = profile.string_table.len();
    let text = |id: i64| usize::try_from(id).is_ok_and(|id| id < texts);
    let mappings: HashSet<u64> = profile.mapping.iter().map(|m| m.id).collect();
    let functions: HashSet<u64> = profile.function.iter().map(|f| f.id).collect();
    let locations: HashSet<u64> = profile.location.iter().map(|l| l.id).collect();
    let types = profile.sample_type.iter().chain(&profile.period_type);
    let sound = types.clone().all(|t| text(t.ty) && text(t.unit))
        && profile.comment.iter().all(|&id| text(id))
        && text(profile.default_sample_type)
        && profile
            .mapping
            .iter()
            .all(|m| m.id != 0 && text(m.filename) && text(m.build_id))
        && profile
            .function
            .iter()
            .all(|f| f.id != 0 && text(f.name) && text(f.system_name) && text(f.filename))
        && profile.location.iter().all(|l| {
            l.id != 0
                && (l.mapping_id == 0 || mappings.contains(&l.mapping_id))
                && l.line
                    .iter()
                    .all(|line| functions.contains(&line.function_id))
        })
        && profile.sample.iter().all(|s| {
            s.value.len() == profile.sample_type.len()
                && s.location_id.iter().all(|id| locations.contains(id))
                && s.label
                    .iter()
                    .all(|l| text(l.key) && text(l.str) && text(l.num_unit))
        });
    if !sound {
        return Err("it is damaged: a number in it leads nowhere".into());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::Compression;
    use flate2::write::GzEncoder;
    use pprof::protos::{Location, Sample, ValueType};
    use std::io::Write;

    fn smallest() -> Profile {
        Profile {
            sample_type: vec![ValueType { ty: 1, unit: 2 }],
            string_table: ["", "cpu", "nanoseconds"].map(String::from).to_vec(),
            location: vec![Location {
                id: 7,
                ..Location::default()
            }],
            sample: vec![Sample {
                location_id: vec![7],
                value: vec![1],
                label: Vec::new(),
            }],
            ..Profile::default()
        }
    }

    #[test]
    fn packed_or_not() {
        let plain = smallest().encode_to_vec();
        let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
        packed.write_all(&plain).unwrap();
        let packed = packed.finish().unwrap();
        assert_eq!(read(&plain).unwrap(), smallest());
        assert_eq!(read(&packed).unwrap(), smallest());
        assert_eq!(
            read(&packed[..packed.len() - 9]).unwrap_err(),
            "it is cut off"
        );
    }

    #[test]
    fn what_is_none() {
        assert_eq!(read(b"").unwrap_err(), "it is empty");
        for bytes in [&b"a text"[..], b"\x7fELF\x02\x01\x01", &[0; 9]] {
            assert_eq!(
                read(bytes).unwrap_err(),
                "it is not in the format of pprof",
                "{bytes:?}"
            );
        }
    }

    #[test]
    fn a_small_file_that_would_be_large() {
        // 12 million samples with nothing in them, 12 million labels of one, 140 million numbers.
        let many = [
            [0x12, 0].repeat(12 << 20),
            {
                let labels = [0x1a, 0].repeat(12 << 20);
                [sample(labels.len()), labels].concat()
            },
            {
                let numbers = vec![1; 140 << 20];
                let list = [vec![0x0a], varint(numbers.len()), numbers].concat();
                [sample(list.len()), list].concat()
            },
        ];
        for bytes in many {
            let why = read(&bytes).unwrap_err();
            assert!(why.starts_with("it would take more than"), "{why}");
        }
    }

    fn sample(len: usize) -> Vec<u8> {
        [vec![0x12], varint(len)].concat()
    }

    fn varint(n: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        encoding::encode_varint(n as u64, &mut bytes);
        bytes
    }

    #[test]
    fn numbers_that_lead_nowhere() {
        let spoil: [fn(&mut Profile); 5] = [
            |p| p.sample[0].location_id[0] = 8,
            |p| p.sample[0].value.push(1),
            |p| p.location[0].mapping_id = 1,
            |p| p.comment.push(-1),
            |p| p.sample_type[0].unit = 3,
        ];
        for spoil in spoil {
            let mut profile = smallest();
            spoil(&mut profile);
            let why = read(&profile.encode_to_vec()).unwrap_err();
            assert!(why.starts_with("it is damaged"), "{why}");
        }
    }
}
