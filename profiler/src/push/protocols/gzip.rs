//! Small bodies packed with gzip, many of them: what packs them is kept.

use std::cell::RefCell;

use flate2::{Compress, Compression, Crc, FlushCompress, Status};

thread_local! {
    /// Making one takes longer than packing a small profile.
    static DEFLATE: RefCell<Compress> = RefCell::new(Compress::new(Compression::new(3), false));
}

/// RFC 1952: magic, deflate, no flags, no time, no extra flags, Unix.
const GZIP: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3];

/// A gzip stream of these bytes.
pub(super) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut packed = GZIP.to_vec();
    DEFLATE.with_borrow_mut(|deflate| {
        deflate.reset();
        let mut status = Ok(Status::Ok);
        while matches!(status, Ok(Status::Ok | Status::BufError)) {
            packed.reserve(bytes.len() / 4 + 64);
            let rest = bytes.get(deflate.total_in() as usize..).unwrap_or_default();
            status = deflate.compress_vec(rest, &mut packed, FlushCompress::Finish);
        }
    });
    let mut sum = Crc::new();
    sum.update(bytes);
    packed.extend(sum.sum().to_le_bytes());
    packed.extend(sum.amount().to_le_bytes());
    packed
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::gzip;

    #[test]
    fn others_unpack_it() {
        let noise = (0..1_000_000_u32).map(|n| (n.wrapping_mul(0x9e37_79b9) >> 24) as u8);
        let noise: Vec<u8> = noise.collect();
        for len in [0, 1, 100, 4096, 70_000, 1_000_000] {
            for bytes in [&noise[..len], &vec![7; len]] {
                let packed = gzip(bytes);
                let mut unpacked = Vec::new();
                let mut decoder = flate2::read::GzDecoder::new(&packed[..]);
                decoder.read_to_end(&mut unpacked).expect("gzip");
                assert!(unpacked == bytes, "{len}");
                assert!(
                    decoder.into_inner().is_empty(),
                    "{len}: something behind it"
                );
                assert!(packed.len() < bytes.len() + bytes.len() / 100 + 64);
            }
        }
    }
}
