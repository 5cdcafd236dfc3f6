"""gate.c in Python: work in functions of its own, `NAME AMOUNT` by `NAME AMOUNT`; GATE_LOG is told what each took."""

import os
import sys
import time


def alpha(n):
    x = n
    for _ in range(n * 1800):
        x = (x * 5 + 1) & 0xFFFF
    return x


def beta(n):
    x = n
    for _ in range(n * 1800):
        x = (x * 9 + 1) & 0xFFFF
    return x


def main(words):
    line = ""
    for name, n in zip(words[::2], words[1::2]):
        before = time.thread_time_ns()
        {"alpha": alpha, "beta": beta}[name](int(n))
        line += f"{name} {time.thread_time_ns() - before} "
    if "GATE_LOG" in os.environ:
        with open(os.environ["GATE_LOG"], "a") as log:
            log.write(f"{line}total {time.process_time_ns()}\n")


main(sys.argv[1:])
