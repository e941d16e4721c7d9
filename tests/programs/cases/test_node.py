"""node: JSON, buffers, compression, worker threads and child processes"""

import hashlib
import json

NEEDS = {"/usr/bin/node": "nodejs"}


def expected():
    rows = [{"id": i, "name": f"n{i * 7919 % 50000}"} for i in range(50000)]
    rows.sort(key=lambda row: row["name"])
    text = json.dumps(rows, separators=(",", ":"))
    return {
        "json": hashlib.sha256(text.encode()).hexdigest(),
        "buffers": sum(i % 256 for i in range(2000)),
        "zlib": [len(text), True],
        "workers": [sum(i * n for i in range(100000)) for n in range(1, 5)],
        "shared": 4 * 5000,
        "big": str(3 ** 5000 % 10 ** 40),
        "child": f"{sum(range(1000))}\n",
        "crypto": hashlib.pbkdf2_hmac("sha256", b"secret", b"salt", 20000, 32).hex(),
    }


def test_node(t):
    result = t.run(["/usr/bin/node", t.script("work.js")], stdin="go\n", active="node")
    t.equal(json.loads(result.text), expected(), "output of the script")
    t.equal(result.stderr, b"", "stderr of the script")
