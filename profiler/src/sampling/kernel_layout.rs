//! Where the running kernel keeps the fields that the programs read, from its BTF.

use rprof_ebpf::kernel::{ABSENT, KernelLayout, VMA_BYTES};

use super::btf::Btf;

/// Where a kernel with BTF shows it.
pub const BTF_FILE: &str = "/sys/kernel/btf/vmlinux";

/// Why there is no layout.
#[derive(Debug)]
pub enum Error {
    /// The file is missing or cannot be read.
    Unreadable(std::io::Error),
    /// It is not BTF.
    Malformed,
    /// The kernel has no such field: struct and member.
    MissingField(&'static str, &'static str),
    /// The member lies further from the struct's start than the programs read.
    FarField(&'static str, &'static str),
}

/// Fields that not every kernel has, and that rprof can do without: a count that saves walks, a lock's
/// owner, whom real-time kernels keep elsewhere, and what leads from a pidfd to its process, without
/// which no names are read in user space.
const OPTIONAL: [&str; 9] = [
    "mm_lock_seq.sequence",
    "i_mmap_rwsem.owner",
    "files",
    "fdt",
    "fd",
    "private_data",
    "i_private",
    "tasks",
    "pid_links",
];

/// The struct of which the programs read only the beginning.
const VMA: &str = "vm_area_struct";

/// Reads the layout of the running kernel.
pub fn read() -> Result<KernelLayout, Error> {
    let btf =
        Btf::parse(std::fs::read(BTF_FILE).map_err(Error::Unreadable)?).ok_or(Error::Malformed)?;
    let mut layout = KernelLayout::default();
    for &(struct_, paths, field) in KernelLayout::FIELDS {
        let found = paths.iter().find_map(|path| btf.offset(struct_, path));
        *field(&mut layout) = match found {
            None if OPTIONAL.contains(&paths[0]) => ABSENT,
            None => return Err(Error::MissingField(struct_, paths[0])),
            Some(offset) if struct_ == VMA && offset as usize + 8 > VMA_BYTES => {
                return Err(Error::FarField(struct_, paths[0]));
            }
            Some(offset) => offset,
        };
    }
    Ok(layout)
}
