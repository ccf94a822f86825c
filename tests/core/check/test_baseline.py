from __future__ import annotations

import shutil
import socket
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from pagewarden.backup import BackupRequest, run_backup
from pagewarden.check import CheckRequest, baseline, run_check
from pagewarden.check.baseline import StoredImage, newest_image
from pagewarden.errors import ConfigurationInvalid, RepositoryDamaged
from pagewarden.live import read_commit
from pagewarden.processes.reader import Attachment, PageReader
from pagewarden.repository import Chain, Repository, SourceFacts
from pagewarden.repository.shorten import Shortener
from pagewarden.repository.turn import Turn
from pagewarden.runtime import Runtime
from pagewarden.standing import no_commit_since
from pagewarden.testing import INJURIES
from pagewarden.values import BackupReport, CheckReport, Level, Severity, Verdict
from tests.core.check.conftest import Baseline
from tests.core.repository.chains import histories
from tests.core.repository.follower import NAME, Follower
from tests.core.repository.sets import NOW
from tests.support.session import Session


@pytest.fixture
def repository(tmp_path: Path) -> str:
    """Where the backups go."""
    return str(tmp_path / "repository")


def backup(runtime: Runtime, database: Path, repository: str, *, full: bool = False) -> BackupReport:
    """Back up."""
    return run_backup(BackupRequest(database=str(database), repository=repository, full=full), runtime)


def check(runtime: Runtime, database: Path, **fields: object) -> CheckReport:
    """Compare the pages of a database, and nothing else."""
    request = CheckRequest(database=str(database), level=Level.QUICK, only=("check-pages",), **fields)  # type: ignore[arg-type]
    return run_check(request, runtime)


def change(database: Path, sql: str = "UPDATE customers SET notes = upper(notes) WHERE id % 7 = 0") -> None:
    """Commit something."""
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute(sql)


def test_a_database_that_equals_its_backup_is_sound(runtime: Runtime, database: Path, repository: str) -> None:
    """The report names the position that it was compared with."""
    backup(runtime, database, repository)
    report = check(runtime, database, repository=repository)
    assert report.verdict is Verdict.SOUND
    assert report.position is not None
    assert report.position.txid == 1
    assert report.checkers[0].why == ""


def test_a_segment_is_no_baseline(runtime: Runtime, database: Path, repository: str) -> None:
    """It lacks most pages: that is a wrong choice of the caller's, not damage of the segment."""
    backup(runtime, database, repository)
    change(database)
    assert backup(runtime, database, repository).kind == "segment"
    (segment,) = Path(repository).rglob("0000000000000002-*.pageset.zst")
    with pytest.raises(ConfigurationInvalid, match="is a segment") as caught:
        check(runtime, database, baseline=str(segment))
    assert "--repo" in caught.value.hint


def test_a_flipped_bit_since_the_backup_is_damage(runtime: Runtime, database: Path, repository: str) -> None:
    """No commit was made since, as the change counter shows: the row and the column are named, and how to go back."""
    backup(runtime, database, repository)
    injury = INJURIES["flipped-bit"].apply(database, 4)
    report = check(runtime, database, repository=repository)
    (finding,) = report.findings
    assert (report.verdict, finding.kind, finding.pgno) == (Verdict.DAMAGED, "flipped-bit", injury.pgno)
    assert injury.message.split("rowid ")[1] in finding.message
    assert finding.hint == (f"pagewarden restore --repo {repository} --db app.db --to {database}.restored")


def test_a_commit_since_the_backup_is_unknown(runtime: Runtime, database: Path, repository: str) -> None:
    """A legitimate write cannot be told from damage: counts, and no finding of damage."""
    backup(runtime, database, repository)
    change(database)
    report = check(runtime, database, repository=repository)
    assert (report.verdict, report.exit_code, report.findings) == (Verdict.UNKNOWN, 3, ())
    assert "pages differ from the backup at" in report.checkers[0].why
    assert "commits may have been made since" in report.checkers[0].why


