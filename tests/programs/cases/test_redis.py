"""redis-server: redis-benchmark, checked keys, BGSAVE while keys change, and the saved file loaded again"""

import os
import socket

import pytest

NEEDS = {"/usr/bin/redis-server": "redis-server", "/usr/bin/redis-benchmark": "redis-tools"}
pytestmark = pytest.mark.timeout(90)
KEYS = 20000


class Client:
    """A minimal client of the protocol, independent of what is under test."""

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(30)
        self.socket.connect(path)
        self.stream = self.socket.makefile("rb")

    def close(self):
        self.stream.close()
        self.socket.close()

    def calls(self, commands):
        """Send many commands at once and return their answers."""
        parts = []
        for command in commands:
            words = [word if isinstance(word, bytes) else str(word).encode() for word in command]
            parts.append(b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(w), w) for w in words))
        self.socket.sendall(b"".join(parts))
        return [self._answer() for _ in commands]

    def call(self, *words):
        return self.calls([words])[0]

    def info(self, section):
        lines = self.call("INFO", section).decode().splitlines()
        return dict(line.split(":", 1) for line in lines if ":" in line)

    def _answer(self):
        line = self.stream.readline()
        kind, text = line[:1], line[1:-2]
        if kind == b"-":
            raise RuntimeError(f"redis answered {text!r}")
        if kind == b":":
            return int(text)
        if kind == b"$":
            return None if text == b"-1" else self.stream.read(int(text) + 2)[:-2]
        if kind == b"*":
            return [self._answer() for _ in range(int(text))]
        return text


def value(i, generation):
    return b"%d:%d:" % (i, generation) + b"v" * (i * 7 % 300)


def test_redis(t):
    path = t.path("socket")
    folder = t.folder("data")
    argv = ["/usr/bin/redis-server", "--port", "0", "--unixsocket", path, "--dir", folder, "--save", "",
            "--io-threads", "2", "--daemonize", "no", "--enable-debug-command", "local"]

    def start():
        server = t.start(argv)
        t.active(server.pid, "redis-server")

        def connect():
            assert server.poll() is None, f"redis-server ended with {server.returncode}"
            try:
                client = Client(path)
            except OSError:
                return None
            try:
                return client if client.call("PING") == b"PONG" else None
            except RuntimeError:  # it is still loading
                client.close()
                return None

        return server, t.until(connect, "redis-server to answer")

    server, client = start()
    report = t.run(["/usr/bin/redis-benchmark", "-s", path, "-n", "20000", "-c", "20", "-P", "4", "-q", "--threads", "2",
                    "-r", "5000", "-t", "set,get,incr,lpush,rpop,sadd,hset,zadd,mset"], active="redis-benchmark").text
    assert report.count("requests per second") == 9, f"redis-benchmark printed {report!r}"
    client.call("FLUSHALL")

    client.calls([("SET", f"s{i}", value(i, 1)) for i in range(KEYS)])
    client.calls([("HSET", f"h{i % 50}", f"f{i}", value(i, 2)) for i in range(KEYS)])
    client.calls([("ZADD", "z", i * 31 % 1009, f"m{i}") for i in range(KEYS)])
    client.calls([("RPUSH", f"l{i % 20}", i) for i in range(KEYS)])
    client.calls([("APPEND", "long", b"x" * 1000) for _ in range(2000)])
    before = client.call("DEBUG", "DIGEST")

    # The child must write what was there when it was forked, whatever changes in the meantime; it is slowed down so
    # that most of it happens after these changes.
    client.call("CONFIG", "SET", "rdb-key-save-delay", "40")
    client.call("BGSAVE")
    client.calls([("SET", f"s{i}", value(i, 9)) for i in range(KEYS)])
    client.calls([("DEL", f"h{i}") for i in range(50)] + [("DEL", "z"), ("DEL", "long")])
    client.calls([("SET", f"new{i}", value(i, 5)) for i in range(KEYS)])
    assert client.info("persistence")["rdb_bgsave_in_progress"] == "1", "BGSAVE ended before the keys had changed"
    client.call("CONFIG", "SET", "rdb-key-save-delay", "0")
    t.equal([client.call("GET", f"s{i}") for i in range(0, KEYS, 97)], [value(i, 9) for i in range(0, KEYS, 97)],
            "changed keys during BGSAVE")
    t.until(lambda: client.info("persistence")["rdb_bgsave_in_progress"] == "0", "BGSAVE")
    t.equal(client.info("persistence")["rdb_last_bgsave_status"], "ok", "status of BGSAVE")
    t.equal(client.call("DBSIZE"), 2 * KEYS + 20, "keys after the changes")
    assert os.path.getsize(os.path.join(folder, "dump.rdb")) > 1 << 20, "the saved file is too small"
    client.close()
    t.stop(server)

    server, client = start()
    t.equal(client.call("DEBUG", "DIGEST"), before, "digest after loading what BGSAVE wrote")
    t.equal(client.calls([("GET", f"s{i}") for i in range(KEYS)]), [value(i, 1) for i in range(KEYS)], "loaded strings")
    t.equal(client.calls([("HGET", f"h{i % 50}", f"f{i}") for i in range(KEYS)]), [value(i, 2) for i in range(KEYS)],
            "loaded hashes")
    t.equal(client.call("LRANGE", "l7", 0, -1), [b"%d" % i for i in range(7, KEYS, 20)], "loaded list")
    t.equal(client.call("STRLEN", "long"), 2000000, "loaded long string")
    ranks = sorted(range(KEYS), key=lambda i: (i * 31 % 1009, f"m{i}"))
    t.equal(client.call("ZRANGE", "z", 0, -1), [b"m%d" % i for i in ranks], "loaded sorted set")
    client.call("BGREWRITEAOF")
    t.until(lambda: client.info("persistence")["aof_rewrite_in_progress"] == "0"
            and client.info("persistence")["aof_rewrite_scheduled"] == "0", "BGREWRITEAOF")
    t.equal(client.info("persistence")["aof_last_bgrewrite_status"], "ok", "status of BGREWRITEAOF")
    client.close()
    t.stop(server)
