"""setuid programs: su and a setuid-root program of ours, run by nobody, leave the pool named in AEP_POOL alone"""

import os
import pwd
import re
import stat

import pytest

import processes

NEEDS = {"/usr/bin/su": "login", "/usr/bin/gcc": "gcc", "/usr/bin/readelf": "binutils"}
pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root (it runs programs as another user)")
USER = "nobody"


def maps(pid):
    with open(f"/proc/{pid}/maps", encoding="utf-8") as file:
        return file.read()


def test_setuid(t):
    base = t.folder("base", USER)
    # Readable for nobody, and where the loader looks for a library of a setuid program: the folder must not be
    # writable for the user, or the test would be of something nobody does.
    private = t.folder("library")
    os.chmod(private, 0o755)
    pool = t.pool(USER)
    env = {"AEP_POOL": pool, "AEP_POOL_SIZE": "512M", "AEP_STATS": "1", "HOME": base, "TMPDIR": base}

    # As nobody, an ordinary program gets preload and pool: the environment below is one that works.
    ordinary = t.run(["/usr/bin/grep", "-c", "", "-"], user=USER, cwd=base, stdin="a\nb\n", active="grep")
    t.equal(ordinary.text, "2\n", "an ordinary program of the user")
    if t.ours and t.mode == "pool":
        assert os.path.exists(pool), "an ordinary program of the user did not create the pool"
        os.unlink(pool)

    before = set(os.listdir(os.path.dirname(pool)))

    # su waits for a password on standard input: it can be looked at, and then gets none.
    def observe(process, executable):
        t.until(lambda: process.poll() is not None or processes.executable(process.pid) == executable, f"{executable} to run")
        assert process.poll() is None, f"{executable} ended with {process.returncode}"
        with open(f"/proc/{process.pid}/status", encoding="utf-8") as file:
            ids = next(line.split()[1:] for line in file if line.startswith("Uid:"))
        t.equal(ids[:2], [str(pwd.getpwnam(USER).pw_uid), "0"], f"real and effective user of {executable}")
        return maps(process.pid)

    for env_pool in (env, {**env, "LD_PRELOAD": t.preload or ""}):
        process, close = t.start_held(["/usr/bin/su", "-c", "id"], user=USER, cwd=base, env=env_pool)
        mapped = observe(process, "su")
        assert not t.preload or os.path.realpath(t.preload) not in mapped, "the loader preloads into su"
        assert pool not in mapped, "su has mapped the pool"
        close(b"")
        result = t.result(process, 1)
        assert b"Authentication" in result.stderr, f"su says {result.stderr!r}"

    # A setuid program that is linked with the library: the loader takes it in, so its own caution counts.
    if t.ours:
        # By the name that a program linked with it asks for.
        dynamic = t.run(["/usr/bin/readelf", "-d", t.preload]).text
        copy = os.path.join(private, re.search(r"SONAME.*\[(.*)\]", dynamic).group(1))
        with open(t.preload, "rb") as source:
            t.write(copy, source.read())
        os.chmod(copy, 0o755)
        program = os.path.join(private, "work")
        t.run(["/usr/bin/gcc", "-O2", "-o", program, t.script("setuid.c"), copy, f"-Wl,-rpath,{private}",
               "-Wl,--no-as-needed"])
        os.chmod(program, 0o4755)
        assert os.stat(program).st_mode & stat.S_ISUID, "the program could not be made setuid"
        process, close = t.start_held([program], user=USER, cwd=base, env=env)
        t.until(lambda: process.poll() is not None or b"ready" in t.output(process), "the setuid program")
        mapped = observe(process, "work")
        assert copy in mapped, "the setuid program has not loaded the library"
        assert pool not in mapped, "a setuid program has mapped the pool named in the environment"
        close(b"\n")
        result = t.result(process)
        t.equal(result.text, "ready\ndone 5000\n", "output of the setuid program")
        t.equal(result.stderr, b"", "stderr of the setuid program, which must ignore AEP_STATS")
    assert not os.path.exists(pool), "a setuid program has created the pool named in the environment"
    beside = set(os.listdir(os.path.dirname(pool)))
    assert beside == before, "a setuid program left files beside the pool"
    t.forget_pool(USER)
