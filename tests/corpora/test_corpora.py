"""Real databases go through the main job with no false finding; real damage never crashes, hangs or is called sound."""

from __future__ import annotations

import shutil
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from pagewarden.backup import BackupRequest, run_backup
from pagewarden.check.run import CheckRequest, run_check
from pagewarden.errors import PagewardenError
from pagewarden.pages import backend
from pagewarden.pages.stranded import prove_log
from pagewarden.repository import VerifyRequest, run_verify
from pagewarden.restore import RestoreRequest, run_restore
from pagewarden.runtime import Runtime
from pagewarden.values import CheckReport, Level, Severity, Verdict
from pagewarden_repair_wal.rewriting import write_log
from tests.corpora import corpus
from tests.odd.journey import compare, copied

SIDE_FILES = ("-wal", "-shm", "-journal", ".csv")


def databases(folder: Path) -> Iterator[Path]:
    """Yield the databases of an unpacked archive, without their side files and lists."""
    yield from (path for path in folder.rglob("*") if path.is_file() and not path.name.endswith(SIDE_FILES))


def place(database: Path, into: Path) -> Path:
    """Copy a database with its side files into a folder of its own."""
    into.mkdir()
    for path in database.parent.glob(f"{database.name}*"):
        if path == database or path.name[len(database.name) :] in SIDE_FILES:
            shutil.copyfile(path, into / path.name)
    return into / database.name


def dump(database: Path) -> list[tuple[object, ...]]:
    """Return the schema and the row count of every ordinary table, as SQLite reads them."""
    with closing(sqlite3.connect(database)) as connection:
        schema = connection.execute("SELECT type, name, tbl_name, sql FROM sqlite_schema ORDER BY 1, 2").fetchall()
        counts = []
        for kind, name, _table, sql in schema:
            if kind == "table" and "virtual table" not in (sql or "").lower():
                quoted = name.replace('"', '""')
                counts.append((name, *connection.execute(f'SELECT count(*) FROM "{quoted}"').fetchone()))
        return schema + counts


def test_healthy_databases_pass_the_main_job(
    unpacked: Path, tmp_path: Path, runtime: Runtime, choose: corpus.Chooser
) -> None:
    """Check, backup, verify and restore of each: no damage is found, and what comes back is what SQLite copies."""
    chosen = choose(databases(corpus.unpack("healthy", unpacked)))
    assert chosen
    unknown = []
    for number, original in enumerate(chosen):
        database = place(original, tmp_path / str(number))
        repository = str(tmp_path / f"repository-{number}")
        for level in (Level.STANDARD, Level.DEEP):
            report = sound(CheckRequest(database=str(database), level=level), runtime)
            if report.verdict is Verdict.UNKNOWN:
                why = "; ".join(result.why for result in report.checkers if result.verdict is Verdict.UNKNOWN)
                unknown.append(f"{original.name}, {level}: {why}")
        taken = run_backup(BackupRequest(database=str(database), repository=repository), runtime)
        sound(CheckRequest(database=str(database), level=Level.QUICK, repository=repository), runtime)
        proved = run_verify(VerifyRequest(repository=repository, read_data=True), runtime)
        assert proved.verdict is Verdict.SOUND, (original.name, proved)
        restored = tmp_path / f"restored-{number}"
        done = run_restore(RestoreRequest(repository=repository, to=str(restored)), runtime)
        assert done.database_sum == taken.database_sum, original.name
        assert dump(restored) == dump(database), original.name
        compare(restored, copied(database, tmp_path / f"sqlite-{number}"))
    print(f"\n{len(chosen)} databases, {len(unknown)} checks that ended unknown:", *unknown, sep="\n")


def sound(request: CheckRequest, runtime: Runtime) -> CheckReport:
    """Check a sound database: violations of its owner's rules may be found, and what is worth knowing; damage not."""
    report = run_check(request, runtime)
    damage = [finding for finding in report.findings if finding.severity is Severity.DAMAGE]
    assert not damage, (request, damage)
    assert report.verdict is not Verdict.DAMAGED, report
    return report


