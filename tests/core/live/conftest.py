"""What the tests of the live read share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from pagewarden.live import SnapshotTaken, snapshot_commit
from pagewarden.processes.reader import PageReader
from tests.core.live.slices import HEADER, Take
from tests.support.restoring import bring_back


@pytest.fixture(scope="session")
def reader() -> Iterator[PageReader]:
    """A warm page reader."""
    with PageReader() as made:
        yield made


@pytest.fixture
def take(reader: PageReader, tmp_path: Path) -> Take:
    """Take a snapshot and restore it; return what is known of it, and the restored bytes."""

    def work(path: Path, **options: object) -> tuple[SnapshotTaken, bytes]:
        for name in ("set", "restored"):
            (tmp_path / name).unlink(missing_ok=True)
        taken = snapshot_commit(str(path), reader, tmp_path / "set", HEADER, 1, **options)  # type: ignore[arg-type]
        assert reader.verify_pageset(tmp_path / "set", read_data=True) == taken.info
        bring_back(reader, [tmp_path / "set"], tmp_path / "restored")
        return taken, (tmp_path / "restored").read_bytes()

    return work
