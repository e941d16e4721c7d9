#!/usr/bin/env python3
"""Tests of what others send the daemon: messages that are none, silence, another user.

Called by ctest: protocol.py TOOLS_DIR NODE_CLIENT [unittest arguments]. Leaves nothing behind.
"""

import errno
import json
import os
import socket
import struct
import unittest

from node_test import ATTACH_BYTES, NodeTest, main


class Protocol(NodeTest):
    def setUp(self):
        super().setUp()
        self.up()

    def tearDown(self):
        self.assertEqual(self.data("check"), [])  # it lives, and nothing is wrong
        super().tearDown()

    def test_messages_that_are_none_end_the_connection(self):
        for text in [b"x", b"\0" * (ATTACH_BYTES - 1), b"\0" * (ATTACH_BYTES + 1), b"\0" * 16384,
                     b"\xff" * ATTACH_BYTES, b"\0" * 20000, os.urandom(300)]:
            if text[:1] == b"{":
                continue
            self.assertEqual(self.ask(text), b"", len(text))

    def test_json_that_is_none_is_answered(self):
        for text in [b"{", b"{}", b'{"command": 7}', b'{"command": "fly"}', b"{" * 5000,
                     b'{"command": "status", "x": ' + b"[" * 3000 + b"]" * 3000 + b"}"]:
            answer = json.loads(self.ask(text))
            if b"status" not in text:
                self.assertFalse(answer["ok"])
                self.assertNotEqual(answer["error"], "")

    def test_an_attach_that_does_not_fit_is_answered(self):
        magic, version = 0x004B534150454100, 1
        message = struct.pack("<QIIQQII16s", magic, version, 1, 1, 2, 0, 0, b"python")
        self.assertEqual(len(message), ATTACH_BYTES)
        connection = self.connect()
        connection.send(message)
        data, descriptors, _, _ = socket.recv_fds(connection, 4096, 8)
        self.assertEqual(descriptors, [])
        error, = struct.unpack_from("<I", data, 12)
        self.assertEqual(error, errno.EPROTO)
        self.assertIn(b"layout hash", data)
        self.assertEqual(connection.recv(1), b"")

    def test_descriptors_that_come_along_are_not_kept(self):
        before = len(os.listdir(f"/proc/{self.daemon_pid()}/fd"))
        for _ in range(20):
            connection = self.connect()
            socket.send_fds(connection, [b"x" * 10], [0, 1, 2])
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
