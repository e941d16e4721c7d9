#!/usr/bin/env python3
"""The way of docs/guide/cxl.md on QEMU's emulation: two machines, each with a CXL memory device whose memory is the other's,
too; from what `cxl list` shows to messages between the two.

Called by ci/vm.sh --cxl: cxl_test.py TOOLS_DIR PEER KERNEL_IMAGE [unittest arguments]. Prints what the commands print.
Leaves nothing behind.
"""

import json

from machines import MachinesTest
from node_test import main, world

MIB = 1 << 20
# The same on both machines: each writes the device's first page, which says that it is a DAX device, and of which namespace.
NAMESPACE = "b1c9d1a8-6f6b-4e0e-9d0a-52f2a1c3e7d5"
FOLDER = "/run/pmem"
FILE = f"{FOLDER}/pool"
# What the guide tells of, and this bench does not have.
NOT_HAD = {"a volatile device, and its region": "QEMU 7.2 emulates none (volatile-memdev came with 8.1)",
           "media that are poisoned": "QEMU 7.2 reports none (cxl-inject-poison came with 8.1)",
           "famfs": "no kernel of Debian's has it"}


class Bench(MachinesTest):
    count = 2
    pool_bytes = 256 * MIB
    terms = ("--lease-ms", "20000", "--coherent", "yes")

    @classmethod
    def memory_of(cls, number):
        return ["--cxl", cls.pool, "--labels", f"{cls.home}/{number}.labels"]

    def told(self, node, *words):
        """What a command says, which people see, too."""
        done = node.machine.run(*words)
        print(f"\n{node.machine.name}$ {' '.join(words)}\n{done.stdout}{done.stderr}", end="")
        self.assertEqual(done.returncode, 0)
        return done.stdout

    def make_region(self, node):
        self.told(node, "cxl", "create-region", "-m", "-t", "pmem", "-d", "decoder0.0", "-w", "1", "mem0")

    def expect_device(self, node):
        made = json.loads(self.told(node, "daxctl", "list"))
        self.assertEqual([one["mode"] for one in made], ["devdax"])
        self.told(node, "ls", "-l", self.device)

    def test_1_from_a_memory_device_to_a_dax_device(self):
        for node in self.nodes:
            seen = json.loads(self.told(node, "cxl", "list", "-M", "-D", "-u"))
            self.assertEqual(len(seen), 2)
            self.make_region(node)
            self.told(node, "ndctl", "create-namespace", "--mode=devdax", "--map=mem", f"--uuid={NAMESPACE}")
            self.expect_device(node)

    def test_2_a_pool_on_it(self):
        one = self.nodes[0]
        made = json.loads(one.good("pool", "create", self.device, *self.terms, "--json"))
        self.assertEqual((made["memory"], made["persistence"]), ("device", "persistent"))
        for node in self.nodes:
            node.up()
        self.assertEqual(len({node.data("status")["pool"]["bytes"] for node in self.nodes}), 1)
        self.until("both know of each other", lambda: all(len(n.data("status")["nodes"]) == 2 for n in self.nodes))

    def test_3_messages(self):
        one, two = (node.machine for node in self.nodes)
        self.expect_heard(one, two, "hello", ["good morning"], "good morning")
        self.expect_heard(two, one, "list", ["100"], "100 nodes")
        a, b = (node.peer() for node in self.nodes)
        for sender, receiver in ((a, b), (b, a)):
            address = sender.new(MIB)
            sender.write(address, "written")
            self.pass_on(sender, receiver, address)
            self.assertEqual(receiver.read(address), "written")
            for holder in (sender, receiver):
                self.assertEqual(holder.drop(address), "ok")
        self.expect_nothing_left()

    def test_4_a_machine_that_comes_back(self):
        """Its region has to be made anew, the namespace is in its labels."""
        one, two = self.nodes
        two.lose_power()
        self.until("it is suspect", lambda: one.states()[two.number][0] == "suspect")
        one.declare_dead(two)
        self.until("it is recovered", lambda: len(one.states()) == 1)
        two.machine.boot()
        two.machine.wait()
        self.assertEqual(json.loads(self.told(two, "cxl", "list", "-R") or "[]"), [])
        self.make_region(two)
        self.expect_device(two)
        two.up()
        self.expect_heard(one.machine, two.machine, "hello", ["good evening"], "good evening")
        self.expect_nothing_left()

    def mount(self, node):
        """The file system on the device's memory, as a machine mounts it after each boot."""
        self.told(node, "mkdir", "-p", FOLDER)
        self.told(node, "mount", "-o", "dax=always", "/dev/pmem0", FOLDER)

    def up_on_file(self, node):
        node.up(FILE)
        self.expect_heard(node.machine, node.machine, "hello", ["good night"], "good night")

    def test_5_a_file_on_a_file_system_that_is_mapped_past_the_page_cache(self):
        """fsdax: of one machine; the other one leaves the device first."""
        one, two = self.nodes
        for node in (two, one):
            node.good("down")
        self.told(two, "ndctl", "disable-namespace", "namespace0.0")
        self.told(one, "ndctl", "destroy-namespace", "--force", "namespace0.0")
        self.told(one, "ndctl", "create-namespace", "--mode=fsdax", "--map=mem")
        self.told(one, "mkfs.ext4", "-q", "-b", "4096", "/dev/pmem0")
        self.mount(one)
        self.assertIn("say --coherent yes", one.run("pool", "create", FILE, "--size", "64M").stderr)
        made = json.loads(one.good("pool", "create", FILE, "--size", "64M", *self.terms, "--json"))
        self.assertEqual((made["memory"], made["persistence"]), ("device", "persistent"))
        self.assertEqual(made["present_bytes"], made["bytes"])
        self.up_on_file(one)
        held = one.machine.run("stat", "-c", "%b", FILE).stdout
        self.assertGreaterEqual(int(held) * 512, made["bytes"])  # nothing was given back to the file system
        one.lose_power()
        one.machine.boot()
        one.machine.wait()
        self.make_region(one)
        self.mount(one)
        self.up_on_file(one)
        one.good("down")
        self.assertIn("its memory is cleared", one.good("pool", "destroy", FILE))
        self.told(one, "umount", FOLDER)

    def test_6_kernels_have_not_complained(self):
        self.expect_kernels_content()


if __name__ == "__main__":
    for what, why in NOT_HAD.items():
        world.cannot_run(what, why)
    main()
