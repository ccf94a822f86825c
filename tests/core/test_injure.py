"""The `injure` verb: only marked copies, only closed ones, the same seed the same damage."""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from pagewarden.errors import ConfigurationInvalid, DatabaseBusy, DatabaseNotFound, NotADatabase, RestoreRefused
from pagewarden.events import Event
from pagewarden.injure import MARKER, InjureRequest, run_injure
from pagewarden.runtime import Runtime
from tests.support.databases import build
from tests.support.session import Session


@pytest.fixture
def seen() -> list[Event]:
    """What observers saw."""
    return []


@pytest.fixture
def runtime(tmp_path: Path, seen: list[Event]) -> Iterator[Runtime]:
    """A runtime."""
    with Runtime(state=tmp_path / "state", on_event=seen.append) as made:
        yield made


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """A closed database, not marked."""
    return build(tmp_path / "a copy.db", rows=60)


def request(path: Path, kind: str = "zeroed-page", seed: int = 7) -> InjureRequest:
    """Return a request."""
    return InjureRequest(path=str(path), kind=kind, seed=seed)


def test_a_file_that_is_not_marked_is_refused_with_the_command(database: Path, runtime: Runtime) -> None:
    """The hint is the exact command that marks it, blanks and all; afterwards the injury is done."""
    before = database.read_bytes()
    with pytest.raises(RestoreRefused, match="not marked as a copy") as raised:
        run_injure(request(database), runtime)
    assert database.read_bytes() == before
    command = raised.value.hint.partition(": ")[2]
    assert shlex.split(command)[-1] == f"{database}{MARKER}"
    subprocess.run(command, shell=True, check=True)
    report = run_injure(request(database), runtime)
    after = database.read_bytes()
    assert not any(after[(report.pgno - 1) * 4096 : report.pgno * 4096])


def test_only_an_empty_regular_file_is_the_mark(database: Path, tmp_path: Path, runtime: Runtime) -> None:
    """Not a link to one, not a folder, and not a file that somebody wrote something into."""
    before = database.read_bytes()
    marker = Path(f"{database}{MARKER}")
    empty = tmp_path / "empty"
    empty.touch()
    for make, remove in (
        (lambda: marker.symlink_to(empty), marker.unlink),
        (lambda: marker.symlink_to("nowhere"), marker.unlink),
        (marker.mkdir, marker.rmdir),
        (lambda: marker.write_text("notes"), marker.unlink),
    ):
        make()
        with pytest.raises(RestoreRefused, match="only an empty file is the mark") as raised:
            run_injure(request(database), runtime)
        assert shlex.split(raised.value.hint.partition(": ")[2])[-1] == str(marker)
        remove()
    assert database.read_bytes() == before


def test_the_report_says_what_was_changed(database: Path, runtime: Runtime, seen: list[Event]) -> None:
    """Page, offset and length enclose every byte that differs, and observers are told."""
    Path(f"{database}{MARKER}").touch()
    before = database.read_bytes()
    report = run_injure(request(database, "flipped-bit"), runtime)
    differing = [i for i, (a, b) in enumerate(zip(before, database.read_bytes(), strict=True)) if a != b]
    assert differing == [(report.pgno - 1) * 4096 + report.offset]
    assert (report.path, report.kind, report.seed, report.length) == (str(database), "flipped-bit", 7, 1)
    (event,) = seen
    assert (event.name, event.fields["pgno"]) == ("injure.finished", report.pgno)


def test_the_same_seed_does_the_same_to_the_same_file(database: Path, runtime: Runtime) -> None:
    """Drills and tests can be repeated."""
    Path(f"{database}{MARKER}").touch()
    before = database.read_bytes()
    run_injure(request(database, "flipped-bit", 3), runtime)
    once = database.read_bytes()
    database.write_bytes(before)
    run_injure(request(database, "flipped-bit", 3), runtime)
    assert database.read_bytes() == once
    database.write_bytes(before)
    run_injure(request(database, "flipped-bit", 4), runtime)
    assert database.read_bytes() != once


def test_a_lost_write_takes_the_page_of_an_older_image(database: Path, tmp_path: Path, runtime: Runtime) -> None:
    """Without the older image it is refused with the option that names one."""
    Path(f"{database}{MARKER}").touch()
    older = tmp_path / "older.db"
    older.write_bytes(database.read_bytes())
    with Session(database) as session:
        session.run("UPDATE item SET name = 'new ' || name")
    with pytest.raises(RestoreRefused) as raised:
        run_injure(request(database, "lost-write"), runtime)
    assert "--older" in raised.value.hint
    report = run_injure(InjureRequest(path=str(database), kind="lost-write", seed=1, older=str(older)), runtime)
    page = slice((report.pgno - 1) * 4096, report.pgno * 4096)
    assert database.read_bytes()[page] == older.read_bytes()[page]


def test_a_copy_that_is_open_is_refused(database: Path, runtime: Runtime) -> None:
    """Its holder is named, and there is no force."""
    Path(f"{database}{MARKER}").touch()
    before = database.read_bytes()
    with Session(database) as session, pytest.raises(DatabaseBusy, match=f"pid {session.pid}") as raised:
        run_injure(request(database), runtime)
    assert "--force" not in raised.value.hint
    assert database.read_bytes() == before


def test_another_name_of_the_original_is_refused(database: Path, tmp_path: Path, runtime: Runtime) -> None:
    """A hard link is no copy; through a symbolic link the marker of the file itself counts."""
    link = tmp_path / "link.db"
    link.symlink_to(database)
    Path(f"{link}{MARKER}").touch()
    with pytest.raises(RestoreRefused, match="not marked"):
        run_injure(request(link), runtime)
    Path(f"{database}{MARKER}").touch()
    os.link(database, tmp_path / "twin.db")
    with pytest.raises(RestoreRefused, match="hard link"):
        run_injure(request(database), runtime)


def test_another_name_of_the_originals_wal_is_refused(tmp_path: Path, runtime: Runtime) -> None:
    """A copy whose -wal was linked, hard or symbolically, would pass the injury on to the original."""
    original = build(tmp_path / "original.db", rows=20, mode="wal")
    copy, wal = tmp_path / "copy.db", tmp_path / "copy.db-wal"
    with Session(original) as session:
        session.run("INSERT INTO item(name) VALUES('last')")
        copy.write_bytes(original.read_bytes())
        Path(f"{copy}{MARKER}").touch()
        log = Path(f"{original}-wal").read_bytes()
        for link in (os.link, os.symlink):
            link(f"{original}-wal", wal)
            with pytest.raises(RestoreRefused, match="link"):
                run_injure(request(copy, "damaged-wal-frame"), runtime)
            wal.unlink()
        assert Path(f"{original}-wal").read_bytes() == log
    wal.write_bytes(log)
    assert run_injure(request(copy, "damaged-wal-frame"), runtime).path == str(wal)
    assert wal.read_bytes() != log


def test_what_is_there_must_be_a_database_and_the_kind_known(database: Path, tmp_path: Path, runtime: Runtime) -> None:
    """Each mistake has its own error."""
    with pytest.raises(ConfigurationInvalid, match='no injury "arson"') as raised:
        run_injure(request(database, "arson"), runtime)
    assert "flipped-bit" in raised.value.hint
    with pytest.raises(DatabaseNotFound):
        run_injure(request(tmp_path / "none.db"), runtime)
    (tmp_path / "text").write_text("no database at all" * 100)
    (tmp_path / f"text{MARKER}").touch()
    with pytest.raises(NotADatabase):
        run_injure(request(tmp_path / "text"), runtime)
