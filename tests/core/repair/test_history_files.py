"""Files as proof of what was committed last (H26): their state, their counters, and what is noted of them."""

from __future__ import annotations

import os
import shutil
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from pagewarden import standing
from pagewarden.backup import BackupRequest, run_backup
from pagewarden.check import CheckRequest, run_check
from pagewarden.contracts import RepairPolicy
from pagewarden.errors import RepositoryDamaged
from pagewarden.lineage import place_of
from pagewarden.repair.attempt import check_or_say
from pagewarden.repair.history import open_history
from pagewarden.repair.request import RepairRequest
from pagewarden.repository.manifest import FileState
from pagewarden.testing import INJURIES
from pagewarden.values import Level, Verdict
from tests.core.repair.pasts import Past, expect_nothing, expect_present, fill, followed, write


def closed(past: Past, mode: str) -> Path:
    """A database that is closed, and backed up so."""
    with closing(past.make(mode).connect()) as connection:
        connection.execute("INSERT INTO notes VALUES(1, 'first')")
    past.back_up()
    return past.path


@pytest.mark.parametrize("mode", ["wal", "delete"])
def test_a_file_that_nobody_wrote_to_since_is_what_it_was(past: Past, mode: str) -> None:
    """Whatever rots in it; opening it for reading, and to write nothing, is no write."""
    path = closed(past, mode)
    with closing(past.connect()) as connection:
        assert len(connection.execute("SELECT * FROM letters").fetchall()) == 200
    expect_present(past, "not written to since")
    truth = past.rows()
    for at in (30, 1024, 5 * 1024 + 77):
        past.damage(at=at, data=b"rotten")
    history = past.history()
    assert history.present is history.newest
    assert past.held_by(history, history.newest) == truth
    path.write_bytes(path.read_bytes())
    expect_nothing(past, "was written to since")


@pytest.mark.parametrize("mode", ["wal", "delete"])
@pytest.mark.parametrize("checkpoint", ["at the close", "before"])
def test_a_commit_of_one_page_is_not_forgotten(past: Past, mode: str, checkpoint: str) -> None:
    """The smallest that there is, and whoever brought it into the file."""
    closed(past, mode)
    with closing(past.connect()) as connection:
        write(connection)
        if checkpoint == "before":
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    expect_nothing(past, "was written to since")


def test_counters_prove_nothing_of_a_file_that_went_another_way(past: Past) -> None:
    """A copy that was put back into the same file, and committed to as often: it has the same counter and cookie."""
    path = closed(past, "delete")
    older = path.read_bytes()
    for text in ("second", "third"):
        with closing(past.connect()) as connection:
            write(connection, text)
    past.back_up()
    header = path.read_bytes()[:100]
    path.write_bytes(older)
    for text in ("another", "way"):
        with closing(past.connect()) as connection:
            write(connection, text)
    assert path.read_bytes()[:100] == header
    expect_nothing(past, "was written to since")


def test_counters_that_were_committed_since_outweigh_the_time(past: Past) -> None:
    """Somebody set it back: with a rollback journal the header tells, in both places."""
    path = closed(past, "delete")
    found = path.stat()
    with closing(past.connect()) as connection:
        write(connection)
    os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns))
    expect_nothing(past, "was written to since")


@pytest.mark.parametrize("mode", ["wal", "delete"])
def test_another_file_at_the_path_is_not_what_was_backed_up(past: Past, mode: str) -> None:
    """With the same counters, and the same time: a copy of it that went another way, and was moved back."""
    path = closed(past, mode)
    found = path.stat()
    other = past.folder / "other.db"
    shutil.copy2(path, other)
    with closing(sqlite3.connect(other)) as connection:
        connection.execute("UPDATE notes SET body = 'of another'")
        connection.commit()
    data = bytearray(other.read_bytes())
    data[24:28] = data[92:96] = path.read_bytes()[24:28]
    other.write_bytes(data)
    os.utime(other, ns=(found.st_atime_ns, found.st_mtime_ns))
    other.replace(path)
    expect_nothing(past, "was written to since")


