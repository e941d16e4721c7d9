"""The list of mutants: reads the *.toml beside it, and finds in the sources the place that each names.

Called by write_sources.py, run.py and, as a program, by the test mutants.list: prints each entry that fits no place,
or more than one, and exits 1 if there is any. README.md says what an entry holds.
"""

import dataclasses
import re
import sys
import tomllib
import zlib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FOLDER = Path(__file__).resolve().parent
DECLARATION = re.compile(r"\s*(const\s+)?[A-Za-z_][\w:]*(<[^;]*>)?[\s*&]+\w+\s*[({=;]")
BEFORE_STATEMENT = re.compile(r"(^|[;{}):]|\belse)\s*$")
COMMENT = re.compile(r"//[^\n]*")
BROKEN = re.compile(r"\s*(\{|&&|\|\||return\b|[=?:,])|.*(&&|\|\||[=?:,])\s*$|[^;]*;[^;]*[^;\s}]\s*$", re.S)
HEAD = re.compile(r"(if|while|for|switch) \(.*\)", re.DOTALL)
CUTS_NAME = re.compile(r"(\w|\.|->|::)\|\w|\w\|[\w(\[]|[\w)\]]\|(\.|->)")  # where a text begins or ends
KEYS = {"file", "after", "text", "becomes", "fear", "tests", "equivalent"}


class Wrong(Exception):
    """An entry that cannot be used; the message names it."""


@dataclasses.dataclass(frozen=True)
class Mutant:
    name: str  # GROUP.NAME
    file: str
    after: str  # the place is the first `text` behind it; "" if the text is in the file once
    text: str
    becomes: str  # "" deletes a statement
    fear: str
    tests: str  # ctest's -R
    equivalent: str  # the reason, or ""

    @property
    def number(self):
        """Of the switch: the same whatever else is on the list, so that a new entry changes no other file."""
        return zlib.crc32(self.name.encode()) & 0x7FFF_FFFF or 1

    def place(self, source):
        """(begin, end) of the text in the source."""
        start = 0
        if self.after:
            if source.count(self.after) != 1:
                raise Wrong(f"{self.name}: {self.file} has {source.count(self.after)} times: {self.after!r}")
            start = source.index(self.after) + len(self.after)
        elif source.count(self.text) > 1:
            raise Wrong(f"{self.name}: {self.file} has {source.count(self.text)} times: {self.text!r}; name with"
                        f" `after` what stands before the one that is meant")
        begin = source.find(self.text, start)
        if begin < 0:
            raise Wrong(f"{self.name}: {self.file} has no more: {self.text!r}"
                        + (f" behind {self.after!r}" if self.after else ""))
        end = begin + len(self.text)
        if CUTS_NAME.search(f"{source[max(0, begin - 2):begin]}|{self.text[0]} {self.text[-1]}|{source[end:end + 2]}"):
            raise Wrong(f"{self.name}: in {self.file} {self.text!r} is only a part of a name or a call")
        if HEAD.fullmatch(self.text):
            raise Wrong(f"{self.name}: {self.text!r} is neither an expression nor a statement; name what is in the parentheses")
        if self.is_statement and not BEFORE_STATEMENT.search(COMMENT.sub("", source[:begin])):
            raise Wrong(f"{self.name}: in {self.file} {self.text!r} is only the end of a statement; name an expression")
        return begin, end

    @property
    def is_declaration(self):
        """Then it cannot be put between braces: what it declares would end there."""
        return self.is_statement and DECLARATION.match(self.text) and not self.text.lstrip().startswith("return ")

    @property
    def is_statement(self):
        text = self.text.rstrip()
        return text.endswith(";") or (text.endswith("}") and ";" in text)


def _read(path):
    group = tomllib.loads(path.read_text())
    common = {key: group.pop(key) for key in ("file", "tests") if key in group}
    for name, entry in group.items():
        entry = common | entry
        name = f"{path.stem}.{name}"
        unknown, missing = entry.keys() - KEYS, KEYS - {"after", "equivalent"} - entry.keys()
        if unknown or missing:
            raise Wrong(f"{name}: " + ", ".join([f"unknown: {key}" for key in unknown] +
                                                [f"missing: {key}" for key in missing]))
        if not all(isinstance(value, str) for value in entry.values()) or not entry["text"].strip():
            raise Wrong(f"{name}: everything is text, and `text` is not empty")
        re.compile(entry["tests"])
        mutant = Mutant(name, after=entry.pop("after", ""), equivalent=entry.pop("equivalent", ""), **entry)
        if not mutant.is_statement and (BROKEN.match(mutant.text) or any(
                mutant.text.count(opens) != mutant.text.count(closes) for opens, closes in ("()", "{}", "[]")) or
                mutant.text.count(" : ") != mutant.text.count(" ? ")):
            raise Wrong(f"{name}: `text` is neither an expression nor statements")
        if mutant.is_declaration:
            raise Wrong(f"{name}: `text` declares something; name the expression in it")
        yield mutant


def mutants():
    """All of the list. Raises Wrong."""
    found = [mutant for path in sorted(FOLDER.glob("*.toml")) for mutant in _read(path)]
    numbers = {}
    for mutant in found:
        if mutant.number in numbers:
            raise Wrong(f"{mutant.name}: has the number of {numbers[mutant.number]}; give it another name")
        numbers[mutant.number] = mutant.name
    return found


def places(of, root=ROOT):
    """file -> {(begin, end): mutants there}, and what does not fit. Places of a file are the same or apart."""
    files, wrong = {}, []
    for mutant in of:
        try:
            begin, end = mutant.place((root / mutant.file).read_text())
            here = files.setdefault(mutant.file, {})
            for other, there in here.items():
                if other != (begin, end) and begin < other[1] and other[0] < end:
                    raise Wrong(f"{mutant.name}: its text overlaps that of {there[0].name}; give both the same")
            here.setdefault((begin, end), []).append(mutant)
        except (Wrong, OSError) as error:
            wrong.append(str(error))
    return files, wrong


def main():
    try:
        found = mutants()
    except (Wrong, tomllib.TOMLDecodeError, re.error) as error:
        print(f"the list of mutants: {error}")
        return 1
    wrong = places(found)[1]
    for line in wrong:
        print(f"the list of mutants: {line}")
    print(f"{len(found)} mutants, {sum(bool(m.equivalent) for m in found)} of them equivalent; {len(wrong)} do not fit")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
