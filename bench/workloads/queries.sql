-- An in-memory database: inserts, an index, joins, grouping, text and a recursive query. Run by
-- bench/driver/workloads.py; the results are the same on every run.
CREATE TABLE item (id INTEGER PRIMARY KEY, name TEXT, price REAL, kind INTEGER);
CREATE TABLE sale (item INTEGER, day INTEGER, amount INTEGER, note TEXT);
BEGIN;
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 20000)
INSERT INTO item SELECT i, 'item-' || (i * 7919 % 20011), (i * 31 % 1000) / 10.0, i % 37 FROM n;
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 60000)
INSERT INTO sale SELECT i * 7919 % 20000 + 1, i % 365, i % 9, printf('note %d on %s', i, hex(i * i)) FROM n;
COMMIT;
CREATE INDEX item_name ON item (name);
CREATE INDEX sale_item ON sale (item);
SELECT kind, count(*), round(sum(price * amount), 2) FROM sale JOIN item ON item.id = sale.item
 GROUP BY kind ORDER BY 3 DESC LIMIT 5;
SELECT count(DISTINCT substr(note, 6, 4)), max(length(note)) FROM sale;
SELECT day, group_concat(name) FROM sale JOIN item ON item.id = sale.item
 WHERE amount = 8 AND day < 3 GROUP BY day ORDER BY day LIMIT 3;
UPDATE sale SET note = upper(note) || day WHERE amount > 4;
DELETE FROM sale WHERE item % 3 = 0;
SELECT count(*), sum(length(note)) FROM sale;
SELECT count(*) FROM (SELECT name FROM item ORDER BY name DESC LIMIT 15000);