def test_an_owner_may_declare_a_snapshot_current(
    runtime: Runtime, database: Path, repository: str, baseline: Baseline
) -> None:
    """Then every difference is damage, whatever the counters say; the repository's older pages are evidence."""
    backup(runtime, database, repository)
    older = Path(shutil.copy(database, database.parent.parent / "older.db"))
    change(database)
    snapshot = baseline(database)
    injury = INJURIES["lost-write"].apply(database, 2, older=older)
    report = check(runtime, database, repository=repository, baseline=snapshot)
    (finding,) = report.findings
    assert (finding.kind, finding.pgno, finding.object) == ("lost-write", injury.pgno, "customers")
    assert report.position is not None
    report = check(runtime, database, baseline=snapshot, repository=repository + "-elsewhere")
    assert [finding.kind for finding in report.findings] == ["changed-page"]
    assert check(runtime, database, baseline=snapshot).position is None


def test_a_lost_write_is_told_by_the_backup_before(runtime: Runtime, database: Path, repository: str) -> None:
    """The page equals its own older version: the newest backup is current, an older one holds the evidence."""
    backup(runtime, database, repository)
    older = Path(shutil.copy(database, database.parent.parent / "older.db"))
    change(database)
    backup(runtime, database, repository)
    INJURIES["lost-write"].apply(database, 2, older=older)
    (finding,) = check(runtime, database, repository=repository).findings
    assert (finding.kind, finding.object) == ("lost-write", "customers")
    assert ":1: a write was lost; rowids " in finding.message


def test_an_older_backup_that_is_broken_is_no_evidence(runtime: Runtime, database: Path, repository: str) -> None:
    """The page differs all the same."""
    backup(runtime, database, repository)
    older = Path(shutil.copy(database, database.parent.parent / "older.db"))
    change(database)
    backup(runtime, database, repository, full=True)
    first = sorted(Path(repository).rglob("*1-*.pageset.zst"))[0]
    first.write_bytes(first.read_bytes()[:-100])
    INJURIES["lost-write"].apply(database, 2, older=older)
    assert [finding.kind for finding in check(runtime, database, repository=repository).findings] == ["changed-page"]


def test_the_newest_backup_may_be_a_segment(runtime: Runtime, database: Path, repository: str) -> None:
    """Its chain is the baseline: sums and pages by their last version, older points by theirs."""
    backup(runtime, database, repository)
    kinds = []
    for number in (3, 5, 7):
        change(database, f"UPDATE customers SET notes = notes || ' {number}' WHERE id = {number}")
        older = Path(shutil.copy(database, database.parent.parent / f"older{number}.db"))
        kinds.append(backup(runtime, database, repository).kind)
    assert kinds == ["segment"] * 3
    report = check(runtime, database, repository=repository)
    assert (report.verdict, report.findings) == (Verdict.SOUND, ())
    assert report.position is not None and report.position.txid == 4
    change(database, "UPDATE customers SET notes = upper(notes) WHERE id = 9")
    kinds.append(backup(runtime, database, repository).kind)
    INJURIES["lost-write"].apply(database, 2, older=older)
    (finding,) = check(runtime, database, repository=repository).findings
    assert finding.kind == "lost-write"
    assert ":4: a write was lost" in finding.message


def test_a_chain_that_is_broken_below_is_no_baseline(runtime: Runtime, database: Path, repository: str) -> None:
    """Where a segment's snapshot is damaged nothing can be compared, and that is said."""
    backup(runtime, database, repository)
    change(database, "UPDATE customers SET notes = 'x' WHERE id = 3")
    assert backup(runtime, database, repository).kind == "segment"
    (snapshot,) = Path(repository).rglob("*1-*.pageset.zst")
    data = bytearray(snapshot.read_bytes())
    data[-300] ^= 1
    snapshot.write_bytes(data)
    report = check(runtime, database, repository=repository)
    assert report.verdict is Verdict.UNKNOWN
    assert "block" in report.checkers[0].why


