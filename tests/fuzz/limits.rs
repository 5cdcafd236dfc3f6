//! What one input may cost: no panic, a second of CPU time, 256 MiB of memory.
//!
//! A panic counts even if the code under test catches it. Memory beyond the bound is refused, which
//! ends the process unless the code expects that; so does a stack that overflows, and an input that
//! never ends is killed: the handler of `SIGABRT` then stores the input that it was about.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::{Cell, RefCell};
use std::ffi::CStr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Once};
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

/// CPU time of one input.
const MAX_CPU: Duration = Duration::from_secs(1);
/// Bytes that one input may hold at once.
const MAX_MEMORY: usize = 256 << 20;
/// After so long, however busy the machine, an input does not end.
const MAX_WAIT: Duration = Duration::from_secs(60);

/// What an input cost.
pub(crate) struct Cost {
    pub(crate) cpu: Duration,
    /// Most bytes held at once.
    pub(crate) memory: usize,
    /// Why it is too much.
    pub(crate) failure: Option<String>,
}

/// Hands an input to a check. `stored_as`: where it is written if the process dies of it.
pub(crate) fn measured(stored_as: &CStr, input: &[u8], check: &dyn Fn(&[u8])) -> Cost {
    install();
    let clock = WATCHED.with(Arc::clone);
    PANIC.take();
    INPUT.set((input.as_ptr(), input.len()));
    PATH.set(stored_as.as_ptr());
    HELD.set(0);
    PEAK.set(0);
    clock.since.store(now(), Ordering::Relaxed);
    let start = cpu();
    COUNTS.set(true);
    let ended = catch_unwind(AssertUnwindSafe(|| check(input)));
    COUNTS.set(false);
    let cpu = cpu().saturating_sub(start);
    clock.since.store(0, Ordering::Relaxed);
    PATH.set(std::ptr::null());
    let memory = PEAK.get().max(0) as usize;
    let panic = PANIC.take();
    let panic = panic.or_else(|| ended.err().map(|_| "a panic".to_owned()));
    let failure = panic.or_else(|| match cpu > MAX_CPU {
        true => Some(format!("{cpu:.1?} of CPU time")),
        false => None,
    });
    Cost {
        cpu,
        memory,
        failure,
    }
}

fn cpu() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

thread_local! {
    // What the allocator and the signal handler look at has no destructor.
    static COUNTS: Cell<bool> = const { Cell::new(false) };
    static HELD: Cell<isize> = const { Cell::new(0) };
    static PEAK: Cell<isize> = const { Cell::new(0) };
    static INPUT: Cell<(*const u8, usize)> = const { Cell::new((std::ptr::null(), 0)) };
    static PATH: Cell<*const libc::c_char> = const { Cell::new(std::ptr::null()) };
    static PANIC: RefCell<Option<String>> = const { RefCell::new(None) };
    static WATCHED: Arc<Watched> = Watched::this_thread();
}

/// A thread that tries inputs.
struct Watched {
    thread: libc::pthread_t,
    /// When it began with the one that it is about, in milliseconds; 0: none.
    since: AtomicU64,
}

static THREADS: Mutex<Vec<Arc<Watched>>> = Mutex::new(Vec::new());

impl Watched {
    fn this_thread() -> Arc<Self> {
        let watched = Arc::new(Self {
            // SAFETY: asks for nothing but the caller's own id.
            thread: unsafe { libc::pthread_self() },
            since: AtomicU64::new(0),
        });
        let mut threads = THREADS.lock().expect("nobody panics with it");
        threads.push(watched.clone());
        watched
    }
}

/// Milliseconds since the first call, from 1.
fn now() -> u64 {
    static START: std::sync::LazyLock<Instant> = std::sync::LazyLock::new(Instant::now);
    START.elapsed().as_millis() as u64 + 1
}

fn install() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if !COUNTS.get() {
                return usual(info);
            }
            COUNTS.set(false);
            let first = PANIC.with_borrow(Option::is_none);
            if first {
                PANIC.set(Some(info.to_string()));
            }
            COUNTS.set(true);
        }));
        let handler: extern "C" fn(libc::c_int) = aborted;
        // SAFETY: the handler calls only what signal handlers may call.
        unsafe { libc::signal(libc::SIGABRT, handler as libc::sighandler_t) };
        std::thread::spawn(|| {
            loop {
                std::thread::sleep(Duration::from_secs(1));
                let threads = THREADS.lock().expect("nobody panics with it");
                for thread in threads.iter() {
                    let since = thread.since.load(Ordering::Relaxed);
                    if since > 0 && now().saturating_sub(since) > MAX_WAIT.as_millis() as u64 {
                        // SAFETY: the thread has not come out of `measured`, so it has not ended.
                        unsafe { libc::pthread_kill(thread.thread, libc::SIGABRT) };
                    }
                }
            }
        });
    });
}

/// Stores the input that this thread is about, and says where.
extern "C" fn aborted(signal: libc::c_int) {
    let (path, (input, len)) = (PATH.get(), INPUT.get());
    // SAFETY: path and input are alive while `measured` runs, and the path is null otherwise.
    unsafe {
        libc::signal(signal, libc::SIG_DFL);
        if !path.is_null() {
            let flags = libc::O_CREAT | libc::O_EXCL | libc::O_WRONLY | libc::O_CLOEXEC;
            let file = libc::open(path, flags, 0o644);
            libc::write(file, input.cast(), len);
            let said = c"the process dies (memory, stack or time) of the input ";
            libc::write(2, said.as_ptr().cast(), said.count_bytes());
            libc::write(2, path.cast(), libc::strlen(path));
            libc::write(2, c"\n".as_ptr().cast(), 1);
        }
        libc::raise(signal);
    }
}

/// Counts what the input under test holds, and refuses what is too much.
struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Whether this much more may be held.
fn allowed(more: isize) -> bool {
    if !COUNTS.get() {
        return true;
    }
    let held = HELD.get().saturating_add(more);
    if more > 0 && held > MAX_MEMORY as isize {
        return false;
    }
    HELD.set(held);
    PEAK.set(PEAK.get().max(held));
    true
}

// SAFETY: hands everything on to the system's allocator, or gives none.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        match allowed(layout.size() as isize) {
            // SAFETY: as the caller promises.
            true => unsafe { System.alloc(layout) },
            false => std::ptr::null_mut(),
        }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        match allowed(layout.size() as isize) {
            // SAFETY: as the caller promises.
            true => unsafe { System.alloc_zeroed(layout) },
            false => std::ptr::null_mut(),
        }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        allowed(-(layout.size() as isize));
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        match allowed(size as isize - layout.size() as isize) {
            // SAFETY: as the caller promises.
            true => unsafe { System.realloc(pointer, layout, size) },
            false => std::ptr::null_mut(),
        }
    }
}
