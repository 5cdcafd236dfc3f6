"""Two forked children that do the same: call 300 functions, each with a file name of a page of its own, which
nothing that they do touches. Says `name ADDRESS LENGTH` for each, `child PID` for both, and `ready`; the
children end with it, when its standard input does."""

import ctypes
import gc
import os
import signal
import sys

LEN = 4200
PR_SET_PDEATHSIG = 1
SOURCE = """
def f_{n}():
    for i in range(20000):
        pass
"""

functions = []
for n in range(300):
    space = {}
    exec(compile(SOURCE.format(n=n), f"{n:03}" + "x" * LEN, "exec"), space)
    functions.append(space[f"f_{n}"])
for function in functions:
    # Until the interpreter has made of the code what it will.
    for _ in range(20):
        function()
names = [function.__code__.co_filename for function in functions]
for name in names:
    print("name", id(name), LEN)
sys.stdout.flush()
gc.disable()
gc.freeze()
for _ in range(2):
    child = os.fork()
    if child == 0:
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        while True:
            for function in functions:
                function()
    print("child", child)
print("ready", flush=True)
sys.stdin.read()
