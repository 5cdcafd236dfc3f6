"""Burns SECONDS of CPU time in a method that the interpreter, C and the interpreter again called.

    spin.py SECONDS
"""

import sys
import time


class Work:
    def burn(self):
        end = time.thread_time() + float(sys.argv[1])
        n = 0
        while time.thread_time() < end:
            n = self.count(n)
        return n

    def count(self, n):
        for i in range(20000):
            n += i * i
        return n


def inner(work):
    return work.burn()


def middle(work):
    # Through C: a second activation of the interpreter's loop stands on the stack.
    return sorted([work], key=inner)


def outer(work):
    return middle(work)


outer(Work())
