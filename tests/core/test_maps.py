"""Where local page maps are kept: one for each database and place, not for ever, and never half."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from pagewarden import durable, maps
from pagewarden.testing import FaultyOs, cut


def put(path: Path, content: bytes) -> None:
    """Keep a map."""
    written = maps.begin(path)
    written.write_bytes(content)
    maps.keep(written, path)


def test_each_database_and_place_has_its_own(tmp_path: Path) -> None:
    """Neither half of the name can pass for a part of the other; names that are no UTF-8 have one, too."""
    pairs = [("a", "b"), ("ab", ""), ("", "ab"), ("a b", "c"), ("a", "b c"), ("a", os.fsdecode(b"caf\xe9"))]
    assert len({maps.map_path(tmp_path, place, path) for place, path in pairs}) == len(pairs)


def test_the_ones_used_longest_ago_go(tmp_path: Path) -> None:
    """A bounded number is kept; one that was of use counts as new."""
    paths = [maps.map_path(tmp_path, "place", f"/{number}.db") for number in range(maps.KEPT + 3)]
    for age, path in enumerate(paths[:-1]):
        put(path, b"map")
        os.utime(path, (1e9 + age, 1e9 + age))
    maps.used(paths[2])
    maps.used(paths[-1])  # not there: no matter
    put(paths[-1], b"map")
    left = {path for path in paths if path.exists()}
    assert left == set(paths) - {paths[0], paths[1], paths[3]}


def test_what_a_killed_process_left_goes_after_a_day(tmp_path: Path) -> None:
    """And not before: it may be another process's that is at work."""
    path = maps.map_path(tmp_path, "place", "/app.db")
    dead, alive = maps.begin(path), maps.begin(path)
    for file, age in ((dead, 25), (alive, 23)):
        file.write_bytes(b"half")
        then = time.time() - age * 3600
        os.utime(file, (then, then))
    put(path, b"map")
    assert sorted(file.name for file in path.parent.iterdir()) == sorted([alive.name, path.name])
    assert path.read_bytes() == b"map"


def test_a_map_is_the_old_one_or_the_new_one_wherever_it_fails(tmp_path: Path) -> None:
    """Each call that changes the file system fails in turn."""
    path = maps.map_path(tmp_path, "place", "/app.db")
    put(path, b"old")
    for at in range(1, 30):
        written = maps.begin(path)
        written.write_bytes(b"new")
        faulty = FaultyOs(at)
        try:
            with cut(durable, faulty):
                maps.keep(written, path)
        except OSError:
            assert path.read_bytes() in (b"old", b"new")
            continue
        assert not faulty.fired
        break
    assert path.read_bytes() == b"new"
    assert at > 3


def test_a_folder_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    """For the caller to tell."""
    (tmp_path / "maps").touch()
    with pytest.raises(OSError, match="maps"):
        maps.begin(maps.map_path(tmp_path, "place", "/app.db"))
