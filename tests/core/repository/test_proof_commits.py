"""Proving every commit of a batch against the pages before it; the chain goes on, whatever is wrong with them."""

from __future__ import annotations

import tracemalloc
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pagewarden.errors import PagewardenError, RepositoryDamaged
from pagewarden.repository import blocks
from pagewarden.repository.commits import CommitsFile
from pagewarden.repository.extract import extract
from pagewarden.repository.format import MAX_COMMITS
from pagewarden.repository.proof import Link, Proved, SumsMap, prove_links
from tests.core.repository.commitsets import FIRST, PAGE, Change, History, commits_header
from tests.core.repository.sets import header, write
from tests.support.commitsets import Entry, commits_set


def prove(folder: Path, names: Sequence[str], chain: SumsMap | None = None) -> list[Proved]:
    """Prove the files of those names; that of "commits" is a page set of commits."""
    links = [
        Link(path=str(folder / name), chained=True, data=True, commits=name.startswith("commits")) for name in names
    ]
    return prove_links(links, chain or SumsMap(), threads=2, drop_cache=False, progress=lambda _: None)


def stored(folder: Path, history: History) -> None:
    """Store a history: a snapshot, the commits and the segment beside them."""
    write(folder / "snapshot", history.before, header(len(history.before) // PAGE, txid=FIRST))
    history.write(folder / "commits")
    extract(folder / "commits", history.changes[-1].commit.txid, folder / "segment", level=1)


@pytest.mark.parametrize("seed", range(8))
def test_each_commit_is_proved_and_the_map_stays(tmp_path: Path, seed: int) -> None:
    """Through changes, growth and shrinking: the segment of the same batch is proved after it, or without it."""
    history = History(seed, commits=15)
    stored(tmp_path, history)
    names = ("snapshot", "commits", "commits", "segment")
    found = prove(tmp_path, names)
    assert [(each.summed, each.error) for each in found] == [(True, None)] * 4
    chain = SumsMap()
    prove(tmp_path, ["snapshot"], chain)
    assert [(each.summed, each.error) for each in prove(tmp_path, ["commits"], chain)] == [(True, None)]
    with CommitsFile(tmp_path / "commits") as file:
        assert chain.database_sum == file.info.database_sum_from
    assert [each.summed for each in prove(tmp_path, ["segment"], chain)] == [True]


def table(changes: Sequence[Change], **lies: dict[int, Any]) -> list[Entry]:
    """Return the entries of commits; what is given by field and commit stands there instead."""
    made: list[Entry] = []
    for at, change in enumerate(changes):
        one = change.commit
        said = {"time": blocks.micros(one.time), "pages": one.pages, "entries": one.entries}
        said |= {"database_sum": one.database_sum, "merged": one.merged, "flags": 0}
        made.append(tuple((said | {field: values[at] for field, values in lies.items() if at in values}).values()))
    return made


def test_a_commit_that_makes_another_database_is_named(tmp_path: Path) -> None:
    """H22: with every checksum right, a database sum within, or pages of one commit that belong to the one before."""
    history = History(20, commits=10)
    stored(tmp_path, history)
    changes, last = history.changes, history.changes[-1].commit
    head = commits_header(txid=last.txid)
    head = replace(head, time=last.time, pages=last.pages, commits=10)
    moved = [dict(change.pages) for change in changes]
    at = next(
        at for at in range(1, 9) if len(moved[at]) > 1 and changes[at].commit.pages <= changes[at - 1].commit.pages
    )
    pgno = min(set(moved[at]) - set(moved[at - 1]))
    moved[at - 1][pgno] = moved[at].pop(pgno)
    counted = {at - 1: len(moved[at - 1]), at: len(moved[at])}
    for number, lies, pages in (
        (4, {"database_sum": {4: 5}}, [change.pages for change in changes]),
        (at - 1, {"entries": counted}, moved),
    ):
        made = commits_set(head, table(changes, **lies), pages, database_sum_from=history.sum_before(FIRST))
        (tmp_path / "commits").write_bytes(made)
        snapshot, one, segment = prove(tmp_path, ["snapshot", "commits", "segment"])
        assert (snapshot.summed, one.summed, segment.summed, segment.error) == (True, False, True, None)
        assert isinstance(one.error, RepositoryDamaged)
        assert f"commit {changes[number].commit.txid} in {tmp_path / 'commits'} make the database sum" in str(one.error)


def test_commits_that_are_not_whole_hinder_nothing(tmp_path: Path) -> None:
    """Neither a flipped bit in a frame, nor a file that is missing or of another kind, nor that of another place."""
    history, other = History(21), History(22)
    stored(tmp_path, history)
    data = bytearray((tmp_path / "commits").read_bytes())
    data[150] ^= 1
    (tmp_path / "commits-hurt").write_bytes(data)
    (tmp_path / "commits-kind").write_bytes((tmp_path / "segment").read_bytes())
    other.write(tmp_path / "commits-other")
    names = ["snapshot", "commits-hurt", "commits-kind", "commits-none", "commits-other", "commits", "segment"]
    found = prove(tmp_path, names)
    assert [each.summed for each in found] == [True, False, False, False, False, True, True]
    assert [isinstance(each.error, PagewardenError) for each in found] == [False, True, True, True, True, False, False]
    assert "does not continue what was proved before" in str(found[4].error)
    assert [(each.summed, each.error) for each in prove(tmp_path, ["commits", "segment"])] == [(False, None)] * 2


def test_growth_that_is_not_there_costs_no_memory(tmp_path: Path) -> None:
    """H21, H29: the first commit says that there are billions of pages now, and holds one."""
    history = History(23)
    stored(tmp_path, history)
    pages = 0xFFFFFFF0
    head = replace(commits_header(txid=FIRST + 1), pages=pages, commits=1)
    entry = (blocks.micros(head.time), pages, 1, 5, 1, 0)
    made = commits_set(head, [entry], [{pages: bytes(PAGE)}], database_sum_from=history.sum_before(FIRST))
    (tmp_path / "commits").write_bytes(made)
    assert head.commits < MAX_COMMITS
    tracemalloc.start()
    found = prove(tmp_path, ["snapshot", "commits", "segment"])
    assert tracemalloc.get_traced_memory()[1] < 8 << 20
    tracemalloc.stop()
    assert [each.summed for each in found] == [True, False, True]
    assert "lacks pages by which the database grew" in str(found[1].error)
