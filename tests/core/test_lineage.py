"""What is remembered of where a file stands in a repository's history."""

from __future__ import annotations

import os
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from pagewarden.lineage import (
    Lineage,
    after_backup,
    after_restore,
    before_backup,
    place_of,
    read_lineage,
    readable,
    write_lineage,
)
from pagewarden.values import Position


def at(txid: int) -> Position:
    """Return a position."""
    return Position(timeline="0" * 32, txid=txid, time=datetime(2026, 11, 22, tzinfo=UTC))


def test_a_path_nobody_knows_has_no_origin(tmp_path: Path) -> None:
    """Nothing is made by asking."""
    lineage = read_lineage(tmp_path / "state", "/app.db")
    assert lineage == Lineage(path="/app.db")
    assert lineage.origin("anywhere") is None
    assert not (tmp_path / "state").exists()


def test_each_place_has_its_own_origin_until_a_restore(tmp_path: Path) -> None:
    """Backups to two repositories do not disturb each other; a restore is the origin for both."""
    after_backup(tmp_path, "/app.db", place_of("/a", "app.db"), at(3))
    after_backup(tmp_path, "/app.db", place_of("/b", "app.db"), at(7))
    assert read_lineage(tmp_path, "/app.db").origin(place_of("/a", "app.db")) == at(3)
    assert read_lineage(tmp_path, "/app.db").origin(place_of("/b", "app.db")) == at(7)
    assert read_lineage(tmp_path, "/app.db").origin(place_of("/b", "other.db")) is None
    assert read_lineage(tmp_path, "/other.db").origin(place_of("/a", "app.db")) is None
    after_restore(tmp_path, "/app.db", at(2))
    assert read_lineage(tmp_path, "/app.db").origin(place_of("/b", "app.db")) == at(2)
    after_backup(tmp_path, "/app.db", place_of("/b", "app.db"), at(8))
    assert read_lineage(tmp_path, "/app.db").origin(place_of("/b", "app.db")) == at(8)
    assert read_lineage(tmp_path, "/app.db").origin(place_of("/a", "app.db")) == at(2)


def test_what_is_about_to_be_committed_is_noted_by_place(tmp_path: Path) -> None:
    """Until it is remembered as committed; one that a backup continues was committed."""
    before_backup(tmp_path, "/app.db", "a", None, at(1))
    before_backup(tmp_path, "/app.db", "b", None, at(7))
    assert read_lineage(tmp_path, "/app.db").origin("a") is None
    assert read_lineage(tmp_path, "/app.db").coming == {"a": at(1), "b": at(7)}
    before_backup(tmp_path, "/app.db", "a", at(1), at(2))
    before_backup(tmp_path, "/app.db", "b", at(6), at(8))
    assert read_lineage(tmp_path, "/app.db").origin("a") == at(1)
    assert read_lineage(tmp_path, "/app.db").origin("b") is None
    after_backup(tmp_path, "/app.db", "a", at(2))
    assert read_lineage(tmp_path, "/app.db").origin("a") == at(2)
    assert read_lineage(tmp_path, "/app.db").coming == {"b": at(8)}
    after_restore(tmp_path, "/app.db", at(2))
    assert read_lineage(tmp_path, "/app.db").coming == {}


def test_what_cannot_be_read_is_no_memory(tmp_path: Path) -> None:
    """A file of another version, or of nobody's, is like none; writing replaces it."""
    after_restore(tmp_path, "/app.db", at(2))
    (file,) = (tmp_path / "lineage").iterdir()
    file.write_text('{"path": 5}')
    assert read_lineage(tmp_path, "/app.db") == Lineage(path="/app.db")
    after_restore(tmp_path, "/app.db", at(3))
    assert read_lineage(tmp_path, "/app.db").restored == at(3)
    write_lineage(tmp_path, "/app.db", Lineage(path="/app.db"))
    assert read_lineage(tmp_path, "/app.db").restored is None


def test_names_that_are_no_text_are_remembered(tmp_path: Path) -> None:
    """JSON cannot hold the bytes of such a name, but its memory is found again."""
    path = "/app\udcff.db"
    after_restore(tmp_path, path, at(2))
    assert read_lineage(tmp_path, path).restored == at(2)
    assert readable(path) == "/app\\udcff.db"


def test_a_state_directory_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    """The caller tells it as a warning."""
    (tmp_path / "state").touch()
    with pytest.raises(OSError):
        after_restore(tmp_path / "state", "/app.db", at(2))


def test_what_a_killed_process_was_writing_goes_after_a_day(tmp_path: Path) -> None:
    """Its temporary file is removed by the next one that remembers; a fresh one may be somebody's."""
    after_restore(tmp_path, "/app.db", at(2))
    (file,) = (tmp_path / "lineage").iterdir()
    fresh, old = (file.with_name(f".{file.name}.{end}") for end in ("aa", "bb"))
    fresh.touch()
    old.touch()
    os.utime(old, (time.time() - 90_000,) * 2)
    after_restore(tmp_path, "/app.db", at(3))
    assert sorted(file.parent.iterdir()) == sorted((fresh, file))


def test_a_directory_is_one_place_however_it_is_written(tmp_path: Path) -> None:
    """What waits for it, and where a database stands in it, is found again by every name; another name is another."""
    folder, link = tmp_path / "a repo", tmp_path / "link"
    folder.mkdir()
    link.symlink_to(folder)
    written = [str(folder), f"{folder}/", str(link), folder.as_uri(), f"file://localhost{folder.as_uri()[7:]}"]
    assert {place_of(url, "app.db") for url in written} == {f"{folder} app.db"}
    assert place_of("s3://bucket/a/", "app.db") == place_of("s3://bucket/a", "app.db") != place_of("s3://bucket", "a")
