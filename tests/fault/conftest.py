"""What tests of cut runs share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from pagewarden.runtime import Runtime
from tests.core.repository.pruned import new_runtime


@pytest.fixture(scope="module")
def warm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runtime]:
    """A runtime whose page reader stays warm."""
    with new_runtime(tmp_path_factory.mktemp("state")) as made:
        yield made
