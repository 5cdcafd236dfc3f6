"""Says of many code objects what they are called and where their lines are, then stops itself.

One line each: address, first line, name, file (hex of UTF-8), lines of all code units.
"""
import asyncio, argparse, email.message, gc, http.client, inspect, os, signal, sys, typing
import unittest.mock

SOURCE = '''
class Größe:
    class Innen:
        def método(self, *a, **k): return [x for x in a if (lambda y: y > x)(1)]
        @staticmethod
        def функция(): return {k: v for k, v in zip("ab", "cd")}
    async def 関数(self):
        async for i in self: yield i
class 𠀀𠀁:
    def 𠀂(self):
        return (
            self.a(
                1,
                lambda: (
                    2),
            ) +
            self.b
        )
def outer():
    def inner():
        try:
            with open("x") as f:
                for line in f: print(line)
        except (OSError,
                ValueError) as e:
            raise KeyError from e
        finally:
            del f
    return inner
def match(x):
    match x:
        case {"a": [1, 2, *rest]}: return rest
        case int() | str(): return f"{x!r:>{10}}"
'''

def long_function(lines):
    return "def long():\n x = 0\n" + "".join(f" x = x * {i} + len('{i}')\n" for i in range(lines))

def deep(depth, name):
    source = ""
    for i in range(depth):
        source += " " * i + f"def {name}{i}():\n"
    return source + " " * depth + "pass\n"

roots = [
    compile(SOURCE, "plain.py", "exec"),
    compile(SOURCE, "größe/été.py", "exec"),
    compile(SOURCE, "関数/函数.py", "exec"),
    compile(SOURCE, "𠀀/😀.py", "exec"),
    compile(SOURCE, "undecodable-\udcff.py", "exec"),
    compile(SOURCE, "", "exec"),
    compile(SOURCE, "d/" * 2500 + "x.py", "exec"),
    compile("\n" * 70_000 + SOURCE, "far.py", "exec"),
    compile("\n" * 5_000_000 + SOURCE, "very-far.py", "exec"),
    compile(long_function(600), "long.py", "exec"),
    compile(long_function(3000), "too-long.py", "exec"),
    compile(deep(40, "längerer_name_"), "deep.py", "exec"),
    compile(deep(40, "имя_функции_"), "deep.py", "exec"),
]
roots += [f.__code__ for f in gc.get_objects() if inspect.isfunction(f)]

seen = {}
while roots:
    code = roots.pop()
    if id(code) not in seen:
        seen[id(code)] = code
        roots += [c for c in code.co_consts if inspect.iscode(c)]

def text(s, limit):
    top = ord(max(s, default="a"))
    characters = limit // (1 if top < 0x100 else 2 if top < 0x10000 else 4)
    if len(s) > characters:
        s = s[:characters] + "…"
    s = "".join("\ufffd" if 0xD800 <= ord(c) < 0xE000 else c for c in s)
    return s.encode().hex() or "-"

out = sys.stdout
for code in seen.values():
    lines = [p[0] for p in code.co_positions()]
    again = [line for start, end, line in code.co_lines() for _ in range(start, end, 2)]
    assert lines == again, code
    if len(code.co_linetable) > 16 << 10:
        lines = "cut"
    else:
        lines = ",".join("-" if line is None or line <= 0 else str(line) for line in lines)
    first = max(code.co_firstlineno, 0)
    name, file = text(code.co_qualname, 1 << 10), text(code.co_filename, 4 << 10)
    print(hex(id(code)), first, name, file, lines, file=out)
print("ready", file=out, flush=True)
os.kill(os.getpid(), signal.SIGSTOP)
