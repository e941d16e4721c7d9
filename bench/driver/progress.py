"""One line on stderr that says how far a long run is.

Used by run.py and dsm.py.
"""

import sys
import time


class Progress:
    """One line on stderr that says where the run is; a new line every 20 s where stderr is no terminal."""

    def __init__(self, total):
        self._done, self._total, self._start = 0, total, time.monotonic()
        self._terminal = sys.stderr.isatty()
        self._shown = self._start

    def step(self, text):
        self._done += 1
        now = time.monotonic()
        if now - self._shown < (0.1 if self._terminal else 20):
            return
        self._shown = now
        left = (now - self._start) / self._done * (self._total - self._done)
        line = f"[{self._done}/{self._total}, {now - self._start:.0f} s, about {left:.0f} s left] {text}"
        print(f"\r{line[:110]:110}" if self._terminal else line, end="" if self._terminal else "\n",
              file=sys.stderr, flush=True)

    def end(self):
        if self._terminal:
            print("\r" + " " * 110 + "\r", end="", file=sys.stderr, flush=True)