@pytest.mark.parametrize("state", ["missing", "other name", "broken"])
def test_a_repository_that_cannot_be_used_is_unknown(
    runtime: Runtime, database: Path, repository: str, state: str
) -> None:
    """The comparison was asked for and could not be made; what needs no baseline was judged."""
    name = None
    if state != "missing":
        backup(runtime, database, repository)
    if state == "other name":
        name = "other.db"
    if state == "broken":
        (page_set,) = Path(repository).rglob("*.pageset.zst")
        page_set.write_bytes(page_set.read_bytes()[:-100])
    with database.open("ab") as file:
        file.write(b"tail")
    report = check(runtime, database, repository=repository, name=name)
    assert report.verdict is Verdict.UNKNOWN
    assert report.checkers[0].why.startswith("no baseline: ")
    assert [(finding.kind, finding.severity) for finding in report.findings] == [("trailing-bytes", Severity.NOTICE)]
    assert report.position is None


def test_a_baseline_file_that_is_none_is_an_error(runtime: Runtime, database: Path, tmp_path: Path) -> None:
    """It was named by hand: there is nothing to fall back on."""
    with pytest.raises(ConfigurationInvalid, match="there is no baseline"):
        check(runtime, database, baseline=str(tmp_path / "missing"))
    (tmp_path / "short").write_text("hello")
    for file in (database, tmp_path / "short"):
        with pytest.raises(ConfigurationInvalid, match="is no snapshot") as caught:
            check(runtime, database, baseline=str(file))
        assert "pagewarden backups" in caught.value.hint


def test_a_damaged_snapshot_is_no_baseline(runtime: Runtime, database: Path, repository: str) -> None:
    """It was one: what is wrong is not what was typed, but what is stored."""
    backup(runtime, database, repository)
    (page_set,) = Path(repository).rglob("*.pageset.zst")
    page_set.chmod(0o600)
    page_set.write_bytes(page_set.read_bytes()[:-100])
    with pytest.raises(RepositoryDamaged):
        check(runtime, database, baseline=str(page_set))


def test_a_restored_file_is_not_what_the_newest_backup_says(runtime: Runtime, database: Path, repository: str) -> None:
    """An older position was restored and written to until the counters agree: no proof, as the lineage knows."""
    from pagewarden.lineage import after_restore

    backup(runtime, database, repository)
    older = database.read_bytes()
    change(database)
    backup(runtime, database, repository)
    points, _ = runtime.repository(repository).restore_points("app.db")
    database.write_bytes(older)
    after_restore(runtime.state, str(database), points[0].position)
    change(database, "UPDATE customers SET name = 'another history' WHERE id < 9")
    report = check(runtime, database, repository=repository)
    assert (report.verdict, report.findings) == (Verdict.UNKNOWN, ())


def test_a_rolled_back_transaction_is_no_damage(runtime: Runtime, database: Path, repository: str) -> None:
    """H34: it spilled into free pages and left other bytes there, without a commit; damage elsewhere is still found."""
    with Session(database) as writer:
        writer.run("PRAGMA secure_delete=OFF")
        writer.run("DELETE FROM orders")
        backup(runtime, database, repository)
        before = database.read_bytes()
        writer.run("PRAGMA cache_size=1")
        writer.run("BEGIN")
        writer.run("INSERT INTO orders SELECT id, id, randomblob(300) FROM customers")
        writer.run("ROLLBACK")
    assert database.read_bytes() != before
    report = check(runtime, database, repository=repository)
    assert (report.verdict, report.findings) == (Verdict.SOUND, ())
    assert "free pages differ, which a transaction that was rolled back may do" in report.checkers[0].why
    INJURIES["flipped-bit"].apply(database, 1)
    assert [finding.kind for finding in check(runtime, database, repository=repository).findings] == ["flipped-bit"]


def attachment(database: Path, reader: PageReader) -> Attachment:
    """Return what the reader sees of a database."""
    return read_commit(str(database), reader, lambda attached, _: attached)


@pytest.fixture
def wal(database: Path) -> Iterator[Session]:
    """A connection that keeps a WAL open."""
    with Session(database) as session:
        session.run("PRAGMA journal_mode=wal")
        session.run("PRAGMA wal_autocheckpoint=0")
        session.run("UPDATE customers SET name = 'one'")
        yield session


