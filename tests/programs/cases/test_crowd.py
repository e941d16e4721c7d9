"""many programs at once on one pool, some of them killed in the middle: the others' answers stay right"""

import pytest

import test_bash
import test_lua
import test_perl

NEEDS = {"/usr/bin/bash": "bash", "/usr/bin/perl": "perl", "/usr/bin/lua5.4": "lua5.4", "/usr/bin/python3": "python3"}
pytestmark = pytest.mark.timeout(90)
POOL_MIB = 1024
VICTIMS = 20
AT_A_TIME = 4
VICTIM = """
import os, sys, threading
def work():
    blocks = {}
    for i in range(1 << 40):
        blocks[i % 5000] = bytes([i & 255]) * (i * 37 % 20000)
for _ in range(2): threading.Thread(target=work, daemon=True).start()
sys.stdout.write('working\\n'); sys.stdout.flush()
while True:
    pid = os.fork()
    if pid == 0: os._exit(len([bytearray(5000) for _ in range(100)]) != 100)
    assert os.waitpid(pid, 0)[1] == 0
"""


def test_crowd(t):
    workers = []
    for name, case, argv in (("bash", test_bash, ["/usr/bin/bash", "-eu", t.script("work.bash"), "100"]),
                             ("perl", test_perl, ["/usr/bin/perl", "-w", t.script("work.pl")]),
                             ("lua", test_lua, ["/usr/bin/lua5.4", t.script("work.lua")])):
        wanted = case.expected()
        if name == "bash":
            wanted[1] = "subshells 5050"
        process, give = t.start_held(argv, cwd=t.folder(name))
        workers.append((name, wanted, process, give))
    for name, _, process, _ in workers:
        t.active(process.pid, name)
    for _, _, _, give in workers:
        give(b"go\n")

    # Killed at moments that nobody chose, with threads and children of their own that allocate.
    victims = []
    for number in range(VICTIMS):
        victim = t.start(["/usr/bin/python3", "-c", VICTIM])
        victims.append(victim)
        t.until(lambda v=victim: b"working" in t.output(v) or v.poll() is not None, "a victim to work")
        assert victim.poll() is None, f"victim {number} ended by itself with {victim.returncode}"
        if len(victims) == AT_A_TIME:
            t.kill(victims.pop(0))
    while victims:
        t.kill(victims.pop(0))

    for name, wanted, process, _ in workers:
        result = t.result(process)
        t.equal(result.text.splitlines(), wanted, f"output of {name}")
        t.equal(result.stderr, b"", f"stderr of {name}")
