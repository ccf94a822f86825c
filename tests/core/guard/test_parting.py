"""What a guard notes when it ends: where the database file stands, so that rot can be told from a commit later."""

from __future__ import annotations

import math
import sqlite3
from contextlib import closing

from pagewarden.contracts import RepairHistory
from pagewarden.repair.history import open_history
from pagewarden.repair.request import RepairRequest
from pagewarden.runtime import Runtime
from pagewarden.wal.policy import CheckpointPolicy
from tests.support.guarding import Guarded

SOON = CheckpointPolicy(idle_seconds=0.05)
"""The log is brought into the file soon after the last commit."""


def rest(guarded: Guarded) -> None:
    """Wait until all that was committed is stored, and in the database file."""
    guarded.flush()
    guarded.told.wait("wal.checkpointed", len(guarded.told.named("wal.checkpointed")) + 1)


def look(guarded: Guarded) -> RepairHistory:
    """What the repository knows of the database."""
    with Runtime(state=guarded.folder / "state") as runtime:
        request = RepairRequest(database=str(guarded.database), repository=str(guarded.repository))
        history = open_history(request, runtime, str(guarded.database))
        assert history is not None
        return history


def test_a_database_that_is_closed_after_its_guard_stands_where_the_guard_left_it(guarded: Guarded) -> None:
    """Its log is gone then, and the file was not written to."""
    guarded.start(policy=SOON)
    guarded.commit(3)
    rest(guarded)
    guarded.stop()
    assert look(guarded).present is not None  # by its log
    guarded.application.close()
    assert not (guarded.folder / "app.db-wal").exists()
    history = look(guarded)
    assert history.present is not None and "not written to" in history.why


def test_a_commit_after_the_guard_is_not_forgotten(guarded: Guarded) -> None:
    """Of one row, closed cleanly."""
    guarded.start(policy=SOON)
    guarded.commit(3)
    rest(guarded)
    guarded.stop()
    guarded.commit()
    history = look(guarded)
    assert history.present is not None and "goes on" in history.why  # it stands in the log
    guarded.application.close()
    assert look(guarded).present is None


def test_two_guards_one_after_the_other_leave_the_note_of_the_last(guarded: Guarded) -> None:
    """That of the first is of an older position, and proves nothing."""
    for _ in range(2):
        guarded.start(policy=SOON)
        guarded.commit(2)
        rest(guarded)
        guarded.stop()
    guarded.application.close()
    history = look(guarded)
    assert history.present is not None
    with closing(sqlite3.connect(guarded.database)) as connection:
        connection.execute("DELETE FROM item WHERE id = 1")
        connection.commit()
    assert look(guarded).present is None


def test_a_log_that_was_not_brought_in_is_not_taken_for_it(guarded: Guarded) -> None:
    """The application's close writes to the file then, and nobody saw that."""
    guarded.start(policy=CheckpointPolicy(idle_seconds=math.inf))
    guarded.commit(3)
    guarded.flush()
    guarded.stop()
    assert look(guarded).present is not None  # by its log
    guarded.application.close()
    assert look(guarded).present is None
