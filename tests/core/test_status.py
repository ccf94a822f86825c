"""`status`: what is remembered and stored of each database, and what is overdue; one's trouble hides no other."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from pagewarden.backup import BackupRequest, run_backup
from pagewarden.check import CheckRequest, run_check
from pagewarden.errors import ConfigurationInvalid, RepositoryNotFound
from pagewarden.repository import VerifyRequest, run_verify
from pagewarden.runtime import PluginChoice, Runtime
from pagewarden.status import StatusRequest, Watched, run_status
from pagewarden.values import DatabaseStatus, Level, Verdict
from tests.core.repository.chains import histories, make_chain
from tests.core.repository.follower import Follower
from tests.core.repository.sets import NOW


class Clock:
    """A clock that stands until it is moved."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> datetime:
        """Return it."""
        return self.now


@pytest.fixture
def clock() -> Clock:
    """The time."""
    return Clock()


@pytest.fixture
def runtime(tmp_path: Path, clock: Clock) -> Iterator[Runtime]:
    """A runtime with a state directory of its own."""
    choice = PluginChoice(only=("target-directory", "check-structure"))
    with Runtime(plugins=choice, clock=clock, state=tmp_path / "state") as runtime:
        yield runtime


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """A small database."""
    with closing(sqlite3.connect(tmp_path / "app.db")) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.executescript(
            "CREATE TABLE item(id INTEGER PRIMARY KEY, name TEXT); INSERT INTO item VALUES(1, 'x')"
        )
    return tmp_path / "app.db"


def one(runtime: Runtime, **watched: object) -> DatabaseStatus:
    """Return the status of one database."""
    (found,) = run_status(StatusRequest(databases=(Watched(**watched),)), runtime).databases  # type: ignore[arg-type]
    return found


def test_a_database_of_which_nothing_is_known(runtime: Runtime, tmp_path: Path) -> None:
    """Nothing was done and nothing is due: no news, exit 0, and nothing is made for the question."""
    found = one(runtime, path=str(tmp_path / "app.db"))
    assert (found.name, found.verdict, found.checked, found.position) == ("app.db", Verdict.UNKNOWN, None, None)
    assert (found.overdue, found.problems, found.exit_code) == ((), (), 0)
    assert list(tmp_path.iterdir()) == []
    never = one(runtime, path=str(tmp_path / "app.db"), repository=str(tmp_path / "none"), backup_every="1h")
    assert never.overdue == ("it was never backed up, and is to be every 1h",)
    assert never.exit_code == 1


def test_last_check_backup_and_verification(runtime: Runtime, database: Path, tmp_path: Path, clock: Clock) -> None:
    """With their ages, against what is due."""
    repository = str(tmp_path / "repository")
    watched = {
        "path": str(database), "repository": repository, "check_every": "1d", "backup_every": "1h", "verify_every": "1w"
    }  # fmt: skip
    assert len(one(runtime, **watched).overdue) == 3
    run_check(CheckRequest(database=str(database), level=Level.STANDARD), runtime)
    backup = run_backup(BackupRequest(database=str(database), repository=repository), runtime)
    run_verify(VerifyRequest(repository=repository, read_data=True), runtime)
    clock.now += timedelta(minutes=30)
    found = one(runtime, **watched)
    assert (found.verdict, found.level, found.position) == (Verdict.SOUND, "standard", backup.position)
    assert found.lag_seconds is not None and 1790 < found.lag_seconds < 1810
    assert found.verification is not None and (found.verification.state, found.verification.data) == ("ok", True)
    assert (found.restore_points, found.broken, found.suspects, found.overdue, found.exit_code) == (1, 0, 0, (), 0)
    clock.now += timedelta(hours=2)
    found = one(runtime, **watched)
    assert found.overdue == ("it was last backed up 2h ago, and is to be every 1h",)
    clock.now += timedelta(days=8)
    assert [clause.partition(" ago")[0] for clause in one(runtime, **watched).overdue] == [
        "it was last checked 8d", "it was last backed up 8d", "it was last verified 8d"
    ]  # fmt: skip


def test_damage_is_seen_without_anything_overdue(runtime: Runtime, tmp_path: Path) -> None:
    """Restore points that a verification found damaged, the newest one's state, exit 1."""
    root = tmp_path / "repository"
    manifests = make_chain(root, histories(4))
    (root / manifests[2].key).unlink()
    run_verify(VerifyRequest(repository=str(root)), runtime)
    found = one(runtime, path=str(tmp_path / "app.db"), repository=str(root))
    assert (found.broken, found.exit_code) == (2, 1)
    assert found.verification is not None and found.verification.state == "missing"
    assert found.verified is not None


def test_a_repository_alone(runtime: Runtime, tmp_path: Path, clock: Clock) -> None:
    """All databases in it, those that are named once."""
    root = tmp_path / "repository"
    for name in ("app.db", "other.db"):
        make_chain(root, histories(2), name=name)
    clock.now += timedelta(hours=2)
    request = StatusRequest(repository=str(root), backup_every="1h")
    found = run_status(request, runtime)
    assert [(each.database, each.name, each.restore_points) for each in found.databases] == [
        ("", "app.db", 2), ("", "other.db", 2)
    ]  # fmt: skip
    assert found.exit_code == 1
    named = Watched(path=str(tmp_path / "app.db"), repository=str(root))
    both = run_status(StatusRequest(databases=(named,), repository=str(root)), runtime)
    assert [each.name for each in both.databases] == ["app.db", "other.db"]
    assert both.exit_code == 0
    with pytest.raises(RepositoryNotFound):
        run_status(StatusRequest(repository=str(tmp_path / "none")), runtime)


def test_what_cannot_be_looked_at_hides_no_other(runtime: Runtime, tmp_path: Path) -> None:
    """A ledger that is no file, and a repository that is none: a problem each, exit 3, and the rest is told."""
    root = tmp_path / "repository"
    make_chain(root, histories(2))
    (tmp_path / "state" / "ledger.db").mkdir(parents=True)
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "pagewarden.json").write_bytes(b"{}")
    databases = tuple(Watched(path=str(tmp_path / "app.db"), repository=str(where)) for where in (root, broken))
    found = run_status(StatusRequest(databases=databases), runtime)
    assert [each.restore_points for each in found.databases] == [2, 0]
    assert "ledger" in found.databases[0].problems[0]
    assert "pagewarden.json" in found.databases[1].problems[1]
    assert found.exit_code == 3


def test_a_length_of_time_that_is_none_is_refused(runtime: Runtime, tmp_path: Path) -> None:
    """Not taken for never."""
    with pytest.raises(ConfigurationInvalid, match="no length of time"):
        one(runtime, path=str(tmp_path / "app.db"), check_every="soon")


def test_commits_that_were_followed_are_counted(runtime: Runtime, tmp_path: Path) -> None:
    """Those that can be restored: of a batch all that are stored by themselves, of merged ones the last."""
    (tmp_path / "spool").mkdir()
    follower = Follower(folder=tmp_path / "spool", images=histories(12))
    with follower.begin(runtime.repository(str(tmp_path / "repository"), create=True)) as stream:
        follower.follow(stream, 3, 1)
        follower.follow(stream, 5, merged=True)
    (found,) = run_status(StatusRequest(repository=str(tmp_path / "repository")), runtime).databases
    assert (found.restore_points, found.commits) == (4, 5)
    assert found.position is not None and found.position.txid == 10
