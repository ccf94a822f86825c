"""What the page reader answers about page sets of commits."""

from __future__ import annotations

from datetime import timedelta
from itertools import pairwise
from pathlib import Path

import pytest

from pagewarden.errors import ReaderCrashed, RepositoryDamaged, RepositoryNotFound, TargetFailed
from pagewarden.processes import client
from pagewarden.processes.channel import Value
from pagewarden.processes.reader import PageReader
from pagewarden.processes.wire import commit_from_wire, commit_to_wire, info_from_wire, info_to_wire
from pagewarden.repository import blocks
from pagewarden.repository.commits import CommitsFile
from pagewarden.repository.format import Beside
from pagewarden.repository.proof import Link
from tests.core.repository.commitsets import FIRST, PAGE, History, parse_commits, write_commits
from tests.core.repository.segments import parse
from tests.core.repository.sets import header, write


@pytest.fixture
def history(tmp_path: Path) -> History:
    """A history, stored as a page set of commits."""
    made = History(31, commits=16)
    made.write(tmp_path / "set")
    return made


def test_commits_are_told_and_found(reader: PageReader, history: History, tmp_path: Path) -> None:
    """All of them, and each by its position and by the time when it was seen (H23)."""
    commits = [change.commit for change in history.changes]
    assert reader.commits_of(tmp_path / "set") == tuple(commits)
    assert reader.commits_info(tmp_path / "set") == reader.verify_commits(tmp_path / "set", read_data=True)
    for before, one in pairwise(commits):
        beside = reader.commit_at(tmp_path / "set", txid=one.txid)
        assert (beside.before, beside.commit) == (before, one)
        if one.merged > 1:
            assert reader.commit_at(tmp_path / "set", txid=one.txid - 1) == Beside(
                before=before, commit=None, after=one
            )
    last = max(at for at, one in enumerate(commits) if one.time <= commits[3].time)
    assert reader.commit_at(tmp_path / "set", time=commits[3].time).commit == commits[last]
    early = min(one.time for one in commits) - timedelta(seconds=1)
    assert reader.commit_at(tmp_path / "set", time=early) == Beside(before=None, commit=None, after=commits[0])
    for both in ({}, {"txid": 1, "time": early}):
        with pytest.raises(ValueError, match="either"):
            reader.commit_at(tmp_path / "set", **both)  # type: ignore[arg-type]


