"""The damaged file beside the restore point: what a page says of the tree that it is of."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest

from pagewarden.repair.closed import ClosedFile
from pagewarden_repair_restore.schema import schema_of
from pagewarden_repair_restore.sides import Damaged, Image
from tests.plugins.repair_restore.scene import Scene

Sides = tuple[Image, Damaged]


@pytest.fixture(scope="module")
def sides(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sides]:
    """A sound database, and one that went on from it."""
    folder = tmp_path_factory.mktemp("sides")
    scene = Scene(folder)
    shutil.copyfile(scene.database, folder / "newer.db")
    with ClosedFile(folder / "good.db") as older, ClosedFile(folder / "newer.db") as file:
        known = schema_of(older)
        ours = Image(older, known.trees)
        yield ours, Damaged(file, ours, known.trees, (), known.table_of)


def test_a_table_that_is_not_there_has_nothing(sides: Sides) -> None:
    """No pages, no rows, nothing in common with a restore point, and it is not called sound."""
    ours, theirs = sides
    assert theirs.pages("nothing") == [] == ours.pages("nothing")
    assert not theirs.resembles(ours, "nothing")
    assert not theirs.sound("nothing")
    assert theirs.sound("item") and theirs.resembles(ours, "item")


def test_a_row_of_more_columns_is_of_no_narrower_table(sides: Sides) -> None:
    """Rows from before an ALTER TABLE have fewer columns, never more."""
    _, theirs = sides
    wide, narrow = theirs.places["item"], theirs.places["found_docsize"]
    (page, *_) = theirs.pages("item")
    assert theirs._as_wide(page, wide) and not theirs._as_wide(page, narrow)
    assert theirs._as_wide(theirs.pages("found_docsize")[0], wide)


def test_rowids_are_such_as_the_place_in_the_parent_allows(sides: Sides) -> None:
    """Those of a leaf fit below its own parent; a page of another table's rowids does not come behind them."""
    _, theirs = sides
    root = theirs.trees[theirs.places["item"]].root
    first, *_, last = theirs.pages("item")
    assert theirs._within(theirs.usage.parent(first), first)
    assert theirs._within(theirs.usage.parent(last), last)
    assert not theirs._within(root, theirs.pages("strict")[0]), "as if it came last"
    assert theirs._within(theirs.pages("strict")[0], first), "a leaf has no children, and allows all"
