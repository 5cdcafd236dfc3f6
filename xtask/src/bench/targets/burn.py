"""Burns MILLISECONDS of its own CPU time, the interpreter's start included: <module>, outer, burn."""

import sys
from time import thread_time


def burn(end):
    while thread_time() < end:
        for i in range(1000):
            i * i


def outer(end):
    burn(end)


outer(float(sys.argv[1]) / 1000)
