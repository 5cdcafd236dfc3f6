"""A function whose name is not in memory, though not lost: the page that the name begins in is a mapping
of FILE, and while the function uses SECONDS of CPU time that page is neither mapped nor in the page cache.
Nobody but a profiler needs a function's name while it runs.

    evicted.py FILE SECONDS

It says `away 1` before and `still 1` after that, if that is so; and `returned` if the name is what it was.
"""

import ctypes
import os
import sys
from time import thread_time

PAGE = 4096
PROT_READ_WRITE, MAP_SHARED_FIXED = 3, 0x11
MADV_DONTNEED, MADV_RANDOM = 4, 1
libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t] + 3 * [ctypes.c_int] + [ctypes.c_long]
libc.madvise.argtypes = libc.msync.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
libc.mincore.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_char_p]


def checked(result):
    if result == -1:
        raise OSError(ctypes.get_errno())


def burn(end):
    while thread_time() < end:
        for i in range(1000):
            i * i


def away(page):
    cached = ctypes.create_string_buffer(1)
    checked(libc.mincore(page, PAGE, cached))
    with open("/proc/self/pagemap", "rb", 0) as pagemap:
        entry = os.pread(pagemap.fileno(), 8, page // PAGE * 8)
    return int(not cached.raw[0] & 1 and not entry[7] & 0x80)


file, seconds = sys.argv[1], float(sys.argv[2])
# Long enough for a mapping of its own, so that nothing that anybody needs shares its pages.
name = "evicted_" + 1_000_000 * "x"
digest = hash(name)
call = type(burn)(burn.__code__.replace(co_name="other", co_qualname=name), globals())
page = id(name) & -PAGE
fd = os.open(file, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
os.write(fd, ctypes.string_at(page, PAGE))
os.fsync(fd)
# Now it holds what it held.
if libc.mmap(page, PAGE, PROT_READ_WRITE, MAP_SHARED_FIXED, fd, 0) != page:
    raise OSError(ctypes.get_errno())
checked(libc.madvise(page, PAGE, MADV_RANDOM))
checked(libc.madvise(page, PAGE, MADV_DONTNEED))
os.posix_fadvise(fd, 0, PAGE, os.POSIX_FADV_DONTNEED)
before = away(page)
call(thread_time() + seconds)
after = away(page)
print("away", before)
print("still", after)
if hash(str(name[:1]) + name[1:]) == digest:
    print("returned")
