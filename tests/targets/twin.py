"""Becomes its twin again and again: another script of the same text, with its code at the same addresses.

    twin.py LETTER OTHER ROUNDS MILLISECONDS

Each, as the process `twin-LETTER`, uses so much CPU time in functions of its own file, prints where their
code objects stand, and becomes OTHER. So only the name of the file tells them apart.
"""

import ctypes
import os
import sys
from time import thread_time

ADDR_NO_RANDOMIZE = 0x0040000


def inner(end):
    while thread_time() < end:
        sum(range(200))


def outer(end):
    inner(end)


letter, other, rounds = sys.argv[1], sys.argv[2], int(sys.argv[3])
milliseconds = sys.argv[4]
with open("/proc/self/comm", "w") as comm:
    comm.write("twin-" + letter)
if letter != "0":
    outer(thread_time() + int(milliseconds) / 1000)
    print(letter, id(inner.__code__), id(outer.__code__), flush=True)
else:
    ctypes.CDLL(None).personality(ADDR_NO_RANDOMIZE)
if rounds:
    # Of the same lengths, so that what comes before the code has the same size.
    twin = "b" if letter == "a" else "a"
    words = [sys.executable, "-u", other, twin, sys.argv[0], "%04d" % (rounds - 1)]
    words.append(milliseconds)
    os.execve(sys.executable, words, {"PYTHONHASHSEED": "0"})
