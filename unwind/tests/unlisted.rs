//! Code without CFI that is known by its bytes: the rules say, at each instruction that a real
//! process executes there, the address that it then returns to.

mod common;

use std::collections::HashMap;
use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::{Caller, Registers, Step, apply};
use object::read::ReadCache;
use rprof_ebpf::rows::{Rule, RuleKind};
use rprof_unwind::Table;

/// One thread more than the first, so that `clone3` is left twice.
const PROGRAM: &str = "#include <pthread.h>
static void *run(void *unused) { return unused; }
int main(void) {
    pthread_t thread;
    return pthread_create(&thread, 0, run, 0) || pthread_join(thread, 0);
}";

fn ptrace(request: libc::c_uint, pid: i32, address: u64, data: u64) -> i64 {
    // SAFETY: `data` points to what the request writes, or is a number.
    unsafe { libc::ptrace(request, pid, address, data) }
}

fn registers(pid: i32) -> Option<Registers> {
    // SAFETY: a plain struct of numbers, which the kernel fills.
    let mut r: libc::user_regs_struct = unsafe { std::mem::zeroed() };
    if ptrace(libc::PTRACE_GETREGS, pid, 0, (&raw mut r) as u64) != 0 {
        return None;
    }
    Some([
        r.rax, r.rdx, r.rcx, r.rbx, r.rsi, r.rdi, r.rbp, r.rsp, r.r8, r.r9, r.r10, r.r11, r.r12,
        r.r13, r.r14, r.r15, r.rip,
    ])
}

/// Rows of the files that a process maps.
#[derive(Default)]
struct Tables(HashMap<PathBuf, Option<Table>>);

impl Tables {
    fn rule(&mut self, path: &Path, offset: u64) -> Option<Rule> {
        if !self.0.contains_key(path) {
            let file = File::open(path).map(ReadCache::new).ok();
            let table = file.and_then(|file| Table::from_elf(&file, 1 << 24).ok());
            self.0.insert(path.into(), table);
        }
        Some(self.0.get(path)?.as_ref()?.lookup(offset))
    }
}

/// Where `.init` and `.fini` of a file stand: file offsets.
fn edges(path: &Path) -> Vec<(u64, u64)> {
    use object::{Object, ObjectSection};
    let Ok(bytes) = std::fs::read(path) else {
        return Vec::new();
    };
    let Ok(file) = object::File::parse(&*bytes) else {
        return Vec::new();
    };
    let ranges = [".init", ".fini"].into_iter();
    ranges
        .filter_map(|name| file.section_by_name(name)?.file_range())
        .map(|(at, len)| (at, at + len))
        .collect()
}

/// Functions of crtbegin.o in a file with symbols: file offsets, in order.
fn crt(path: &Path) -> Vec<(u64, u64)> {
    use object::{Object, ObjectSegment, ObjectSymbol};
    const NAMES: [&str; 4] = [
        "deregister_tm_clones",
        "register_tm_clones",
        "__do_global_dtors_aux",
        "frame_dummy",
    ];
    let bytes = std::fs::read(path).expect("the program");
    let file = object::File::parse(&*bytes).expect("an ELF file");
    let offset = |address: u64| {
        let of = |s: object::Segment<'_, '_>| {
            let skipped = address.checked_sub(s.address()).filter(|n| *n < s.size())?;
            Some(s.file_range().0 + skipped)
        };
        file.segments().find_map(of).expect("in a segment")
    };
    let symbols = || file.symbols().filter(|s| s.is_definition());
    let next = |start: u64| symbols().map(|s| s.address()).filter(|a| *a > start).min();
    let named = symbols().filter(|s| s.name().is_ok_and(|name| NAMES.contains(&name)));
    let ranges = named.map(|s| {
        (
            offset(s.address()),
            offset(next(s.address()).expect("main")),
        )
    });
    ranges.collect()
}

