"""Several call chains in one process, each of functions of its own: threads, sub-interpreters, or
greenlets. At the end the program says of each chain what it burned in its leaf, and who called whom:
`CHAIN NANOSECONDS FUNCTION…`, from the root to the leaf. All names end in `_CHAIN` that are its own.

    python_threads.py threads|interpreters|unlocked|greenlets SECONDS
"""

import sys
import threading
import time

SECONDS = float(sys.argv[2])

# What each chain runs: leaf_CHAIN burns, root_CHAIN calls it through C and Python.
CHAIN = """
import os, sys, time, zlib
data = bytes(1 << 20)

def leaf_{c}(seconds, unlocked, step):
    names = []
    frame = sys._getframe()
    while frame is not None:
        names.append(frame.f_code.co_qualname)
        frame = frame.f_back
    start = time.thread_time_ns()
    burned = 0
    while burned < seconds * 1e9:
        if unlocked:
            zlib.crc32(data)
        else:
            for i in range(4000):
                i * i
        burned += time.thread_time_ns() - start
        if step is not None:
            step()
        start = time.thread_time_ns()
    # In one piece, whoever else writes.
    os.write(1, " ".join(["{c}", str(burned), *above, *reversed(names)]).encode() + b"\\n")

def inner_{c}(*args):
    max((1,), key=lambda_{c}(args))

def lambda_{c}(args):
    def called_{c}(_):
        leaf_{c}(*args)
        return 0
    return called_{c}

def root_{c}(seconds, unlocked=False, step=None):
    inner_{c}(seconds, unlocked, step)
"""


def define(chain, into, above=()):
    into["above"] = above
    exec(CHAIN.format(c=chain), into)
    return into["root_" + chain]


def functions():
    """Who called us, from the root."""
    names = []
    frame = sys._getframe(1)
    while frame is not None:
        names.append(frame.f_code.co_qualname)
        frame = frame.f_back
    return names[::-1]


def in_threads():
    roots = [define(f"t{n}", {}) for n in range(4)]
    started = [threading.Thread(target=root, args=(SECONDS,)) for root in roots]
    # One of them burns without the interpreter's lock.
    started.append(threading.Thread(target=define("t4", {}), args=(SECONDS, True)))
    for thread in started:
        thread.start()
    for thread in started:
        thread.join()


# In another interpreter: what it needs to define a chain, and one more interpreter within it.
PRELUDE = """
import sys
sys.argv = {argv!r}
source = {source!r}
space = dict(above={above!r})
exec(source.format(c={chain!r}), space)
space["root_" + {chain!r}]({seconds}, {unlocked})
"""


def run(interpreter, chain, unlocked=False):
    import _xxsubinterpreters as interpreters

    text = PRELUDE.format(
        argv=sys.argv,
        source=CHAIN,
        above=functions(),
        chain=chain,
        seconds=SECONDS,
        unlocked=unlocked,
    )
    interpreters.run_string(interpreter, text)


def in_interpreters():
    import _xxsubinterpreters as interpreters

    # In the thread that made it, with the lock and without; and on that thread's state in another.
    run(interpreters.create(), "s0")
    run(interpreters.create(), "s1", True)
    made_here = interpreters.create()
    # This thread runs on, in the main interpreter.
    other = threading.Thread(target=run, args=(made_here, "s2"))
    other.start()
    define("s3", {})(SECONDS)
    other.join()
    # One within the other.
    nested = interpreters.create()
    text = "import sys\nsys.argv = %r\n__name__ = 'within'\nabove_all = %r\n%s\n" % (
        sys.argv,
        functions(),
        "exec(open(%r).read())\nnest()" % __file__,
    )
    interpreters.run_string(nested, text)


def nest():
    import _xxsubinterpreters as interpreters

    text = PRELUDE.format(
        argv=sys.argv,
        source=CHAIN,
        above=above_all + functions(),
        chain="s4",
        seconds=SECONDS,
        unlocked=False,
    )
    interpreters.run_string(interpreters.create(), text)


def without_lock():
    """On another thread's state, and without the lock: nothing says whose state it is."""
    import _xxsubinterpreters as interpreters

    other = threading.Thread(target=run, args=(interpreters.create(), "u0", True))
    other.start()
    other.join()


def in_greenlets():
    from greenlet import getcurrent, greenlet

    main = getcurrent()
    others = []

    def deeper(n, then):
        return max((1,), key=lambda _: deeper(n - 1, then) or 0) if n else then()

    def hands_over():
        # From ever other depths of the main greenlet's stack.
        for n, other in enumerate(others):
            if not other.dead:
                deeper(n * 3, other.switch)

    for chain in ("g0", "g1"):
        root = define(chain, {})
        others.append(greenlet(lambda root=root: root(SECONDS, False, main.switch)))
    while not all(other.dead for other in others):
        hands_over()
    define("g2", {})(SECONDS)


if __name__ == "__main__":
    {
        "threads": in_threads,
        "interpreters": in_interpreters,
        "unlocked": without_lock,
        "greenlets": in_greenlets,
    }[sys.argv[1]]()
