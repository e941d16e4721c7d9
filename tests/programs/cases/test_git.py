"""git: many commits, branches, merges, gc and fsck; blobs, trees and history checked by other means"""

import hashlib
import os

NEEDS = {"/usr/bin/git": "git"}
FILES = 60
ROUNDS = 40


def blob(content):
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def stream():
    """A fast-import stream of ROUNDS commits, and what the files contain after the last of them."""
    files = {}
    out = []
    for n in range(ROUNDS):
        message = f"commit {n}\n".encode()
        out.append(b"commit refs/heads/main\ncommitter T <t@example.org> %d +0000\ndata %d\n%s"
                   % (1700000000 + n, len(message), message))
        for i in range(n % 7, FILES, 7):
            name = f"dir{i % 5}/file{i}"
            files[name] = b"".join(b"file %d line %d of round %d\n" % (i, k, n // 7 if k % 3 else n) for k in range(200))
            out.append(b"M 100644 inline %s\ndata %d\n%s\n" % (name.encode(), len(files[name]), files[name]))
    return b"".join(out), files


def test_git(t):
    repository = t.folder("repository")
    identity = {f"GIT_{who}_{what}": value for who in ("AUTHOR", "COMMITTER")
                for what, value in (("NAME", "T"), ("EMAIL", "t@example.org"), ("DATE", "1700001000 +0000"))}
    identity.update(GIT_CONFIG_NOSYSTEM="1", GIT_EDITOR="true")

    def git(*words, **options):
        return t.run(["/usr/bin/git", *words], cwd=repository, env=identity, **options)

    git("init", "-q", "-b", "main")
    content, files = stream()
    git("fast-import", "--quiet", stdin=content, active="git")
    git("checkout", "-q", "main")
    t.equal(git("rev-list", "--count", "main").text, f"{ROUNDS}\n", "commits after the import")

    # Twenty commits on a branch and five on main, by the ordinary commands, then a merge without and one with a conflict.
    git("checkout", "-q", "-b", "topic", "main~10")
    for n in range(20):
        name = f"topic/file{n}"
        os.makedirs(os.path.join(repository, "topic"), exist_ok=True)
        files[name] = b"topic %d\n" % n * 500
        with open(os.path.join(repository, name), "wb") as file:
            file.write(files[name])
        git("add", name)
        git("commit", "-q", "-m", f"topic {n}")
    git("checkout", "-q", "main")
    git("merge", "-q", "--no-ff", "-m", "merge topic", "topic")
    git("checkout", "-q", "-b", "other", "main~1")
    conflict = os.path.join(repository, "conflict")
    for branch in ("other", "main"):
        git("checkout", "-q", branch)
        with open(conflict, "w", encoding="utf-8") as file:
            file.write(f"from {branch}\n")
        git("add", "conflict")
        git("commit", "-q", "-m", f"conflict from {branch}")
    git("merge", "-q", "other", status=1)
    files["conflict"] = b"resolved\n"
    with open(conflict, "wb") as file:
        file.write(files["conflict"])
    git("commit", "-q", "-a", "-m", "resolved")

    def check_tree(when):
        listed = dict(reversed(line.split(" ", 2)[2].split("\t"))
                      for line in git("ls-tree", "-r", "main").text.splitlines())
        t.equal(listed, {name: blob(text) for name, text in files.items()}, f"blobs of main {when}")
        # 40 imported, 20 on topic, 2 merges, 2 that conflict
        t.equal(git("rev-list", "--count", "main").text, f"{ROUNDS + 24}\n", f"commits {when}")

    check_tree("after the merges")
    git("gc", "-q", "--aggressive", "--prune=now")
    check_tree("after gc")
    t.equal(git("fsck", "--full", "--strict").text, "", "fsck")
    log = git("log", "--topo-order", "--format=%s", "refs/heads/topic").text.splitlines()
    t.equal(log, [f"topic {n}" for n in range(19, -1, -1)] + [f"commit {n}" for n in range(ROUNDS - 11, -1, -1)],
            "log of topic")
    blame = git("blame", "-s", "main", "--", "conflict").text
    assert blame.endswith("1) resolved\n"), f"blame says {blame!r}"
    names = sorted(files)
    answer = git("cat-file", "--batch", stdin="".join(f"main:{name}\n" for name in names), active="git").stdout
    t.equal(answer, b"".join(b"%s blob %d\n%s\n" % (blob(files[name]).encode(), len(files[name]), files[name])
                             for name in names), "cat-file --batch")
    git("clone", "-q", "--no-local", repository, t.path("clone"))
    t.equal(git("-C", t.path("clone"), "rev-parse", "HEAD").text, git("rev-parse", "main").text, "head of the clone")