@pytest.mark.parametrize("mode", ["wal", "delete"])
def test_an_older_file_that_was_put_back_is_not_the_newest(past: Past, mode: str) -> None:
    """By hand, into the same file and with its own time, or by a restore, which is remembered."""
    path = closed(past, mode)
    older = Path(shutil.copy2(path, past.folder / "older.db"))
    with closing(past.connect()) as connection:
        write(connection)
    past.back_up()
    expect_present(past, "not written to since")
    with path.open("r+b") as file:
        file.write(older.read_bytes())
    shutil.copystat(older, path)
    expect_nothing(past, "was written to since")


def test_a_file_that_was_just_written_to_gets_no_state(past: Past) -> None:
    """Another write may leave the same time; the clock of a file system ticks."""
    state = FileState(inode=1, size=1, mtime_ns=10**18 + 7)
    assert not standing.settled(state, state.mtime_ns + 10**6)
    assert standing.settled(state, state.mtime_ns + 10**8)
    coarse = replace(state, mtime_ns=10**18)
    assert not standing.settled(coarse, coarse.mtime_ns + 10**9)
    assert standing.settled(coarse, coarse.mtime_ns + 3 * 10**9)


def test_a_backup_that_finds_nothing_new_notes_the_file_as_it_is_now(past: Past) -> None:
    """The restore point knows of a log that is gone; what compared all pages knows better."""
    connection = followed(past)
    connection.close()  # which brings the log into the file
    expect_nothing(past, "no frames any more")
    assert past.back_up().kind == "unchanged"
    expect_present(past, "not written to since")
    with closing(past.connect()) as again:
        write(again)
    expect_nothing(past, "was written to since")
    past.back_up()
    expect_present(past, "not written to since")


def test_notes_of_other_positions_places_and_files_prove_nothing(past: Past) -> None:
    """Only that of this restore point, in this repository, of this path; and it must be readable."""
    connection = followed(past)
    connection.close()
    past.back_up()
    history = past.history()
    state, manifest = past.runtime.state, history.manifest
    place = place_of(past.repository, "app.db")
    path = str(past.path)
    note = standing.read_note(state, path, place, manifest.position, manifest.database_sum)
    assert note is not None
    for wrong in (
        replace(note, txid=note.txid + 1),
        replace(note, timeline="0" * 32),
        replace(note, database_sum="0" * 16),
        replace(note, state=replace(note.state, inode=note.state.inode + 1)),
        replace(note, state=replace(note.state, size=note.state.size + 1)),
        replace(note, state=replace(note.state, mtime_ns=note.state.mtime_ns + 1)),
    ):
        standing.leave_note(state, path, wrong)
        assert past.history().present is None
    file = standing.note_path(state, place, path)
    for content in (b"", b"{", b"[]", b'"x"' * 5000):
        file.write_bytes(content)
        assert past.history().present is None
    standing.leave_note(state, path, replace(note, place=place_of("/elsewhere", "app.db")))
    assert past.history().present is None
    standing.leave_note(state, path, note)
    assert past.history().present is not None


def complete(past: Past) -> tuple[sqlite3.Connection, int]:
    """A database whose log is in the file as a whole, and backed up so; the application has it open. Its first salt."""
    connection = followed(past)
    connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
    write(connection, "second")  # begins the log anew
    connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
    past.back_up()
    return connection, int(past.history().manifest.facts.wal_salts[:8], 16)


def test_the_next_log_goes_on_from_a_file_that_was_not_written_to(past: Past) -> None:
    """It holds all that was committed since; once it was brought into the file, nobody knows."""
    connection, _ = complete(past)
    assert expect_present(past, "the log ends with").present is not None
    write(connection, "third")
    fill(connection, 50)
    expect_present(past, "goes on from")
    past.leave_log(connection)
    expect_present(past, "goes on from")
    with closing(past.connect()) as again:
        again.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
        expect_nothing(past, "began anew")


def test_another_log_beside_a_file_that_was_not_written_to_is_not_laid_over_it(past: Past) -> None:
    """An older one of its own, and one of another database; both are valid."""
    connection, salt = complete(past)
    past.leave_log(connection)
    log = Path(f"{past.path}-wal")
    log.unlink()
    for seed in (1, 2, 3):
        INJURIES["foreign-wal"].apply(past.path, seed)
        header = log.read_bytes()[:32]
        assert (int.from_bytes(header[16:20], "big") - salt) % (1 << 32) > 16
        expect_nothing(past, "began anew")
        assert past.history(log_set_aside=True).present is not None
        log.unlink()