def facts_of(database: Path, seen: Attachment) -> SourceFacts:
    """Return what a backup of that commit would record."""
    header = seen.database_header
    assert header is not None
    return SourceFacts(
        path=str(database),
        host=socket.gethostname(),
        change_counter=header.change_counter,
        schema_cookie=header.schema_cookie,
        journal_mode="wal" if seen.mode == "wal" else "delete",
        wal_salts=seen.salts.hex(),
        wal_frames=seen.wal_frames,
    )


def test_salts_and_frames_prove_that_nothing_was_committed(wal: Session, database: Path, reader: PageReader) -> None:
    """A commit appends frames; a checkpoint alone changes nothing; a new generation has other salts."""
    facts = facts_of(database, attachment(database, reader))
    assert no_commit_since(facts, str(database), attachment(database, reader))
    wal.run("PRAGMA wal_checkpoint(PASSIVE)")
    assert no_commit_since(facts, str(database), attachment(database, reader))
    wal.run("UPDATE customers SET name = 'two' WHERE id = 1")
    assert not no_commit_since(facts, str(database), attachment(database, reader))
    assert not no_commit_since(replace(facts, wal_frames=0), str(database), attachment(database, reader))


def test_a_wal_that_is_gone_proves_nothing(database: Path, reader: PageReader) -> None:
    """Somebody may have written and closed: in WAL mode the change counter does not move with each commit (H13)."""
    change(database, "PRAGMA journal_mode=wal")
    seen = attachment(database, reader)
    assert not no_commit_since(facts_of(database, seen), str(database), seen)


def test_the_change_counter_proves_it_with_a_rollback_journal(database: Path, reader: PageReader) -> None:
    """For this file on this machine; not for a counter that the header itself does not vouch for, nor across modes."""
    seen = attachment(database, reader)
    facts = facts_of(database, seen)
    assert no_commit_since(facts, str(database), seen)
    for other in (
        replace(facts, path="/elsewhere/app.db"),
        replace(facts, host="elsewhere"),
        replace(facts, change_counter=facts.change_counter + 1),
        replace(facts, schema_cookie=facts.schema_cookie + 1),
        replace(facts, journal_mode="wal"),
    ):
        assert not no_commit_since(other, str(database), seen)
    header = bytearray(seen.header)
    header[95] ^= 1
    assert not no_commit_since(facts, str(database), replace(seen, header=bytes(header)))
    assert not no_commit_since(facts, str(database), replace(seen, header=b""))
    change(database)
    assert not no_commit_since(facts, str(database), attachment(database, reader))


def test_a_restore_point_that_is_stored_anew_meanwhile_is_looked_up_again(
    runtime: Runtime, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Batches below the newest are gathered while it is opened, as a guard does all the time: no check fails of it."""
    (tmp_path / "spool").mkdir()
    follower = Follower(folder=tmp_path / "spool", images=histories(20))
    opened = runtime.repository(str(tmp_path / "repository"), create=True)
    with follower.begin(opened) as stream:
        follower.follow(stream, 3, 2, 4)
    real, gathered = baseline.stored_image, False

    def meanwhile(repository: Repository, reader: PageReader, chain: Chain) -> StoredImage:
        nonlocal gathered
        if not gathered:
            gathered = True
            entries = tuple(repository.entries(NAME))
            with Turn(repository.store, NAME, "ab" * 8, NOW, lambda seconds: None) as turn:
                links = [entry.manifest for entry in entries[1:3] if entry.manifest is not None]
                Shortener(repository, runtime, turn, NAME, entries).gather(links, lambda: True)
        return real(repository, reader, chain)

    monkeypatch.setattr(baseline, "stored_image", meanwhile)
    chain, image = newest_image(opened, runtime.reader, NAME)
    assert gathered and [link.sequence for link in chain.links] == [1, 3, 4]
    data = follower.images[9]
    assert b"".join(image.page(pgno) for pgno in range(1, image.pages + 1)) == data
    opened.store.delete(chain.links[1].key)
    with pytest.raises(RepositoryDamaged, match="is missing from"):
        newest_image(opened, runtime.reader, NAME)
