"""What a checker reads of a live database: pages again, and their own checksums, in WAL mode and in slices."""

from __future__ import annotations

from pathlib import Path

import pytest

from pagewarden.check import CheckRequest, run_check
from pagewarden.contracts import Subject
from pagewarden.values import Finding, Verdict
from tests.core.check.checkers import Plugins
from tests.support.cksumvfs import build_reserved, seal
from tests.support.session import Session


@pytest.mark.parametrize("mode", ["wal", "delete"])
def test_pages_again_and_their_own_sums(plugins: Plugins, tmp_path: Path, mode: str) -> None:
    """H10, H11: of the commit that is judged, also where its newest pages stand in the -wal."""
    rows = "WITH c(i) AS (VALUES(1) UNION ALL SELECT i+1 FROM c WHERE i < 999) SELECT hex(randomblob(30)) AS a FROM c"
    path = seal(build_reserved(tmp_path / "app.db", f"CREATE TABLE t AS {rows}", mode=mode))
    seen: list[bytes] = []

    def look(subject: Subject) -> list[Finding]:
        image = subject.image
        assert [image.reread(pgno) for pgno in (1, 2, image.pages)] == [
            image.page(pgno) for pgno in (1, 2, image.pages)
        ]
        whole = image.reserved_sums(1, image.pages)
        assert whole[3:5] == image.reserved_sums(4, 2)
        for call in (image.reread, lambda pgno: image.reserved_sums(pgno, 1)):
            with pytest.raises(ValueError, match="not all within"):
                call(image.pages + 1)
        seen.append(whole)
        return []

    runtime = plugins.runtime(look)

    def judge() -> bytes:
        report = run_check(CheckRequest(database=str(path)), runtime)
        assert report.verdict is Verdict.SOUND, report.checkers
        return seen[-1]

    assert set(judge()) == {1}
    with Session(path) as writer:  # a plain SQLite, which fills in no sums
        writer.run("PRAGMA wal_autocheckpoint=0")
        writer.run("UPDATE t SET a = 'x' WHERE rowid = 500")
        holds = judge()
    assert holds.count(0) == (1 if mode == "wal" else 2)
