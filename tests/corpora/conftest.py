"""Options and fixtures of the corpora's tests: `--sample N --seed S` takes a seeded choice of each archive."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from pagewarden.runtime import Runtime
from tests.corpora import corpus


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options."""
    parser.addoption("--sample", type=int, default=None, help="files of each archive; all where left out")
    parser.addoption("--seed", type=int, default=1, help="of the choice")


@pytest.fixture(scope="session")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the archives are unpacked below."""
    return tmp_path_factory.mktemp("corpora")


@pytest.fixture
def runtime(tmp_path: Path) -> Iterator[Runtime]:
    """The outside world of the test process's runs; its state is the test's own."""
    with Runtime(state=tmp_path / "state") as made:
        yield made


@pytest.fixture
def choose(request: pytest.FixtureRequest) -> corpus.Chooser:
    """Take the sample that the options ask for."""
    return corpus.Chooser(count=request.config.getoption("--sample"), seed=request.config.getoption("--seed"))
