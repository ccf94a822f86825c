"""Walks over b-trees in the page reader: plans and steps on their way, and the walks that it keeps."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pagewarden.errors import PagewardenError, ReaderCrashed
from pagewarden.pages.walk import WalkPlan
from pagewarden.processes import scans
from pagewarden.processes.reader import PageReader
from pagewarden.processes.scans import plan_from_wire, plan_to_wire, step_from_wire, step_to_wire
from pagewarden.structure import Collation, Column, Flaw, FlawKind, StrictType, StructureStep, Tree
from tests.core.pages.trees import Database
from tests.support.databases import build

columns = st.builds(
    Column,
    collation=st.sampled_from(Collation),
    descending=st.booleans(),
    not_null=st.booleans(),
    strict=st.sampled_from(StrictType),
    rowid=st.booleans(),
)
trees = st.builds(
    Tree,
    name=st.just(""),
    root=st.integers(0, (1 << 32) - 1),
    index=st.booleans(),
    columns=st.lists(columns, min_size=2, max_size=5).map(tuple),
    keys=st.integers(0, 2),
)
plans = st.builds(
    WalkPlan,
    page_size=st.sampled_from([512, 65536]),
    usable=st.integers(480, 512),
    pages=st.integers(0, (1 << 32) - 2),
    encoding=st.integers(1, 3),
    pointer_map=st.booleans(),
    trees=st.lists(trees, max_size=4).map(tuple),
)
numbers = st.none() | st.integers(-(1 << 63), (1 << 63) - 1)
flaws = st.builds(
    Flaw,
    kind=st.sampled_from(FlawKind),
    pgno=st.integers(0, (1 << 32) - 1),
    **dict.fromkeys(("tree", "cell", "column", "other", "rowid", "expected", "seen"), numbers),
)
steps = st.builds(
    StructureStep,
    flaws=st.lists(flaws, max_size=4).map(tuple),
    pages=st.integers(0, 1 << 40),
    reached=st.text(max_size=9),
    done=st.booleans(),
    left_out=st.integers(0, 1 << 40),
    unordered=st.integers(0, 1 << 40),
)


@given(plans)
def test_a_plan_arrives_as_it_was_sent(plan: WalkPlan) -> None:
    """All but the names, which the reader has no use for."""
    assert plan_from_wire(plan_to_wire(plan)) == plan


@given(steps)
def test_a_step_arrives_as_it_was_sent(step: StructureStep) -> None:
    """Every kind of flaw with every field, or without."""
    assert step_from_wire(step_to_wire(step)) == step


def test_plans_are_bounded_on_both_sides(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trees and columns without number would fill the reader's memory: they are refused before they are unpacked."""
    tree = Tree(name="t", root=2, index=False, columns=(Column(),) * 3)
    plan = WalkPlan(page_size=512, usable=512, pages=9, encoding=1, pointer_map=False, trees=(tree,) * 4)
    wire = plan_to_wire(plan)
    for name, bound in (("MAX_TREES", 3), ("MAX_COLUMNS", 11)):
        with monkeypatch.context() as patch:
            patch.setattr(scans, name, bound)
            for call in (lambda: plan_to_wire(plan), lambda: plan_from_wire(wire)):
                with pytest.raises(ValueError, match="4 trees with 12 columns is too large"):
                    call()


def test_a_walk_goes_on_over_any_handle_of_its_commit(reader: PageReader, tmp_path: Path) -> None:
    """Its state is kept under a number of its own: handles may come and go between two steps."""
    path = build(tmp_path / "a.db", page_size=512, rows=300)
    database = Database.read(path)
    database.put(database.leaf("item"), 7, b"\x7f")
    path.write_bytes(database.data)
    walk = reader.begin_walk(database.plan())
    seen: list[StructureStep] = []
    while not seen or not seen[-1].done:
        handle, _ = reader.open_file(path, 512)
        seen.append(reader.walk_step(walk, handle, 0.0))
        reader.release(handle)
    reader.end_walk(walk)
    assert len(seen) > 3
    assert [flaw.kind for step in seen for flaw in step.flaws] == [FlawKind.FRAGMENTS]
    assert seen[-1].pages == database.pages
    assert all(step.reached for step in seen[:-1])


def test_walks_are_told_apart_and_end(tmp_path: Path) -> None:
    """Two at once do not disturb each other; one that has ended, or died with its reader, is gone."""
    database = Database.read(build(tmp_path / "a.db", page_size=512, rows=300))
    with PageReader() as reader:
        handle, _ = reader.open_file(tmp_path / "a.db", 512)
        first, second = reader.begin_walk(database.plan()), reader.begin_walk(database.plan())
        assert reader.walk_step(first, handle, 60.0).done
        assert reader.walk_step(second, handle, 60.0).flaws == ()
        reader.end_walk(first)
        reader.end_walk(first)  # that it is gone is no error
        with pytest.raises(ReaderCrashed, match="gone"):
            reader.walk_step(first, handle, 1.0)
        reader.kill()
        with suppress(ReaderCrashed):  # unless it was seen to be dead before: then there is another one already
            reader.ping()
        with pytest.raises(ReaderCrashed, match="gone"):
            reader.walk_step(second, handle, 1.0)
        reader.end_walk(second)


def test_a_plan_that_no_database_has_is_refused(reader: PageReader) -> None:
    """And the reader lives on."""
    plan = WalkPlan(page_size=512, usable=512, pages=9, encoding=1, pointer_map=False, trees=())
    object.__setattr__(plan, "page_size", 513)
    reader.ping()
    pid = reader.pid
    with pytest.raises(PagewardenError, match="begin_walk"):
        reader.begin_walk(plan)
    assert (reader.ping(), reader.pid) == ("native", pid)
