"""What the tests of the guard share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.guarding import Guarded


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[Guarded]:
    """A database in WAL mode, an application that has it open, and no guard yet."""
    with Guarded(tmp_path) as made:
        yield made
