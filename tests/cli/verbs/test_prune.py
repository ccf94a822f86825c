"""`pagewarden prune`, `pin`, `unpin` and `undelete`."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest

from pagewarden.repository.repository import Repository
from pagewarden_target_directory import DirectoryFactory
from tests.cli.conftest import Type
from tests.core.repository.chains import histories
from tests.core.repository.follower import Follower
from tests.core.repository.sets import NOW


@pytest.fixture
def repository(type_in: Type, database: Path, home: Path) -> Path:
    """A repository with three restore points of the database, the second one a segment."""
    for number in range(3):
        full = ["--full"] if number == 2 else []
        assert type_in("backup", database, "--repo", "backup", *full, "--quiet").code == 0
        with closing(sqlite3.connect(database)) as connection:
            connection.execute("UPDATE person SET name = ? WHERE id = 1", (f"change {number}",))
            connection.commit()
    return home / "backup"


def files(repository: Path) -> set[str]:
    """Return the names of all files."""
    return {str(path.relative_to(repository)) for path in repository.rglob("*") if path.is_file()}


@pytest.mark.usefixtures("repository")
def test_a_prune_shows_what_goes_and_why_and_does_nothing(type_in: Type, repository: Path) -> None:
    """A dry run ends with how to do it; --quiet says nothing at all."""
    before = files(repository)
    typed = type_in("prune", "--repo", "backup", "--keep-last", "1")
    assert typed.code == 0
    assert "app.db: keep the last 1" in typed.out
    assert typed.out.count("would go  no rule keeps it") == 2
    assert "the newest, which never goes" in typed.out
    assert "1 kept, 2 to go; 0 B would be freed" in typed.out
    assert typed.out.endswith("a dry run: nothing was changed; --apply does it\n")
    assert type_in("prune", "--repo", "backup", "--keep-last", "1", "--quiet").out == ""
    assert files(repository) == before
    typed = type_in("prune", "--repo", "backup")
    assert "keep everything" in typed.out and "a dry run" not in typed.out


def test_what_was_pruned_can_be_had_back_and_pinned(type_in: Type, repository: Path) -> None:
    """The commands that a person types one after the other, and the documents that they print."""
    done = type_in("prune", "--repo", "backup", "--keep-last", "1", "--apply", "--json")
    assert done.code == 0
    (pruned,) = done.document["databases"]
    assert [point["state"] for point in pruned["points"]] == ["goes", "goes", "kept"]
    assert done.document["applied"] is True
    assert "deleted" in type_in("backups", "--repo", "backup", "--deleted").out
    typed = type_in("undelete", "--repo", "backup", "--txid", "2")
    assert typed.code == 0
    assert "is listed again" in typed.out and "pagewarden pin" in typed.out
    assert type_in("undelete", "--repo", "backup", "--all", "--quiet").out == ""
    pinned = type_in("pin", "--repo", "backup", "--txid", "2", "--note", "before the move")
    assert "is pinned: before the move" in pinned.out
    typed = type_in("prune", "--repo", "backup", "--keep-last", "1", "--grace", "0s", "--apply")
    assert "pinned: before the move" in typed.out and "kept" in typed.out
    assert "2 kept" not in typed.out  # the snapshot that the pinned one is based on stays, too
    assert "no longer pinned" in type_in("unpin", "--repo", "backup", "--txid", "2").out
    assert type_in("pin", "--repo", "backup", "--at", "-0s", "--quiet").out == ""
    assert type_in("unpin", "--repo", "backup", "--at", "-0s", "--json").document["pinned"] is False
    typed = type_in("prune", "--repo", "backup", "--keep-last", "1", "--grace", "0s", "--apply", "--verbose")
    assert "2 purged" in typed.out
    assert type_in("verify", "--repo", "backup", "--read-data").code == 0
    assert len(files(repository)) == 3
    assert type_in("prune", "--repo", "backup", "--keep-last", "1", "--apply").out.count("kept") == 2


def test_rules_of_the_command_line_stand_in_place_of_those_of_the_file(
    type_in: Type, repository: Path, home: Path
) -> None:
    """All of them; the grace period and the limits of chains stay what they are."""
    (home / "c.toml").write_text(
        f'[retention]\nlast = 2\ngrace = "3d"\n[repositories.main]\nurl = "{repository}"\n'
        '[databases.app]\npath = "app.db"\nrepository = "main"\nretention = { daily = 4 }\n'
    )
    typed = type_in("prune", "--repo", "main", "--config", "c.toml", "--json")
    assert typed.document["databases"][0]["policy"] == "keep 4 daily"
    typed = type_in("prune", "--repo", "main", "--config", "c.toml", "--keep-weekly", "2", "--keep-min", "2", "--json")
    assert typed.document["databases"][0]["policy"] == "keep 2 weekly, at least 2"
    rules = ["--keep-within", "4w", "--keep-hourly", "1", "--keep-monthly", "2", "--keep-yearly", "3"]
    typed = type_in("prune", "--repo", "main", "--config", "c.toml", *rules, "--grace", "0s", "--json")
    assert typed.document["databases"][0]["policy"] == "keep all within 4w, 1 hourly, 2 monthly, 3 yearly"


@pytest.mark.usefixtures("repository")
def test_what_cannot_be_is_said(type_in: Type) -> None:
    """Usage errors, and what there is nothing of."""
    for words, slug in (
        (["prune", "--repo", "backup", "--keep-within", "soon"], "configuration-invalid"),
        (["prune", "--repo", "backup", "--db", "other.db"], "repository-not-found"),
        (["undelete", "--repo", "backup"], "configuration-invalid"),
        (["undelete", "--repo", "backup", "--txid", "1", "--all"], "configuration-invalid"),
        (["undelete", "--repo", "backup", "--txid", "1"], "repository-not-found"),
        (["unpin", "--repo", "backup", "--txid", "1"], "repository-not-found"),
        (["pin", "--repo", "backup", "--txid", "9"], "repository-not-found"),
    ):
        typed = type_in(*words, "--json")
        assert typed.document["error"]["slug"] == slug, words


def test_nothing_goes_while_the_newest_check_found_damage(
    type_in: Type, repository: Path, database: Path, home: Path
) -> None:
    """H31: also where it was made after the newest backup, as the ledger of this machine remembers."""
    data = bytearray(database.read_bytes())
    begin = data.index(b"note 77 xxxx") // 4096 * 4096
    data[begin : begin + 4096] = bytes(4096)
    database.write_bytes(data)
    assert type_in("check", database, "--quiet").code == 1
    before = files(repository)
    typed = type_in("prune", "--repo", "backup", "--keep-last", "1", "--grace", "0s", "--apply", "--quiet")
    assert typed.code == 0
    assert "nothing goes now: the newest check of" in typed.out and "found damage" in typed.out
    assert files(repository) == before


def test_of_a_database_that_is_followed_the_commits_are_shown(type_in: Type, home: Path) -> None:
    """How many each batch has, how many of them go, and why; --keep-commits says how long all of them stay."""
    folder = home / "spool"
    folder.mkdir()
    times = {txid: NOW + timedelta(seconds=25 * txid) for txid in range(1, 25)}
    follower = Follower(folder=folder, images=histories(24), times=times)
    target = DirectoryFactory().open(str(home / "followed"), create=True)
    with follower.begin(Repository.open(target, target.url, create=True)) as stream:
        follower.follow(stream, 12, 10, 1)
    typed = type_in("prune", "--repo", "followed")
    assert "app.db: keep everything, every commit within 7d and then one of each minute" in typed.out
    typed = type_in("prune", "--repo", "followed", "--keep-commits", "4m", "--keep-last", "1")
    assert "app.db: keep the last 1, every commit within 4m" in typed.out
    header, *rows = (each.split() for each in typed.out.splitlines()[1:6])
    assert header[-2:] == ["commits", "why"]
    assert "12 → 1  kept" in typed.out and "11 of the commits before it go: older than 4m" in typed.out
    assert "11 commits to go" in typed.out and typed.out.endswith("a dry run: nothing was changed; --apply does it\n")
    done = type_in("prune", "--repo", "followed", "--keep-commits", "4m", "--keep-minutely", "99", "--apply", "--json")
    points = done.document["databases"][0]["points"]
    assert [(each["commits"], each["commits_gone"]) for each in points] == [(1, 0), (12, 6), (10, 0), (1, 0)]
    again = type_in("prune", "--repo", "followed", "--keep-commits", "4m", "--keep-minutely", "99", "--apply")
    assert "gone" not in again.out
    assert len(rows) == 4