# Transfers


@pytest.mark.parametrize("mode", ["wal", "delete"])
@pytest.mark.parametrize("seed", [1, 2])
def test_a_transfer_as_text_proves_what_was_transferred(past: Past, mode: str, seed: int) -> None:
    """LF to CRLF or back, of the whole file and nothing else."""
    path = closed(past, mode)
    with closing(past.connect()) as connection:
        connection.execute("UPDATE letters SET body = replace(body, ' ', char(13, 10)) WHERE id % 2")
        connection.execute("UPDATE letters SET body = replace(body, ' ', char(10)) WHERE NOT id % 2")
    past.back_up()
    truth = past.rows()
    INJURIES["mangled-newlines"].apply(path, seed)
    history = past.history()
    assert history.present is history.newest, history.why
    assert past.held_by(history, history.newest) == truth
    data = path.read_bytes()
    for other in (data[:-1], data + b"\n", data[:5000] + b"!" + data[5001:]):
        path.write_bytes(other)
        expect_nothing(past, "was written to since")


# The repository


def test_without_a_repository_there_is_no_history(past: Past) -> None:
    """Nor an error."""
    assert open_history(RepairRequest(database=str(past.path)), past.runtime, str(past.path)) is None


def test_a_restore_point_that_was_found_damaged_is_passed_over(past: Past) -> None:
    """For the newest one before it; where that stands still, it is the present state."""
    path = closed(past, "delete")
    truth = past.rows()
    INJURIES["zeroed-page"].apply(path, 3)
    past.runtime.sleep(0.03)
    run_backup(BackupRequest(database=str(path), repository=past.repository, check="standard"), past.runtime)
    history = past.history()
    assert history.manifest.source.verdict is not Verdict.DAMAGED
    assert history.passed and "found damaged" in history.passed[0]
    assert history.present is history.newest
    assert past.held_by(history, history.newest) == truth


def test_restore_points_that_cannot_be_read_are_passed_over(past: Past) -> None:
    """Until one can; without any, that is an error."""
    closed(past, "delete")
    first = past.history().newest.position
    with closing(past.connect()) as connection:
        write(connection)
    past.back_up(full=True)
    first_key, second_key = (each.key for each in past.history().manifests)
    (Path(past.repository) / second_key).unlink()
    history = past.history()
    assert (history.newest.position, history.present) == (first, None)
    assert list(history.older) == []
    assert "missing" in history.passed[0]
    (Path(past.repository) / first_key).unlink()
    with pytest.raises(RepositoryDamaged, match="none of the 2 restore points"):
        past.history()


def test_older_restore_points_are_there_newest_first(past: Past) -> None:
    """And can be fetched."""
    closed(past, "delete")
    truths = [past.rows()]
    for text in ("second", "third"):
        with closing(past.connect()) as connection:
            write(connection, text)
        past.back_up()
        truths.insert(0, past.rows())
    history = past.history()
    images = [history.newest, *history.older]
    assert [past.held_by(history, image) for image in images] == truths
    txids = [image.position.txid for image in images]
    assert txids == sorted(txids, reverse=True)


@pytest.mark.parametrize("assumed", [False, True])
def test_a_check_for_a_repair_takes_no_counter_for_a_proof(past: Past, assumed: bool) -> None:
    """What a check may call damage is not enough to bring an older row back; unless the owner declares it."""
    path = closed(past, "delete")
    past.damage(at=5 * 1024 + 900, data=b"other")
    os.utime(path)
    policy = RepairPolicy(assume_current=assumed)
    request = RepairRequest(database=str(path), repository=past.repository, policy=policy)
    report, _ = check_or_say(str(path), past.runtime, request, level=Level.STANDARD, remaining=None, private=False)
    assert report.verdict is (Verdict.DAMAGED if assumed else Verdict.UNKNOWN)
    plain = run_check(CheckRequest(database=str(path), repository=past.repository), past.runtime)
    assert plain.verdict is Verdict.DAMAGED
