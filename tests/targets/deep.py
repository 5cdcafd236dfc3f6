"""Recurses DEPTH deep, says its chain from the root to the leaf (name, file, line), and burns
SECONDS of its own CPU time in the leaf.

    deep.py DEPTH EVERY SECONDS

Each EVERY-th call goes through C (sorted with a key), so that another activation of the evaluation
loop stands on the C stack; 0: none does, and one activation holds all frames.
"""

import sys
import time


def leaf():
    global spun
    frames = []
    frame = sys._getframe()
    while frame is not None:
        code = frame.f_code
        frames.append((code.co_qualname, code.co_filename, frame.f_lineno))
        frame = frame.f_back
    for name, file, line in reversed(frames):
        print(name, file, line, sep="\t")
    sys.stdout.flush()
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        for i in range(20000):
            i * i
    return 0


def ping(left):
    if left == 0:
        return leaf()
    if every and left % every == 0:
        return sorted((left - 1,), key=pong)[0]
    return pong(left - 1)


def pong(left):
    if left == 0:
        return leaf()
    if every and left % every == 0:
        return sorted((left - 1,), key=ping)[0]
    return ping(left - 1)


def start(depth):
    # The module, this function and the leaf count too.
    return ping(depth - 4)


depth, every, seconds = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
sys.setrecursionlimit(depth + 1000)
start(depth)
