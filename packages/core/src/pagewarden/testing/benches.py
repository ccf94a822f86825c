"""A repair without a run: a case over a closed file, and a bench over a copy, for those who write repairers.

Unlike a run's, both work in the calling process, and what is cut out is kept in memory. That is right for a file that
nobody else has open.
"""

from __future__ import annotations

import os
import sqlite3
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from urllib.parse import quote

from pagewarden.contracts import FileFacts, Pattern, RepairHistory, RepairPolicy, SqlValue
from pagewarden.errors import NotADatabase, PagewardenError
from pagewarden.repair.inference import infer
from pagewarden.repair.inferred import Inference
from pagewarden.sqlite.describe import describe_trees
from pagewarden.sqlite.header import HEADER_SIZE, HeaderInvalid
from pagewarden.sqlite.schema import Layout
from pagewarden.structure import Flaw, Tree, WalSurvey
from pagewarden.testing.subjects import FileImage
from pagewarden.values import Finding


class ClosedCase:
    """A `RepairCase` over a closed file, as it was when this was made; without its log, unless one is given."""

    def __init__(
        self,
        path: Path,
        findings: Sequence[Finding] = (),
        *,
        refused: str = "",
        patterns: Sequence[Pattern] = (),
        log: WalSurvey | None = None,
        history: RepairHistory | None = None,
        policy: RepairPolicy | None = None,
    ) -> None:
        """The file is read once, now."""
        self.path = os.path.realpath(path)
        self.findings = tuple(findings)
        self.refused = refused
        self.patterns = tuple(patterns)
        self.log = log
        self.history = history
        self.policy = RepairPolicy() if policy is None else policy
        self._data = path.read_bytes()
        log_path = path.with_name(f"{path.name}-wal")
        self._log_data = log_path.read_bytes() if log_path.exists() else b""
        self._image: FileImage | None = None
        self._error: PagewardenError | None = None
        try:
            self._image = FileImage(path)
        except HeaderInvalid as error:
            self._error = NotADatabase(f"{path} is not a database: {error}")
        mode = "wal" if self._data[18:20] == b"\2\2" else "rollback"
        claimed = 0 if self._image is None else self._image.claimed
        self.facts = FileFacts(file_size=len(self._data), journal_mode=mode, claimed_pages=claimed)

    @property
    def image(self) -> FileImage:
        """The pages of the file. Raises PagewardenError where its header is none."""
        if self._image is None:
            assert self._error is not None
            raise self._error
        return self._image

    @property
    def trees(self) -> Sequence[Tree]:
        """The b-trees of the schema."""
        image = self._image
        if image is None or not image.pages:
            return ()
        layout = Layout.of(image.page(1), page_size=image.page_size, pages=image.pages)
        return describe_trees(image.page, layout).trees

    def flaws(self) -> Sequence[Flaw]:
        """Return what a walk over the whole structure sees."""
        if self._image is None:
            return ()
        return tuple(flaw for step in self._image.structure(self.trees) for flaw in step.flaws)

    def inferred(self) -> Inference:
        """Return what the pages, those of a log beside the file among them, say of header, freelist and pointer map."""
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(folder) / "inferred.db"
            copy.write_bytes(self._data)
            copy.with_name("inferred.db-wal").write_bytes(self._log_data)
            return infer(str(copy))

    def file(self, offset: int, length: int) -> bytes:
        """Return bytes of the file."""
        return self._data[offset : offset + length]


class ClosedBench:
    """A `RepairBench` over the closed file `database`, which it changes. What is cut out stands in its attributes."""

    def __init__(self, database: Path, scratch: Path, case: ClosedCase) -> None:
        """`scratch` is an empty folder on the same file system; `case` is what was planned for."""
        self.database = database
        self.scratch = scratch
        self.cut_pages: list[tuple[int, bytes, str]] = []  # page number, what stood there, and why it was cut out
        self.cut_ends: list[tuple[int, bytes, str]] = []  # offset in bytes, what stood from there on, and why
        self.cut_rows: list[tuple[str, tuple[str, ...], tuple[tuple[SqlValue, ...], ...], str]] = []
        self.cut_files: dict[str, bytes] = {}  # by the name in the quarantine
        self.notes: dict[str, dict[str, int]] = {}  # by table
        self.told: list[tuple[int, int]] = []  # of the progress
        self._planned = case

    @property
    def case(self) -> ClosedCase:
        """What is known of the file as it is now, with the findings that were planned for."""
        planned = self._planned
        return ClosedCase(
            self.database,
            planned.findings,
            refused=planned.refused,
            patterns=planned.patterns,
            log=planned.log,
            history=planned.history,
            policy=planned.policy,
        )

    def connect(self) -> sqlite3.Connection:
        """Return a connection that may write, in autocommit mode; its caller closes it."""
        connection = sqlite3.connect(f"file:{quote(str(self.database))}?mode=rw", uri=True, isolation_level=None)
        connection.execute("PRAGMA trusted_schema=0")
        return connection

    def attachable(self, path: Path) -> str:
        """Return a URI for ATTACH."""
        return f"file:{quote(str(path))}?mode=ro"

    def read(self, pgno: int, page_size: int) -> bytes:
        """Return a page of the file, short or empty behind its end."""
        with self.database.open("rb") as file:
            file.seek((pgno - 1) * page_size)
            return file.read(page_size)

    def write(self, pgno: int, data: bytes, why: str) -> None:
        """Write a page, and keep what stood there."""
        if pgno < 1 or len(data) < HEADER_SIZE:
            raise ValueError(f"page {pgno} of {len(data)} bytes")
        self.cut_pages.append((pgno, self.read(pgno, len(data)), why))
        with self.database.open("r+b") as file:
            file.seek((pgno - 1) * len(data))
            file.write(data)

    def resize(self, size: int, why: str) -> None:
        """Cut the file, and keep what is cut off, or fill it up."""
        with self.database.open("r+b") as file:
            file.seek(size)
            rest = file.read()
            if rest:
                self.cut_ends.append((size, rest, why))
            file.truncate(size)

    def replace(self, file: Path, why: str) -> None:  # noqa: ARG002 - of the protocol
        """Let `file` become the database."""
        self.cut_files[f"replaced-{len(self.cut_files)}"] = self.database.read_bytes()
        file.replace(self.database)
        for suffix in ("-wal", "-shm", "-journal"):
            self.database.with_name(self.database.name + suffix).unlink(missing_ok=True)

    def keep_rows(self, table: str, columns: Sequence[str], rows: Iterable[Sequence[SqlValue]], why: str) -> int:
        """Keep rows; return how many."""
        kept = tuple(tuple(row) for row in rows)
        self.cut_rows.append((table, tuple(columns), kept, why))
        return len(kept)

    def keep_file(self, file: Path, name: str, why: str) -> None:  # noqa: ARG002 - of the protocol
        """Take a file away, and keep what it held."""
        self.cut_files[name] = file.read_bytes()
        file.unlink()

    def note(self, table: str, **counts: int) -> None:
        """Add to the counts of a table."""
        noted = self.notes.setdefault(table, {})
        for name, count in counts.items():
            noted[name] = noted.get(name, 0) + count

    def progress(self, done: int, total: int) -> None:
        """Note it."""
        self.told.append((done, total))
