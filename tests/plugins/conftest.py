"""What the tests of plugins share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from pagewarden.runtime import Runtime


@pytest.fixture(scope="module")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runtime]:
    """One outside world for all: its page reader stays warm."""
    with Runtime(state=tmp_path_factory.mktemp("state")) as made:
        yield made
