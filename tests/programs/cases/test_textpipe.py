"""find, sort, join, awk, sed, grep and openssl in pipelines; answers computed by other means"""

import hashlib
import random

NEEDS = {"/usr/bin/find": "findutils", "/usr/bin/sort": "coreutils", "/usr/bin/mawk": "mawk", "/usr/bin/sed": "sed",
         "/usr/bin/grep": "grep", "/usr/bin/openssl": "openssl"}


def test_textpipe(t):
    chance = random.Random(3)
    words = [f"w{chance.randrange(5000)}" for _ in range(200000)]
    text = "".join(" ".join(words[i:i + 10]) + "\n" for i in range(0, len(words), 10)).encode()
    counts = {}
    for word in words:
        counts[word] = counts.get(word, 0) + 1
    for i in range(400):
        t.write(f"tree/{i % 20}/{i % 7}/n{i}.txt", b"x" * i)

    def bash(script, **options):
        return t.run(["/usr/bin/bash", "-c", "set -o pipefail; " + script], **options).text

    # sort reads everything before it writes: it is certain to be seen.
    ranked = bash("tr ' ' '\\n' | sort -S 1M --parallel=2 | uniq -c | awk '{print $2, $1}' | sort -k2,2nr -k1,1",
                  stdin=text, active="sort")
    t.equal(ranked.splitlines(), [f"{w} {n}" for w, n in sorted(counts.items(), key=lambda x: (-x[1], x[0]))],
            "word counts")
    summed = t.run(["/usr/bin/mawk", "{for (i = 1; i <= NF; i++) {n[$i] += NR; s = s $i; if (length(s) > 4000) s = \"\"}}"
                    "END {for (w in n) t += n[w] * length(w); printf \"%.0f %d\\n\", t, length(n)}"], stdin=text, active="mawk").text
    t.equal(summed, f"{sum(len(w) * (i // 10 + 1) for i, w in enumerate(words))} {len(counts)}\n", "sum by awk")
    found = bash("find tree -type f -size +100c -name '*[05].txt' -printf '%s %P\\n' | sort -n | sed 's/ .*n/ /'")
    t.equal(found.splitlines(), [f"{i} {i}.txt" for i in range(101, 400) if i % 5 == 0], "files found")
    t.write("a", "".join(f"{w} 1\n" for w in words[:9000]))
    t.write("b", "".join(f"{w} 2\n" for w in words[9000:12000]))
    joined = bash("join <(sort -u -k1,1 a) <(sort -u -k1,1 b) | wc -l")
    t.equal(joined, f"{len(set(words[:9000]) & set(words[9000:12000]))}\n", "joined lines")
    matched = t.run(["/usr/bin/grep", "-cE", "(^| )w(1[0-9]{2}|7)( |$)"], stdin=text, active="grep").text
    wanted = sum(1 for i in range(0, len(words), 10)
                 if any(w == "w7" or len(w) == 4 and w[1] == "1" for w in words[i:i + 10]))
    t.equal(matched, f"{wanted}\n", "lines matched by grep")

    openssl = "/usr/bin/openssl"
    t.equal(t.run([openssl, "dgst", "-sha256", "-r"], stdin=text, active="openssl").text.split()[0],
            hashlib.sha256(text).hexdigest(), "digest")
    cipher = ["-aes-256-cbc", "-pbkdf2", "-pass", "pass:x"]
    sealed = t.run([openssl, "enc", "-e", *cipher], stdin=text, active="openssl").stdout
    assert t.run([openssl, "enc", "-d", *cipher], stdin=sealed, active="openssl").stdout == text, "decryption"
    t.write("text", text)
    bash("openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out key 2>/dev/null && "
         "openssl pkey -in key -pubout -out public && openssl dgst -sha256 -sign key -out signature text")
    verify = [openssl, "dgst", "-sha256", "-verify", "public", "-signature", "signature"]
    t.equal(t.run(verify, stdin=text, active="openssl").text, "Verified OK\n", "signature")
    t.run(verify, stdin=text + b"x", status=1, active="openssl")
    speed = t.run([openssl, "speed", "-seconds", "1", "-multi", "2", "-bytes", "1024", "sha256"], active="openssl").text
    assert "sha256" in speed, f"openssl speed prints {speed!r}"
