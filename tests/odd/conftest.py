"""Fixtures of the odd databases."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from pagewarden.runtime import Runtime


@pytest.fixture
def runtime(tmp_path: Path) -> Iterator[Runtime]:
    """The outside world of the test process's runs; its state is the test's own."""
    with Runtime(state=tmp_path / "state") as made:
        yield made
