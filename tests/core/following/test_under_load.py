"""Following beside writers, checkpoints of all kinds and connections that come and go, in other processes.

Every transaction writes the next number, so the txid of a commit says which number its database must hold.
"""

from __future__ import annotations

import os
import random
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pytest

from pagewarden.errors import DatabaseUnsettled
from pagewarden.following.values import Cursor, Gap, Taken
from pagewarden.pages import backend
from pagewarden.processes.reader import PageReader
from pagewarden.repository.format import Kind, PageSetHeader
from pagewarden.repository.mapfacts import MapFacts
from pagewarden.repository.pagemap import write_map
from pagewarden.repository.pageset import PageSetFile
from tests.core.following.watching import TEMPLATE, TIMELINE, overlaid
from tests.support import load

pytestmark = pytest.mark.xdist_group("busy")  # never beside other tests that keep both cores busy

SECONDS = 60.0 if os.environ.get("PAGEWARDEN_FULL") else 2.0


def test_every_commit_of_busy_processes_is_taken_once(reader: PageReader, tmp_path: Path) -> None:
    """None missing, none twice, each inner one exact; no page is called damaged; over many generations of the log."""
    path, folder, chance = tmp_path / "busy.db", tmp_path / "taken", random.Random(1)
    folder.mkdir()
    load.make(path, mode="wal", rows=3000)
    pins = [_pin(path)]
    attachment = reader.attach(str(path))
    sums = reader.sums(attachment.handle, 1, attachment.pages)
    image = b"".join(reader.pages(attachment.handle, range(1, attachment.pages + 1)))
    reader.release(attachment.handle)
    first = _number(image, folder)
    facts = MapFacts(
        timeline=TIMELINE, txid=1, page_size=4096, pages=attachment.pages, database_sum=backend().fold(sums)
    )
    write_map(folder / "map", facts, lambda place, count: sums[(place - 1) * 8 : (place - 1 + count) * 8])
    cursor = Cursor(salts=attachment.salts, frame=attachment.wal_frames)
    handle = reader.follow_begin(str(path), folder / "map", facts, cursor)
    assert isinstance(handle, int)
    txid, serial, generations, inner, scrubbed = 1, 0, set(), 0, 0

    def take() -> None:
        nonlocal txid, image, serial, inner
        while True:
            serial += 1
            segment, commits = folder / f"{serial}.segment", folder / f"{serial}.commits"
            header = PageSetHeader(
                kind=Kind.SEGMENT, page_size=4096, pages=0, pages_per_frame=32, timeline=TIMELINE, txid=txid + 1,
                txid_from=txid, time=TEMPLATE,
            )  # fmt: skip
            taken = reader.follow_take(handle, header, segment, None if serial % 9 == 0 else commits)
            if taken is None:
                return
            assert isinstance(taken, Taken), taken
            if taken.commits is not None and inner < 12:
                some = chance.randrange(txid + 1, txid + taken.count)
                reader.extract_commit(commits, some, folder / f"{serial}.inner")
                with PageSetFile(folder / f"{serial}.inner") as file:
                    assert _number(overlaid(image, file), folder) == first + some - 1
                inner += 1
            with PageSetFile(segment) as file:
                image = overlaid(image, file)
            txid = taken.txid
            commits.unlink(missing_ok=True)
            segment.unlink()
            if not taken.more:
                return

    roles = ["writer", "writer", "checkpointer", "visitor"]
    with load.running(path, roles, tmp_path / "reports"):
        until = time.monotonic() + SECONDS
        while time.monotonic() < until:
            pins.append(_pin(path))
            take()
            pins.pop(0).close()
            generations.add(reader.follow_look(handle).salts)
            place = chance.randrange(1, facts.pages)
            scrubbed += 300
            assert reader.follow_scrub(handle, place, 300) == ()
            time.sleep(chance.random() * 0.05)
    take()
    assert _number(image, folder) == first + txid - 1
    assert image == _image(path)
    assert (inner > 3, len(generations) > 1, txid > 20, scrubbed > 0) == (True, True, True, True)
    reader.follow_end(handle)
    pins.pop().close()


def test_without_a_pin_what_is_missed_is_seen(reader: PageReader, tmp_path: Path) -> None:
    """Nothing stops the log from beginning anew: a take is exact, or it is a gap, and never the wrong commits."""
    path, folder = tmp_path / "busy.db", tmp_path / "taken"
    folder.mkdir()
    load.make(path, mode="wal", rows=1500)
    gaps, exact, chance = 0, 0, random.Random(2)
    kept = sqlite3.connect(path)  # a connection, so that the log is not deleted, but no pin
    kept.execute("SELECT count(*) FROM first").fetchall()
    with load.running(path, ["writer", "checkpointer"], tmp_path / "reports"):
        until, serial = time.monotonic() + SECONDS, 0
        while time.monotonic() < until or (not (gaps and exact) and time.monotonic() < until + 60):
            serial += 1
            pin = _pin(path)
            attachment = reader.attach(str(path))
            sums = reader.sums(attachment.handle, 1, attachment.pages)
            image = b"".join(reader.pages(attachment.handle, range(1, attachment.pages + 1)))
            reader.release(attachment.handle)
            facts = MapFacts(
                timeline=TIMELINE, txid=1, page_size=4096, pages=attachment.pages, database_sum=backend().fold(sums)
            )
            made = folder / f"{serial}.map"
            write_map(made, facts, lambda place, count, sums=sums: sums[(place - 1) * 8 : (place - 1 + count) * 8])  # type: ignore[misc]
            cursor = Cursor(salts=attachment.salts, frame=attachment.wal_frames)
            handle = reader.follow_begin(str(path), made, facts, cursor)
            pin.close()
            if isinstance(handle, Gap):
                continue
            time.sleep(chance.random() * 0.3)
            header = PageSetHeader(
                kind=Kind.SEGMENT, page_size=4096, pages=0, pages_per_frame=32, timeline=TIMELINE, txid=2, txid_from=1,
                time=TEMPLATE,
            )  # fmt: skip
            segment = folder / f"{serial}.segment"
            try:
                taken = reader.follow_take(handle, header, segment, folder / f"{serial}.commits")
            except DatabaseUnsettled:  # the log began anew while it was read: nothing was taken
                continue
            finally:
                reader.follow_end(handle)
            if isinstance(taken, Gap):
                gaps += 1
            elif taken is not None:
                exact += 1
                with PageSetFile(segment) as file:
                    assert _number(overlaid(image, file), folder) == _number(image, folder) + taken.count
    kept.close()
    assert gaps > 0
    assert exact > 0


def _pin(path: Path) -> sqlite3.Connection:
    pin = sqlite3.connect(f"file:{path}?mode=ro", uri=True, isolation_level=None, timeout=60)
    pin.execute("BEGIN")
    pin.execute("SELECT count(*) FROM first").fetchone()
    return pin


def _number(image: bytes, folder: Path) -> int:
    """Return the number that an image holds, which must be sound."""
    made = folder / "image.db"
    made.write_bytes(image[:18] + b"\x01\x01" + image[20:])  # without a log beside it
    return load.number_of(made)


def _image(path: Path) -> bytes:
    with closing(sqlite3.connect(path)) as connection:
        return bytes(connection.serialize())
