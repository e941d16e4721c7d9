"""memcached: four worker threads, eight clients that store, read, append and delete; every answer checked"""

import os
import socket

NEEDS = {"/usr/bin/memcached": "memcached"}
CLIENTS = 8
KEYS = 1500


def value(client, i, generation):
    return b"%d/%d/%d " % (client, i, generation) * (1 + i * 13 % 200)


class Client:
    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=30)
        self.stream = self.socket.makefile("rb")

    def close(self):
        self.stream.close()
        self.socket.close()

    def ask(self, line, data=None):
        self.socket.sendall(line.encode() + b"\r\n" + (data + b"\r\n" if data is not None else b""))
        return self.stream.readline().rstrip().decode()

    def get(self, key):
        first = self.ask(f"get {key}")
        if first == "END":
            return None
        data = self.stream.read(int(first.split()[3]) + 2)[:-2]
        self.stream.readline()
        return data

    def stats(self):
        found = {}
        line = self.ask("stats")
        while line != "END":
            _, name, text = line.split(" ", 2)
            found[name] = text
            line = self.stream.readline().rstrip().decode()
        return found


def work(t, port, number):
    """One client's share."""
    client = Client(port)
    for i in range(KEYS):
        data = value(number, i, 1)
        t.equal(client.ask(f"set k{number}-{i} 0 0 {len(data)}", data), "STORED", f"set {i}")
    for i in range(0, KEYS, 3):
        t.equal(client.ask(f"append k{number}-{i} 0 0 5", b"-tail"), "STORED", f"append {i}")
    for i in range(1, KEYS, 3):
        t.equal(client.ask(f"delete k{number}-{i}"), "DELETED", f"delete {i}")
    for i in range(KEYS):
        wanted = [value(number, i, 1) + b"-tail", None, value(number, i, 1)][i % 3]
        t.equal(client.get(f"k{number}-{i}"), wanted, f"get {i}")
    for _ in range(500):
        client.ask("incr counter 2")
    client.close()


def test_memcached(t):
    ports = t.path("ports")
    # Port -1: memcached takes a free one and writes its number into the file.
    argv = ["/usr/bin/memcached", "-l", "127.0.0.1", "-p", "-1", "-U", "0", "-t", "4", "-m", "64", "-M"]
    server = t.start(argv + (["-u", "root"] if os.geteuid() == 0 else []), env={"MEMCACHED_PORT_FILENAME": ports})
    t.active(server.pid, "memcached")
    t.until(lambda: os.path.exists(ports) or server.poll() is not None, "memcached to listen")
    assert server.poll() is None, f"memcached ended with {server.returncode}"
    with open(ports, encoding="utf-8") as file:
        port = int(file.readline().split(":")[1])
    first = Client(port)
    t.equal(first.ask("set counter 0 0 1", b"0"), "STORED", "set counter")
    t.parallel(CLIENTS, lambda n: work(t, port, n))()
    t.equal(first.get("counter"), b"%d" % (CLIENTS * 1000), "counter")
    stats = first.stats()
    t.equal(int(stats["curr_items"]), CLIENTS * (KEYS - KEYS // 3) + 1, "items stored")
    t.equal(int(stats["threads"]), 4, "worker threads")
    t.equal(first.ask("flush_all"), "OK", "flush_all")
    t.equal(first.get("k1-2"), None, "get after flush_all")
    # More than the memory it may use: with -M it refuses instead of evicting.
    data = b"z" * 100000
    answers = {first.ask(f"set big{i} 0 0 {len(data)}", data) for i in range(900)}
    t.equal(answers, {"STORED", "SERVER_ERROR out of memory storing object"}, "answers when its memory is used up")
    first.close()
    t.stop(server)
