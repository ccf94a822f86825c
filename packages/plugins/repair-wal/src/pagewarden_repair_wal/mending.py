"""The work on the copy: the log is written anew, or taken away, and what it becomes is looked at."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from pagewarden.contracts import RepairBench
from pagewarden.errors import RepairRefused
from pagewarden.pages import backend
from pagewarden.pages.stranded import LogProof, prove_log
from pagewarden.processes.survey import survey
from pagewarden.sqlite.header import HEADER_SIZE, page_size_of
from pagewarden.sqlite.origin import signs_of_another
from pagewarden_repair_wal.rewriting import cut_log, write_log
from pagewarden_repair_wal.saving import save_frames
from pagewarden_repair_wal.structure import new_flaws

_PLAN_AGAIN = "plan again: pagewarden repair --help"


def mend(bench: RepairBench, task: Mapping[str, object]) -> None:
    """Do what was planned. Raises RepairRefused where the log is another than the planned one, or no good result."""
    wal = bench.database.with_name(f"{bench.database.name}-wal")
    seen = survey(str(bench.database), live=False)
    if seen is None or seen.salts.hex() != task.get("salts"):
        raise RepairRefused(f"{_name(bench)} is not the log that was planned for", hint=_PLAN_AGAIN)
    if task.get("do") == "set-aside":
        if not any(signs_of_another(seen)):
            raise RepairRefused(f"nothing shows that {_name(bench)} is another database's", hint=_PLAN_AGAIN)
        bench.keep_file(wal, _name(bench), "it was not written for this database file")
    else:
        _renew(bench, wal, replay=task.get("do") == "replay", to=task.get("to"))
    bench.database.with_name(f"{bench.database.name}-shm").unlink(missing_ok=True)


def _renew(bench: RepairBench, wal: Path, *, replay: bool, to: object) -> None:
    """Put a log in the place of the damaged one that SQLite takes as a whole, and keep the rest."""
    renewed = bench.scratch / "renewed-wal"
    source = os.open(wal, os.O_RDONLY | os.O_CLOEXEC)
    try:
        scan = backend().wal_scan(source, page_size=0, most=0)
        size, pages = _database(bench.database)
        proof = prove_log(source, scan, page_size=size, pages=pages)
        target = proof.target if replay and proof is not None else scan.last_commit
        if target != to:
            raise RepairRefused(f"{_name(bench)} is proven up to frame {target}, not {to} as planned", hint=_PLAN_AGAIN)
        if proof is not None:
            _save(bench, source, proof, replayed=replay)
        if replay and proof is not None:
            write_log(source, proof, renewed)
        elif target:
            cut_log(source, scan.page_size, target, renewed)
    finally:
        os.close(source)
    bench.keep_file(wal, _name(bench), "it is damaged: this is all of it, as it was")
    if target:
        renewed.replace(wal)
        _judge(bench, wal, scan.last_commit, replay=replay)


def _save(bench: RepairBench, source: int, proof: LogProof, *, replayed: bool) -> None:
    """Keep what SQLite leaves out and is not replayed: as a log that can be laid beside the original, and as pages."""
    name = Path(bench.case.path).name
    if not replayed and proof.commits:
        log = bench.scratch / "stranded-wal"
        write_log(source, proof, log)
        why = f"a valid log with {proof.commits} more commits, for a copy of the original database: name it {name}-wal"
        bench.keep_file(log, f"{name}-wal-stranded", why)
    frames = bench.scratch / "stranded.db"
    if save_frames(source, proof, frames):
        why = "intact pages of commits that are not whole any more, in the table frames"
        bench.keep_file(frames, f"{name}-stranded.db", why)


def _name(bench: RepairBench) -> str:
    """Return how the log is called beside the database itself."""
    return f"{Path(bench.case.path).name}-wal"


def _judge(bench: RepairBench, wal: Path, served: int, *, replay: bool) -> None:
    """Raise RepairRefused unless SQLite would serve all of the new log, and a replay has brought no flaw."""
    seen = survey(str(bench.database), live=False)
    if seen is None or seen.header_fault or not seen.committed == seen.valid == seen.frames:
        raise RepairRefused(
            f"{_name(bench)} is not valid after it was written anew", hint="look at the disk: pagewarden doctor"
        )
    if not replay:
        return
    signs = tuple(signs_of_another(seen))
    flaws = new_flaws(bench.database, wal, served)
    if signs or flaws or seen.missing:
        what = signs[0] if signs else flaws or f"{seen.missing} pages would be in neither file nor log"
        raise RepairRefused(
            f"replaying the commits that SQLite leaves out of {_name(bench)} would not leave a sound database: {what}",
            hint="repair without replaying them: they are kept in the quarantine",
        )


def _database(path: Path) -> tuple[int, int]:
    """Return the size of a page as the file's header states it, and the file's size in pages; zeros for none."""
    with path.open("rb") as file:
        size = page_size_of(file.read(HEADER_SIZE))
    return size, path.stat().st_size // size if size else 0
