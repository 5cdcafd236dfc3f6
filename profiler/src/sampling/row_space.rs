//! Row space: where the programs look up unwind rows. Chunks of one size, made on demand, written
//! through a mapping, given to modules as contiguous runs of words.
//!
//! Putting a chunk into the outer map waits for a grace period (8–24 ms), so chunks are added a few
//! at a time, by the thread that learns modules and that nobody waits for.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use rprof_ebpf::rows::{CHUNK_BYTES, CHUNK_WORDS, MAX_CHUNKS};

/// Chunks added at once.
const AT_ONCE: u32 = 2;

/// `BPF_MAP_TYPE_ARRAY`, `BPF_F_MMAPABLE`, commands (include/uapi/linux/bpf.h).
const MAP_TYPE_ARRAY: u32 = 2;
const F_MMAPABLE: u32 = 1024;
const MAP_CREATE: i32 = 0;
const MAP_UPDATE_ELEM: i32 = 2;
const BTF_LOAD: i32 = 18;

/// The types of a chunk's key and value, numbers in [`btf`].
const KEY_TYPE: u32 = 1;
const VALUE_TYPE: u32 = 3;

/// The words of a chunk, shared with the kernel.
struct Chunk {
    map: OwnedFd,
    words: *mut u32,
}

// SAFETY: the mapping belongs to whoever holds the chunk.
unsafe impl Send for Chunk {}

impl Drop for Chunk {
    fn drop(&mut self) {
        // SAFETY: mapped by `Chunk::new`, used by nobody else.
        unsafe { libc::munmap(self.words.cast(), CHUNK_BYTES as usize) };
    }
}

/// All chunks, and which words are free.
pub struct RowSpace {
    outer: OwnedFd,
    btf: OwnedFd,
    chunks: Vec<Chunk>,
    budget: u32,
    /// Free runs of words: start, length; sorted, never touching.
    free: Vec<(u32, u32)>,
}

impl RowSpace {
    /// An empty space over the outer map, of at most `budget` bytes.
    ///
    /// # Errors
    /// Those of duplicating the descriptor, and of telling the kernel a chunk's types.
    pub fn new(outer: BorrowedFd<'_>, budget: u64) -> io::Result<Self> {
        let budget = (budget / u64::from(CHUNK_BYTES)).min(u64::from(MAX_CHUNKS)) as u32;
        Ok(Self {
            outer: outer.try_clone_to_owned()?,
            btf: btf()?,
            chunks: Vec::new(),
            budget,
            free: Vec::new(),
        })
    }

    /// Waits until no tick runs that began before: putting a map into the outer map does, even one
    /// that is there already (`maybe_wait_bpf_programs`, kernel/bpf/syscall.c).
    ///
    /// # Errors
    /// Those of the system call.
    pub fn wait_for_programs(&self) -> io::Result<()> {
        match self.chunks.first() {
            Some(chunk) => insert(&self.outer, 0, &chunk.map),
            None => Ok(()),
        }
    }

    /// Bytes of all chunks that there may be.
    pub fn budget_bytes(&self) -> u64 {
        u64::from(self.budget) * u64::from(CHUNK_BYTES)
    }

    /// Bytes of all chunks.
    pub fn bytes(&self) -> u64 {
        self.chunks.len() as u64 * u64::from(CHUNK_BYTES)
    }

    /// A run of `words` words; `None` if the budget does not hold it.
    ///
    /// # Errors
    /// Those of making a chunk.
    pub fn allocate(&mut self, words: u32) -> io::Result<Option<u32>> {
        loop {
            if let Some(found) = self.free.iter().position(|&(_, len)| len >= words) {
                let (start, len) = self.free[found];
                if len == words {
                    self.free.remove(found);
                } else {
                    self.free[found] = (start + words, len - words);
                }
                return Ok(Some(start));
            }
            let have = self.chunks.len() as u32;
            // The run may begin in the last free words before the chunks that are added.
            let end = have * CHUNK_WORDS;
            let tail = self
                .free
                .last()
                .filter(|&&(at, len)| at + len == end)
                .map_or(0, |f| f.1);
            let need = (words - tail).div_ceil(CHUNK_WORDS);
            let want = need.max(AT_ONCE).min(self.budget.saturating_sub(have));
            if want < need {
                return Ok(None);
            }
            for number in have..have + want {
                self.chunks
                    .push(Chunk::new(&self.outer, &self.btf, number)?);
                self.release(number * CHUNK_WORDS, CHUNK_WORDS);
            }
        }
    }

    /// Gives a run back.
    pub fn release(&mut self, start: u32, words: u32) {
        let at = self.free.partition_point(|&(s, _)| s < start);
        self.free.insert(at, (start, words));
        if at + 1 < self.free.len() && self.free[at].0 + self.free[at].1 == self.free[at + 1].0 {
            self.free[at].1 += self.free.remove(at + 1).1;
        }
        if at > 0 && self.free[at - 1].0 + self.free[at - 1].1 == self.free[at].0 {
            self.free[at - 1].1 += self.free.remove(at).1;
        }
    }

    /// The word at a word address.
    pub fn word(&self, address: u32) -> Option<u32> {
        let chunk = self.chunks.get((address / CHUNK_WORDS) as usize)?;
        // SAFETY: within the chunk's mapping, which only this thread writes.
        Some(unsafe { chunk.words.add((address % CHUNK_WORDS) as usize).read() })
    }

