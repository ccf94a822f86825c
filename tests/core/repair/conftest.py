"""A runtime, with or without repairers that a test chooses, and what it works on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from pagewarden.processes.reader import PageReader
from pagewarden.repair import attempt
from pagewarden.repair.isolate import Place
from pagewarden.repair.jobs import do_job
from pagewarden.runtime import Runtime
from tests.core.repair.chosen import Plugins
from tests.core.repair.pasts import Past


@pytest.fixture(scope="package")
def reader() -> Iterator[PageReader]:
    """One page reader for all tests."""
    with PageReader() as made:
        yield made


@pytest.fixture(scope="module")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runtime]:
    """A runtime with a state folder of its own."""
    with Runtime(state=tmp_path_factory.mktemp("state")) as made:
        yield made


@pytest.fixture
def past(tmp_path: Path, runtime: Runtime) -> Past:
    """No database yet."""
    return Past(tmp_path, runtime)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A database's path."""
    path = tmp_path / "app.db"
    path.write_text("x")
    return path


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
