"""Asking the guard of a database, and what is done where it has none."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from pagewarden.backup import BackupRequest, run_backup
from pagewarden.errors import ConfigurationInvalid, GuardFailed
from pagewarden.guard.asking import MarkRequest, SyncRequest, run_mark, run_sync
from pagewarden.guard.control import Control
from pagewarden.guard.only import guard_places
from pagewarden.runtime import Runtime
from tests.support.databases import build
from tests.support.guarding import Guarded


@pytest.fixture
def runtime(tmp_path: Path) -> Iterator[Runtime]:
    """The runtime of who asks; guards of the same user have the same state directory."""
    with Runtime(state=tmp_path / "state") as made:
        yield made


def test_where_nothing_guards_it_a_backup_is_made(tmp_path: Path, runtime: Runtime) -> None:
    """Into the repository that is named, with the moment's name; where none is named nothing can be done."""
    database, repository = str(build(tmp_path / "app.db", rows=20)), str(tmp_path / "repository")
    for asks in (
        lambda: run_sync(SyncRequest(database=database), runtime),
        lambda: run_mark(MarkRequest(database=database, text="before"), runtime),
    ):
        with pytest.raises(ConfigurationInvalid, match="nothing guards") as refused:
            asks()
        assert refused.value.hint.startswith(f"pagewarden run {database} --repo")
    synced = run_sync(SyncRequest(database=database, repository=repository, check="none"), runtime)
    marked = run_mark(MarkRequest(database=database, repository=repository, check="none", text="before"), runtime)
    assert (synced.guarded, marked.guarded, marked.text) == (False, False, "before")
    assert synced.position == marked.position == runtime.repository(repository).resolve().position
    with pytest.raises(ConfigurationInvalid):
        run_mark(MarkRequest(database=database, repository=repository, check="none", text=""), runtime)


def test_a_guard_stores_what_was_committed_and_names_it(guarded: Guarded, runtime: Runtime) -> None:
    """Through its socket; the repository need not be named, and the rows are there by that name."""
    guarded.start()
    guarded.commit(3)
    synced = run_sync(SyncRequest(database=str(guarded.database)), runtime)
    marked = run_mark(MarkRequest(database=str(guarded.database), text="three rows"), runtime)
    assert (synced.guarded, marked.guarded) == (True, True)
    assert synced.position == marked.position and synced.position.txid == 4
    assert len(guarded.restored(mark="three rows")) == 3


@pytest.mark.parametrize("reply", [{}, {"position": 7, "status": 7}, {"position": {"txid": "x"}, "status": {}}])
def test_a_nonsensical_answer_is_a_named_error(tmp_path: Path, runtime: Runtime, reply: dict[str, Any]) -> None:
    """Whatever listens there: no verb believes it, and no backup is made beside it."""
    database, repository = str(build(tmp_path / "app.db", rows=20)), str(tmp_path / "repository")

    def answer(request: Mapping[str, Any], gone: Callable[[], bool]) -> Mapping[str, Any]:
        return reply

    control = Control(guard_places(runtime.state, database, "").socket, answer)
    try:
        for asks in (
            lambda: run_sync(SyncRequest(database=database, repository=repository), runtime),
            lambda: run_mark(MarkRequest(database=database, repository=repository, text="now"), runtime),
            lambda: run_backup(BackupRequest(database=database, repository=repository), runtime),
        ):
            with pytest.raises(GuardFailed, match="answered nonsense"):
                asks()
    finally:
        control.close()
    assert runtime.repository(repository).names() == ()
