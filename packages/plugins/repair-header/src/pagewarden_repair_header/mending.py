"""The repair itself, on a private copy: derived anew from the copy, so that it fits what stands there now."""

from __future__ import annotations

import os
from pathlib import Path

from pagewarden.contracts import RepairBench
from pagewarden.errors import RepairRefused
from pagewarden.repair.derivation import Derivation, Underivable, derive
from pagewarden.repair.inference import opened, undo_newlines
from pagewarden_repair_header.order import schema_format

_HINT = "pagewarden repair DB shows the plan for what is there now"


def mend(bench: RepairBench, newlines: str) -> None:
    """Undo `newlines`, if any, then write what differs from what the pages say.

    Raises RepairRefused where nothing can be derived any more.
    """
    if newlines:
        _undo(bench, newlines)
    with opened(str(bench.database)) as (database, wal):
        try:
            derivation = derive(database, wal)
            chosen = schema_format(derivation)
            if chosen:
                derivation = derive(database, wal, schema_format=chosen)
        except Underivable as no:
            raise RepairRefused(f"nothing can be derived from the pages of {bench.database}: {no}", hint=_HINT) from no
        folded = derivation.folded
        _write(bench, derivation, folded=folded)
    if folded:
        log = Path(f"{bench.database}-wal")
        bench.keep_file(log, "folded-wal", "its pages were written into the file")


def _undo(bench: RepairBench, newlines: str) -> None:
    made = bench.scratch / "undone.db"
    with opened(str(bench.database)) as (database, _), made.open("xb") as undone:
        undo_newlines(database, undone, newlines)
    bench.replace(made, f"{newlines}, which was undone")


def _write(bench: RepairBench, derivation: Derivation, *, folded: bool) -> None:
    """Write all pages that differ. Those of the log go first: they are what the others were derived from."""
    size = derivation.source.page_size
    total = len(derivation.written) + (len(derivation.source.frames) // 8 if folded else 0)
    done = 0
    bench.progress(done, total)
    if folded:
        for pgno, page in derivation.logged_pages():
            bench.write(pgno, page, "a newer version of it stood in the -wal")
            done += 1
            bench.progress(done, total)
    for pgno, page, why in derivation.new_pages():
        bench.write(pgno, page, why)
        done += 1
        bench.progress(done, total)
    end = derivation.pages * size
    if (folded or derivation.source.wal < 0) and os.fstat(derivation.source.database).st_size != end:
        bench.resize(end, "it is behind the last page" if not folded else "the log's last commit has this size")
