"""A worker's copy of the build, in which the switch of every binary is set at once.

Called by run.py. The marks are those of switch.h; the image's hash, which programs of the build know it by, is
computed anew in all of them.
"""

import errno
import importlib.util
import os
import shutil
import struct
import time
from pathlib import Path

from mutant_list import ROOT

MARK = struct.pack("<3I", 0x9D3A71C5, 0x41B6E8F2, 0xC87D0593)
IMAGE = "aep-lib/image/aep-image"
FNV_PRIME = 0x100000001B3
NOT_RUN = (".o", ".a", ".ninja", ".d", ".gch")  # what only the build needs


def _hash_of(data):
    spec = importlib.util.spec_from_file_location("check_image", ROOT / "aep-lib/image/check_image.py")
    check_image = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(check_image)
    return check_image.fnv1a(data)


def _forms(hash_of_image):
    """What compilers write into code that compares with it: the number, or, since a multiplication is the hash's last
    step, what that makes the number of."""
    word = 1 << 64
    return [struct.pack("<Q", number % word) for number in (hash_of_image, hash_of_image * pow(FNV_PRIME, -1, word))]


def _all(data, pattern):
    at = data.find(pattern)
    while at >= 0:
        yield at
        at = data.find(pattern, at + 1)


def _open_idle(path):
    """Opens a program to write into it. What was killed a moment ago may still be ending."""
    for _ in range(600):
        try:
            return os.open(path, os.O_WRONLY)
        except OSError as error:
            if error.errno != errno.ETXTBSY:
                raise
            time.sleep(0.1)
    raise RuntimeError(f"{path} still runs")


class Binaries:
    """Copies what tests run of the folder `built` to `copy`, and knows the switches there."""

    def __init__(self, built, copy):
        self.copy = Path(copy)
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(built, copy, symlinks=True, ignore=lambda _, names: {
            name for name in names if name.endswith(NOT_RUN) or name in ("CMakeFiles", "Testing")})
        forms = _forms(_hash_of((self.copy / IMAGE).read_bytes()))
        self.switches, self.identities = {}, ({}, {})
        for path in self.copy.rglob("*"):
            if path.is_symlink() or not path.is_file():
                continue
            data = path.read_bytes()
            if not data.startswith((b"\x7fELF", b"!<arch>")):
                continue
            if found := list(_all(data, MARK)):
                self.switches[path] = found
            for places, form in zip(self.identities, forms):
                if found := list(_all(data, form)):
                    places[path] = found
        if not self.switches:
            raise RuntimeError(f"{built} has no switch: it was not built from the sources of write_sources.py")
        if not any(self.identities):
            raise RuntimeError(f"no file in {built} knows the image's hash")

    def _write(self, places, word):
        for path, offsets in places.items():
            file = _open_idle(path)
            for offset in offsets:
                os.pwrite(file, word, offset)
            os.close(file)

    def switch(self, number):
        """Every binary is the mutant `number` from now on. None of them may be running."""
        at_number = {path: [o + len(MARK) for o in offsets] for path, offsets in self.switches.items()}
        self._write(at_number, struct.pack("<I", number))
        if self.copy / IMAGE in self.switches:
            for places, form in zip(self.identities, _forms(_hash_of((self.copy / IMAGE).read_bytes()))):
                self._write(places, form)
