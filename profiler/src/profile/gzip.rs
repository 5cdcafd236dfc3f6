//! gzip, for many small streams: what packs them is kept.

use std::cell::RefCell;
use std::io::{self, Write};

use flate2::write::DeflateEncoder;
use flate2::{Compression, Crc};

/// RFC 1952: magic, deflate, no flags, no time, no extra flags, Unix.
const HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3];
/// Bytes that gather before they go on.
const GATHERED: usize = 32 << 10;

thread_local! {
    /// Making one takes longer than packing a small profile.
    static SPARE: RefCell<Option<DeflateEncoder<Vec<u8>>>> = const { RefCell::new(None) };
}

/// Packs what is written to it, for `out`.
pub struct Packer<W> {
    out: W,
    /// Packs into memory; `None`: it has failed, or is finished.
    deflate: Option<DeflateEncoder<Vec<u8>>>,
    sum: Crc,
}

impl<W: Write> Packer<W> {
    /// A stream that begins.
    pub fn new(out: W) -> Self {
        let new = || DeflateEncoder::new(Vec::new(), Compression::new(3));
        let mut deflate = SPARE.take().unwrap_or_else(new);
        deflate.get_mut().extend(HEADER);
        Self {
            out,
            deflate: Some(deflate),
            sum: Crc::new(),
        }
    }

    /// Ends the stream.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn finish(mut self) -> io::Result<W> {
        let mut deflate = self.deflate.take().ok_or(io::ErrorKind::Other)?;
        // Resetting it ends it.
        let packed = deflate.reset(Vec::new())?;
        SPARE.set(Some(deflate));
        self.out.write_all(&packed)?;
        self.out.write_all(&self.sum.sum().to_le_bytes())?;
        self.out.write_all(&self.sum.amount().to_le_bytes())?;
        Ok(self.out)
    }
}

impl<W: Write> Write for Packer<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let deflate = self.deflate.as_mut().ok_or(io::ErrorKind::Other)?;
        let n = deflate.write(bytes)?;
        self.sum.update(bytes.get(..n).unwrap_or_default());
        let packed = deflate.get_mut();
        if packed.len() >= GATHERED {
            let written = self.out.write_all(packed);
            packed.clear();
            written.inspect_err(|_| self.deflate = None)?;
        }
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A stream of these bytes.
pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut packer = Packer::new(Vec::new());
    // Memory takes what it is given.
    let _ = packer.write_all(bytes);
    packer.finish().unwrap_or_default()
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
