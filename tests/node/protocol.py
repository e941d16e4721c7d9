#!/usr/bin/env python3
"""Tests of what others send the daemon: messages that are none, silence, another user.

Called by ctest: protocol.py TOOLS_DIR NODE_CLIENT [unittest arguments]. Leaves nothing behind.
"""

import contextlib
import errno
import json
import os
import re
import resource
import signal
import socket
import struct
import unittest

from node_test import ATTACH_BYTES, LIBRARY, NodeTest, main


def attach(layout=1, image=2):
    """An AskMessage that asks to be let in; of another build if not told of which."""
    magic, version = 0x004B534150454100, 1
    message = struct.pack("<QIIQQII16s", magic, version, 1, layout, image, 0, 0, b"python")
    assert len(message) == ATTACH_BYTES
    return message


class Protocol(NodeTest):
    def setUp(self):
        super().setUp()
        self.up()
        # Connections stay open until a test ends.
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if hard < 4096:
            self.skipTest(f"needs 4096 descriptors, the limit is {hard}")
        self.addCleanup(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        resource.setrlimit(resource.RLIMIT_NOFILE, (4096, hard))

    def tearDown(self):
        self.assertEqual(self.data("check"), [])  # it lives, and nothing is wrong
        super().tearDown()

    def test_messages_that_are_none_are_answered_and_end_the_connection(self):
        for text in [b"\0", b"\0" * (ATTACH_BYTES - 1), b"\0" * ATTACH_BYTES, b"\0" * (ATTACH_BYTES + 1), b"\0" * 16384,
                     b"\0" * 20000, b"\0" + os.urandom(300)]:
            answer = self.ask(text)
            error, = struct.unpack_from("<I", answer, 12)
            self.assertIn(error, [errno.EPROTO, errno.EMSGSIZE], len(text))
            self.assertNotEqual(answer[32:33], b"\0", len(text))
        for text in [b"{" + b" " * 16384 + b"}", b"\0" * 16385]:
            self.assertIn(b"a message of more than 16384 bytes", self.ask(text))
        for text in [attach()[:-1], attach() + b"\0", attach() * 2]:
            self.assertIn(f"a message of {len(text)} bytes, expected {ATTACH_BYTES}".encode(), self.ask(text))

    def test_json_that_is_none_is_answered(self):
        for text in [b"x", b"{", b"{}", b"[]", b"null", b"5", b'"status"', b'["command"]', b'{"command": 7}', b'{"command": null}',
                     b'{"command": ["down"]}', b'{"command": {"down": 1}}', b'{"command": "fly"}', b'{"command": "f\xffy"}',
                     b'{"command": 1' + b"0" * 400 + b"}", b'{"command": 1e999}', b'{"command": "status", "x": 1e999}', b"{" * 5000,
                     b'{"x":' * 3000, b"[" * 16000, b"{" + b"[" * 100000, b"\xff" * ATTACH_BYTES, bytes(range(1, 256))]:
            answer = json.loads(self.ask(text))
            self.assertFalse(answer["ok"], text[:40])
            self.assertNotEqual(answer["error"], "", text[:40])
        for force in [b"null", b"0", b"1", b'"x"', b'"true"', b"{}", b"[true]", b"1e999"]:
            answer = json.loads(self.ask(b'{"command": "down", "force": ' + force + b"}"))
            self.assertFalse(answer["ok"], force)
            if force != b"1e999":  # which is no JSON
                self.assertEqual(answer["error"], "force: expected true or false", force)
        deep = b'{"command": "ping", "x": ' + b"[" * 7000 + b"]" * 7000 + b"}"
        self.assertTrue(json.loads(self.ask(deep))["ok"])

    def test_idle_connections_end(self):
        connection = self.connect()
        self.assertEqual(connection.recv(1), b"")

    def test_one_user_has_so_many_connections(self):
        connections = [self.connect() for _ in range(1100)]
        try:
            answer = connections[-1].recv(4096)
            self.assertEqual(struct.unpack_from("<I", answer, 12), (errno.EAGAIN,))
            self.assertIn(b"connections already", answer)
            done = self.aep("status")
            self.assertEqual(done.returncode, 1)
            self.assertIn("connections already", done.stderr)
        finally:
            for connection in connections:
                connection.close()
        while "connections already" in (done := self.aep("status")).stderr:
            pass
        self.assertEqual(done.returncode, 0, done.stderr)

    def test_why_one_is_refused_arrives_whatever_he_has_said(self):
        """An end with something left unread is a reset, which would be all that he gets to see."""
        connections = [self.connect() for _ in range(1100)]
        while "connections already" not in self.log():
            pass
        pid = self.daemon_pid()
        for _ in range(5):
            os.kill(pid, signal.SIGSTOP)
            try:
                connection = self.connect()
                connection.send(attach())
            finally:
                os.kill(pid, signal.SIGCONT)
            self.assertIn(b"connections already", connection.recv(4096))
            self.assertEqual(connection.recv(1), b"")
        env = dict(os.environ, LD_PRELOAD=LIBRARY, AEP_SOCKET=self.socket, AEP_REQUIRE="1")
        for _ in range(5):  # the library, before or after
            done = self.run_tool("/bin/sh", "-c", "echo $((1+2))", env=env)
            self.assertIn("connections already", done.stderr)
        for connection in connections:
            connection.close()
        while "connections already" in self.aep("status").stderr:
            pass

    def test_who_asks_over_a_connection_that_is_anothers_is_refused(self):
        """A child has inherited it: it would be watched by its parent's number."""
        connection = self.connect()
        child = os.fork()
        if child == 0:
            connection.send(attach())
            os._exit(0)
        os.waitpid(child, 0)
        data, descriptors, _, _ = socket.recv_fds(connection, 4096, 8)
        self.assertEqual(descriptors, [])
        self.assertEqual(struct.unpack_from("<I", data, 12), (errno.EPROTO,))
        self.assertIn(f"asked by process {child} over a connection that it has inherited".encode(), data)
        self.assertEqual(connection.recv(1), b"")
        self.assertEqual(self.data("clients"), [])
        self.assertRegex(self.client().greeting, "^client ")

    def waits_for_who_comes(self, pid):
        """Whether somebody who comes wakes the daemon: its listening socket is in an epoll set of its."""
        with open("/proc/net/unix", encoding="ascii", errors="replace") as sockets:
            fields = [line.split() for line in sockets if line.rstrip().endswith(self.socket)]
        listening = next(f"socket:[{f[6]}]" for f in fields if int(f[3], 16) & 0x10000)  # its inode; __SO_ACCEPTCON
        links = {}
        for fd in os.listdir(f"/proc/{pid}/fd"):
            with contextlib.suppress(OSError):  # closed meanwhile
                links[fd] = os.readlink(f"/proc/{pid}/fd/{fd}")
        number = next(fd for fd, link in links.items() if link == listening)
        for fd, link in links.items():
            if link == "anon_inode:[eventpoll]":
                with open(f"/proc/{pid}/fdinfo/{fd}", encoding="ascii") as facts:
                    if any(line.split()[:2] == ["tfd:", number] for line in facts):
                        return True
        return False

    def test_without_descriptors_who_comes_waits(self):
        pid = self.daemon_pid()
        soft, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        self.assertEqual(soft, hard)
        self.assertTrue(self.waits_for_who_comes(pid))
        have = len(os.listdir(f"/proc/{pid}/fd"))
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (have + 7, hard))
        connections = [self.connect() for _ in range(20)]
        while "no descriptors for who comes" not in self.log():
            pass
        self.assertTrue(any(not self.waits_for_who_comes(pid) for _ in range(1_000)))  # it looks ten times a second
        for connection in connections:
            connection.close()
        self.assertEqual(self.data("status")["state"], "live")
        self.assertLess(self.log().count("no descriptors for who comes"), 100)

    def test_the_log_is_not_flooded(self):
        sent = 0
        while "lines like the next are left out" not in self.log():
            connections = [self.connect() for _ in range(300)]  # that the daemon finds all at once
            for connection in connections:
                connection.send(b"\0")
            for connection in connections:
                connection.recv(4096)
                connection.close()
            sent += len(connections)
        self.assertLess(self.log().count("a message of 1 bytes"), sent)

    def test_an_attach_that_does_not_fit_is_answered(self):
        connection = self.connect()
        connection.send(attach())
        data, descriptors, _, _ = socket.recv_fds(connection, 4096, 8)
        self.assertEqual(descriptors, [])
        error, = struct.unpack_from("<I", data, 12)
        self.assertEqual(error, errno.EPROTO)
        self.assertIn(b"layout hash", data)
        self.assertEqual(connection.recv(1), b"")

    def attach_that_fits(self):
        """Of the daemon's build, as its answers tell."""
        hashes = {}
        for what in ("layout", "image"):
            answer = self.ask(attach(**hashes)).decode(errors="replace")
            hashes[what] = int(re.search(rf"{what} hash 0x[0-9a-f]+, the context 0x([0-9a-f]+)", answer)[1], 16)
        return attach(**hashes)

    def test_over_a_connection_one_is_let_in_once(self):
        message = self.attach_that_fits()
        reader, writer = os.pipe()
        child = os.fork()  # the client, until it ends
        if child == 0:
            connection = self.connect()
            for _ in range(2):
                connection.send(message)
                os.write(writer, connection.recv(4096)[12:16])
            os._exit(0)
        os.waitpid(child, 0)
        os.close(writer)
        with os.fdopen(reader, "rb") as answers:
            self.assertEqual(struct.unpack("<II", answers.read()), (0, errno.EPROTO))
        self.good("recover")
        self.assertEqual(self.data("clients"), [])

    def test_descriptors_that_come_along_are_not_kept(self):
        before = len(os.listdir(f"/proc/{self.daemon_pid()}/fd"))
        for _ in range(20):
            connection = self.connect()
            socket.send_fds(connection, [b"x" * 10], [0, 1, 2])
            self.assertIn(b"error", connection.recv(1 << 16))
            self.assertEqual(connection.recv(1), b"")
        self.assertLessEqual(len(os.listdir(f"/proc/{self.daemon_pid()}/fd")), before)

    def test_peers_that_say_nothing_or_read_nothing_hold_nobody_up(self):
        silent = [self.connect() for _ in range(50)]
        deaf = [self.connect() for _ in range(10)]
        for connection in deaf:
            connection.send(b'{"command": "top"}')
        self.assertEqual(self.client().greeting, "client 1")
        for connection in silent + deaf:
            connection.close()

    @unittest.skipUnless(os.geteuid() == 0, "only root can be another user")
    def test_another_user_is_refused(self):
        os.chmod(self.home, 0o755)
        os.chmod(self.socket, 0o666)
        # Run from memory: that user need not be able to read our build.
        script = (f"import socket, struct; s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET);"
                  f"s.connect({self.socket!r});"
                  "s.send(struct.pack('<QIIQQII16s', 0x004B534150454100, 1, 1, 1, 2, 0, 0, b'x'));"
                  "print(s.recv(4096))")
        done = self.run_tool("/usr/bin/python3", "-c", script, user=65534, cwd="/")
        self.assertIn("belongs to user 0, the process to user 65534", done.stdout)
        script = script.split("s.send")[0] + "s.send(b'{\"command\": \"down\"}'); print(s.recv(999))"
        done = self.run_tool("/usr/bin/python3", "-c", script, user=65534, cwd="/")
        self.assertIn("belongs to user", done.stdout)


if __name__ == "__main__":
    main()
