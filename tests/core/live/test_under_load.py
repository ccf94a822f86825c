"""Snapshots of a database that two writers, a checkpointer and visitors are busy with (H11, H19).

The whole of it, with fifty backups and the writers' waiting times, is in tests/load.
"""

from __future__ import annotations

import os
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from pagewarden.live import Pin, read_commit, scratch_copy, snapshot_commit
from pagewarden.processes.reader import Attachment, PageReader
from pagewarden.repository.format import PageSetHeader
from tests.support import load
from tests.support.databases import backup, masked
from tests.support.locks import WriteLockSampler
from tests.support.restoring import bring_back

pytestmark = pytest.mark.xdist_group("busy")  # never beside other tests that keep both cores busy

HEADER = PageSetHeader(page_size=4096, pages=0, pages_per_frame=64, timeline="0a" * 16, txid=7, time=datetime.now(UTC))
ROLES = ["writer", "writer", "checkpointer", "visitor"]
SNAPSHOTS = 15
SECONDS = 2.0  # that a load is read under at least: its processes need some time to begin


@pytest.mark.parametrize("mode", ["wal", "delete"])
def test_every_snapshot_of_a_busy_database_is_one_commit(mode: str, reader: PageReader, tmp_path: Path) -> None:
    """One number in all tables, none missing, integrity_check ok, never older than the one before, no lock to write."""
    path = tmp_path / "busy.db"
    load.make(path, mode=mode, rows=6000)
    numbers: list[int] = []
    assert reader.pid is not None or reader.ping()
    pids = {os.getpid(), reader.pid or 0}
    with (
        load.running(path, [role for role in ROLES if mode == "wal" or role != "checkpointer"], tmp_path / "reports"),
        WriteLockSampler(path, lambda: pids) as sampler,
    ):
        began, number = time.monotonic(), 0
        while number < SNAPSHOTS or time.monotonic() < began + SECONDS:
            number += 1
            stored, restored = tmp_path / f"{number}.set", tmp_path / f"{number}.db"
            taken = snapshot_commit(str(path), reader, stored, HEADER, 1, deadline=time.monotonic() + 60)
            assert taken.attachment.wal_fault == ""
            assert taken.info == reader.verify_pageset(stored, read_data=True)
            bring_back(reader, [stored], restored)
            numbers.append(load.number_of(restored))
    assert numbers == sorted(numbers)
    assert numbers[-1] > numbers[0], "the load did not write"
    assert sampler.seen == []
    assert sampler.others > 0, "the sampler saw no lock of the writers either"


def test_the_pins_own_commit_equals_sqlites_backup(reader: PageReader, tmp_path: Path) -> None:
    """At the same commit the reader's image is the backup API's, by the rule of docs/live-read.md."""
    path = tmp_path / "busy.db"
    load.make(path, mode="wal", rows=3000)
    kinds: list[bool] = []

    def work(attachment: Attachment, pin: Pin) -> tuple[bytes, bytes]:
        kinds.append(attachment.uses_wal)
        theirs = backup(pin.connections[0], tmp_path / "oracle")
        pages = reader.pages(attachment.handle, range(1, attachment.pages + 1))
        return b"".join(pages), theirs

    with load.running(path, ROLES, tmp_path / "reports"):
        until = time.monotonic() + SECONDS
        while len(kinds) < SNAPSHOTS or time.monotonic() < until:
            ours, theirs = read_commit(str(path), reader, work, exact=True, connections=1, attempts=100)
            assert masked(ours) == masked(theirs)
    assert set(kinds) == {True, False}, "commits in the log, and commits that were checkpointed as a whole"


def test_a_scratch_copy_of_a_busy_database_is_one_commit(reader: PageReader, tmp_path: Path) -> None:
    """With a rollback journal, where a check would block the writers for as long as it runs."""
    path = tmp_path / "busy.db"
    load.make(path, mode="delete", rows=3000)
    with load.running(path, ["writer", "writer"], tmp_path / "reports"):
        numbers: list[int] = []
        until = time.monotonic() + SECONDS
        while time.monotonic() < until:
            folder = tmp_path / str(len(numbers))
            folder.mkdir()
            numbers.append(load.number_of(scratch_copy(str(path), reader, folder, deadline=time.monotonic() + 60)))
    assert numbers == sorted(numbers)
    assert numbers[-1] > numbers[0], "the load did not write"
