"""Makes a function anew again and again, each with a name, a file and a line of its own, runs it for a while and
drops it: the next one's code stands where this one's stood. Prints for each how many microseconds of CPU it ran,
and at last how many addresses they all had. Its words: how many, and how many times 5 to 40 ms each runs."""

import random
import sys
from time import thread_time_ns

GENERATIONS, TIMES = int(sys.argv[1]), int(sys.argv[2])
TEXT = """{lines}def born_{number:04}(end, now):
    while now() < end:
        for i in range(500):
            i * i
"""
random.seed(1)
addresses = set()
for number in range(GENERATIONS):
    text = TEXT.format(lines="\n" * (number % 50), number=number)
    scope = {}
    exec(compile(text, f"/generation/{number:04}.py", "exec"), scope)
    function = scope.popitem()[1]
    addresses.add(id(function.__code__))
    start = thread_time_ns()
    function(start + random.randrange(5, 40) * TIMES * 1_000_000, thread_time_ns)
    print(f"{number:04}", (thread_time_ns() - start) // 1000)
    del function, scope, text
print("addresses", len(addresses))