def test_damaged_images_never_crash_hang_or_end_without_an_answer(
    unpacked: Path, tmp_path: Path, runtime: Runtime, choose: corpus.Chooser
) -> None:
    """Each fuzz image gets a verdict or a named error within 5 s; what integrity_check calls damaged is never sound."""
    folder = corpus.unpack("sqlite-fuzz", unpacked)
    verdicts = {row["sha256"]: row["integrity_check"] for row in corpus.rows(next(folder.rglob("verdicts.csv")))}
    chosen = choose(databases(folder))
    assert chosen
    called_sound = []
    for number, original in enumerate(chosen):
        database = place(original, tmp_path / str(number))
        began = time.monotonic()
        try:
            report = run_check(CheckRequest(database=str(database), level=Level.DEEP, max_time=5.0), runtime)
        except PagewardenError as error:
            assert error.exit_code != 70, (original.name, error)
            report = None
        assert time.monotonic() - began < 10, original.name
        if report is not None and report.verdict is Verdict.SOUND and verdicts[original.stem] == "damage":
            called_sound.append(original.name)
        shutil.rmtree(database.parent)
    assert called_sound == []


def test_damaged_structure_is_seen_without_sqlite(
    unpacked: Path, tmp_path: Path, runtime: Runtime, choose: corpus.Chooser
) -> None:
    """What integrity_check calls damaged check-structure sees alone, but for full-text tables, R-trees and values."""
    folder = corpus.unpack("sqlite-fuzz", unpacked)
    verdicts = {row["sha256"]: row["integrity_check"] for row in corpus.rows(next(folder.rglob("verdicts.csv")))}
    chosen = choose(path for path in databases(folder) if verdicts[path.stem] == "damage")
    assert chosen
    missed = []
    for number, original in enumerate(chosen):
        database = place(original, tmp_path / str(number))
        report = run_check(CheckRequest(database=str(database), only=("check-structure",)), runtime)
        if report.verdict is not Verdict.DAMAGED:
            missed.append(original.name)
        shutil.rmtree(database.parent)
    print(f"\n{len(chosen)} images, {len(missed)} whose structure is sound:", *missed, sep="\n")
    assert len(missed) <= 9


def test_wal_files_of_other_projects_are_judged_right(unpacked: Path) -> None:
    """A WAL with a bad salt or checksum yields only its valid prefix."""
    folder = corpus.unpack("wal", unpacked)
    seen = {}
    for path in sorted(folder.rglob("wal-reader/*/wal")):
        with path.open("rb") as file:
            scan = backend().wal_scan(file.fileno(), page_size=4096, last_frame=None)
        seen[f"{path.parts[-4]}/{path.parent.name}"] = (scan.frames_valid, scan.first_bad)
    assert seen["litestream/ok"][1] is None and seen["litestream/ok"][0] > 0
    assert {name for name, (_, bad) in seen.items() if bad is not None} >= {
        "litestream/frame-checksum-mismatch",
        "litefs/frame-checksum-mismatch",
    }


def test_damaged_logs_of_other_projects_are_put_right(unpacked: Path, tmp_path: Path) -> None:
    """A damaged checksum or salt costs nothing: the log becomes the sound one of the same archive, byte for byte."""
    folder = corpus.unpack("wal", unpacked)
    damaged = [*folder.rglob("frame-checksum-mismatch/wal"), *folder.rglob("salt-mismatch/wal")]
    assert len(damaged) == 4
    for number, path in enumerate(damaged):
        renewed = tmp_path / str(number)
        with path.open("rb") as file:
            scan = backend().wal_scan(file.fileno(), page_size=0)
            proof = prove_log(file.fileno(), scan, page_size=0, pages=0)
            assert proof is not None and proof.commits == 2
            write_log(file.fileno(), proof, renewed)
        assert renewed.read_bytes() == (path.parents[1] / "ok/wal").read_bytes(), path
