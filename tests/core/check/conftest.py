"""A runtime whose plugins a test chooses, and a baseline of a database."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from pagewarden.live import snapshot_commit
from pagewarden.processes.reader import PageReader
from pagewarden.repository import PageSetHeader
from pagewarden.runtime import Runtime
from pagewarden.testing.contracts import make_database
from tests.core.check.checkers import Plugins


@pytest.fixture(scope="package")
def reader() -> Iterator[PageReader]:
    """One page reader for all tests: starting one takes longer than most of them."""
    with PageReader() as made:
        yield made


@pytest.fixture
def runtime(tmp_path: Path, reader: PageReader) -> Runtime:
    """The outside world of a run; its state is the test's own."""
    made = Runtime(state=tmp_path / "state")
    made._reader = reader
    return made


@pytest.fixture
def plugins(tmp_path: Path, reader: PageReader) -> Plugins:
    """A runtime that has none but the test's checkers."""
    return Plugins(tmp_path / "state", reader)


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """A closed database with a rollback journal, in a folder of its own."""
    (tmp_path / "live").mkdir()
    return make_database(tmp_path / "live" / "app.db")


Baseline = Callable[[Path], str]


@pytest.fixture
def baseline(tmp_path: Path, reader: PageReader) -> Baseline:
    """Take a snapshot of a database, and return its path."""

    def take(database: Path) -> str:
        header = PageSetHeader(
            page_size=4096, pages=0, pages_per_frame=64, timeline="ab" * 16, txid=1, time=datetime.now(UTC)
        )
        path = tmp_path / f"{len(list(tmp_path.glob('*.pageset')))}.pageset"
        snapshot_commit(str(database), reader, path, header, 1)
        return str(path)

    return take
