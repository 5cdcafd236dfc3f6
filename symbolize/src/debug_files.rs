//! Where the debug information of a stripped module is.
//!
//! A module without debug information enters; the debug file that was split off from this very
//! build leaves: same build id, and for a `.gnu_debuglink` the same checksum. Places, in order:
//! `/usr/lib/debug/.build-id/xx/….debug`, then the linked name beside the module, in `.debug/` beside
//! it, and below `/usr/lib/debug` — all below the root that the caller names.

use std::fs::File;
use std::path::{Path, PathBuf};

use crate::beneath;
use crate::build_id::BuildId;
use crate::elf::{Elf, u32_at};
use crate::error::{Error, ErrorKind, Result};
use crate::image::Image;

/// Bytes of a debug link at most: a file name, padding, a checksum.
const MAX_LINK: u64 = 512;
/// Bytes of a file whose checksum is taken at most: a file can be as large as somebody likes, and hold
/// nothing.
const MAX_SUMMED: u64 = 1 << 30;
const DEBUG: &str = "/usr/lib/debug";

/// Finds the debug file of a module; `None` if there is none. `path` is the module's own, as its
/// processes see it below `root`; its link counts only if it is from there (`links`).
///
/// # Errors
/// [`ErrorKind::OtherFile`]: the only ones found belong to other builds.
pub fn find(module: &Elf, root: &Path, path: Option<&Path>, links: bool) -> Result<Option<Elf>> {
    let id = BuildId::of(module);
    let link = links.then(|| Link::of(module)).flatten();
    if id.is_none() && link.is_none() {
        return Ok(None);
    }
    let root = beneath::root(root)?;
    let mut refused = None;
    let by_id = id.iter().map(|id| (by_id(id), None));
    let by_link = link.iter().flat_map(|link| {
        let paths = link.paths(path.and_then(Path::parent));
        paths.into_iter().map(|path| (path, Some(link.crc)))
    });
    for (path, crc) in by_id.chain(by_link) {
        let opened = match path.starts_with(DEBUG) {
            true => beneath::open(&root, &path),
            // Who can put a module there can put a link beside it that leads to any file of `root`.
            false => beneath::open_itself(&root, &path),
        };
        let Ok(file) = opened else {
            continue;
        };
        match accept(file, id.as_ref(), crc) {
            Ok(debug) => return Ok(Some(debug)),
            Err(error) => refused = Some(error.context(path.display())),
        }
    }
    refused.map_or(Ok(None), Err)
}

fn by_id(id: &BuildId) -> PathBuf {
    let id = id.to_string();
    let (first, rest) = id.split_at(2);
    format!("{DEBUG}/.build-id/{first}/{rest}.debug").into()
}

fn accept(file: File, id: Option<&BuildId>, crc: Option<u32>) -> Result<Elf> {
    let debug = Elf::parse(Image::of_file(file)?)?;
    let other = |what| Error::new(ErrorKind::OtherFile, format!("has another {what}"));
    if id.is_some() && BuildId::of(&debug).as_ref() != id {
        return Err(other("build id"));
    }
    if let Some(crc) = crc {
        let mut sum = flate2::Crc::new();
        let image = debug.image();
        if image.len() > MAX_SUMMED {
            let message = format!("{} bytes, {MAX_SUMMED} allowed", image.len());
            return Err(Error::new(ErrorKind::OverBudget, message));
        }
        image.stream(0, image.len(), 1, |_, piece| {
            sum.update(piece);
            Ok(())
        })?;
        if sum.sum() != crc {
            return Err(other("checksum"));
        }
    }
    Ok(debug)
}

/// `.gnu_debuglink`: a file name, NUL, padding to 4 bytes, CRC-32 of the file.
struct Link {
    name: String,
    crc: u32,
}

impl Link {
    fn of(module: &Elf) -> Option<Self> {
        let section = module.section(".gnu_debuglink")?;
        let image = module.image();
        let bytes = image
            .read_vec(section.offset, section.size, MAX_LINK)
            .ok()?;
        let end = bytes.iter().position(|&b| b == 0)?;
        let name = std::str::from_utf8(bytes.get(..end)?).ok()?;
        let at = (end + 1).next_multiple_of(4);
        let crc = u32_at(bytes.get(at..at + 4)?, 0);
        let is_name = !name.is_empty() && !name.contains('/') && name != "..";
        is_name.then(|| Self {
            name: name.to_owned(),
            crc,
        })
    }

    fn paths(&self, directory: Option<&Path>) -> Vec<PathBuf> {
        let Some(directory) = directory else {
            return vec![Path::new(DEBUG).join(&self.name)];
        };
        let below = directory.strip_prefix("/").unwrap_or(directory);
        vec![
            directory.join(&self.name),
            directory.join(".debug").join(&self.name),
            Path::new(DEBUG).join(below).join(&self.name),
        ]
    }
}
