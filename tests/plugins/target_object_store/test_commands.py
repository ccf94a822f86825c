"""The whole job by the command line, in a bucket."""

from __future__ import annotations

import random
import shutil
import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path

import pytest

from tests.cli.conftest import Type, Typed, enter_home, make_database, type_in, warm_reader
from tests.support import stores
from tests.support.faulty_proxy import Fault, FaultyProxy

__all__ = ["type_in", "warm_reader"]

pytestmark = pytest.mark.xdist_group("stores")


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home folder of the test's own, and a folder for temporary files."""
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    return enter_home(tmp_path / "home", monkeypatch)


@pytest.fixture
def database(home: Path) -> Path:
    """A small database that nobody has open."""
    return make_database(home / "app.db")


def change(database: Path, seed: int) -> None:
    """Commit something."""
    with closing(sqlite3.connect(database)) as connection, connection:
        rows = [(random.Random(seed).randbytes(200).hex(),) for _ in range(3)]
        connection.executemany("INSERT INTO note(person, text) VALUES(1, ?)", rows)


def dump(database: Path) -> list[str]:
    """Return what a database holds."""
    with closing(sqlite3.connect(database)) as connection:
        return list(connection.iterdump())


def succeed(typed: Typed) -> Typed:
    """Return what was typed, which must have worked."""
    assert typed.code == 0, typed.out + typed.err
    return typed


def slug(typed: Typed) -> tuple[int, str]:
    """Return the exit code, and the name of the error."""
    return typed.code, typed.document["error"]["slug"]


def test_the_whole_job(type_in: Type, database: Path, home: Path, url: str, tmp_path: Path) -> None:
    """Back up, change, back up, list, verify, restore any of them; nothing stays in the folder for temporary files."""
    first = dump(database)
    made = [succeed(type_in("backup", database, "--repo", url, "--json")).document]
    change(database, 1)
    second = dump(database)
    made += [succeed(type_in("backup", database, "--repo", url, "--json")).document for _ in range(2)]
    assert all(each["verified"] for each in made)
    assert [each["kind"] for each in made] == ["snapshot", "segment", "unchanged"]
    listed = succeed(type_in("backups", "--repo", url, "--json")).document["backups"]
    assert [each["position"]["txid"] for each in listed] == [1, 2]
    compared = succeed(type_in("check", database, "--repo", url, "--only", "check-pages", "--json")).document
    assert (compared["verdict"], compared["position"]["txid"]) == ("sound", 2)
    verified = succeed(type_in("verify", "--repo", url, "--read-data", "--json")).document
    assert verified["verdict"] == "sound"
    assert verified["leftovers"] == []
    for txid, content in ((1, first), (2, second)):
        to = home / f"restored-{txid}.db"
        succeed(type_in("restore", "--repo", url, "--to", to, "--txid", txid, "--read-back"))
        assert dump(to) == content
    assert [str(p) for p in (tmp_path / "tmp").rglob("*")] == []


def test_it_is_shown(type_in: Type) -> None:
    """`plugins` tells which URLs can be opened."""
    found = {plugin["name"]: plugin for plugin in type_in("plugins", "--json").document["plugins"]}
    assert found["target-object-store"]["targets"] == ["s3", "gs", "az"]


def test_a_store_that_replaces_is_refused(
    type_in: Type, database: Path, home: Path, careless_url: str, rclone: tuple[str, Path]
) -> None:
    """H38: a named error with its own exit code, and nothing stays; the owner's word makes it work."""
    folder = rclone[1] / careless_url.split("/")[3].partition("?")[0]
    assert slug(type_in("backup", database, "--repo", careless_url, "--json")) == (25, "shared-writing-refused")
    assert not folder.exists() or [path for path in folder.rglob("*") if path.is_file()] == []
    url = f"{careless_url}&only_writer=yes"
    succeed(type_in("backup", database, "--repo", url))
    change(database, 2)
    succeed(type_in("backup", database, "--repo", url))
    assert slug(type_in("backup", database, "--repo", careless_url, "--full", "--json"))[0] == 25
    succeed(type_in("verify", "--repo", careless_url, "--read-data"))
    succeed(type_in("restore", "--repo", careless_url, "--to", home / "restored.db"))
    assert dump(home / "restored.db") == dump(database)


def test_an_error_holds_no_secret(type_in: Type, database: Path, faulty_url: str, proxy: FaultyProxy) -> None:
    """Not even with --debug, where a store repeats what it was sent."""
    text = f"{stores.KEY} signed with {stores.SECRET}"
    proxy.faults.append(Fault(where="^PUT", way="status", status=403, code="AccessDenied", text=text))
    failed = type_in("backup", database, "--repo", faulty_url, "--debug", "--json")
    assert slug(failed) == (23, "target-failed")
    assert "AccessDenied" in failed.document["error"]["message"]
    assert not any(secret in failed.out + failed.err for secret in (stores.SECRET, stores.KEY))


def test_a_copy_is_not_fetched_where_there_is_no_room(
    type_in: Type, database: Path, home: Path, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is said before anything is fetched, and how to name another folder."""
    succeed(type_in("backup", database, "--repo", url))
    monkeypatch.setattr("pagewarden.repository.spool._SPARE", shutil.disk_usage(home).total)
    failed = type_in("restore", "--repo", url, "--to", home / "restored.db", "--json")
    assert slug(failed) == (32, "out-of-space")
    assert "TMPDIR" in failed.document["error"]["hint"]
    assert not (home / "restored.db").exists()
