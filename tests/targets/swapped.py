"""Runs `hidden`, whose code object's name is swapped out, and touches no page of that name any more. Says
where the name's pages are, `pages ADDRESS BYTES`, then `ready`, and ends when its standard input does."""

import ctypes
import os
import sys
import threading
import time

PAGE = 4096
MADV_PAGEOUT = 21


def hidden():
    while True:
        for i in range(1000):
            i * i


def watch_input():
    sys.stdin.read()
    os._exit(0)


# Long enough to have a mapping of its own.
name = "hidden" * 200_000
hidden.__code__ = hidden.__code__.replace(co_qualname=name)
first = id(name) & -PAGE
size = len(name) & -PAGE
libc = ctypes.CDLL(None, use_errno=True)
threading.Thread(target=watch_input, daemon=True).start()


def in_memory():
    """Pages of the name that are (bit 63 of its pagemap)."""
    with open("/proc/self/pagemap", "rb") as pagemap:
        pagemap.seek(first // PAGE * 8)
        entries = pagemap.read(size // PAGE * 8)
    return sum(entry >> 7 for entry in entries[7::8])


# A page that was new on a CPU is passed over until that CPU has put it on its list, which it does if it is the one
# that asks.
cpus = os.sched_getaffinity(0)
for cpu in list(cpus) * 10:
    os.sched_setaffinity(0, {cpu})
    if libc.madvise(ctypes.c_void_p(first), ctypes.c_size_t(size), MADV_PAGEOUT) != 0:
        sys.exit(os.strerror(ctypes.get_errno()))
    if in_memory() == 0:
        break
os.sched_setaffinity(0, cpus)
print("pages", first, size)
print("ready")
hidden()
