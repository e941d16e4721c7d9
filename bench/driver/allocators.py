"""The allocators that are compared: where their libraries are and how a process gets them.

Used by run.py. One of Debian's that is not there is kept, with the reason, so that every table names it; a peer
that the user names by its path must be there and work, or nothing is measured.
"""

import glob
import os
import re
import shutil
import struct
import subprocess
from dataclasses import dataclass, field

# name -> (library file, Debian package)
DEBIAN = {
    "glibc": (None, "libc6"),
    "mimalloc": ("libmimalloc.so.2", "libmimalloc2.0"),
    "jemalloc": ("libjemalloc.so.2", "libjemalloc2"),
    "tcmalloc": ("libtcmalloc_minimal.so.4", "libtcmalloc-minimal4"),
}
OURS = ("aep", "aep-pool", "aep-joined")
ALL = (*DEBIAN, *OURS)

_ET_DYN = 3  # of the ELF header: a shared object

# Settings of other people's that would change an allocator's behaviour.
_FOREIGN_PREFIXES = ("MALLOC_", "MIMALLOC_", "JEMALLOC_", "TCMALLOC_", "SNMALLOC_", "AEP_", "LD_PRELOAD", "GLIBC_TUNABLES",
                     "PYTHONMALLOC", "_RJEM_", "OMP_")


@dataclass
class Allocator:
    name: str
    library: str = ""  # what LD_PRELOAD names; empty: the program's own
    pool: str = ""  # path of the pool file; empty: none
    pool_size: int = 0
    socket: str = ""  # of the daemon to join; empty: none
    version: str = ""
    missing: str = ""  # why it cannot be measured; empty: it can
    settings: dict = field(default_factory=dict)

    def environment(self):
        """The environment of a measured program: the caller's without any allocator's settings."""
        env = {k: v for k, v in os.environ.items() if not k.startswith(_FOREIGN_PREFIXES)}
        env.update(LC_ALL="C", PATH="/usr/bin:/bin:/usr/sbin:/sbin", PYTHONHASHSEED="0")
        if self.pool:
            env.update(AEP_POOL=self.pool, AEP_POOL_SIZE=str(self.pool_size))
        if self.library:
            env.update(AEP_SOCKET=self.socket, AEP_REQUIRE="1") if self.socket else env.update(AEP_CONTEXT="none")
        env.update(self.settings)
        return env


def parse_peers(pairs):
    """{name: path} of `NAME=/path/lib.so` given by the user. Whatever is wrong with one ends the program."""
    peers = {}
    for pair in pairs:
        name, equals, path = pair.partition("=")
        if not equals or not re.fullmatch(r"[A-Za-z][A-Za-z0-9_.-]*", name):
            raise SystemExit(f"bench: --peer {pair}: expected NAME=/path/lib.so, the name of letters, digits, '_', '.' and '-'")
        if name in ALL or name in peers:
            raise SystemExit(f"bench: --peer {pair}: there is an allocator named {name} already; choose another name")
        problem = _unusable(path)
        if problem:
            raise SystemExit(f"bench: --peer {pair}: {problem}")
        peers[name] = os.path.abspath(path)
    return peers


def baseline(chosen, peers):
    """Whom the ratios are to: the first peer of the user, or mimalloc as Debian has it, or the first that is there."""
    present = [allocator.name for allocator in chosen if not allocator.missing]
    if not present:
        raise SystemExit("bench: none of the allocators can be measured: " + "; ".join(f"{a.name}: {a.missing}" for a in chosen))
    return next(name for name in (*peers, "mimalloc", *present) if name in present)


def discover(names, peers, build, pool_path, pool_size, settings, context=None):
    """The allocators of these names, in this order, with the peers {name: path} between Debian's and ours.
    `settings`: extra environment of our own library."""
    found = []
    for name in sorted([*names, *peers], key=lambda n: n in OURS):
        if name in peers:
            found.append(Allocator(name, library=peers[name]))
        elif name in DEBIAN:
            found.append(_debian(name))
        elif name in OURS:
            found.append(_ours(name, build, pool_path, pool_size, settings, context))
        else:
            raise SystemExit(f"bench: no allocator named {name}; there are: {', '.join(ALL)}")
    return found


def verify(allocator, micro):
    """Marks the allocator missing unless malloc and free of a program really come from its library, and,
    in pool mode, its memory from the pool file."""
    if allocator.missing:
        return
    env = allocator.environment()
    if allocator.library:
        env["LD_PRELOAD"] = allocator.library
    try:
        run = subprocess.run([micro, "--allocator"], env=env, capture_output=True, text=True, timeout=30)
    except subprocess.TimeoutExpired:
        allocator.missing = "a trivial program does not end under it"
        return
    providers = run.stdout.split()
    if run.returncode != 0 or len(providers) != 2:
        allocator.missing = f"a trivial program fails under it (status {run.returncode}: {run.stderr.strip()[-200:]})"
        return
    wanted = os.path.realpath(allocator.library) if allocator.library else None
    for symbol, provider in zip(("malloc", "free"), providers):
        real = os.path.realpath(provider)
        if (wanted and real != wanted) or (not wanted and "libc.so" not in real):
            said = f" ({run.stderr.strip()[-200:]})" if run.stderr.strip() else ""
            allocator.missing = f"{symbol} does not come from it but from {os.path.basename(provider)}{said}"
            return
    if allocator.pool and not (os.path.exists(allocator.pool) and os.stat(allocator.pool).st_blocks > 0):
        allocator.missing = "a program under it took nothing from the pool file AEP_POOL names"


def _unusable(path):
    """Why LD_PRELOAD cannot take this file, or nothing."""
    if re.search(r"[\s:]", path):
        return "LD_PRELOAD cannot name a path with a space or a colon in it; link to it from elsewhere"
    try:
        with open(path, "rb") as file:
            head = file.read(20)
    except OSError as problem:
        return problem.strerror
    with open("/proc/self/exe", "rb") as file:
        native = file.read(20)
    if len(head) < 20 or head[:4] != b"\x7fELF" or struct.unpack_from("=H", head, 16)[0] != _ET_DYN:
        return "this is no ELF shared object"
    if head[4:6] != native[4:6] or head[18:20] != native[18:20]:
        return "this is a shared object for another kind of machine"
    return ""


def _debian(name):
    library, package = DEBIAN[name]
    allocator = Allocator(name, version=_package_version(package))
    if library is not None:
        places = [p for d in ("/usr/lib/*", "/usr/lib64", "/usr/lib", "/usr/local/lib") for p in glob.glob(f"{d}/{library}")]
        if places:
            allocator.library = places[0]
        else:
            allocator.missing = f"{library} is not installed (Debian package {package})"
    return allocator


def _ours(name, build, pool_path, pool_size, settings, context):
    library = os.path.join(build, "preload", "libaepmalloc.so")
    allocator = Allocator(name, settings=settings)
    if not os.path.exists(library):
        allocator.missing = f"{os.path.relpath(library)} is not built"
        return allocator
    allocator.library = os.path.abspath(library)
    if name == "aep-pool":
        allocator.pool, allocator.pool_size = pool_path, pool_size
    elif name == "aep-joined":
        allocator.socket = context.socket if context else ""
        allocator.missing = "" if allocator.socket else context.missing if context else "no context was made"
    return allocator


def _package_version(package):
    if shutil.which("dpkg-query") is None:
        return ""
    run = subprocess.run(["dpkg-query", "-W", "-f", "${Version}", package], capture_output=True, text=True)
    return run.stdout.strip() if run.returncode == 0 else ""
