#!/usr/bin/env python3
"""Tests of each command of the command line, and of its errors.

Called by ctest: commands.py TOOLS_DIR NODE_CLIENT [unittest arguments]. Leaves nothing behind.
"""

import concurrent.futures
import contextlib
import errno
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import unittest

from node_test import AEP, AEPD, LIBRARY, NodeTest, main


class Commands(NodeTest):
    def test_without_a_daemon_each_says_so(self):
        for command in ["status", "clients", "objects", "top", "metrics", "check", "recover"]:
            done = self.aep(command)
            self.assertEqual(done.returncode, 2, command)
            self.assertIn("no daemon serves context default", done.stderr)
            self.assertIn("aep up", done.stderr)
        down = self.aep("down")
        self.assertEqual(down.returncode, 2)
        self.assertIn("there is nothing to take down", down.stderr)

    def test_what_is_not_understood(self):
        for words in [["nonsense"], [], ["top", "--interval", "x"], ["status", "--nonsense"],
                      ["run"], ["status", "--context", "a/b"], ["status", "--socket", "here"]]:
            done = self.run_tool(AEP, *words)
            self.assertEqual(done.returncode, 2, words)
            self.assertNotEqual(done.stderr, "", words)
        for words in [["--pool-size", "many"], ["--provider", "magic"], ["--log-level", "loud"]]:
            done = self.run_tool(AEPD, *words)
            self.assertEqual(done.returncode, 2, words)

    def test_help_is_whole(self):
        text = self.run_tool(AEP, "--help").stdout
        for command in ["run", "up", "down", "status", "clients", "objects", "top", "metrics", "pool", "check",
                        "recover", "doctor"]:
            self.assertIn(f"  {command} ", text)
            one = self.run_tool(AEP, command, "--help")
            self.assertEqual(one.returncode, 0)
            self.assertIn("--context", one.stdout)
        self.assertIn("--provider", self.run_tool(AEPD, "--help").stdout)
        self.assertRegex(self.run_tool(AEP, "--version").stdout, r"^aep \d+\.\d+")
        self.assertRegex(self.run_tool(AEPD, "--version").stdout, r"^aepd \d+\.\d+")

    def test_up_status_down(self):
        self.assertIn("is up", self.up())
        self.assertIn("was up already", self.up())  # with the same options
        self.assertIn("--pool-size 67108864 and not 1G", self.aep("up", "--pool-size", "1G").stderr)
        self.assertEqual(self.good("up").splitlines()[0], "context default was up already")
        status = self.data("status")
        self.assertEqual(status["state"], "live")
        self.assertEqual(status["provider"], "none")
        self.assertEqual(status["pid"], self.daemon_pid())
        self.assertEqual(status["pool"]["free_bytes"], status["pool"]["bytes"])
        self.assertIn("context   default (live)", self.good("status"))
        for path in ["context", "context/context", "context/pool", "context/lock", "socket", "socket.log"]:
            mode = os.stat(f"{self.home}/{path}").st_mode
            self.assertEqual(mode & 0o077, 0, path)
        self.assertIn("is down", self.good("down"))
        self.assertEqual(os.listdir(self.home), [])

    def test_one_that_listens_elsewhere_is_told_of(self):
        """As when it was started with a runtime directory, and is asked without."""
        self.up()
        elsewhere = ["--socket", f"{self.home}/another", "--directory", f"{self.home}/context"]
        words = f"its daemon (pid {self.daemon_pid()}) does not listen at {self.home}/another"
        for command, code in [("status", 2), ("check", 2), ("down", 1), ("up", 1)]:
            done = self.run_tool(AEP, command, *elsewhere)
            self.assertEqual(done.returncode, code, command)
            self.assertIn(words, done.stderr, command)
            self.assertIn("XDG_RUNTIME_DIR", done.stderr, command)
            self.assertLessEqual(done.stderr.count("another daemon serves it already"), 1, command)
        self.assertEqual(self.data("status")["state"], "live")

    def test_many_that_start_it_get_one(self):
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            done = list(pool.map(lambda _: self.aep("up", "--json", "--provider", "none"), range(8)))
        self.assertEqual([d.returncode for d in done], [0] * 8, [d.stderr for d in done])
        self.assertEqual(sum(json.loads(d.stdout)["started"] for d in done), 1)

    def test_clients_top_check_recover(self):
        self.up("--client-limit", "32M", "--context-limit", "48M")
        client = self.client()
        self.assertEqual(client.greeting, "client 1")
        client.ask("fill 100 64")
        [row] = self.data("clients")
        self.assertEqual(row["pid"], client.process.pid)
        self.assertEqual(row["state"], "live")
        self.assertEqual(row["limit_bytes"], 32 << 20)
        self.assertGreaterEqual(row["bytes"], 8 << 20)
        self.assertIn("tester", self.good("clients"))
        frames = self.good("top", "--count", "2", "--interval", "0.05")
        self.assertEqual(frames.count("tester"), 2)
        lines = self.good("top", "--count", "2", "--interval", "0.05", "--json").splitlines()
        self.assertEqual(json.loads(lines[1])["clients"][0]["name"], "tester")
        self.assertIn("nothing is wrong", self.good("check"))
        self.assertEqual(self.data("check"), [])
        client.end()
        self.good("recover")
        self.assertEqual(self.data("clients"), [])
        self.assertEqual(self.data("status")["recovery"]["clients"], 1)
        self.assertEqual(self.data("check"), [])
        self.assertEqual(self.data("recover")["clients"], 0)

    def test_down_waits_for_no_client(self):
        self.up()
        client = self.client()
        done = self.aep("down")
        self.assertEqual(done.returncode, 1)
        self.assertIn("clients live", done.stderr)
        self.assertIn("tester", done.stderr)
        self.good("down", "--force")
        self.assertEqual(os.listdir(self.home), [])
        # It keeps what it has, and gets more.
        self.assertEqual(client.ask("fill 100 64"), str(100 * 1024))

    def test_down_waits_until_the_dead_are_taken_back(self):
        self.provider = "rollback"
        for _ in range(10):
            self.up()
            client = self.client()
            client.ask("fill 100 64")
            client.end()
            self.good("down")

    def test_poison_is_shown_everywhere(self):
        self.up()
        client = self.client()
        client.ask("inside 1")
        client.end()
        self.good("recover")
        status = self.aep("status")
        self.assertEqual(status.returncode, 3)
        self.assertIn("poisoned", status.stdout)
        check = self.aep("check")
        self.assertEqual(check.returncode, 1)
        self.assertIn(f"operation take_run of tester (pid {client.process.pid})", check.stdout)
        refused = self.client()
        self.assertIn(f"refused {errno.ENOTRECOVERABLE} the context is poisoned", refused.greeting)
        self.good("down")

    def test_a_thread_that_left_its_operation(self):
        self.up()
        client = self.client()
        slot = client.ask("inside 1")
        self.assertIn(str(errno.ENOTRECOVERABLE), client.ask(f"complete {slot}"))
        self.assertEqual(self.aep("status").returncode, 3)

    def test_doctor(self):
        done = self.aep("doctor", "--json")
        rows = {row["what"]: row for row in json.loads(done.stdout)}
        for what in ["kernel", "btf", "bpffs", "capabilities", "tmpfs", "memory cgroup",
                     "ulimit -v", "library", "daemon", "image"]:
            self.assertIn(what, rows)
        self.assertEqual(done.returncode, int(any(r["health"] == "BAD" for r in rows.values())))
        self.up()
        self.assertRegex(self.aep("doctor").stdout, r"good  protection +provider (kernel|ebpf|rollback): ")

    def test_up_says_what_protects(self):
        text = self.good("up", "--pool-size", "64M", "--provider", "rollback")
        self.assertIn("provider rollback: an operation whose thread is killed is undone", text)
        self.assertIn("provider  rollback: an operation whose thread is killed is undone", self.good("status"))

    @unittest.skipUnless(os.geteuid() == 0 and shutil.which("setcap"), "needs root and setcap (libcap2-bin)")
    def test_doctor_judges_what_the_daemon_will_have(self):
        """Not what it has itself: capabilities are in the file of aepd."""
        def found():
            done = self.run_tool(f"{place}/aep", "doctor", "--json", "--socket", f"{place}/socket", user=65534, group=65534,
                                 extra_groups=[], cwd="/")
            rows = json.loads(done.stdout)
            return next(r for r in rows if r["what"] == "capabilities"), [r["advice"] for r in rows if r["what"] == "ebpf provider"]
        with tempfile.TemporaryDirectory(prefix="aep-test-", dir="/var/tmp") as place:  # /dev/shm is mounted nosuid
            os.chmod(place, 0o755)
            for program in [AEP, AEPD]:
                shutil.copy(program, place)
            row, advice = found()
            self.assertEqual(row["found"], "aepd has 0x0")
            self.assertTrue(any("CAP_BPF" in line for line in advice), advice)
            subprocess.run(["setcap", "cap_bpf,cap_perfmon+ep", f"{place}/aepd"], check=True)
            row, advice = found()
            self.assertEqual((row["found"], row["health"]), ("aepd has 0xc000000000", "good"))
            self.assertFalse(any("CAP_" in line for line in advice), advice)

    def test_none_is_no_contexts_name(self):
        """Under AEP_CONTEXT=none a program joins no context: a context of that name nobody could join."""
        env = dict(os.environ, AEP_CONTEXT="none")
        for words, more in [(["up"], {"env": env}), (["run", "--", "true"], {"env": env}), (["status"], {"env": env}),
                            (["up", "--context", "none"], {})]:
            done = self.aep(*words, **more)
            self.assertEqual(done.returncode, 2, words)
            self.assertIn("context name 'none'", done.stderr)
            self.assertIn("--context", done.stderr)
        self.assertEqual(self.run_tool(AEPD, *self.where, env=env).returncode, 2)
        self.assertEqual(os.listdir(self.home), [])
        self.good("up", "--context", "default", "--provider", "none", "--pool-size", "64M", env=env)
        self.assertRegex(self.aep("doctor", "--context", "default", env=env).stdout, "ebpf provider")
        self.good("down", "--context", "default", env=env)

    def test_run(self):
        done = self.aep("run", "--pool-size", "64M", "--provider", "none", "--", "/usr/bin/env")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("AEP_CONTEXT=default", done.stdout)
        self.assertIn(f"AEP_SOCKET={self.socket}", done.stdout)
        self.assertIn("libaepmalloc.so", done.stdout)
        self.assertEqual(self.data("status")["state"], "live")
        self.assertEqual(self.aep("run", "--", "sh", "-c", "exit 7").returncode, 7)
        for options, said in (([], ""), (["--pool-size", "64M", "--provider", "none", "--log-level", "info"], ""),
                              (["--provider", "auto"], ""), (["--pool-size", "1G"], "--pool-size 67108864 and not 1G"),
                              (["--provider", "rollback"], "--provider none and not rollback"),
                              (["--client-limit", "8M"], "--client-limit 0 and not 8M"),
                              (["--pool", "/dev/shm/elsewhere"], "and not /dev/shm/elsewhere")):
            again = self.aep("run", *options, "--", "true")
            self.assertEqual(again.returncode, 0, again.stderr)
            self.assertIn(said, again.stderr)
            self.assertEqual(again.stderr == "", said == "", again.stderr)
        self.assertEqual(self.aep("run", "--library", "/nowhere/lib", "--", "true").returncode, 1)

    def test_no_daemon_is_started_for_a_program_that_cannot_run(self):
        for program, status, why in (("/nowhere/program", 127, "ENOENT"), ("no-such-program", 127, "ENOENT"), ("/etc/passwd", 126, "EACCES")):
            done = self.aep("run", "--", program)
            self.assertEqual(done.returncode, status, done.stderr)
            self.assertIn(why, done.stderr)
        self.assertEqual(os.listdir(self.home), [])

    def test_a_program_into_which_nothing_is_preloaded(self):
        """The loader is not asked, or does not listen: that is said, and refused where it matters."""
        with open(f"{self.home}/static.c", "w", encoding="ascii") as file:
            file.write("int main(void) { return 7; }")
        static, script = f"{self.home}/static", f"{self.home}/script"
        subprocess.run(["gcc", "-static", f"{self.home}/static.c", "-o", static], check=True)
        with open(script, "w", encoding="ascii") as file:
            file.write(f"#!{static} -x\n")
        os.chmod(script, 0o755)
        for program, why in ((static, "is linked static"), (script, f"its interpreter {static} is linked static")):
            done = self.aep("run", "--require", "--", program)
            self.assertEqual(done.returncode, 1, done.stderr)
            self.assertIn(why, done.stderr)
            self.assertFalse(os.path.exists(f"{self.home}/context"))
        done = self.aep("run", "--pool-size", "64M", "--provider", "none", "--", static)
        self.assertEqual(done.returncode, 7, done.stderr)
        self.assertIn("runs on its own heap", done.stderr)
        self.assertEqual(self.aep("run", "--require", "--", "sh", "-c", "exit 3").returncode, 3)

    def test_a_start_that_fails_leaves_nothing(self):
        for options in (["--image", "/nowhere/image"], ["--pool", "/nowhere/pool"], ["--pool-size", "1M"], ["--provider", "magic"]):
            done = self.aep("up", *options)
            self.assertEqual(done.returncode, 1, done.stderr)
            self.assertNotIn("its log", done.stderr)  # there is none
            self.assertEqual(os.listdir(self.home), [], options)
        self.up()
        self.end_daemon(signal.SIGKILL)
        self.assertEqual(self.aep("up", "--image", "/nowhere/image").returncode, 1)
        self.assertTrue(os.path.exists(f"{self.home}/context/context"))  # that was there before
        self.up()

    def test_a_directory_that_is_not_there_is_not_made(self):
        nowhere = f"{self.home}/no/such"
        for options in (["--socket", nowhere], ["--socket", f"{self.home}/socket", "--log-file", nowhere]):
            done = self.run_tool(AEP, "up", "--directory", f"{self.home}/context", *options)
            self.assertEqual(done.returncode, 1, done.stderr)
            self.assertIn(f"directory {self.home}/no: ENOENT", done.stderr)
            self.assertEqual(os.listdir(self.home), [])

    def test_a_log_that_was_renamed(self):
        """SIGHUP opens it again; the daemon serves on. A log that cannot be opened stays where it is."""
        log = f"{self.home}/own.log"
        self.up("--log-file", log)
        os.rename(log, log + ".1")
        os.kill(self.daemon_pid(), signal.SIGHUP)
        self.good("status")  # after the signal, for both are the loop's
        with open(log, encoding="utf-8") as file:
            self.assertIn("the log goes on here", file.read())
        os.unlink(log)
        os.mkdir(log)
        os.kill(self.daemon_pid(), signal.SIGHUP)
        self.good("status")
        os.rmdir(log)
        self.assertIn("is down", self.good("down"))

    def test_a_program_that_cannot_be_started_after_all(self):
        """What was made for it alone goes with it."""
        script = f"{self.home}/script"
        with open(script, "w", encoding="ascii") as file:
            file.write("#!/nowhere/interpreter\n")
        os.chmod(script, 0o755)
        done = self.aep("run", "--pool-size", "64M", "--provider", "none", "--", script)
        self.assertEqual(done.returncode, 127, done.stderr)
        self.assertEqual(os.listdir(self.home), ["script"])
        self.up()
        self.assertEqual(self.aep("run", "--", script).returncode, 127)
        self.assertEqual(self.data("status")["state"], "live")

    def test_sizes_that_cannot_be(self):
        for option, size, wanted in (("--pool-size", "1M", "8 MiB to 8 TiB"), ("--pool-size", "9T", "8 MiB to 8 TiB"),
                                     ("--client-limit", "10", "4 MiB to 8 TiB, or 0"), ("--context-limit", "1M", "4 MiB to 8 TiB, or 0")):
            done = self.aep("up", option, size)
            self.assertNotEqual(done.returncode, 0)
            self.assertIn(f"{option}: '{size}': expected {wanted}", done.stderr)

    def test_a_limit_is_no_memory_and_a_line_of_the_log(self):
        self.up("--client-limit", "32M")
        program = "import sys\ntry: bytearray(40 << 20)\nexcept MemoryError: print('no memory')"
        self.assertEqual(self.good("run", "--", "/usr/bin/python3", "-c", program), "no memory\n")
        self.good("recover")
        with open(f"{self.socket}.log", encoding="utf-8") as log:
            self.assertIn("(python3, pid ", line := next(x for x in log if "beyond its limit of 32 MiB" in x), line)

    def test_a_thousand_clients_one_after_another(self):
        self.good("up", "--pool-size", "64M", "--provider", self.provider)
        env = dict(os.environ, LD_PRELOAD=LIBRARY, AEP_SOCKET=self.socket, AEP_REQUIRE="1")
        for _ in range(1000):
            # Says something, so allocates.
            subprocess.run(["/bin/ls", "/proc/self/fd"], env=env, check=True, stdout=subprocess.DEVNULL)
        self.good("recover")
        status = self.data("status")
        self.assertEqual(status["clients"]["attached"], 1000)
        self.assertEqual(self.data("clients"), [])
        self.assertEqual(status["memory"]["held_bytes"], 0)
        self.assertEqual(self.data("check"), [])

    def test_sixty_four_clients_at_once(self):
        self.good("up", "--pool-size", "2G", "--provider", self.provider)  # 16 MiB for each, and more
        env = dict(os.environ, LD_PRELOAD=LIBRARY, AEP_SOCKET=self.socket, AEP_REQUIRE="1")
        sort = ["/usr/bin/sort", "-n"]
        programs = [subprocess.Popen(sort, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE) for _ in range(64)]
        numbers = [str(i * 7919 % 10007) for i in range(5000)]
        wanted = ("\n".join(sorted(numbers, key=int)) + "\n").encode()
        for program in programs:  # all have read, and wait for the end of their input
            program.stdin.write(("\n".join(numbers) + "\n").encode())
            program.stdin.flush()
        while len(self.data("clients")) < 64:
            pass
        with concurrent.futures.ThreadPoolExecutor(64) as pool:
            outputs = list(pool.map(lambda program: program.communicate()[0], programs))
        self.assertEqual([o == wanted for o in outputs], [True] * 64)
        self.good("recover")
        self.assertEqual(self.data("status")["memory"]["held_bytes"], 0)
        self.assertEqual(self.data("check"), [])

    def test_a_place_of_any_bytes(self):
        where = ["--socket", b"%s/\xff\xe4.socket" % os.fsencode(self.home), "--directory", b"%s/\xfe" % os.fsencode(self.home)]
        self.assertEqual(self.run_tool(AEP, "up", *where, "--pool-size", "64M", "--provider", "none").returncode, 0)
        for command in ["status", "top", "clients", "check", "recover", "down"]:
            words = [*where, "--count", "1"] if command == "top" else where
            done = self.run_tool(AEP, command, *words, "--json")
            self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(os.listdir(self.home), [])

    def test_answers_that_are_none(self):
        """Of a daemon of another version, or of something else that listens: said, and no command ends by it."""
        answers = [b"", b"[]", b"5", b"null", b"{", b"\xff\xfe", b"{}", b'{"ok": 7}', b'{"ok": false}', b'{"ok": false, "error": 5}',
                   b'{"ok": true}', b'{"ok": true, "status": {}, "clients": {}, "findings": {}, "recovered": {}}',
                   b'{"ok": true, "status": 5, "clients": 5, "findings": 5, "recovered": 5}',
                   b'{"ok": true, "status": {"state": 5, "pid": "x"}, "clients": [{}], "findings": [[]], "recovered": []}']
        commands = [["status"], ["status", "--json"], ["clients"], ["top", "--count", "1"], ["check"], ["recover"], ["down"], ["doctor"]]
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        listening.bind(self.socket)
        listening.listen(5)

        def serve():
            with contextlib.suppress(OSError):  # until it is shut down
                while True:
                    with listening.accept()[0] as connection, contextlib.suppress(OSError):
                        connection.recv(4096)
                        connection.send(answer)

        server = threading.Thread(target=serve)
        server.start()
        try:
            for answer in answers:
                for command, *words in commands:
                    done = self.aep(command, *words)
                    self.assertIn(done.returncode, [0, 1, 2], (answer, command, done.stderr))
                    self.assertTrue(done.stderr == "" or done.stderr.startswith("aep: "), (answer, command, done.stderr))
                    if command not in ["doctor", "down"] and done.returncode == 0:
                        self.assertNotEqual(done.stdout, "", (answer, command))
        finally:
            listening.shutdown(socket.SHUT_RDWR)
            server.join()
            listening.close()
            os.unlink(self.socket)

    def test_a_provider_that_is_missing(self):
        pool = ["--pool", f"{self.home}/pool", "--pool-size", "64M"]
        done = self.aep("up", "--provider", "kernel", *pool)  # on a system without
        if done.returncode == 0:
            self.assertEqual(self.data("status")["provider"], "kernel")
            return
        self.assertIn("no provider: kernel: ", done.stderr)
        self.assertEqual(os.listdir(self.home), [])
        self.good("up", "--provider", "rollback")
        self.assertEqual(self.data("status")["provider"], "rollback")


if __name__ == "__main__":
    main()
