#!/usr/bin/env python3
"""Proves the image rules on a linked image, or fails the build.

An operation may be finished by another process, on a thread that has nothing but the context and the
general registers. So the image must
  * have the two expected segments, both read+execute, nothing writable, at the expected addresses;
  * need nothing: no undefined symbols, no relocations, no interpreter, no dynamic section;
  * use no vector, x87 or segment registers, and no instruction that leaves (but futex system calls);
  * use a bounded stack: no recursion, no indirect calls, no variable frames.

Usage: check_image.py IMAGE [--identity HEADER]   HEADER gets the image's hash as a constant.
Called by the build (CMakeLists.txt) and by the tests. Prints each broken rule; exit 1 if there is any.
"""

import argparse
import re
import subprocess
import sys
from pathlib import Path

SHADOW, TEXT = 0x3FFF_FFFF_0000, 0x4000_0000_0000
MAX_STACK = 8 * 1024  # of the 16 KiB that are made present when a slot is taken
ALLOWED_SYSCALL_FUNCTIONS = 1  # see futex() in dsm-core/base/lock.hpp: inlined where locks wait

LABELS = {"aep_entered"}  # in the middle of a function, whose code goes on

FORBIDDEN = [
    (re.compile(r"%[xyz]mm|%st|%mm\d|%k[0-7]"), "vector or x87 register"),
    (re.compile(r"%(fs|gs):"), "segment register (thread-local storage)"),
    (re.compile(r"\b(fxsave|xsave|rdtsc|cpuid|int3|hlt|iret|lret|sysenter|int)\b"), "instruction"),
    (re.compile(r"\bcall\s+\*"), "indirect call"),
]


def run(*command):
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def segment_faults(image):
    loads = re.findall(
        r"LOAD\s+0x\w+ 0x(\w+) 0x\w+\s+0x(\w+) 0x(\w+)\s+(.{3})", run("readelf", "-lW", image)
    )
    wanted = [SHADOW, TEXT]
    if [int(a, 16) for a, _, _, _ in loads] != wanted:
        yield f"segments at {[a for a, *_ in loads]}, expected {[hex(w) for w in wanted]}"
    for address, in_file, in_memory, flags in loads:
        if flags != "R E":
            yield f"segment at 0x{address} is '{flags}', expected 'R E'"
        if in_file != in_memory:
            yield f"segment at 0x{address} needs memory beyond the file: writable data"
    for kind in ("INTERP", "DYNAMIC", "TLS"):
        if re.search(rf"^\s+{kind}\b", run("readelf", "-lW", image), re.M):
            yield f"a {kind} segment"


def symbol_faults(image):
    for line in run("nm", "-u", image).splitlines():
        yield f"undefined symbol {line.split()[-1]}"
    if "There are no relocations" not in run("readelf", "-rW", image):
        yield "relocations"


def functions(image):
    """name -> list of instructions (text), in the order of addresses."""
    found, name = {}, None
    for line in run("objdump", "-d", "--no-show-raw-insn", "-w", image).splitlines():
        head = re.match(r"[0-9a-f]+ <(.+)>:$", line)
        if head and head.group(1) not in LABELS:
            name = head.group(1)
            found[name] = []
        elif name and re.match(r"\s*[0-9a-f]+:\s", line):
            found[name].append(line.split(":", 1)[1].strip())
    return found


def instruction_faults(code):
    for name, lines in code.items():
        for line in lines:
            for pattern, what in FORBIDDEN:
                if pattern.search(line.split("#")[0]):
                    yield f"{name}: {what}: {line}"


def frame(name, lines):
    """Bytes of stack that the function itself takes, return address included."""
    used = 8
    for line in lines:
        if re.match(r"push", line):
            used += 8
        taken = re.match(r"(sub|add)\s+\$(-?0x[0-9a-f]+),%rsp", line)
        if taken:
            amount = int(taken.group(2), 16)
            used += amount if taken.group(1) == "sub" and amount < 1 << 31 else 0
            if taken.group(1) == "add" and amount >= 1 << 63:
                used += (1 << 64) - amount
        if re.match(r"sub\s+%\w+,%rsp", line) or re.match(r"and\s+%\w+,%rsp", line):
            raise ValueError(f"{name}: a frame of variable size: {line}")
    return used


def callees(code, lines):
    for line in lines:
        target = re.match(r"(call|jmp)\s+[0-9a-f]+ <([^+>]+)>", line)
        if target and target.group(2) in code:
            yield target.group(1), target.group(2)


def stack_bound(code):
    depth, open_now = {}, []

    def visit(name):
        if name in depth:
            return depth[name]
        if name in open_now:
            raise ValueError("recursion: " + " -> ".join([*open_now, name]))
        open_now.append(name)
        own = frame(name, code[name])
        below = 0
        for how, target in callees(code, code[name]):
            if how == "call" or target != name:
                below = max(below, visit(target))
        open_now.pop()
        depth[name] = own + below
        return depth[name]

    return visit("aep_enter")


def fnv1a(data):
    value = 0xCBF29CE484222325
    for byte in data:
        value = (value ^ byte) * 0x100000001B3 & 0xFFFF_FFFF_FFFF_FFFF
    return value


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("image", type=Path)
    parser.add_argument("--identity", type=Path)
    options = parser.parse_args()
    code = functions(options.image)
    faults = [
        *segment_faults(options.image),
        *symbol_faults(options.image),
        *instruction_faults(code),
    ]
    bound = 0
    try:
        bound = stack_bound(code)
        if bound > MAX_STACK:
            faults.append(f"operations may use {bound} bytes of stack, at most {MAX_STACK} allowed")
    except ValueError as error:
        faults.append(str(error))
    for fault in faults:
        print(f"{options.image}: broken image rule: {fault}", file=sys.stderr)
    if faults:
        return 1
    data = options.image.read_bytes()
    if options.identity:
        text = (
            "// Generated by check_image.py: which image this build made.\n#pragma once\n"
            "#include <cstdint>\nnamespace aep {\n"
            f"inline constexpr std::uint64_t BUILT_IMAGE_HASH = 0x{fnv1a(data):016x};\n"
            f"inline constexpr std::uint64_t BUILT_IMAGE_BYTES = {len(data)};\n"
            "}  // namespace aep\n"
        )
        if not options.identity.exists() or options.identity.read_text() != text:
            options.identity.write_text(text)
    print(f"image rules hold: {len(code)} functions, at most {bound} bytes of stack")
    return 0


if __name__ == "__main__":
    sys.exit(main())
