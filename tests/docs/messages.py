#!/usr/bin/env python3
"""Each message of what goes wrong names a next step: in itself, or in the first column of the troubleshooting guide.

Called by ctest: messages.py SOURCE_DIR [unittest arguments]. Reads only.

A message is what a call of one of REPORTS is given: its literals, with {} for what stands between them. Whether that
names a step is judged by its words. So what names none is found; whether a step is the right one, people have to say.
"""

import glob
import os
import re
import sys
import unittest

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

import world  # noqa: E402

SOURCE = sys.argv[1]
PRODUCTS = ["aep-lib/completer", "aep-lib/provider", "node", "preload", "shim", "tools/cli", "tools/corosync", "tools/daemon"]
REPORTS = re.compile(r"(?<![\w:])(?:throw NodeError|complain|refuse|refusal|fatal|message|(?:std::)?fprintf|std::fputs"
                     r"|log_|spdlog::warn|spdlog::error)\s*\(")
LITERAL = re.compile(r'"((?:[^"\\\n]|\\.)*)"')
STEP = re.compile(r"(?:^|[:;(,] ?| or | and | it )(?:if [^,:;]*, )?(?:(?:then|first|better) )?"
                  r"(?:add|attach|be|change|chmod|choose|clear|destroy|end|export|free some|give|install|leave|let|look|lower|make"
                  r"|mount|move|name|put|raise|reconfigure|remove|repeat|run|say|see|set|shorten|start|take|unset|use)\b"
                  r"|\bexpected\b|\bneeds --|without --|\baep (?:check|clients|doctor|down|pool|node|run|status|up)\b"
                  r"|\b(?:is|does|was) (?:it|AEP|corosync|this daemon) ", re.I)
# What stands in a message's place for a step of its own: an errno's words, what a field of a file means, a finding of somebody else's.
CARRIES = re.compile(r"errno_text\(|Errno\{|\badvice\b|how_to_end\(|poison_text\(\)|\bwhy\b|\.what\(\)|missing")
# Messages that ask for nothing, and why.
NOTHING_TO_DO = {
    "preload/statistics.cpp": "figures that were asked for",
    "at exit of process": "a report that was asked for",
    " bytes in blocks of": "part of that",
    "(no stack)": "part of a report",
    "allocated by thread": "part of a report",
    "freed by thread": "part of a report",
    "by thread {} at": "part of a report",
    "guarded block: ": "the report is what was asked for",
    "shim/sys/environment.cpp": "what is expected, which the function that is called says",
    "shim/context/join.cpp": "what failed, to which the function that is called adds the error",
    "continuing in private mode": "follows what happened, and says how to have it fatal",
    "cannot be used: giving up": "follows what happened",
    "runs without it": "begins with what happened",
    "records of operations were lost": "of a log for people, when much happened at once",
    "is dead: recovered": "good news",
    "is cut off": "good news",
    "is to be cut off": "what follows is told",
    "another one starts": "it is done",
    "is given up": "it is undone, and that is told",
    "is broken off": "it is undone, and that is told",
    "they are loaded anew": "it is done",
    "are not taken back yet": "it is waited for",
    "a message of more than": "of a peer that is no client of ours",
    "cleared %s of %s": "progress",
    "clearing its new part": "what failed, to which the function that is called adds the error",
    "mapping its new part": "the same",
    "locking it": "the same",
    "already: it only grows": "nothing is to be done: it has as much",
}


def sources():
    for folder in PRODUCTS:
        for path in sorted(glob.glob(f"{folder}/**/*.[ch]pp", root_dir=SOURCE, recursive=True)):
            with open(os.path.join(SOURCE, path), encoding="utf-8") as text:
                yield path, re.sub(r"(?m)^#include.*$|//.*$", "", text.read())


def argument_list(text, begin):
    """What stands between the parenthesis that ends at `begin` and its partner."""
    depth, at = 1, begin
    while depth:
        if text[at] == '"':
            at = LITERAL.match(text, at).end()
            continue
        if text[at] == "'":
            at += 4 if text[at + 1] == "\\" else 3
            continue
        depth += {"(": 1, ")": -1}.get(text[at], 0)
        at += 1
    return text[begin:at - 1]


def messages():
    """(place, message, what else the call is given) of each."""
    for path, text in sources():
        for call in REPORTS.finditer(text):
            words = argument_list(text, call.end())
            if any(word in words for word in ("LogLevel::info", "LogLevel::debug", "stdout")):
                continue
            joined = re.sub(r'"\s*"', "", words)
            said = "{}".join(LITERAL.findall(joined))
            if re.search(r"[a-z] [a-z]", said):
                yield f"{path}:{text.count(chr(10), 0, call.start()) + 1}", said, LITERAL.sub('""', joined)


def explained():
    """Fragments of messages that the troubleshooting guide explains."""
    with open(os.path.join(SOURCE, "docs/guide/troubleshooting.md"), encoding="utf-8") as guide:
        cells = re.findall(r"^\| (`.*?`) \|", guide.read(), re.M)
    return re.findall(r"`([^`]+)`", " ".join(cells))


class Messages(unittest.TestCase):
    def test_each_names_a_next_step(self):
        guide = explained()
        seen = 0
        for place, said, rest in messages():
            seen += 1
            known = any(part in said for part in guide) or any(part in said or place.startswith(part) for part in NOTHING_TO_DO)
            with self.subTest(place):
                self.assertTrue(STEP.search(said) or CARRIES.search(rest) or known, said)
        self.assertGreater(seen, 200)

    def test_what_asks_for_nothing_is_said(self):
        """The list above names no message that is gone."""
        all_messages = [(place, said) for place, said, _ in messages()]
        for part in NOTHING_TO_DO:
            with self.subTest(part):
                self.assertTrue(any(part in said or place.startswith(part) for place, said in all_messages))

    def test_a_message_without_a_step_is_found(self):
        for said in ("pool {}: has no nodes", "the process was killed", "context {}: poisoned", "its parts: {} is {}"):
            self.assertIsNone(STEP.search(said), said)
        for said in ("pool {}: too small: give a larger one", "{} is served: give another --node", "x: expected 1 to 63", "gone; run it again"):
            self.assertIsNotNone(STEP.search(said), said)


if __name__ == "__main__":
    world.main(2)
