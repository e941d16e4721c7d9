"""Debian's own tests of Python under the preload, called by the python_* cases.

A test that fails is run once more without the preload: one that fails there too says nothing about the allocator,
is left out of the verdict and named in the output. Crash rule: none of its own, see harness.py.
"""

import os
import xml.etree.ElementTree as xml

PYTHON = "/usr/bin/python3"
NEEDS = {PYTHON: "python3", "/usr/lib/python3.11/test/test_threading.py": "libpython3.11-testsuite"}


def _outcomes(t, module, patterns, preload, round_name, env):
    """Test id -> passed of one run; a test that was skipped is left out."""
    folder = t.folder(f"{module}-{round_name}")
    report = os.path.join(folder, "report.xml")
    argv = [PYTHON, "-m", "test", "--junit-xml", report, "--tempdir", folder, module]
    for pattern in patterns:
        argv += ["-m" if pattern[0] != "-" else "-i", pattern.lstrip("-")]
    result = t.run(argv, status=None, preload=preload, active="python3.11", cwd=folder, env=env)
    outcomes = {}
    if os.path.exists(report):
        for case in xml.parse(report).iter("testcase"):
            outcomes[case.get("name")] = case.find("failure") is None and case.find("error") is None
    return outcomes, result


def check(t, module, patterns=(), at_least=1, env=None):
    """Run one module of the `test` package, or the parts that match `patterns` (a leading '-' leaves a part out)."""
    outcomes, result = _outcomes(t, module, patterns, True, "preload", env)
    said = f"{result.text[-3000:]}\n{result.stderr[-1500:].decode(errors='replace')}"
    assert outcomes, f"{module} left no report:\n{said}"
    ran = len(outcomes)
    failed = sorted(name for name, passed in outcomes.items() if not passed)
    if failed and t.preload:
        baseline, _ = _outcomes(t, module, [name.split(".")[-1] for name in failed], False, "plain", env)
        for name in failed[:]:
            if baseline.get(name) is False:
                failed.remove(name)
                del outcomes[name]
                t.note(f"{module}: {name} left out, it fails without the preload as well")
    assert not failed, f"{module}: {len(failed)} of {len(outcomes)} failed: {' '.join(failed)}\n{said}"
    assert result.status == 0 or len(outcomes) < ran, f"{module}: exit status {result.status}\n{said}"
    assert len(outcomes) >= at_least, f"{module}: only {len(outcomes)} tests ran, {at_least} or more were expected"
    t.note(f"{module}: {len(outcomes)} tests")
