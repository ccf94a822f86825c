from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import cache
from pathlib import Path

import pytest

from pagewarden.contracts import Target
from pagewarden.repository.pageset import PageSetFile
from pagewarden.repository.repository import Repository
from pagewarden.runtime import Runtime
from pagewarden_target_directory import DirectoryFactory
from tests.core.repository.pruned import IMAGES, Stage, new_runtime
from tests.core.repository.sets import NOW, MemoryTarget


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The directory of the repository."""
    return tmp_path / "repository"


@pytest.fixture(params=["directory", "memory"])
def target(request: pytest.FixtureRequest, root: Path) -> Target:
    """An empty target: a directory, and one that keeps no local files."""
    return MemoryTarget() if request.param == "memory" else DirectoryFactory().open(str(root), create=True)


@pytest.fixture
def repository(target: Target) -> Repository:
    """An empty repository with a fixed clock and seeded randomness."""
    return Repository.open(target, target.url, create=True, clock=lambda: NOW, token=seeded(1))


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runtime]:
    """A runtime whose page reader stays warm."""
    with new_runtime(tmp_path_factory.mktemp("state")) as runtime:
        yield runtime


@pytest.fixture
def stage(tmp_path: Path, shared: Runtime) -> Stage:
    """A repository with a snapshot and seven segments."""
    made = Stage(folder=tmp_path, runtime=shared)
    made.make(IMAGES)
    return made


Opener = Callable[[str], PageSetFile]


@pytest.fixture
def opened() -> Iterator[Opener]:
    """Open page sets, each of them once, until the end of the test, as the page reader does for layers."""
    with ExitStack() as stack:
        yield cache(lambda path: stack.enter_context(PageSetFile(path)))


def seeded(seed: int) -> Callable[[int], str]:
    """Return a source of hexadecimal digits."""
    rng = random.Random(seed)
    return lambda count: rng.randbytes(count).hex()
