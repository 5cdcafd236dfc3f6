"""Calls through everything that calls: Python, C and Python again. Says its chain from the root to
the leaf, and burns SECONDS of its own CPU time in the leaf, half in Python and half in C.

    mixed.py FOLDER-OF-CROSSING SECONDS [thread]

A line is a Python frame (`python`, name, file, line), or what is known to stand between one and the
next: `native`, then names of C functions that must be there in this order; the interpreter's own
functions stand around them. Without such a line, nothing stands between.
"""

import ctypes
import functools
import sys
import threading
import time

sys.path.insert(0, sys.argv[1])
import crossing

library = ctypes.PyDLL(crossing.__file__)

# Who calls its callee through C, and through which functions besides the interpreter's own.
through_c = {
    "Thread.run": [],
    "sorts": [],
    "Maker.__init__": ["crossing_call", "crossing_inner"],
    "Maker.method.<locals>.inner": ["crossing_apply"],
    "constructs": [],
    "iterates": [],
    "generator": [],
    "größe": [],
    "名前": [],
    "from_string": ["crossing_call", "crossing_inner"],
    "class_body": [],
    "awaits": [],
}


def leaf():
    frames = []
    frame = sys._getframe()
    while frame is not None:
        frames.append((frame.f_code, frame.f_lineno))
        frame = frame.f_back
    for code, line in reversed(frames):
        print("python", code.co_qualname, code.co_filename, line, sep="\t")
        if code.co_qualname in through_c:
            print("native", *through_c[code.co_qualname], sep="\t")
    sys.stdout.flush()
    end = time.thread_time() + float(sys.argv[2])
    while time.thread_time() < end:
        for i in range(20000):
            i * i
        crossing.burn(200000)


class Gothic:
    @staticmethod
    def 𐌰𐌱():
        leaf()

    @classmethod
    def make(cls):
        [cls.𐌰𐌱() for _ in range(1)]


async def coroutine():
    Gothic.make()


def awaits():
    try:
        coroutine().send(None)
    except StopIteration:
        pass


def class_body():
    class Body:
        awaits()


exec(
    """
def from_string():
    crossing.call(class_body)
""",
)


class 名前:
    @property
    def value(self):
        return from_string()


def größe():
    return 名前().value


def generator():
    yield functools.reduce(lambda a, b: größe(), (1, 2))


def iterates():
    for _ in generator():
        pass


class Maker:
    def __init__(self):
        crossing.call(self.method)

    def method(self):
        def inner():
            callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int)(lambda n: iterates() or n)
            library.crossing_apply(callback, 7)

        inner()


def constructs():
    Maker()


def sorts():
    sorted((1,), key=lambda n: constructs() or n)


if sys.argv[3:] == ["thread"]:
    thread = threading.Thread(target=sorts)
    thread.start()
    thread.join()
else:
    sorts()
