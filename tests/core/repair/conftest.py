"""A runtime whose repairers a test chooses."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from pagewarden.processes.reader import PageReader
from pagewarden.repair import attempt
from pagewarden.repair.isolate import Place
from pagewarden.repair.jobs import do_job
from tests.core.repair.chosen import Plugins


@pytest.fixture(scope="package")
def reader() -> Iterator[PageReader]:
    """One page reader for all tests."""
    with PageReader() as made:
        yield made


@pytest.fixture
def plugins(tmp_path: Path, reader: PageReader) -> Plugins:
    """A runtime that has none but the test's repairers."""
    return Plugins(tmp_path / "state", reader)


@pytest.fixture
def jobs_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the repair's own jobs be done in this process, which is sooner; other tests do them in their own."""

    def do(job: str, task: Mapping[str, Any], place: Place) -> Any:
        return do_job(job, task, place.on_progress)

    monkeypatch.setattr(attempt, "do", do)
