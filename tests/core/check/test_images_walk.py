"""Walks over the b-trees of a live database: one pinned commit in WAL mode, slices of a lock otherwise."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import pytest

from pagewarden.check import CheckRequest, run_check
from pagewarden.contracts import PageImage, Subject
from pagewarden.sqlite.describe import describe_trees
from pagewarden.sqlite.schema import Layout
from pagewarden.structure import Tree
from pagewarden.values import Finding, Verdict
from tests.core.check.checkers import Plugins
from tests.support.databases import build
from tests.support.session import Session


def trees_of(image: PageImage) -> Sequence[Tree]:
    """Return the trees of an image's schema."""
    layout = Layout.of(image.page(1), page_size=image.page_size, pages=image.pages)
    return describe_trees(image.page, layout).trees


@pytest.mark.parametrize("mode", ["wal", "delete"])
def test_a_commit_is_walked_whole_while_others_write(plugins: Plugins, tmp_path: Path, mode: str) -> None:
    """In WAL mode commits go on; otherwise they move the walk to a copy, once. Either way each page is seen once."""
    path = build(tmp_path / "app.db", mode=mode, page_size=512, rows=2000)
    walked: list[bool] = []

    def walk(subject: Subject) -> list[Finding]:
        image = subject.image
        pages = 0
        for number, step in enumerate(image.structure(trees_of(image))):
            assert step.flaws == ()
            pages = step.pages
            if number == 0 and not walked:  # between two steps no lock is held
                walked.append(False)
                writer.run("INSERT INTO item(name, body) SELECT name, body FROM item WHERE id < 500")
        assert pages == image.pages
        walked.append(True)
        return []

    with Session(path) as writer:
        report = run_check(CheckRequest(database=str(path)), plugins.runtime(walk))
    assert report.verdict is Verdict.SOUND, report.checkers
    # A walk that its first slice ended was whole before the commit, and is discarded all the same.
    assert walked in ([False, True], [False, True, True])


def test_no_slice_of_a_walk_holds_its_lock_for_long(plugins: Plugins, tmp_path: Path) -> None:
    """A writer that waits for no lock gets in between the steps; a walk that holds still ends."""
    path = build(tmp_path / "app.db", page_size=512, rows=8000)
    steps = []

    def walk(subject: Subject) -> list[Finding]:
        image = subject.image
        for step in image.structure(trees_of(image)):
            steps.append(step)
            with closing(sqlite3.connect(path, timeout=0, isolation_level=None)) as connection:
                connection.execute("BEGIN EXCLUSIVE")
                connection.execute("ROLLBACK")
        return []

    report = run_check(CheckRequest(database=str(path)), plugins.runtime(walk))
    assert report.verdict is Verdict.SOUND, report.checkers
    assert len(steps) > 1
    assert steps[-1].done


@pytest.mark.parametrize("mode", ["wal", "delete"])
def test_an_empty_database_has_nothing_to_walk(plugins: Plugins, tmp_path: Path, mode: str) -> None:
    """No page, no step."""
    path = tmp_path / "app.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA journal_mode={mode}")
    if mode == "delete":
        path.write_bytes(b"")
    steps: list[int] = []

    def walk(subject: Subject) -> list[Finding]:
        trees = trees_of(subject.image) if subject.image.pages else ()
        steps.append(len(list(subject.image.structure(trees))))
        return []

    run_check(CheckRequest(database=str(path)), plugins.runtime(walk))
    assert steps == [1 if mode == "wal" else 0]


@pytest.mark.parametrize("mode", ["wal", "delete"])
def test_the_deadline_ends_a_walk_between_two_steps(plugins: Plugins, tmp_path: Path, mode: str) -> None:
    """The time that a run has bounds a checker that never asks for progress."""
    path = build(tmp_path / "app.db", mode=mode, page_size=512, rows=2000)
    reached: list[str] = []

    def walk(subject: Subject) -> list[Finding]:
        image = subject.image
        trees = trees_of(image)
        while True:
            for step in image.structure(trees):
                reached.append(step.reached)

    report = run_check(CheckRequest(database=str(path), max_time=1.0), plugins.runtime(walk))
    assert report.verdict is Verdict.UNKNOWN
    assert reached
