"""Runs `hidden`, whose code object's name is swapped out, and touches no page of that name any more. Says
where the name's pages are, `pages ADDRESS BYTES`, then `ready`, and ends when its standard input does."""

import ctypes
import os
import sys
import threading

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
if libc.madvise(ctypes.c_void_p(first), ctypes.c_size_t(size), MADV_PAGEOUT) != 0:
    sys.exit(os.strerror(ctypes.get_errno()))
print("pages", first, size)
print("ready")
hidden()
