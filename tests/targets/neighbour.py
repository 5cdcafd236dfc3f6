"""A program like any other: spins in `leaf`, called by `middle`, called by `root`. Says `ready`, and ends
when its standard input does."""

import os
import sys
import threading


def leaf():
    for i in range(1000):
        i * i


def middle():
    for _ in range(100):
        leaf()


def root():
    while True:
        middle()


def watch_input():
    sys.stdin.read()
    os._exit(0)


threading.Thread(target=watch_input, daemon=True).start()
middle()
print("ready", flush=True)
root()
