"""tar, gzip, xz and zstd: trees packed and unpacked through pipes, with several threads, compared file by file"""

import gzip
import hashlib
import io
import lzma
import os
import random
import tarfile

NEEDS = {"/usr/bin/tar": "tar", "/usr/bin/gzip": "gzip", "/usr/bin/xz": "xz-utils", "/usr/bin/zstd": "zstd"}


def make_tree(t):
    """Files of very different sizes, part text and part noise; name -> hash."""
    noise = random.Random(7)
    hashes = {}
    for i in range(300):
        size = 4 << (i % 15) if i % 10 else 250000
        content = noise.randbytes(size) if i % 4 == 0 else (b"text of file %d\n" % i * (size // 16 + 1))[:size]
        name = f"d{i % 13}/e{i % 4}/file{i}"
        t.write("tree/" + name, content)
        hashes[name] = hashlib.sha256(content).hexdigest()
    return hashes


def hashes_below(folder):
    found = {}
    for where, _, names in os.walk(folder):
        for name in names:
            path = os.path.join(where, name)
            with open(path, "rb") as file:
                found[os.path.relpath(path, folder)] = hashlib.sha256(file.read()).hexdigest()
    return found


def test_archive(t):
    hashes = make_tree(t)
    t.run(["/usr/bin/tar", "-cf", "plain.tar", "-C", "tree", "."])
    with open(t.path("plain.tar"), "rb") as file:
        plain = file.read()
    pack = {
        "gzip": (["/usr/bin/gzip", "-6c"], gzip.decompress),
        "xz": (["/usr/bin/xz", "-3c", "-T2", "--block-size=1MiB"], lzma.decompress),
        "zstd": (["/usr/bin/zstd", "-6qc", "-T2"], None),
    }
    for name, (argv, decompress) in pack.items():
        packed = t.run(argv, stdin=plain, active=name, allocates=name != "gzip").stdout
        assert len(packed) < len(plain), f"{name} made {len(packed)} bytes of {len(plain)}"
        if decompress:
            assert decompress(packed) == plain, f"python unpacks something else from {name}'s output"
        assert t.run([argv[0], "-dc"], stdin=packed, active=name, allocates=name != "gzip").stdout == plain, (
            f"{name} -d gives something else")
        folder = t.folder("out-" + name)
        t.run(["/usr/bin/tar", f"--{name}", "-xf", "-", "-C", folder], stdin=packed, active="tar")
        t.equal(hashes_below(folder), hashes, f"files unpacked by tar --{name}")
    # What tar itself compresses through a pipe, and a damaged archive: an error message and not a crash.
    t.run(["/usr/bin/bash", "-c", "set -o pipefail; tar -c -C tree . | xz -T2 -1 | xz -dc | gzip -1 > piped.tgz"])
    with tarfile.open(t.path("piped.tgz")) as archive:
        members = {os.path.relpath(m.name, "."): hashlib.sha256(archive.extractfile(m).read()).hexdigest()
                   for m in archive if m.isfile()}
    t.equal(members, hashes, "members that python finds in the piped archive")
    damaged = io.BytesIO(t.run(["/usr/bin/xz", "-1c"], stdin=plain[:1 << 20], active="xz").stdout)
    damaged.seek(4000)
    damaged.write(b"\0" * 100)
    result = t.run(["/usr/bin/xz", "-dc"], stdin=damaged.getvalue(), status=1, active="xz")
    assert b"corrupt" in result.stderr, f"xz says {result.stderr!r} of a damaged file"
