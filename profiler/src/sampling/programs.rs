//! The eBPF programs, loaded: settings in, maps and the program's descriptor out.

use std::os::fd::{AsFd, BorrowedFd};

use aya::maps::Map;
use aya::programs::{PerfEvent, ProgramError};
use aya::{Ebpf, EbpfError, EbpfLoader};
use rprof_ebpf::kernel::KernelLayout;
use rprof_ebpf::select::Config;

use super::faults::{self, Fault};

/// Lines of the verifier's log that are shown: its end says what is wrong.
const LOG_LINES: usize = 20;

/// The loaded programs.
pub struct Programs {
    ebpf: Ebpf,
}

/// What the loaded programs are given.
pub struct Setup<'a> {
    /// Where this kernel keeps its fields.
    pub kernel: &'a KernelLayout,
    /// What to sample.
    pub config: &'a Config,
    /// Possible CPUs: each has a state slot.
    pub cpus: u32,
    /// Bytes of the ring: a power of two, a multiple of the page size.
    pub ring_bytes: u32,
}

/// Why the programs cannot run.
#[derive(Debug)]
pub enum Error {
    /// The object or a map was refused.
    Load(EbpfError),
    /// The verifier refused the program: the end of what it said.
    Verifier(String),
    /// Another call failed.
    Program(ProgramError),
    /// The object lacks a map or program: a defect of the build.
    Missing(&'static str),
    /// A map call failed.
    Map(aya::maps::MapError),
}

impl From<aya::maps::MapError> for Error {
    fn from(error: aya::maps::MapError) -> Self {
        Self::Map(error)
    }
}

impl From<ProgramError> for Error {
    fn from(error: ProgramError) -> Self {
        match error {
            ProgramError::LoadError {
                io_error,
                verifier_log,
            } => {
                let log = verifier_log.to_string();
                let lines: Vec<&str> = log.lines().collect();
                let end = lines[lines.len().saturating_sub(LOG_LINES)..].join("\n");
                Self::Verifier(format!("{io_error}\n{end}"))
            }
            other => Self::Program(other),
        }
    }
}

impl Programs {
    /// Loads and verifies the programs; nothing runs yet.
    pub fn load(setup: &Setup<'_>) -> Result<Self, Error> {
        let mut loader = EbpfLoader::new();
        if let Some(modules) = faults::asked(Fault::Modules) {
            loader.map_max_entries("MODULES", modules);
        }
        let mut ebpf = loader
            .btf(None)
            .override_global("KERNEL", setup.kernel, true)
            .override_global("CONFIG", setup.config, true)
            .map_max_entries("STATES", setup.cpus)
            .map_max_entries("RING", setup.ring_bytes)
            .load(&rprof_ebpf::OBJECT.0)
            .map_err(Error::Load)?;
        let program: &mut PerfEvent = ebpf
            .program_mut("sample")
            .ok_or(Error::Missing("sample"))?
            .try_into()
            .map_err(Error::Program)?;
        program.load()?;
        Ok(Self { ebpf })
    }

    /// See [`super::self_check::check`].
    pub fn self_check(&mut self) -> Result<(), super::self_check::Error> {
        super::self_check::check(&mut self.ebpf)
    }

    /// See [`super::identity::Identity::load`].
    pub fn identity(&mut self) -> Result<super::identity::Identity, super::identity::Error> {
        super::identity::Identity::load(&mut self.ebpf)
    }

    /// Takes a map out of the object.
    pub fn map(&mut self, name: &'static str) -> Result<Map, Error> {
        self.ebpf.take_map(name).ok_or(Error::Missing(name))
    }

    /// The program's descriptor, for events to run.
    pub fn sample(&self) -> Result<BorrowedFd<'_>, Error> {
        let program: &PerfEvent = self
            .ebpf
            .program("sample")
            .ok_or(Error::Missing("sample"))?
            .try_into()
            .map_err(Error::Program)?;
        program.fd().map(|fd| fd.as_fd()).map_err(Error::Program)
    }
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Load(error) => chain(f, error),
            Self::Verifier(log) => f.write_str(log),
            Self::Program(error) => chain(f, error),
            Self::Missing(name) => write!(f, "the eBPF object has no {name}"),
            Self::Map(error) => chain(f, error),
        }
    }
}

/// An error and its causes: aya says the errno only in the last of them.
fn chain(f: &mut std::fmt::Formatter<'_>, error: &dyn std::error::Error) -> std::fmt::Result {
    let mut said = error.to_string();
    f.write_str(&said)?;
    let mut cause = error.source();
    while let Some(error) = cause {
        let text = error.to_string();
        // Some say their cause themselves.
        if !said.contains(&text) {
            write!(f, ": {text}")?;
        }
        said = text;
        cause = error.source();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use object::{Object, ObjectSection, ObjectSymbol, SymbolKind};

    /// Bytes of stack that a program and what it calls may use together (`MAX_BPF_STACK`); until 6.9 each
    /// function's are rounded up to 32 (`check_max_stack_depth`, kernel/bpf/verifier.c).
    const MOST: u64 = 512;
    const ROUNDED: u64 = 32;
    /// The register that points at a function's stack.
    const STACK: u8 = 10;

    /// Newer kernels would load what the oldest one refuses.
    #[test]
    fn stacks_fit_on_the_oldest_kernel() {
        let file = object::File::parse(&rprof_ebpf::OBJECT.0[..]).expect("an ELF file");
        let functions = file.symbols().filter(|s| s.kind() == SymbolKind::Text);
        let (mut programs, mut called) = (Vec::new(), Vec::new());
        for function in functions.filter(|function| function.size() > 0) {
            let section = function.section_index().expect("a section");
            let section = file.section_by_index(section).expect("its section");
            let code = section.data_range(section.address() + function.address(), function.size());
            let code = code.expect("readable").expect("in its section");
            let bytes = frame(code).next_multiple_of(ROUNDED).max(ROUNDED);
            // What other functions call is in `.text`, and calls nothing with a frame.
            match section.name() {
                Ok(".text") => called.push(bytes),
                _ => programs.push((bytes, function.name().unwrap_or_default())),
            }
        }
        let called = called.into_iter().max().expect("functions");
        assert!(programs.len() > 1, "{programs:?}");
        for (bytes, name) in programs {
            println!("{name}: {bytes} and {called} bytes");
            assert!(bytes + called <= MOST, "{name}: {bytes} + {called}");
        }
    }

    /// Bytes of a function's stack: the farthest that it loads from, stores to or takes the address of.
    fn frame(code: &[u8]) -> u64 {
        let (mut least, mut copies) = (0i64, [false; 16]);
        for instruction in code.chunks_exact(8) {
            let [op, registers, low, high, imm @ ..] = instruction else {
                continue;
            };
            let (to, from) = (registers & 15, registers >> 4);
            let offset = i64::from(i16::from_le_bytes([*low, *high]));
            let imm = imm.try_into().map(i32::from_le_bytes).unwrap_or(0);
            match op {
                // Mov of registers, and an addition to a copy of the stack's.
                0xbf if from == STACK => copies[usize::from(to)] = true,
                0x07 if std::mem::take(&mut copies[usize::from(to)]) => {
                    least = least.min(imm.into());
                }
                // Loads, and stores of numbers and registers.
                _ if op & 7 == 1 && from == STACK => least = least.min(offset),
                _ if [2, 3].contains(&(op & 7)) && to == STACK => least = least.min(offset),
                _ => {}
            }
        }
        least.unsigned_abs()
    }
}
