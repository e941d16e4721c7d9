"""Writes the sources that compilers are measured with: the same each time, and large enough for some hundred ms of -O2.

Used by workloads.py.
"""

import os

FUNCTIONS, CLASSES = 50, 2


def write(folder):
    """`folder`/generated.LANGUAGE for each."""
    for language, writer in WRITERS.items():
        with open(os.path.join(folder, f"generated.{language}"), "w", encoding="ascii") as file:
            file.write(writer())


def _c():
    """Many small functions with loops, switches and calls of the ones before."""
    parts = ["struct item { int key; long weight; struct item *next; };\n"]
    for n in range(FUNCTIONS):
        called = f"f{n // 2}(items, count - 1)" if n else "0"
        cases = "\n".join(f"        case {k}: sum += item->weight * {k * n + 3} + (item->key << {k}); break;" for k in range(8))
        parts.append(f"""
long f{n}(struct item *items, int count) {{
    long sum = {n};
    long table[16] = {{{", ".join(str((n * k) % 61) for k in range(16))}}};
    for (struct item *item = items; item && count > 0; item = item->next, --count) {{
        switch (item->key & 7) {{
{cases}
        }}
        table[sum & 15] ^= sum >> {n % 7 + 1};
    }}
    for (int i = 0; i < 16; ++i) sum += table[i] * (i + {n});
    return count > {n % 5} ? sum + {called} : sum;
}}
""")
    return "".join(parts)


def _cpp():
    """Classes over containers of the standard library, each with instances of its own."""
    parts = ["#include <algorithm>\n#include <map>\n#include <memory>\n#include <string>\n#include <vector>\n"]
    for n in range(CLASSES):
        parts.append(f"""
struct Part{n} {{
    int number = {n};
    std::string label;
    bool operator<(const Part{n}& other) const {{ return number < other.number; }}
}};
struct Store{n} {{
    std::map<std::string, std::vector<Part{n}>> parts;
    std::vector<std::unique_ptr<Part{n}>> owned;
    void add(const std::string& name, int number) {{
        owned.push_back(std::make_unique<Part{n}>(Part{n}{{number, name + "{n}"}}));
        parts[name].push_back(*owned.back());
        std::sort(parts[name].begin(), parts[name].end());
    }}
    long sum() const {{
        long sum = 0;
        for (const auto& [name, list] : parts)
            for (const auto& part : list) sum += part.number * static_cast<long>(name.size() + part.label.size());
        return sum;
    }}
}};
long use{n}(int count) {{
    Store{n} store;
    for (int i = 0; i < count; ++i) store.add(std::to_string(i % 17), i * {n + 1});
    return store.sum();
}}
""")
    return "".join(parts)


WRITERS = {"c": _c, "cpp": _cpp}
