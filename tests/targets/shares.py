"""Four kinds of work in Python: a loop, dictionaries, sorting with a key, and JSON. Each phase's
function takes its own thread's CPU clock at its borders; at the end the program says how much each
had: `NAME NANOSECONDS`.

    shares.py SECONDS
"""

import json
import random
import sys
from time import thread_time_ns

chance = random.Random(42)


def length():
    # Between 0.1 and 30 ms: below, at and above the time between two samples.
    return 100_000 + chance.randrange(30) * 1_000_000


def looping():
    start, wanted = thread_time_ns(), length()
    while thread_time_ns() - start < wanted:
        for i in range(300):
            i * i
    return thread_time_ns() - start


def dictionaries():
    start, wanted = thread_time_ns(), length()
    while thread_time_ns() - start < wanted:
        d = {i: str(i) for i in range(100)}
        sum(len(v) for v in d.values())
    return thread_time_ns() - start


def sorting():
    start, wanted = thread_time_ns(), length()
    while thread_time_ns() - start < wanted:
        sorted(range(200), key=lambda n: -n)
    return thread_time_ns() - start


def encoding():
    start, wanted = thread_time_ns(), length()
    while thread_time_ns() - start < wanted:
        json.loads(json.dumps(list(range(100))))
    return thread_time_ns() - start


phases = [looping, dictionaries, sorting, encoding]
spent = dict.fromkeys(phases, 0)
while sum(spent.values()) < float(sys.argv[1]) * 1e9:
    (phase,) = chance.choices(phases, weights=[50, 30, 15, 5])
    spent[phase] += phase()
for phase, nanos in spent.items():
    print(phase.__name__, nanos)
