#!/usr/bin/env python3
"""A fence agent of pacemaker's for machines of a test: cuts one off by ending all of its processes.

Called by pacemaker, which tells what it wants on standard input: fence_machine.py FOLDER_OF_THE_CLUSTER. The file `refuses` there makes
it fail, the pipe `holds` lets it wait for somebody to open it. What it has done stands in the file `fenced`: when, what, which machine, how it ended.
"""

import contextlib
import os
import sys
import time

from machines import switch_off

METADATA = """<?xml version="1.0"?>
<resource-agent name="fence_machine" shortdesc="Switches machines of a test off">
<longdesc>Ends all processes of a machine of a test.</longdesc>
<vendor-url>none</vendor-url>
<parameters>
<parameter name="action" unique="0" required="1"><content type="string" default="reboot"/><shortdesc>what to do</shortdesc></parameter>
<parameter name="port" unique="0" required="0"><content type="string"/><shortdesc>the machine</shortdesc></parameter>
</parameters>
<actions>
<action name="on"/><action name="off"/><action name="reboot"/><action name="status"/><action name="list"/><action name="monitor"/>
<action name="metadata"/>
</actions>
</resource-agent>
"""


def cut_off(home, action, name):
    failed = os.path.exists(f"{home}/refuses")
    if not failed:
        with contextlib.suppress(FileNotFoundError):
            open(f"{home}/holds", "rb").close()
        with open(f"{home}/{name}/space", encoding="ascii") as space:
            switch_off(int(space.read()))
    with open(f"{home}/fenced", "a", encoding="ascii") as file:
        file.write(f"{time.time()} {action} {name} {'failed' if failed else 'done'}\n")
    return 1 if failed else 0


def main():
    asked = dict(line.strip().split("=", 1) for line in sys.stdin if "=" in line)
    action = asked.get("action", "reboot")
    if action == "metadata":
        print(METADATA)
    elif action in ("reboot", "off"):
        return cut_off(sys.argv[1], action, asked["port"])
    return 0


if __name__ == "__main__":
    sys.exit(main())
