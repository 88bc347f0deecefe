"""Measures doltlite on the content of a SQLite database: `on_doltlite.py DATABASE REPOSITORY TABLE CELL VALUE`.

Prints a line for each step: its name, its seconds within this process, and the bytes that the repository grew by. It is an engine of its own,
which takes the place of SQLite, so the rows are written into its file first.
"""

import doltlite  # Must come first: it puts its library into the place of SQLite's.
import os
import sqlite3
import sys
import time

database, repository, table, cell, value = sys.argv[1:]
connection = sqlite3.connect(repository, isolation_level=None)
connection.execute("ATTACH ? AS stock", (database,))


def step(name, run):
    before = os.path.getsize(repository)
    start = time.perf_counter()
    run()
    print(f"{name}\t{time.perf_counter() - start}\t{os.path.getsize(repository) - before}", flush=True)


def ask(sql):
    return connection.execute(sql).fetchall()


def commit():
    try:
        ask("SELECT dolt_commit('-A', '-m', 'bench')")
    except sqlite3.Error as error:
        if "nothing to commit" not in str(error):
            raise


def fill():
    for name, sql in ask("SELECT name, sql FROM stock.sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"):
        connection.execute(sql)
        connection.execute("BEGIN")
        connection.execute(f"INSERT INTO main.{name} SELECT * FROM stock.{name}")
        connection.execute("COMMIT")


def update():
    connection.execute("BEGIN")
    where = " AND ".join(f"{name} = ?" for name in keys)
    connection.executemany(f"UPDATE main.{table} SET {cell} = {value} WHERE {where}", rows)
    connection.execute("COMMIT")


step("import", fill)
step("commit, first", commit)
step("commit, nothing changed", commit)
keys = [name for name, place in ask(f"SELECT name, pk FROM pragma_table_info('{table}') WHERE pk > 0 ORDER BY pk")]
distance = max(ask(f"SELECT max(rowid) FROM stock.{table}")[0][0] // 1000, 1)
rows = ask(f"SELECT {', '.join(keys)} FROM stock.{table} WHERE rowid % {distance} = 0 LIMIT 1000")
step("1,000 scattered updates", update)
step("commit, 1,000 scattered updates", commit)
head = "(SELECT commit_hash FROM dolt_log LIMIT 1)"
step("diff of the 1,000 rows", lambda: ask(f"SELECT * FROM dolt_diff_{table} WHERE to_commit = {head}"))
step("reset of the 1,000 rows", lambda: ask("SELECT dolt_reset('--hard', 'HEAD~1')"))
