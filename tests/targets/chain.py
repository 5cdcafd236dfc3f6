"""Burns MILLISECONDS in a function that has this script's number in its name; then becomes the next script, if
there is one. Prints its microseconds of CPU. Its words: MILLISECONDS, and the scripts that follow."""

import os
import sys
from time import process_time_ns, thread_time_ns

START = process_time_ns()
NUMBER = os.path.basename(__file__).removesuffix(".py")
TEXT = """def burn_{number}(end, now):
    while now() < end:
        for i in range(500):
            i * i
"""
# From its own file, at a place of its own.
exec(compile(TEXT.format(number=NUMBER), __file__, "exec"))
globals()[f"burn_{NUMBER}"](thread_time_ns() + int(sys.argv[1]) * 1_000_000, thread_time_ns)
print(NUMBER, (process_time_ns() - START) // 1000, flush=True)
if len(sys.argv) > 2:
    os.execv(sys.executable, [sys.executable, *sys.argv[2:3], sys.argv[1], *sys.argv[3:]])
