//! A guest: one kernel, emulated, that runs `guest/init` and reboots, which ends it.
//!
//! A kernel and its disk enter; the report leaves, as the guest wrote it to its second serial
//! line. The kernel's own messages are in `console` beside it.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::report::Report;
use crate::workspace::say;

/// A guest that takes longer hangs: it needs half an hour on an idle machine.
const DEADLINE: Duration = Duration::from_secs(4800);
/// The emulator dies now and then before the guest's first program runs.
const ATTEMPTS: u32 = 3;

/// Boots a kernel and waits for its report; both files end up in `folder`.
pub(super) fn boot(kernel: &Path, disk: &Path, folder: &Path) -> Result<Report, String> {
    let (console, report) = (folder.join("console"), folder.join("report"));
    for attempt in 1..=ATTEMPTS {
        say(&format!("booting {}", kernel.display()));
        let mut guest = Guest(start(kernel, disk, &console, &report)?);
        let in_time = guest.wait()?;
        let text = fs::read(&report).unwrap_or_default();
        let text = String::from_utf8_lossy(&text).replace('\r', "");
        if !in_time {
            return Err(format!(
                "not done after {} s: see {} and {}",
                DEADLINE.as_secs(),
                console.display(),
                report.display()
            ));
        }
        match Report::parse(&text) {
            Some(report) => return Ok(report),
            None if attempt < ATTEMPTS => say("it died before its first program: once more"),
            None => {}
        }
    }
    Err(format!("it does not boot: see {}", console.display()))
}

fn start(kernel: &Path, disk: &Path, console: &Path, report: &Path) -> Result<Child, String> {
    let _ = fs::remove_file(report);
    let mut qemu = Command::new("qemu-system-x86_64");
    // QEMU's cmpxchg16b now and then returns flags that are none, and the kernel's allocator dies.
    qemu.args([
        "-accel",
        "tcg",
        "-cpu",
        "max,-cx16",
        "-smp",
        "2",
        "-m",
        "3000",
    ]);
    qemu.args(["-display", "none", "-no-reboot", "-nic", "none"]);
    for line in [console, report] {
        qemu.arg("-serial").arg(format!("file:{}", line.display()));
    }
    // All of Debian's kernels have this disk's driver built in. Nothing of it survives a power cut.
    let drive = format!(
        "file={},if=none,id=disk,format=raw,cache=unsafe",
        disk.display()
    );
    qemu.args(["-drive", &drive, "-device", "nvme,drive=disk,serial=disk"]);
    qemu.arg("-kernel").arg(kernel);
    qemu.args([
        "-append",
        "console=ttyS0 panic=-1 root=/dev/nvme0n1 rw init=/vm/init",
    ]);
    let quiet = qemu.stdin(Stdio::null()).stdout(Stdio::null());
    quiet
        .spawn()
        .map_err(|error| format!("cannot start qemu-system-x86_64: {error}"))
}

/// Ends with us.
struct Guest(Child);

impl Guest {
    /// Whether it ended before the deadline.
    fn wait(&mut self) -> Result<bool, String> {
        let deadline = Instant::now() + DEADLINE;
        while Instant::now() < deadline {
            let state = self.0.try_wait();
            match state.map_err(|error| format!("cannot wait for the guest: {error}"))? {
                Some(status) if status.success() => return Ok(true),
                Some(status) => return Err(format!("qemu-system-x86_64 failed: {status}")),
                None => sleep(Duration::from_millis(200)),
            }
        }
        Ok(false)
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
