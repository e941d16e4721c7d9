"""What the commands of bench/ have in common: how they are ended, and where their document comes from.

Used by ../run.py, ../dsm.py, ../paper.py, ../watch.py.
"""

import json
import signal
import sys

from . import context


def end_with_what_runs():
    """Ended from outside a command ends as by an exception: what it has started goes with it."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda got, _: sys.exit(128 + got))


def document(arguments, measure):
    """That of the file `arguments.source` names, or what is measured now."""
    if arguments.source:
        with open(arguments.source, encoding="utf-8") as file:
            return json.load(file)
    try:
        return measure(arguments)
    except context.DaemonFailed as why:
        raise SystemExit(f"bench: {why}") from None
