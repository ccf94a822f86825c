"""Fewer commits in a page set of commits, and the proof that what was gathered is what it was."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import pytest

from pagewarden.errors import RepositoryDamaged
from pagewarden.repository.commits import CommitsFile, verify_commits
from pagewarden.repository.extract import extract
from pagewarden.repository.fold import fold
from pagewarden.repository.join import join
from pagewarden.repository.pageset import read_info
from pagewarden.repository.thin import prove_gathered, thin
from tests.core.repository.commitsets import FIRST, History, parse_commits
from tests.core.repository.segments import parse


@pytest.mark.parametrize("seed", range(6))
def test_the_commits_that_stay_lead_to_the_same_databases(tmp_path: Path, seed: int) -> None:
    """H21: whatever is left out between them, where the database grew and shrank in between too."""
    history = History(seed, commits=20)
    history.write(tmp_path / "all")
    txids = [change.commit.txid for change in history.changes]
    keep = sorted(random.Random(seed).sample(txids[:-1], 5))
    info = thin(tmp_path / "all", keep, tmp_path / "some", level=1, threads=2)
    assert verify_commits(tmp_path / "some", threads=1, read_data=True) == info
    before = FIRST
    with CommitsFile(tmp_path / "some") as file:
        assert [commit.txid for commit in file.commits] == [*keep, txids[-1]]
        for commit in file.commits:
            (change,) = (each for each in history.changes if each.commit.txid == commit.txid)
            assert (commit.time, commit.database_sum) == (change.commit.time, change.commit.database_sum)
            assert commit.txid - commit.merged == before
            before = commit.txid
            to = tmp_path / str(commit.txid)
            extract(tmp_path / "some", commit.txid, to, level=1)
            assert parse(to).applied_to(history.before) == change.after
    held = sum(len(pages) for _, pages in parse_commits(tmp_path / "some"))
    assert held == info.held <= sum(change.commit.entries for change in history.changes)


def test_nothing_but_the_end_may_stay(tmp_path: Path) -> None:
    """The last commit always stays; a page set of many pages goes through memory a few at a time."""
    history = History(3, commits=8, pages=900)
    history.write(tmp_path / "all", per_frame=64)
    thin(tmp_path / "all", [], tmp_path / "end", level=1, threads=1)
    ((entry, pages),) = parse_commits(tmp_path / "end")
    assert entry[4] == history.changes[-1].commit.txid - FIRST
    extract(tmp_path / "all", history.changes[-1].commit.txid, tmp_path / "segment", level=1)
    assert tuple(pages) == parse(tmp_path / "segment").numbers


def test_what_is_not_there_cannot_stay(tmp_path: Path) -> None:
    """A txid that it has not, a segment in its place and a page that is not whole are damage, and nothing is left."""
    history = History(1)
    history.write(tmp_path / "all")
    with pytest.raises(RepositoryDamaged, match="has 1 of the commits that are to stay, not 2"):
        thin(tmp_path / "all", [FIRST], tmp_path / "to", level=1, threads=1)
    extract(tmp_path / "all", history.changes[-1].commit.txid, tmp_path / "segment", level=1)
    with pytest.raises(RepositoryDamaged, match="is a segment"):
        thin(tmp_path / "segment", [], tmp_path / "to", level=1, threads=1)
    data = bytearray((tmp_path / "all").read_bytes())
    data[150] ^= 4
    (tmp_path / "all").write_bytes(data)
    with pytest.raises(RepositoryDamaged):
        thin(tmp_path / "all", [], tmp_path / "to", level=1, threads=1)
    assert not (tmp_path / "to").exists()


def gathered(folder: Path, seed: int) -> tuple[list[Path], list[Path]]:
    """Write batches of a history, and what they make together to "segment" and "commits"; return both kinds of them."""
    history = History(seed, commits=24)
    segments, parts = [], []
    for start in range(0, 24, 4):
        part, segment = folder / f"{start}.commits", folder / f"{start}.segment"
        info = history.write(part, history.changes[start : start + 4])
        extract(part, info.header.txid, segment, level=1)
        segments.append(segment)
        parts.append(segment if start % 8 else part)
    header = read_info(segments[-1]).header
    first = read_info(segments[0]).header
    fold(segments, folder / "segment", replace(header, txid_from=first.txid_from), level=1, threads=1)
    join(parts, folder / "commits", level=1)
    return segments, parts


@pytest.mark.parametrize("seed", range(4))
def test_what_is_gathered_is_proved_by_what_it_records(tmp_path: Path, seed: int) -> None:
    """The same pages, and every version of them; nothing below is needed for that."""
    segments, parts = gathered(tmp_path, seed)
    prove_gathered(segments, tmp_path / "segment", parts, tmp_path / "commits")
    prove_gathered(segments, tmp_path / "segment")


def test_what_is_not_the_same_is_refused(tmp_path: Path) -> None:
    """A batch too few, another order, other commits, or commits that lead elsewhere."""
    segments, parts = gathered(tmp_path, 6)
    made, commits = tmp_path / "segment", tmp_path / "commits"
    for wrong in (segments[:-1], segments[-1:], segments[::-1]):
        with pytest.raises(RepositoryDamaged, match="does not record the pages"):
            prove_gathered(wrong, made)
    for others in (parts[1:], parts[::-1], [segments[0], *parts[1:]]):
        with pytest.raises(RepositoryDamaged, match="does not record what the batches before it do"):
            prove_gathered(segments, made, others, commits)
    with pytest.raises(RepositoryDamaged, match="does not lead to the pages"):
        prove_gathered(segments[:1], segments[0], parts, commits)
    with pytest.raises(RepositoryDamaged, match="is a segment, and no page set of commits"):
        prove_gathered(segments, made, parts, made)


def test_parts_that_do_not_follow_each_other_are_not_joined(tmp_path: Path) -> None:
    """H21: a batch that lacks pages by which the database grew since the one before it, or is of another place."""
    history = History(6, commits=8)
    first, second = history.changes[:4], history.changes[4:]
    while second[0].commit.pages <= first[-1].commit.pages:
        first, second = history.changes[: len(first) + 1], history.changes[len(first) + 1 :]
    history.write(tmp_path / "first", first)
    history.write(tmp_path / "second", second)
    join([tmp_path / "first", tmp_path / "second"], tmp_path / "both", level=1)
    grown = max(second[0].pages)
    less = replace(
        second[0],
        commit=replace(second[0].commit, entries=second[0].commit.entries - 1),
        pages={pgno: page for pgno, page in second[0].pages.items() if pgno != grown},
    )
    history.write(tmp_path / "less", [less, *second[1:]])
    with pytest.raises(RepositoryDamaged, match="does not continue the page set before it"):
        join([tmp_path / "first", tmp_path / "less"], tmp_path / "to", level=1)
    with pytest.raises(RepositoryDamaged, match="does not begin where the page set before it ends"):
        join([tmp_path / "second", tmp_path / "first"], tmp_path / "to", level=1)
    assert not (tmp_path / "to").exists()
