"""Hosts that are whole machines to pacemaker: with a name, a /run and a /dev/shm of their own, and a switch.

Used by pacemaker.py, and by what it has pacemaker cut machines off with (fence_machine.py). A machine's processes are those of its
network namespace; when they have ended its mounts are gone, with all that was in its memory.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import time
import xml.etree.ElementTree

import hosts

HERE = os.path.dirname(os.path.abspath(__file__))
OCF = "/usr/lib/ocf/resource.d"
PROGRAMS = ("pacemakerd", "stonith_admin", "crm_mon", "pcs", "setpriv")

# A world of its own, until its input ends. The panic of a pacemaker that is told that it has been fenced reboots the system:
# here it must not.
WORLD = """
mount --make-rprivate /
mount --bind {home}/run /run
mount --bind {home}/pacemaker /var/lib/pacemaker
mount --bind {home}/log /var/log/pacemaker
mount --bind {home} /etc/corosync
[ ! -e /proc/sysrq-trigger ] || mount --bind /dev/null /proc/sysrq-trigger
mount -t overlay -o lowerdir={cluster}/sbin:/usr/sbin overlay /usr/sbin
mount -t overlay -o lowerdir={cluster}/ocf:{ocf} overlay {ocf}
mkdir /run/all
mount --bind {cluster} /run/all
mount -t tmpfs tmpfs /dev/shm
mkdir {cluster}
mount --move /run/all {cluster}
hostname host{number}
echo up
exec cat
"""

# Else the first start takes a good part of a minute: for so long a pacemaker waits for others that may be there.
CIB = """<cib crm_feature_set="3.0.0" validate-with="pacemaker-3.0" epoch="1" num_updates="0" admin_epoch="0">
<configuration><crm_config><cluster_property_set id="cib-bootstrap-options">
<nvpair id="cib-bootstrap-options-dc-deadtime" name="dc-deadtime" value="2s"/>
</cluster_property_set></crm_config><nodes/><resources/><constraints/></configuration><status/></cib>
"""


def missing():
    """Why there can be no such machines here; None: there can."""
    for program in PROGRAMS:
        if shutil.which(program) is None:
            return f"no {program} (packages pacemaker, pacemaker-cli-utils, pcs, util-linux)"
    why = hosts.missing()
    if why is not None:
        return why
    tried = subprocess.run(["unshare", "--mount", "--uts", "sh", "-ec",
                            "mount --make-rprivate /; hostname here; "
                            "mount -t overlay -o lowerdir=/usr/sbin:/usr/bin overlay /usr/sbin"],
                           capture_output=True, text=True, check=False)
    return f"no mounts of their own: {tried.stderr.strip()}" if tried.returncode != 0 else None


def space_of(pid):
    """The network namespace of a process; None: it has ended."""
    with contextlib.suppress(OSError):
        return os.stat(f"/proc/{pid}/ns/net").st_ino
    return None


def switch_off(space):
    """Ends all processes of a machine; returns when there is none any more, unless it is one of them."""
    assert space not in (None, space_of(1)), "that is no machine of a test"
    while True:
        found = [int(pid) for pid in filter(str.isdigit, os.listdir("/proc")) if space_of(pid) == space]
        if not found:
            return
        for pid in found:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


class Machine(hosts.Host):
    """A host with a pacemaker, and everything else that runs in it."""

    def __init__(self, cluster, number, nodes):
        super().__init__(cluster, number, nodes)
        self.name = f"host{number}"
        self.world = self.pacemaker = None
        for folder in ("pacemaker", "log"):
            os.makedirs(f"{self.home}/{folder}")
        for folder in ("blackbox", "cib", "cores", "pengine"):
            self.make_of_pacemaker(f"{self.home}/pacemaker/{folder}")
        shutil.chown(f"{self.home}/log", "hacluster", "haclient")
        with open(f"{self.home}/pacemaker/cib/cib.xml", "w", encoding="ascii") as file:
            file.write(CIB)
        shutil.chown(f"{self.home}/pacemaker/cib/cib.xml", "hacluster", "haclient")
        with open(f"{self.home}/space", "w", encoding="ascii") as file:
            file.write(str(os.stat(f"/run/netns/{self.space}").st_ino))

    @staticmethod
    def make_of_pacemaker(folder):
        os.makedirs(folder)
        shutil.chown(folder, "hacluster", "haclient")

    def inside(self, *words):
        return ["nsenter", f"--target={self.world.pid}", "--net", "--mount", "--uts", "setpriv", "--bounding-set=-sys_boot", *words]

    def run(self, *words, check=True):
        done = subprocess.run(self.inside(*words), capture_output=True, text=True, timeout=60, check=False)
        if check and done.returncode != 0:
            raise AssertionError(f"{self.name}: {' '.join(words)}: {done.returncode}: {done.stdout}{done.stderr}")
        return done.stdout

    def start(self):
        """It boots; wait_for() is to follow, then start_pacemaker()."""
        script = WORLD.format(home=self.home, cluster=self.cluster.home, number=self.number, ocf=OCF)
        shutil.rmtree(f"{self.home}/run")
        os.makedirs(f"{self.home}/run")
        self.world = subprocess.Popen(super().inside("unshare", "--mount", "--uts", "sh", "-ec", script), stdin=subprocess.PIPE,
                                      stdout=subprocess.PIPE, text=True)
        if self.world.stdout.readline() != "up\n":
            raise AssertionError(f"{self.name} does not boot")
        self.corosync = subprocess.Popen(self.inside("corosync", "-f", "-c", f"{self.home}/corosync.conf"))

    def start_pacemaker(self):
        environment = dict(os.environ, PCMK_logfile="/var/log/pacemaker/pacemaker.log", PCMK_logfacility="none")
        with open(f"{self.home}/log/start", "w", encoding="ascii") as out:
            self.pacemaker = subprocess.Popen(self.inside("pacemakerd"), env=environment, stdout=out, stderr=out)

    def is_on(self):
        return self.world is not None and self.world.poll() is None

    def switch_off(self):
        """As if it had lost its power."""
        switch_off(os.stat(f"/run/netns/{self.space}").st_ino)
        for process in (self.world, self.corosync, self.pacemaker):
            if process is not None:
                process.wait()
        if self.world is not None:
            self.world.stdin.close()
            self.world.stdout.close()
        self.world = self.corosync = self.pacemaker = None

    def state(self):
        """What its pacemaker knows of the cluster, as crm_mon says it."""
        text = self.run("crm_mon", "--one-shot", "--inactive", "--output-as=xml", check=False)
        return xml.etree.ElementTree.fromstring(text or "<none/>")

    def online(self):
        return {node.get("name") for node in self.state().iter("node") if node.get("online") == "true"}

    def wait_for_pacemaker(self, *machines):
        wanted = {machine.name for machine in machines}
        deadline = time.monotonic() + 60
        while self.online() != wanted:
            if time.monotonic() > deadline:
                raise AssertionError(f"{self.name} sees {self.online()}, not {wanted}: {self.pacemaker_log()}")

    def pacemaker_log(self):
        with contextlib.suppress(OSError), open(f"{self.home}/log/pacemaker.log", encoding="utf-8") as lines:
            return "".join([line for line in lines if "info:" not in line][-30:])
        return ""

    def log(self):
        return super().log() + self.pacemaker_log()

    def close(self):
        with contextlib.suppress(OSError):
            self.switch_off()
        super().close()
