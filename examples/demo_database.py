"""Make a realistic database and keep writing to it: a small shop with customers, orders, items and documents.

`python examples/demo_database.py make PATH MIB SEED` makes one; `… write PATH` commits until standard input closes,
then prints how many transactions it committed.
"""

from __future__ import annotations

import json
import random
import sqlite3
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

# fmt: off
WORDS = (
    "time", "year", "people", "way", "day", "man", "thing", "woman", "life", "child", "world", "school", "state",
    "family", "student", "group", "country", "problem", "hand", "part", "place", "case", "week", "company",
    "system", "program", "question", "work", "government", "number", "night", "point", "home", "water", "room",
)
# fmt: on
CITIES = ("Lisbon", "Zürich", "Łódź", "São Paulo", "大阪", "Київ", "Reykjavík", "Aarhus", "Nairobi", "Quito")
STATUSES = ("paid", "shipped", "pending", "refunded")

SCHEMA = """
CREATE TABLE customers(id INTEGER PRIMARY KEY, email TEXT NOT NULL UNIQUE, name TEXT NOT NULL, city TEXT, notes TEXT);
CREATE TABLE products(sku TEXT PRIMARY KEY, title TEXT NOT NULL, price REAL CHECK(price >= 0)) WITHOUT ROWID;
CREATE TABLE orders(id INTEGER PRIMARY KEY, customer_id INTEGER NOT NULL REFERENCES customers(id),
    status TEXT NOT NULL, total REAL NOT NULL, placed_at INTEGER NOT NULL, shipping TEXT);
CREATE TABLE order_items(order_id INTEGER NOT NULL REFERENCES orders(id), line_no INTEGER NOT NULL,
    sku TEXT NOT NULL REFERENCES products(sku), quantity INTEGER NOT NULL,
    PRIMARY KEY(order_id, line_no)) WITHOUT ROWID;
CREATE TABLE documents(id INTEGER PRIMARY KEY, customer_id INTEGER REFERENCES customers(id), name TEXT, body BLOB);
CREATE TABLE ledger(id INTEGER PRIMARY KEY CHECK(id = 1), commits INTEGER NOT NULL);
CREATE INDEX orders_customer_placed ON orders(customer_id, placed_at);
CREATE INDEX orders_status ON orders(status);
CREATE INDEX documents_customer ON documents(customer_id);
CREATE VIEW revenue AS SELECT customer_id, sum(total) AS total FROM orders GROUP BY customer_id;
INSERT INTO ledger VALUES(1, 0);
"""


def sentence(chance: random.Random, words: int) -> str:
    """Return `words` random words."""
    return " ".join(chance.choices(WORDS, k=words))


def customer_rows(chance: random.Random, first: int, count: int) -> Iterator[tuple[object, ...]]:
    """Yield rows of customers from id `first` on."""
    for number in range(first, first + count):
        notes = sentence(chance, chance.randrange(5, 40)) if chance.random() < 0.7 else None
        yield number, f"user{number}@example.org", sentence(chance, 2).title(), chance.choice(CITIES), notes


def place_order(connection: sqlite3.Connection, chance: random.Random, customers: int, products: int) -> None:
    """Insert one order with its items, inside the caller's transaction."""
    cursor = connection.execute(
        "INSERT INTO orders(customer_id, status, total, placed_at, shipping) VALUES(?,?,?,?,?)",
        (
            chance.randrange(1, customers + 1),
            chance.choice(STATUSES),
            round(chance.uniform(1, 500), 2),
            1_700_000_000 + chance.randrange(10**7),
            json.dumps({"street": sentence(chance, 2), "number": chance.randrange(200), "city": chance.choice(CITIES)}),
        ),
    )
    connection.executemany(
        "INSERT INTO order_items VALUES(?,?,?,?)",
        [
            (cursor.lastrowid, line, f"SKU-{chance.randrange(products):05}", chance.randrange(1, 9))
            for line in range(1, chance.randrange(2, 5))
        ],
    )


def make(path: Path, mebibytes: int, seed: int) -> None:
    """Make a database of about `mebibytes` at `path`, in WAL mode, with overflow pages and a freelist."""
    chance = random.Random(seed)
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA page_size=4096")
    connection.execute("PRAGMA synchronous=OFF")
    connection.executescript(SCHEMA)
    customers, products = 500 * mebibytes // 4 + 50, 2_000
    connection.execute("BEGIN")
    connection.executemany("INSERT INTO customers VALUES(?,?,?,?,?)", customer_rows(chance, 1, customers))
    connection.executemany(
        "INSERT INTO products VALUES(?,?,?)",
        [(f"SKU-{n:05}", sentence(chance, 3).title(), round(chance.uniform(1, 99), 2)) for n in range(products)],
    )
    while True:
        for _ in range(2_000):
            place_order(connection, chance, customers, products)
        for _ in range(60):
            size = chance.choice((700, 3_000, 9_000, 40_000))
            body = sentence(chance, size // 6).encode() if chance.random() < 0.7 else chance.randbytes(size)
            connection.execute(
                "INSERT INTO documents(customer_id, name, body) VALUES(?,?,?)",
                (chance.randrange(1, customers + 1), sentence(chance, 2) + ".txt", body),
            )
        (pages,) = connection.execute("PRAGMA page_count").fetchone()
        if pages * 4096 >= mebibytes << 20:
            break
    connection.execute("DELETE FROM documents WHERE id % 19 = 0")
    connection.execute("COMMIT")
    connection.execute("PRAGMA journal_mode=WAL")
    connection.close()


def write(path: Path, stop: threading.Event) -> int:
    """Commit small transactions until `stop` is set; return how many were committed."""
    chance = random.Random(99)
    connection = sqlite3.connect(path, isolation_level=None, timeout=30)
    connection.execute("PRAGMA synchronous=NORMAL")
    (customers,) = connection.execute("SELECT count(*) FROM customers").fetchone()
    (products,) = connection.execute("SELECT count(*) FROM products").fetchone()
    commits = 0
    while not stop.is_set():
        connection.execute("BEGIN IMMEDIATE")
        place_order(connection, chance, customers, products)
        connection.execute(
            "UPDATE customers SET notes = ? WHERE id = ?", (sentence(chance, 12), chance.randrange(1, customers + 1))
        )
        connection.execute("UPDATE ledger SET commits = commits + 1")
        connection.execute("COMMIT")
        commits += 1
        time.sleep(0.002)
    connection.close()
    return commits


def main(arguments: list[str]) -> None:
    """Run `make` or `write` as the module's docstring says."""
    if arguments[0] == "make":
        make(Path(arguments[1]), int(arguments[2]), int(arguments[3]))
        return
    stop = threading.Event()

    def wait() -> None:
        sys.stdin.read()
        stop.set()

    threading.Thread(target=wait, daemon=True).start()
    print("writing", flush=True)
    print(write(Path(arguments[1]), stop), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