#[test]
fn return_addresses_are_those_returned_to() {
    let directory = std::env::temp_dir().join(format!("rprof-unlisted-{}", std::process::id()));
    std::fs::create_dir_all(&directory).expect("a directory");
    let (source, program) = (directory.join("program.c"), directory.join("program"));
    std::fs::write(&source, PROGRAM).expect("written");
    let built = Command::new("cc")
        .args(["-O1", "-pthread", "-o"])
        .args([&program, &source])
        .status();
    assert!(built.expect("a C compiler").success());

    let mut command = Command::new(&program);
    // SAFETY: one system call, between fork and exec.
    unsafe {
        command.pre_exec(|| {
            ptrace(libc::PTRACE_TRACEME, 0, 0, 0);
            Ok(())
        });
    }
    let first = command.spawn().expect("started").id() as i32;

    let mut tables = Tables::default();
    let crt = crt(&program);
    assert_eq!(crt.len(), 4);
    // In which of those the program is, and where that returns to.
    let mut entered: HashMap<u64, (u64, u64, Option<u64>)> = HashMap::new();
    let mut in_crt = 0;
    let mut known_edges: HashMap<PathBuf, Vec<(u64, u64)>> = HashMap::new();
    // By thread: what the rules said since it entered the code it is in.
    let mut said: HashMap<i32, Vec<(u64, Caller)>> = HashMap::new();
    let (mut at_edges, mut parents, mut children) = (0, 0, 0);
    let mut maps: Vec<(u64, u64, u64, PathBuf)> = Vec::new();
    let mut started = false;
    let mut steps = 0u64;
    loop {
        let mut status = 0;
        // SAFETY: `status` is written by the kernel.
        let pid = unsafe { libc::waitpid(-1, &raw mut status, libc::__WALL) };
        if pid < 0 {
            break;
        }
        if !libc::WIFSTOPPED(status) {
            continue;
        }
        if !started {
            started = true;
            let options = libc::PTRACE_O_TRACECLONE | libc::PTRACE_O_EXITKILL;
            ptrace(libc::PTRACE_SETOPTIONS, first, 0, options as u64);
        }
        steps += 1;
        assert!(steps < 5_000_000, "the program does not end");
        let Some(registers) = registers(pid) else {
            continue;
        };
        let pc = registers[16];
        // The last instruction was the return that ends such code.
        if let Some(callers) = said.get_mut(&pid)
            && let Some((at, _)) = callers.last()
            && !(*at..*at + 16).contains(&pc)
        {
            for (at, caller) in callers.drain(..) {
                assert_eq!(caller.pc, pc, "at {at:#x}");
                assert_eq!(caller.sp, registers[7], "at {at:#x}");
            }
        }
        let here = |maps: &[(u64, u64, u64, PathBuf)]| {
            maps.iter()
                .find(|(start, end, ..)| *start <= pc && pc < *end)
                .cloned()
        };
        let mapping = here(&maps).or_else(|| {
            maps = executable(pid);
            here(&maps)
        });
        if let Some((start, _, offset, path)) = mapping {
            let place = pc - start + offset;
            let edges = known_edges
                .entry(path.clone())
                .or_insert_with(|| edges(&path));
            let edge = edges.iter().any(|(from, to)| (*from..*to).contains(&place));
            let read = |address| Some(ptrace(libc::PTRACE_PEEKDATA, pid, address, 0) as u64);
            let rule = tables.rule(&path, place);
            if path == program
                && let Some((start, _)) =
                    crt.iter().find(|(from, to)| (*from..*to).contains(&place))
            {
                // frame_dummy goes on in another of them.
                if place == *start {
                    let pc = read(registers[7]).expect("its stack");
                    entered.insert(*start, (pc, registers[7] + 8, Some(registers[6])));
                }
                let rule = rule.expect("its file");
                let Step::Caller(caller) = apply(rule, &registers, &read) else {
                    panic!("{place:#x}: {rule:?}");
                };
                assert_eq!(
                    (caller.pc, caller.sp, caller.rbp),
                    entered[start],
                    "at {place:#x}: {rule:?}"
                );
                in_crt += 1;
            }
            let clone = rule.is_some_and(|rule| rule.kind == RuleKind::Clone as u8);
            if let Some(rule) = rule.filter(|_| edge || clone) {
                match apply(rule, &registers, &read) {
                    Step::Caller(caller) => {
                        at_edges += usize::from(edge);
                        parents += usize::from(clone);
                        said.entry(pid).or_default().push((pc, caller));
                    }
                    Step::End if clone && pid != first => children += 1,
                    other => panic!("{}+{place:#x}: {rule:?}: {other:?}", path.display()),
                }
            }
        }
        ptrace(libc::PTRACE_SINGLESTEP, pid, 0, 0);
    }
    std::fs::remove_dir_all(&directory).expect("removed");
    println!(
        "{steps} instructions, {at_edges} at edges, {in_crt} of crtbegin.o, {parents} of parents, \
         {children} of children"
    );
    // .init and .fini of the program and of libc's companions have ten instructions each.
    assert!(at_edges >= 8, "{at_edges} instructions of .init and .fini");
    assert!(in_crt >= 30, "{in_crt} instructions of crtbegin.o");
    assert!(parents >= 4, "{parents} instructions of clone3's parent");
    assert!(children >= 3, "{children} instructions of clone3's child");
}

/// Executable mappings of a process: start, end, file offset, file.
fn executable(pid: i32) -> Vec<(u64, u64, u64, PathBuf)> {
    let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).unwrap_or_default();
    let parse = |line: &str| {
        let mut fields = line.split_ascii_whitespace();
        let (start, end) = fields.next()?.split_once('-')?;
        let hex = |text| u64::from_str_radix(text, 16).ok();
        let permissions = fields.next()?;
        let offset = hex(fields.next()?)?;
        let path = fields.nth(2)?;
        permissions
            .contains('x')
            .then_some((hex(start)?, hex(end)?, offset, path.into()))
    };
    maps.lines().filter_map(parse).collect()
}