    /// Writes words; what lies outside of the space is ignored.
    pub fn write(&mut self, start: u32, words: &[u32]) {
        let mut at = start;
        let mut rest = words;
        while !rest.is_empty() {
            let Some(chunk) = self.chunks.get((at / CHUNK_WORDS) as usize) else {
                return;
            };
            let offset = at % CHUNK_WORDS;
            let (now, later) = rest.split_at(rest.len().min((CHUNK_WORDS - offset) as usize));
            // SAFETY: within the chunk's mapping; the programs read whole words, and only those of
            // modules that are in the map of modules, which this one is not yet.
            unsafe {
                chunk
                    .words
                    .add(offset as usize)
                    .copy_from_nonoverlapping(now.as_ptr(), now.len());
            }
            at += now.len() as u32;
            rest = later;
        }
    }
}

impl Chunk {
    /// Makes a chunk and puts it into the outer map as number `number`.
    fn new(outer: &OwnedFd, btf: &OwnedFd, number: u32) -> io::Result<Self> {
        /// The head of `union bpf_attr` for BPF_MAP_CREATE.
        #[repr(C)]
        struct Create {
            map_type: u32,
            key_size: u32,
            value_size: u32,
            max_entries: u32,
            map_flags: u32,
            inner_map_fd: u32,
            numa_node: u32,
            map_name: [u8; 16],
            map_ifindex: u32,
            btf_fd: u32,
            btf_key_type_id: u32,
            btf_value_type_id: u32,
        }
        let create = Create {
            map_type: MAP_TYPE_ARRAY,
            key_size: 4,
            value_size: CHUNK_BYTES,
            max_entries: 1,
            map_flags: F_MMAPABLE,
            inner_map_fd: 0,
            numa_node: 0,
            map_name: [0; 16],
            map_ifindex: 0,
            btf_fd: btf.as_raw_fd() as u32,
            btf_key_type_id: KEY_TYPE,
            btf_value_type_id: VALUE_TYPE,
        };
        // SAFETY: the attribute is complete; the descriptor is new and ours.
        let map = unsafe { OwnedFd::from_raw_fd(bpf(MAP_CREATE, &create)?) };
        insert(outer, number, &map)?;
        // SAFETY: a fresh shared mapping of the whole map.
        let words = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                CHUNK_BYTES as usize,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                map.as_raw_fd(),
                0,
            )
        };
        if words == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        Ok(Self {
            map,
            words: words.cast(),
        })
    }
}

/// Puts a chunk's map into the outer map.
fn insert(outer: &OwnedFd, number: u32, map: &OwnedFd) -> io::Result<()> {
    /// The head of `union bpf_attr` for BPF_MAP_UPDATE_ELEM.
    #[repr(C)]
    struct Update {
        map_fd: u32,
        _pad: u32,
        key: u64,
        value: u64,
        flags: u64,
    }
    let value = map.as_raw_fd();
    let update = Update {
        map_fd: outer.as_raw_fd() as u32,
        _pad: 0,
        key: (&raw const number) as u64,
        value: (&raw const value) as u64,
        flags: 0,
    };
    bpf(MAP_UPDATE_ELEM, &update).map(drop)
}

/// Tells the kernel the types of a chunk's key and value. What they are is of no use to anybody, but
/// up to Linux 6.1 an outer map whose template has a struct for its value, as aya's has, takes only
/// maps that have one too.
///
/// Source: `Documentation/bpf/btf.rst`; `bpf_map_meta_equal` (kernel/bpf/map_in_map.c, Linux 6.1).
fn btf() -> io::Result<OwnedFd> {
    /// A header, the types, and the names; without padding.
    #[repr(C)]
    struct Btf {
        magic: u16,
        version: u8,
        flags: u8,
        /// Bytes of header; offset and length of types and strings.
        header: [u32; 5],
        word: [u32; 4],
        words: [u32; 6],
        chunk: [u32; 6],
        strings: [u8; 8],
    }
    const INT: u32 = 1 << 24;
    const ARRAY: u32 = 3 << 24;
    const STRUCT_OF_ONE: u32 = 4 << 24 | 1;
    let types = Btf {
        magic: 0xeb9f,
        version: 1,
        flags: 0,
        header: [24, 0, 64, 64, 8],
        // Name, kind, bytes, bits: type 1.
        word: [1, INT, 4, 32],
        // Name, kind, 0, element, index, length: type 2.
        words: [0, ARRAY, 0, KEY_TYPE, KEY_TYPE, CHUNK_WORDS],
        // Name, kind, bytes; its member's name, type, offset: type 3.
        chunk: [0, STRUCT_OF_ONE, CHUNK_BYTES, 1, 2, 0],
        strings: *b"\0word\0\0\0",
    };
    /// The head of `union bpf_attr` for BPF_BTF_LOAD.
    #[repr(C)]
    struct Load {
        btf: u64,
        log: u64,
        btf_size: u32,
        log_size: u32,
    }
    let load = Load {
        btf: (&raw const types) as u64,
        log: 0,
        btf_size: size_of::<Btf>() as u32,
        log_size: 0,
    };
    // SAFETY: the attribute and what it points to are complete; the descriptor is new and ours.
    Ok(unsafe { OwnedFd::from_raw_fd(bpf(BTF_LOAD, &load)?) })
}

/// The system call; the kernel reads `size_of::<T>()` bytes of the attribute.
fn bpf<T>(command: i32, attr: &T) -> io::Result<i32> {
    // SAFETY: `attr` is a prefix of `union bpf_attr` for this command, its pointers are valid.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, attr as *const T, size_of::<T>()) };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result as i32)
    }
}
