"""The whole repair, as the command makes it, without any repository: found, planned, mended, judged, and taken back."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from pagewarden.repair.request import RepairRequest
from pagewarden.repair.run import run_repair
from pagewarden.runtime import Runtime
from pagewarden.values import Verdict
from tests.core.pages.trees import build
from tests.plugins.repair_header.damage import rows
from tests.plugins.repair_header.test_repairer import header, logged, put


def repaired(path: Path, runtime: Runtime) -> tuple[str, ...]:
    """Repair a database; return the steps of all rounds, which are of this repairer alone."""
    report = run_repair(RepairRequest(database=str(path), apply=True), runtime)
    assert report.applied and report.verdict_after is Verdict.SOUND, report.why
    assert {planned.repairer for planned in report.plan} == {"repair-header"}
    assert all(planned.lossless for planned in report.plan)
    return tuple(step for planned in report.plan for step in planned.steps)


def test_a_file_that_nothing_calls_a_database_is_one_again(tmp_path: Path, runtime: Runtime) -> None:
    """All 100 bytes are garbage, the magic too: the pages alone say what it is."""
    path = tmp_path / "app.db"
    path.write_bytes(build(page_size=512, rows=60, reserved=32, pragmas=("auto_vacuum=INCREMENTAL",)).data)
    before = rows(path)
    put(path, 0, random.Random(6).randbytes(100))
    (step,) = repaired(path, runtime)
    assert step.startswith("write the database header anew (magic, page size")
    assert rows(path) == before and header(path).reserved == 32


def test_commits_in_the_log_are_there_again(tmp_path: Path, runtime: Runtime) -> None:
    """The file's header is garbage, and the newest rows stand in the -wal alone."""
    path, count = logged(tmp_path, page_one=False)
    put(path, 0, random.Random(7).randbytes(100))
    repaired(path, runtime)
    found = rows(path)
    assert sum(found.values()) == count and found[b"t", b"short"] == 1


if os.environ.get("PAGEWARDEN_FULL"):

    def test_newlines_are_given_back(tmp_path: Path, runtime: Runtime) -> None:
        """A file that was transferred as text is what it was before; only the change counter has gone on."""
        path = tmp_path / "app.db"
        data = bytes(build(rows=60).data)
        path.write_bytes(data.replace(b"\n", b"\r\n"))
        assert repaired(path, runtime) == ("undo that every LF became CRLF",)
        after = path.read_bytes()
        assert [at for at, byte in enumerate(after) if byte != data[at]] == [27, 95]  # the change counter
        assert len(after) == len(data)

    @pytest.mark.parametrize("offset", [32, 1024 + 5])
    def test_freelist_and_pointer_map_are_made_anew(tmp_path: Path, runtime: Runtime, offset: int) -> None:
        """Garbage over the freelist's head, or in the middle of the first ptrmap page."""
        path = tmp_path / "app.db"
        path.write_bytes(build(rows=60, pragmas=("auto_vacuum=INCREMENTAL",)).data)
        before = rows(path)
        put(path, offset, b"\x5a" * 40 if offset > 100 else b"\0\0\1\1\0\0\0\2")
        (step,) = repaired(path, runtime)
        assert ("the pointer map" in step) is (offset > 100)
        assert rows(path) == before
