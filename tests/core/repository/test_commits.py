"""Page sets of commits: what goes in comes out, every commit can be had, and no byte of a hostile one is believed."""

from __future__ import annotations

import os
import random
from dataclasses import replace
from datetime import timedelta
from itertools import pairwise
from pathlib import Path

import pytest

from pagewarden.errors import RepositoryDamaged, RepositoryNotFound
from pagewarden.pages import ENVIRONMENT
from pagewarden.repository import blocks
from pagewarden.repository.blocks import micros
from pagewarden.repository.commits import CommitsFile, CommitsWriter, verify_commits
from pagewarden.repository.extract import extract
from pagewarden.repository.format import Beside, Kind
from pagewarden.repository.join import join
from pagewarden.repository.pageset import verify_pageset
from tests.core.repository.commitsets import (
    FIRST,
    PAGE,
    History,
    commits_header,
    merged_into,
    parse_commits,
    replayed,
    write_commits,
)
from tests.core.repository.segments import parse, segment_header
from tests.core.repository.sets import NOW, assemble, header, write
from tests.support.segments import segment_between

SEEDS = 60 if os.environ.get("PAGEWARDEN_FULL") else 8


@pytest.fixture(params=["require", "off"])
def either(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the test run with the native module and with its twin."""
    monkeypatch.setenv(ENVIRONMENT, request.param)


@pytest.mark.usefixtures("either")
@pytest.mark.parametrize("seed", range(SEEDS))
def test_every_commit_can_be_extracted(tmp_path: Path, seed: int) -> None:
    """At each position of a random history, the segment made of it leads to the database as it was replayed (H21)."""
    history = History(seed, commits=14)
    info = history.write(tmp_path / "set")
    assert verify_commits(tmp_path / "set", threads=2, read_data=True, drop_cache=True) == info
    write(tmp_path / "snapshot", history.before, header(len(history.before) // PAGE, txid=FIRST))
    for number, change in enumerate(history.changes, 1):
        txid, to = change.commit.txid, tmp_path / f"{change.commit.txid}"
        made = extract(tmp_path / "set", txid, to, level=1)
        assert verify_pageset(to, threads=2, read_data=True, drop_cache=False) == made
        head = replace(info.header, kind=Kind.SEGMENT, commits=0)
        assert made.header == replace(head, txid=txid, time=change.commit.time, pages=change.commit.pages)
        assert (made.database_sum, made.database_sum_from) == (change.commit.database_sum, history.sum_before(FIRST))
        assert (
            parse(to).applied_to(history.before) == change.after == replayed(history.before, history.changes[:number])
        )
        assemble([to, tmp_path / "snapshot"], tmp_path / "database")
        assert (tmp_path / "database").read_bytes() == change.after
    assert not [path for path in tmp_path.iterdir() if path.name.startswith("tmp")]


def test_what_goes_in_comes_out(tmp_path: Path) -> None:
    """Commits, page numbers and pages are those that were written; another reader, by the tables, reads the same."""
    history = History(3, commits=20)
    info = history.write(tmp_path / "set", per_frame=3)
    held = [pgno for change in history.changes for pgno in change.pages]
    last = history.changes[-1].commit
    assert (info.held, info.frames, info.header.commits) == (len(held), -(-len(held) // 3), 20)
    assert (info.position.txid, info.position.time, info.header.pages) == (last.txid, last.time, last.pages)
    parsed = parse_commits(tmp_path / "set")
    assert [pages for _, pages in parsed] == [change.pages for change in history.changes]
    for (entry, _), change in zip(parsed, history.changes, strict=True):
        one = change.commit
        assert entry == (micros(one.time), one.pages, one.entries, one.database_sum, one.merged, 0)
    with CommitsFile(tmp_path / "set") as file:
        assert list(file.commits) == [change.commit for change in history.changes]
        assert file.numbers(0, file.info.held) == tuple(held)
        assert (file.is_segment, file.is_snapshot) == (False, False)
        with pytest.raises(ValueError, match="versions of page 1"):
            file.page(1)
        with pytest.raises(ValueError, match="within a snapshot"):
            file.sums(1, 1)


@pytest.mark.parametrize("block", [1, 3, 1 << 16])
def test_commits_are_found_whichever_block_they_are_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: int
) -> None:
    """By index, by position and by time, with their neighbours; the clock may step back (H23)."""
    monkeypatch.setattr(blocks, "BLOCK_ENTRIES", block)
    history = History(5, commits=10)
    history.write(tmp_path / "set")
    commits = [change.commit for change in history.changes]
    assert any(a.time > b.time for a, b in pairwise(commits)) and any(one.merged > 1 for one in commits)
    with CommitsFile(tmp_path / "set") as file:
        table = file.commits
        assert (len(table), list(table), table[-1], table[2:5]) == (10, commits, commits[-1], commits[2:5])
        assert [table.entry(at) for at in range(10)] == [sum(one.entries for one in commits[:at]) for at in range(10)]
        with pytest.raises(IndexError):
            table[10]
        for txid in range(FIRST - 1, commits[-1].txid + 2):
            before = [one for one in commits if one.txid < txid]
            after = [one for one in commits if one.txid > txid]
            assert table.at(txid) == Beside(
                before=before[-1] if before else None,
                commit=next((one for one in commits if one.txid == txid), None),
                after=after[0] if after else None,
            )
        for time in [one.time + timedelta(microseconds=step) for one in commits for step in (-1, 0)]:
            seen = [at for at, one in enumerate(commits) if one.time <= time]
            assert table.seen_by(time).commit == (commits[seen[-1]] if seen else None)
        early = table.seen_by(min(one.time for one in commits) - timedelta(days=1))
        assert early == Beside(before=None, commit=None, after=commits[0])
        for place, change in enumerate(history.changes):
            extract(tmp_path / "set", change.commit.txid, tmp_path / f"{place}", level=1)
            assert parse(tmp_path / f"{place}").applied_to(history.before) == change.after


def test_a_position_that_was_merged_away_is_named_with_its_neighbours(tmp_path: Path) -> None:
    """No segment leads there, and the error says between which positions it was."""
    history = History(1, commits=12)
    history.write(tmp_path / "set")
    commits = [change.commit for change in history.changes]
    merged = next(one for one in commits if one.merged == 3)
    for txid in (merged.txid - 2, merged.txid - 1):
        with pytest.raises(RepositoryNotFound, match=f"{txid} was merged .* has {merged.txid - 3} and {merged.txid},"):
            extract(tmp_path / "set", txid, tmp_path / "to", level=1)
    for txid in (0, FIRST, commits[-1].txid + 1):
        with pytest.raises(RepositoryNotFound, match=f"from position {FIRST} to {commits[-1].txid}: {txid} is not"):
            extract(tmp_path / "set", txid, tmp_path / "to", level=1)
    assert not (tmp_path / "to").exists()


@pytest.mark.usefixtures("either")
@pytest.mark.parametrize("seed", range(SEEDS // 2))
def test_joining_loses_nothing(tmp_path: Path, seed: int) -> None:
    """However a history was cut, into page sets of commits and segments of one commit, the join is the whole again."""
    history = History(seed + 100, commits=14)
    whole, rng = history.write(tmp_path / "whole"), random.Random(seed)
    paths, at = [], 0
    wanted = []
    while at < len(history.changes):
        some = rng.randrange(1, 5)
        part, path = history.changes[at : at + some], tmp_path / f"part-{at}"
        first, last = part[0].commit, part[-1].commit
        if rng.random() < 0.5:
            head = replace(segment_header(txid=last.txid), txid_from=first.txid_from)
            path.write_bytes(segment_between(history.image(first.txid_from), part[-1].after, head))
            held = parse(path)
            wanted.append(dict(zip(held.numbers, held.content, strict=True)))
        else:
            write_commits(path, part, history.sum_before, per_frame=rng.choice((1, 4, 7)))
            wanted += [change.pages for change in part]
        paths.append(path)
        at += some
    made = join(paths, tmp_path / "joined", level=1)
    assert verify_commits(tmp_path / "joined", threads=2, read_data=True) == made
    assert (made.database_sum, made.database_sum_from) == (whole.database_sum, whole.database_sum_from)
    assert [pages for _, pages in parse_commits(tmp_path / "joined")] == wanted
    with CommitsFile(tmp_path / "joined") as file:
        commits = list(file.commits)
    ends = {one.txid: one for one in (change.commit for change in history.changes)}
    for one in commits:
        extract(tmp_path / "joined", one.txid, tmp_path / f"{one.txid}", level=1)
        assert parse(tmp_path / f"{one.txid}").applied_to(history.before) == history.image(one.txid)
        assert (one.pages, one.database_sum) == (ends[one.txid].pages, ends[one.txid].database_sum)


@pytest.mark.usefixtures("either")
@pytest.mark.parametrize("per_frame", [1, 4, 100])
def test_many_commits_at_once_are_written_as_one_by_one(tmp_path: Path, per_frame: int) -> None:
    """The same bytes, however they come: all at once, in several parts, or mixed with single ones."""
    for seed in range(SEEDS // 2):
        changes = History(seed, commits=18, merging=False).changes
        changes = [replace(each, commit=replace(each.commit, time=NOW)) for each in changes]
        single, several, mixed = (tmp_path / f"{name}-{seed}" for name in ("single", "several", "mixed"))
        for path, steps in ((single, [0] * 18), (several, [18]), (mixed, [1, 0, 3, 0, 0, 5, 0, 6])):
            with CommitsWriter(path, commits_header(per_frame=per_frame), level=1) as writer:
                at = 0
                for step in steps:
                    some = changes[at : at + (step or 1)]
                    at += len(some)
                    numbers = tuple(pgno for change in some for pgno in change.pages)
                    pages = b"".join(page for change in some for page in change.pages.values())
                    sums = b"".join(change.sums for change in some)
                    if step:
                        rows = [(one.pages, one.entries, one.database_sum) for one in (each.commit for each in some)]
                        writer.extend(NOW, rows, numbers, pages, sums)
                    else:
                        writer.add(some[0].commit, numbers, pages, sums)
                assert at == 18
                writer.extend(NOW, [], (), b"", b"")
                writer.seal(5)
        assert single.read_bytes() == several.read_bytes() == mixed.read_bytes()
        verify_commits(single, threads=1, read_data=True)


def test_merging_keeps_the_last_version_of_each_page(tmp_path: Path) -> None:
    """A commit that stands for others leads to the same database."""
    history = History(9, commits=9)
    some = [merged_into(history.changes[at : at + 3]) for at in (0, 3, 6)]
    write_commits(tmp_path / "set", some, history.sum_before)
    for change in some:
        extract(tmp_path / "set", change.commit.txid, tmp_path / f"{change.commit.txid}", level=1)
        assert parse(tmp_path / f"{change.commit.txid}").applied_to(history.before) == change.after


def test_parts_that_do_not_follow_each_other_are_refused(tmp_path: Path) -> None:
    """Another order, a gap, another history, a snapshot in between: nothing is joined, and nothing is left."""
    history, other = History(11, commits=9), History(12, commits=9)
    for place, mine in enumerate((history, other)):
        for at in (0, 3, 6):
            write_commits(tmp_path / f"{place}-{at}", mine.changes[at : at + 3], mine.sum_before)
    write(tmp_path / "snapshot", history.before, header(len(history.before) // PAGE, txid=FIRST))
    for names in (("0-3", "0-0"), ("0-0", "0-6"), ("0-0", "0-0"), ("0-0", "1-3"), ("snapshot", "0-0")):
        with pytest.raises(RepositoryDamaged, match=r"does not begin where|of the kind snapshot"):
            join([tmp_path / name for name in names], tmp_path / "to", level=1)
        assert not (tmp_path / "to").exists()
    with pytest.raises(ValueError, match="nothing to join"):
        join([], tmp_path / "to", level=1)


def test_each_kind_is_refused_where_another_is_expected(tmp_path: Path) -> None:
    """A page set of commits is no link of a chain, and a segment no page set of commits."""
    history = History(2)
    history.write(tmp_path / "set")
    write(tmp_path / "snapshot", history.before, header(len(history.before) // PAGE, txid=FIRST))
    extract(tmp_path / "set", history.changes[-1].commit.txid, tmp_path / "segment", level=1)
    with pytest.raises(RepositoryDamaged, match="of the kind commits, not snapshot or segment"):
        assemble([tmp_path / "set", tmp_path / "snapshot"], tmp_path / "database")
    for name in ("snapshot", "segment"):
        with pytest.raises(RepositoryDamaged, match=f"of the kind {name}, not commits"):
            CommitsFile(tmp_path / name)
