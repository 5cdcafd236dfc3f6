"""A thread runs `hidden`, whose code object's name begins on a page that nobody brings: who reads it waits
for ever. Another runs `plain`. Says `ready`, and ends when its standard input does. To the line `bring` it
brings the page, and answers `brought`.

    stuck.py [FILE | headless | mapping LIBRARY]

With a FILE that does not answer, a thread waits for a page of it through /proc/self/mem, with the lock on
the process's mappings held, and another for that lock, to map something. With `headless` the first thread
has ended before it is ready. With `mapping` it does what mapping.c, built as a LIBRARY, does.
"""

import ctypes
import fcntl
import os
import struct
import sys
import threading
import time

PAGE = 4096
SYS_USERFAULTFD, SYS_EXIT = 323, 60
UFFDIO_API, UFFDIO_REGISTER, UFFDIO_COPY, MISSING = 0xC018AA3F, 0xC020AA00, 0xC028AA03, 1
MADV_DONTNEED = 4


def hidden():
    while True:
        for i in range(1000):
            i * i


def plain():
    while True:
        for i in range(1000):
            i * i


def watch_input():
    if headless:
        while " Z " not in open(f"/proc/{os.getpid()}/stat").read():
            time.sleep(0.01)
        os.write(1, b"ready\n")
    for line in sys.stdin:
        assert line == "bring\n", line
        page = struct.pack("5Q", first, ctypes.addressof(was), PAGE, 0, 0)
        fcntl.ioctl(descriptor, UFFDIO_COPY, page)
        os.write(1, b"brought\n")
    os._exit(0)


def lock(path):
    """Returns when the lock is held, and waited for by who wants it alone."""
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t] + 3 * [ctypes.c_int] + [ctypes.c_long]
    libc.pread.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_long]
    file, memory = os.open(path, os.O_RDONLY), os.open("/proc/self/mem", os.O_RDONLY)
    read, private, anonymous = 1, 2, 0x20
    page, buffer = libc.mmap(None, PAGE, read, private, file, 0), ctypes.create_string_buffer(1)
    maps = lambda: libc.mmap(None, PAGE, read, private | anonymous, -1, 0)
    reads = lambda: libc.pread(memory, buffer, 1, page)
    # Before the lock is held: a thread needs a stack.
    begin = [threading.Event(), threading.Event()]
    when = lambda event, act: (event.wait(), act())
    for waits in zip(begin, [reads, maps]):
        threading.Thread(target=when, args=waits, daemon=True).start()
    time.sleep(0.2)
    for event in begin:
        event.set()
        time.sleep(0.2)


headless = sys.argv[1:] == ["headless"]
# Long enough to have a mapping of its own; its first page holds its header, too.
name = "hidden" * (1 << 20)
hidden.__code__ = hidden.__code__.replace(co_qualname=name)
libc = ctypes.CDLL(None, use_errno=True)
descriptor = libc.syscall(SYS_USERFAULTFD, os.O_CLOEXEC)
assert descriptor >= 0, os.strerror(ctypes.get_errno())
fcntl.ioctl(descriptor, UFFDIO_API, struct.pack("3Q", 0xAA, 0, 0))
first = id(name) & -PAGE
was = ctypes.create_string_buffer(ctypes.string_at(first, PAGE), PAGE)
fcntl.ioctl(descriptor, UFFDIO_REGISTER, struct.pack("4Q", first, PAGE, MISSING, 0))
assert libc.madvise(ctypes.c_void_p(first), ctypes.c_size_t(PAGE), MADV_DONTNEED) == 0
mapping = sys.argv[1:2] == ["mapping"]
if not mapping:
    threading.Thread(target=watch_input, daemon=True).start()
threading.Thread(target=plain, daemon=True).start()
if headless:
    threading.Thread(target=hidden, daemon=True).start()
    libc.syscall(SYS_EXIT, 0)
if mapping:
    threading.Thread(target=hidden, daemon=True).start()
    ctypes.CDLL(sys.argv[2]).mapping()
    os._exit(0)
if len(sys.argv) > 1:
    lock(sys.argv[1])
os.write(1, b"ready\n")
hidden()