def test_many_blocks_of_commits_are_told(tmp_path: Path, history: History, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many messages carry them."""
    monkeypatch.setattr(blocks, "BLOCK_ENTRIES", 5)
    history.write(tmp_path / "blocks")
    with CommitsFile(tmp_path / "blocks") as file:
        commits = tuple(file.commits)

        class Answering(PageReader):
            """Answers here, where blocks are small."""

            def _call(self, call: str, shape: object, *_: object, **arguments: Value) -> object:  # type: ignore[override]
                assert call == "commits_in" and callable(shape)
                return shape(list(file.commits.stored(arguments["number"])))  # type: ignore[arg-type]

        assert Answering().commits_of(tmp_path / "blocks") == commits == tuple(c.commit for c in history.changes)


def test_a_commit_is_extracted(reader: PageReader, history: History, tmp_path: Path) -> None:
    """As a segment that is proved like any other; what is not there is named, and nothing is left."""
    for change in history.changes[::5]:
        to = tmp_path / f"{change.commit.txid}"
        info = reader.extract_commit(tmp_path / "set", change.commit.txid, to)
        assert reader.verify_pageset(to, read_data=True) == info
        assert parse(to).applied_to(history.before) == change.after
    with pytest.raises(RepositoryNotFound, match="99 is not within"):
        reader.extract_commit(tmp_path / "set", 99, tmp_path / "to")
    with pytest.raises(RepositoryDamaged, match="of the kind segment"):
        reader.extract_commit(to, 99, tmp_path / "to")
    with pytest.raises(TargetFailed, match="cannot write"):
        reader.extract_commit(tmp_path / "set", change.commit.txid, tmp_path / "none" / "to")
    assert not (tmp_path / "to").exists()


def test_parts_are_joined_and_verified(reader: PageReader, history: History, tmp_path: Path) -> None:
    """What they hold together, read back from the disk; what is damaged is refused by both."""
    names = []
    for at in (0, 5, 10):
        write_commits(tmp_path / f"{at}", history.changes[at : at + 5 + at // 10], history.sum_before)
        names.append(tmp_path / f"{at}")
    told: list[tuple[int, int]] = []
    info = reader.join_commits(
        names, tmp_path / "joined", level=3, progress=lambda done, total: told.append((done, total))
    )
    assert parse_commits(tmp_path / "joined") == parse_commits(tmp_path / "set")
    assert reader.verify_commits(tmp_path / "joined", read_data=True, drop_cache=True) == info
    assert told
    data = bytearray(names[1].read_bytes())
    data[140] ^= 1
    names[1].write_bytes(data)
    for call in (
        lambda: reader.verify_commits(names[1], read_data=False),
        lambda: reader.join_commits(names, tmp_path / "to", level=1),
    ):
        with pytest.raises(RepositoryDamaged):
            call()  # type: ignore[no-untyped-call]
    assert not (tmp_path / "to").exists()


def test_every_commit_is_proved_in_a_chain(reader: PageReader, history: History, tmp_path: Path) -> None:
    """A link of commits is told apart from the others on its way."""
    write(tmp_path / "snapshot", history.before, header(len(history.before) // PAGE, txid=FIRST))
    reader.extract_commit(tmp_path / "set", history.changes[-1].commit.txid, tmp_path / "segment")
    links = [
        Link(path=str(tmp_path / name), chained=True, data=True, commits=name == "set")
        for name in ("snapshot", "set", "segment")
    ]
    proof = reader.begin_proof()
    assert [(each.summed, each.error) for each in reader.prove_links(proof, links)] == [(True, None)] * 3
    reader.end_proof(proof)


def test_commits_survive_the_way(history: History, tmp_path: Path) -> None:
    """As plain values; nonsense is refused."""
    for change in history.changes:
        assert commit_from_wire(commit_to_wire(change.commit), "x") == change.commit
    with CommitsFile(tmp_path / "set") as file:
        assert info_from_wire(info_to_wire(file.info)) == file.info
    with pytest.raises(RepositoryDamaged, match="the commit after position 7 in x"):
        commit_from_wire((7, bytes(32)), "x")


@pytest.mark.parametrize(
    "answer",
    [
        None,
        5,
        [],
        [1, 7],
        ["1", 7, bytes(32)],
        [1, 7, "x"],
        [1, 7, b""],
        [1, 7, bytes(31)],
        [0, 7, bytes(32)],
        [1 << 40, 7, bytes(32)],
    ],
    ids=range(10),
)
def test_an_answer_of_another_kind_is_a_crash(answer: object, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader that was taken over cannot hand its caller anything but what was asked for (H29)."""
    with PageReader() as reader:
        for call in (lambda: reader.commits_of("a"), lambda: reader.commit_at("a", txid=1)):
            monkeypatch.setattr(client, "_converse", lambda *_args: {"value": answer})
            with pytest.raises(ReaderCrashed, match="answered nonsense"):
                call()
            monkeypatch.undo()


def test_commits_that_cannot_be_are_damage(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of an answer of the right shape."""
    with PageReader() as reader:
        monkeypatch.setattr(client, "_converse", lambda *_args: {"value": [1, 7, bytes(32)]})
        with pytest.raises(RepositoryDamaged, match="the commit after position 7 in a names 0 commits"):
            reader.commits_of("a")
        monkeypatch.setattr(client, "_converse", lambda *_args: {"value": [None, [7, bytes(32)], None]})
        with pytest.raises(RepositoryDamaged, match="the commit after position 7 in a names 0 commits"):
            reader.commit_at("a", txid=8)
