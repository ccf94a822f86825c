"""The work on the copy: pages put back, the size set, the logs set aside, and the proof of the whole."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from pagewarden import durable
from pagewarden.contracts import PastImage, RepairBench, RepairHistory
from pagewarden.errors import RepairRefused
from pagewarden.pages import PageSource, backend, scan_sums
from pagewarden.sqlite.schema import Layout
from pagewarden_repair_splice.counting import Returned
from pagewarden_repair_splice.difference import Difference, Sums, difference, sums_of

_WHOLE = 2048
"""Pages from which on the whole position is fetched into a new file, because that reads what is stored but once."""

_WHY = "it differs from the last commit"


def splice(bench: RepairBench, task: Mapping[str, object]) -> None:
    """Make the copy the recorded position that `task` names. Raises RepairRefused where that is not proven any more."""
    history = bench.case.history
    present = None if history is None else history.present
    if history is None or present is None:
        raise RepairRefused(
            "the repository does not prove any more what the last commit was, so no page may be put back",
            hint="see what it says now: pagewarden repair --help",
        )
    recorded = sums_of(present)
    planned = (task.get("timeline"), task.get("txid"), task.get("database_sum"))
    if planned != (present.position.timeline, present.position.txid, f"{recorded:016x}"):
        raise RepairRefused(
            f"the last commit is now proven to be position {present.position}, which is not what was planned for",
            hint="plan again: pagewarden repair --help",
        )
    found = _differing(bench.database, present)
    returned = Returned(Layout.of(present.page(1), page_size=present.page_size, pages=present.pages))
    if found.pages > _WHOLE or not found.whole:
        _fetch(bench, history, present)
        returned.add_all(bench, found.runs)
    else:
        _put_back(bench, present, found, returned)
    size = present.pages * present.page_size
    if bench.database.stat().st_size != size:
        bench.resize(size, f"the database has {present.pages} pages at position {present.position}")
    for suffix in ("-wal", "-journal"):
        log = bench.database.with_name(bench.database.name + suffix)
        if log.exists():
            name = f"{Path(bench.case.path).name}{suffix}"
            bench.keep_file(log, name, f"position {present.position} has all that was committed")
    bench.database.with_name(f"{bench.database.name}-shm").unlink(missing_ok=True)
    _prove(bench.database, present, recorded)
    returned.note(bench)


def _put_back(bench: RepairBench, present: PastImage, found: Difference, returned: Returned) -> None:
    done = 0
    bench.progress(0, found.pages)
    for first, count in found.runs:
        sums = present.sums(first, count)
        for pgno in range(first, first + count):
            data = _proven(present, pgno, sums[8 * (pgno - first) :][:8])
            returned.add(pgno, data, bench.read(pgno, present.page_size))
            bench.write(pgno, data, _WHY)
            done += 1
        bench.progress(done, found.pages)


def _proven(present: PastImage, pgno: int, recorded: bytes) -> bytes:
    """Return a recorded page whose sum is the recorded one. Raises RepairRefused."""
    data = present.page(pgno)
    if len(data) != present.page_size or backend().page_sum(pgno, data) != int.from_bytes(recorded, "little"):
        raise RepairRefused(
            f"what is stored of page {pgno} is not what position {present.position} recorded, so it is not put back",
            hint="prove the repository: pagewarden verify --help",
        )
    return data


def _fetch(bench: RepairBench, history: RepairHistory, present: PastImage) -> None:
    """Replace the whole copy by the recorded position."""
    file = bench.scratch / "recorded.db"
    history.fetch(present, file)
    found = _differing(file, present)
    if found.pages > _WHOLE:
        raise RepairRefused(
            f"{found.pages} of the pages that were fetched are not those of position {present.position}",
            hint="prove the repository: pagewarden verify --help",
        )
    # Frames of the log that were laid over a restore point may be missing in what was fetched.
    descriptor = os.open(file, os.O_RDWR | os.O_CLOEXEC)
    try:
        for first, count in found.runs:
            sums = present.sums(first, count)
            for pgno in range(first, first + count):
                data = _proven(present, pgno, sums[8 * (pgno - first) :][:8])
                durable.write_at(descriptor, data, (pgno - 1) * present.page_size)
        os.ftruncate(descriptor, present.pages * present.page_size)
    except OSError as error:
        raise durable.failure(error, f"cannot write {file}") from error
    finally:
        os.close(descriptor)
    bench.replace(file, f"most of its pages differ from position {present.position}")


def _differing(file: Path, present: PastImage) -> Difference:
    """Compare a private file with the recorded pages; pages that it has not count as differing."""
    with _sums(file, present) as sums:
        return difference(sums, present)


def _prove(file: Path, present: PastImage, recorded: int) -> None:
    """Raise RepairRefused unless the file is the recorded position: page by page, and by the database sum."""
    folded = 0
    with _sums(file, present) as sums:

        def folding(first: int, count: int) -> bytes:
            nonlocal folded
            part = sums(first, count)
            folded ^= backend().fold(part)
            return part

        found = difference(folding, present)
    if found.pages or folded != recorded or file.stat().st_size != present.pages * present.page_size:
        raise RepairRefused(
            f"the copy is not position {present.position} after its pages were put back",
            hint="try again; if it happens again, look at the disk: pagewarden doctor --help",
        )


@contextmanager
def _sums(file: Path, present: PastImage) -> Iterator[Sums]:
    """Yield what gives the sums of a private file's whole pages, scanned in threads."""
    descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
    try:
        size = os.fstat(descriptor).st_size
        pages = min(size // present.page_size, present.pages)
        source = PageSource(database=descriptor, page_size=present.page_size, pages=pages, file_size=size)

        def sums(first: int, count: int) -> bytes:
            count = min(count, pages + 1 - first)
            return b"".join(part for _, part in scan_sums(source, first=first, count=count)) if count > 0 else b""

        yield sums
    finally:
        os.close(descriptor)
