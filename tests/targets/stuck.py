"""A thread runs `hidden`, whose code object's name begins on a page that nobody brings: who reads it waits
for ever. Another runs `plain`. Says `ready`, and ends when its standard input does."""

import ctypes
import fcntl
import os
import struct
import sys
import threading

PAGE = 4096
SYS_USERFAULTFD = 323
UFFDIO_API, UFFDIO_REGISTER, MISSING = 0xC018AA3F, 0xC020AA00, 1
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
    sys.stdin.read()
    os._exit(0)


# Long enough to have a mapping of its own; its first page holds its header, too.
name = "hidden" * (1 << 20)
hidden.__code__ = hidden.__code__.replace(co_qualname=name)
libc = ctypes.CDLL(None, use_errno=True)
descriptor = libc.syscall(SYS_USERFAULTFD, os.O_CLOEXEC)
assert descriptor >= 0, os.strerror(ctypes.get_errno())
fcntl.ioctl(descriptor, UFFDIO_API, struct.pack("3Q", 0xAA, 0, 0))
first = id(name) & -PAGE
fcntl.ioctl(descriptor, UFFDIO_REGISTER, struct.pack("4Q", first, PAGE, MISSING, 0))
assert libc.madvise(ctypes.c_void_p(first), ctypes.c_size_t(PAGE), MADV_DONTNEED) == 0
threading.Thread(target=watch_input, daemon=True).start()
threading.Thread(target=plain, daemon=True).start()
os.write(1, b"ready\n")
hidden()
