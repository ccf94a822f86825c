"""What the tests of following share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from pagewarden.processes.reader import PageReader


@pytest.fixture(scope="package")
def reader() -> Iterator[PageReader]:
    """A warm page reader."""
    with PageReader() as made:
        yield made
