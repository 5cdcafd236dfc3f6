"""Says which frames stand on its stack and which threads it has, then stops itself.

`frame` lines, leaf first: code address, position of the instruction (leaf: `-`), 1 if the frame
begins an activation of the C loop, 1 if a generator owns it, first traceable instruction.
`thread` lines: `thread_id` and kernel's id of each thread, `main`: of the one that stops.
"""
import _xxsubinterpreters, dis, os, signal, sys, threading

ENTRY = {"<module>", "<lambda>", "generator", "__lt__"}

def say():
    frame = sys._getframe()
    position = "-"
    while frame:
        code = frame.f_code
        resume = next(i.offset for i in dis.get_instructions(code) if i.opname == "RESUME")
        entry = int(code.co_name in ENTRY)
        owned = int(code.co_name == "generator")
        print("frame", hex(id(code)), position, entry, owned, resume // 2)
        frame = frame.f_back
        position = frame and frame.f_lasti // 2
    for thread in threading.enumerate():
        print("thread", hex(thread.ident), thread.native_id)
    print("main", hex(threading.get_ident()))
    print("ready", flush=True)
    os.kill(os.getpid(), signal.SIGSTOP)

def called():
    say()

def generator():
    called()
    yield 1

class Item:
    def __lt__(self, other):
        for _ in generator():
            return True

def compare():
    sorted([Item(), Item()])

def nested():
    cell = 0
    def inner():
        nonlocal cell
        cell += 1
        min([1], key=lambda _: compare())
    inner()

for _ in range(3):
    threading.Thread(target=threading.Event().wait, daemon=True).start()
# Its thread state carries this thread's id too.
sub = _xxsubinterpreters.create()
nested()
