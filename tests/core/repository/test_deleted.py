"""Restore points that are deleted softly, as everything but `prune` sees them."""

from __future__ import annotations

from datetime import timedelta

import pytest

from pagewarden.errors import RepositoryNotFound
from pagewarden.repository import marks
from pagewarden.repository.repository import Repository
from tests.core.repository.conftest import seeded
from tests.core.repository.sets import NOW, back_up, image

NAME = "app.db"


def delete(repository: Repository, sequence: int) -> None:
    """Delete a restore point softly."""
    marks.delete(repository.store, NAME, sequence, why="", now=NOW, token=seeded(sequence))


def test_a_deleted_restore_point_is_left_out_unless_it_is_named(repository: Repository) -> None:
    """It is not listed, no time leads to it, and its number still does until it is purged."""
    points = [back_up(repository, NAME, image(5, seed=seed), time=NOW + timedelta(hours=seed)) for seed in range(3)]
    delete(repository, 2)
    assert repository.restore_points()[0] == (points[0], points[2])
    assert repository.resolve(NAME, at=points[1].position.time) == points[0]
    assert repository.resolve(NAME, txid=2) == points[1]
    marks.decide(repository.store, NAME, 2, marks.PURGED, now=NOW)
    with pytest.raises(RepositoryNotFound, match="at txid 2"):
        repository.resolve(NAME, txid=2)
    assert repository.newest(NAME) == points[2]


def test_a_broken_mark_is_told_of_and_hides_nothing(repository: Repository) -> None:
    """What cannot be read is listed with the problems, and the restore point with the others."""
    point = back_up(repository, NAME, image(5))
    repository.store.put("app.db/deleted/0000000000000001-0123456789abcdef.json", b"nonsense")
    points, problems = repository.restore_points(NAME)
    assert points == (point,)
    assert len(problems) == 1 and "deleted/0000000000000001" in problems[0]


def test_a_database_all_of_whose_points_are_deleted_has_none(repository: Repository) -> None:
    """That there is nothing to restore is said as of a name that holds nothing; nothing is called damaged."""
    back_up(repository, NAME, image(5))
    delete(repository, 1)
    with pytest.raises(RepositoryNotFound, match="no restore point of app"):
        repository.resolve(NAME)
