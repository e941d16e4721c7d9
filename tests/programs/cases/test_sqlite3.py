"""sqlite3: tables, indexes, joins, windows, JSON, full text, transactions, VACUUM and integrity_check"""

NEEDS = {"/usr/bin/sqlite3": "sqlite3"}
ROWS = 100000
SQL = f"""
.bail on
CREATE TABLE item(id INTEGER PRIMARY KEY, kind INTEGER, name TEXT, price INTEGER, note TEXT);
BEGIN;
INSERT INTO item SELECT value, value % 17, 'item-' || (value * 7919 % {ROWS}), value * 31 % 1009,
  substr('lorem ipsum dolor sit amet consectetur', 1 + value % 20) FROM generate_series(1, {ROWS});
COMMIT;
CREATE INDEX by_kind ON item(kind, price);
CREATE UNIQUE INDEX by_name ON item(name);
SELECT 'sums', count(*), sum(price), count(DISTINCT name) FROM item;
SELECT 'kinds', group_concat(n, ' ') FROM (SELECT count(*) AS n FROM item GROUP BY kind ORDER BY kind);
SELECT 'join', sum(a.price * b.price) FROM item a JOIN item b ON b.id = a.id + 1 WHERE a.kind = 3;
SELECT 'window', sum(r) FROM (SELECT row_number() OVER (PARTITION BY kind ORDER BY price, id) AS r FROM item);
WITH RECURSIVE f(n, a, b) AS (SELECT 1, 0, 1 UNION ALL SELECT n + 1, b, (a + b) % 1000007 FROM f WHERE n < 5000)
  SELECT 'recursive', a FROM f WHERE n = 5000;
SELECT 'json', json_array_length(j), json_extract(j, '$[999].id') FROM
  (SELECT json_group_array(json_object('id', id, 'name', name)) AS j FROM (SELECT * FROM item ORDER BY id LIMIT 1000));
CREATE VIRTUAL TABLE text USING fts5(body);
INSERT INTO text SELECT note || ' ' || name FROM item WHERE id <= 20000;
SELECT 'match', count(*) FROM text WHERE text MATCH 'dolor AND amet';
BEGIN; DELETE FROM item WHERE kind < 9; SELECT 'inside', count(*) FROM item; ROLLBACK;
DELETE FROM item WHERE kind = 0;
UPDATE item SET note = printf('%.1000c', 'x') WHERE kind = 1;
SELECT 'after', count(*), sum(length(note)) FROM item;
VACUUM;
PRAGMA integrity_check;
"""
NOTE = "lorem ipsum dolor sit amet consectetur"


def expected():
    rows = [(i, i % 17, i * 31 % 1009, NOTE[i % 20:]) for i in range(1, ROWS + 1)]
    price = {i: p for i, _, p, _ in rows}
    kinds = [sum(1 for row in rows if row[1] == k) for k in range(17)]
    a, b = 0, 1
    for _ in range(4999):
        a, b = b, (a + b) % 1000007
    left = [row for row in rows if row[1] != 0]
    return [
        f"sums|{ROWS}|{sum(price.values())}|{ROWS}",
        "kinds|" + " ".join(map(str, kinds)),
        f"join|{sum(p * price[i + 1] for i, k, p, _ in rows if k == 3 and i < ROWS)}",
        f"window|{sum(n * (n + 1) // 2 for n in kinds)}",
        f"recursive|{a}",
        "json|1000|1000",
        f"match|{sum(1 for row in rows[:20000] if 'dolor' in row[3].split() and 'amet' in row[3].split())}",
        f"inside|{sum(kinds[9:])}",
        f"after|{len(left)}|{sum(1000 if row[1] == 1 else len(row[3]) for row in left)}",
        "ok",
    ]


def test_sqlite3(t):
    database = t.path("work.db")
    result = t.run(["/usr/bin/sqlite3", database], stdin=SQL,
                   active="sqlite3")
    t.equal(result.text.splitlines(), expected(), "answers")
    t.equal(result.stderr, b"", "stderr")
    dump = t.run(["/usr/bin/sqlite3", database, ".dump"]).stdout
    t.run(["/usr/bin/sqlite3", t.path("copy.db")], stdin=dump, active="sqlite3")
    again = t.run(["/usr/bin/sqlite3", t.path("copy.db"), ".dump"]).stdout
    assert dump == again, "the dump of a restored dump differs"
