//! The modules that the unwinder knows, bounded in bytes; what was used longest ago goes first.

use std::collections::HashMap;
use std::sync::Arc;

use rprof_ebpf::module::ModuleKey;
use rprof_ebpf::record::Mapping;

use super::FrameInfo;

/// Modules without CFI that are remembered cost something too.
const ENTRY_BYTES: usize = 256;

/// CFI by module, and what has none.
pub struct Cache {
    entries: HashMap<ModuleKey, Entry>,
    max_bytes: usize,
    bytes: usize,
    clock: u64,
}

struct Entry {
    info: Option<Arc<FrameInfo>>,
    bytes: usize,
    used: u64,
}

impl Cache {
    /// A cache that keeps at most this many bytes of CFI, and always the module used last.
    pub fn new(max_bytes: usize) -> Self {
        Self {
            entries: HashMap::new(),
            max_bytes,
            bytes: 0,
            clock: 0,
        }
    }

    /// Bytes that it holds.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Forgets a module: its file has become readable, or another one.
    pub fn forget(&mut self, key: &ModuleKey) {
        if let Some(entry) = self.entries.remove(key) {
            self.bytes -= entry.bytes;
        }
    }

    /// The CFI of a mapping's module; anonymous memory has none.
    pub(super) fn get(
        &mut self,
        mapping: &Mapping,
        load: &mut dyn FnMut(&Mapping) -> Option<Arc<FrameInfo>>,
    ) -> Option<Arc<FrameInfo>> {
        if mapping.key == ModuleKey::VDSO && mapping.vdso == 0 {
            return None;
        }
        self.clock += 1;
        if let Some(entry) = self.entries.get_mut(&mapping.key) {
            entry.used = self.clock;
            return entry.info.clone();
        }
        let info = load(mapping);
        self.insert(mapping.key, info.clone());
        info
    }

    /// Knows a module: its CFI, or that there is none.
    pub fn insert(&mut self, key: ModuleKey, info: Option<Arc<FrameInfo>>) {
        self.forget(&key);
        let bytes = ENTRY_BYTES + info.as_ref().map_or(0, |info| info.bytes());
        while self.bytes + bytes > self.max_bytes
            && let Some((&oldest, _)) = self.entries.iter().min_by_key(|(_, e)| e.used)
        {
            self.forget(&oldest);
        }
        self.bytes += bytes;
        let entry = Entry {
            info,
            bytes,
            used: self.clock,
        };
        self.entries.insert(key, entry);
    }
}
