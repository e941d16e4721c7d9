"""Machines of a cluster on this one: each a network namespace with a corosync of its own, on bridges that can be taken apart.

Used by corosync.py. Leaves nothing behind: what it has made is taken down by close(), in any order of failure.
"""

import contextlib
import glob
import os
import shutil
import subprocess
import time

CONFIGURATION = """
totem {{
    version: 2
    cluster_name: {cluster}
    transport: knet
    token: {token}
    token_coefficient: 0
    crypto_cipher: none
    crypto_hash: none
}}
quorum {{
    provider: corosync_votequorum
}}
nodelist {{
{nodes}
}}
system {{
    sched_rr: no
    state_dir: {home}/lib
}}
logging {{
    to_stderr: no
    to_syslog: no
    to_logfile: yes
    logfile: {home}/corosync.log
}}
"""


def missing():
    """Why there can be no such cluster here; None: there can."""
    for program in ("corosync", "corosync-quorumtool", "ip", "nsenter", "unshare"):
        if shutil.which(program) is None:
            return f"no {program} (packages corosync, iproute2, util-linux)"
    if os.geteuid() != 0:
        return "network namespaces need root"
    name = f"aept{os.getpid()}"
    made = subprocess.run(["ip", "netns", "add", name], capture_output=True, text=True, check=False)
    if made.returncode != 0:
        return "network namespaces are not allowed: " + made.stderr.strip()
    try:
        linked = subprocess.run(["ip", "link", "add", name, "type", "bridge"], capture_output=True, text=True,
                                check=False)
        if linked.returncode != 0:
            return "no bridges: " + linked.stderr.strip()
        subprocess.run(["ip", "link", "del", name], check=True)
    finally:
        subprocess.run(["ip", "netns", "del", name], check=True)
    return None


def run(*words):
    return subprocess.run(words, capture_output=True, text=True, timeout=60, check=True).stdout


class Cluster:
    """The network and its hosts, numbered from 1."""

    def __init__(self, home, count, token_ms, kind=None, named=True):
        """Hosts of that kind (Host); whether corosync's configuration has their names."""
        self.home, self.count, self.token_ms = home, count, token_ms
        self.tag = f"aep{os.getpid() % 100000}"
        self.bridges, self.hosts = [], []
        nodes = "\n".join(f"    node {{\n ring0_addr: 10.77.0.{n}\n nodeid: {n}\n {f'name: host{n}' if named else ''}\n }}"
                          for n in range(1, count + 1))
        try:
            for number in range(3):  # as many parts as a test takes it into
                bridge = f"{self.tag}b{number}"
                run("ip", "link", "add", bridge, "type", "bridge")
                self.bridges.append(bridge)
                run("ip", "link", "set", bridge, "up")
            for number in range(1, count + 1):
                self.hosts.append((kind or Host)(self, number, nodes))
            for host in self.hosts:
                host.start()
            for host in self.hosts:
                host.wait_for(count)
        except BaseException:
            self.close()
            raise

    def split(self, *parts):
        """Who is in one part, by number, reaches nobody in another. No interface goes down: packets are lost."""
        for bridge, part in zip(self.bridges, parts):
            for number in part:
                self.hosts[number - 1].plug_into(bridge)

    def heal(self):
        self.split(range(1, self.count + 1))

    def close(self):
        for host in self.hosts:
            host.close()
        for bridge in self.bridges:
            subprocess.run(["ip", "link", "del", bridge], capture_output=True, check=False)


class Host:
    def __init__(self, cluster, number, nodes):
        self.number, self.cluster = number, cluster
        self.home = f"{cluster.home}/host{number}"
        self.space, self.wire = f"{cluster.tag}n{number}", f"{cluster.tag}v{number}"
        self.corosync = None
        for folder in ("run", "lib"):
            os.makedirs(f"{self.home}/{folder}")
        with open(f"{self.home}/corosync.conf", "w", encoding="ascii") as file:
            file.write(CONFIGURATION.format(cluster=cluster.tag, token=cluster.token_ms, nodes=nodes, home=self.home))
        run("ip", "netns", "add", self.space)
        run("ip", "link", "add", self.wire, "type", "veth", "peer", "name", "eth0", "netns", self.space)
        run("ip", "-n", self.space, "addr", "add", f"10.77.0.{number}/24", "dev", "eth0")
        for device in ("lo", "eth0"):
            run("ip", "-n", self.space, "link", "set", device, "up")
        self.plug_into(cluster.bridges[0])
        run("ip", "link", "set", self.wire, "up")

    def inside(self, *words):
        return ["nsenter", f"--net=/run/netns/{self.space}", *words]

    def plug_into(self, bridge):
        run("ip", "link", "set", self.wire, "master", bridge)

    def start(self):
        """Its /run is its own: corosync has one instance for each."""
        command = (f"mount --make-rprivate / && mount --bind {self.home}/run /run && "
                   f"exec corosync -f -c {self.home}/corosync.conf")
        self.corosync = subprocess.Popen(self.inside("unshare", "-m", "sh", "-c", command))

    def wait_for(self, count):
        """Until corosync sees that many."""
        deadline = time.monotonic() + 60
        while f"Nodes:            {count}\n" not in self.quorum():
            if self.corosync.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"host {self.number}: {self.quorum()}{self.log()}")

    def quorum(self):
        return subprocess.run(self.inside("corosync-quorumtool", "-s"), capture_output=True, text=True, timeout=60,
                              check=False).stdout

    def log(self):
        with contextlib.suppress(OSError), open(f"{self.home}/corosync.log", encoding="utf-8") as lines:
            return "".join(lines.readlines()[-20:])
        return ""

    def kill_corosync(self):
        self.corosync.kill()
        self.corosync.wait()
        # What it would have removed at its own end: its flight recorder, and the rings of its clients.
        for pattern in (f"qb-corosync-{self.corosync.pid}-*", f"qb-{self.corosync.pid}-*"):
            for left in glob.glob(f"/dev/shm/{pattern}"):
                shutil.rmtree(left) if os.path.isdir(left) else os.unlink(left)

    def close(self):
        if self.corosync is not None and self.corosync.poll() is None:
            self.kill_corosync()
        for words in (["ip", "link", "del", self.wire], ["ip", "netns", "del", self.space]):
            subprocess.run(words, capture_output=True, check=False)
