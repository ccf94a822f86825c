"""Which restore points hold the damage themselves: those of backups that were made after it happened.

A backup copies a damaged page as it stands (its own quick check cannot see most damage), and a database put together
from it is as damaged as before. So where a page that a finding is about stands in the newest restore point as it does
in the file, that restore point is fetched and checked; older ones with the same versions of these pages count as it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from pagewarden.check import CheckRequest, run_check
from pagewarden.check.run import choose_checkers
from pagewarden.check.scratch import Scratch
from pagewarden.check.source import open_source
from pagewarden.contracts.checking import is_relational
from pagewarden.errors import DatabaseUnreadable, NotADatabase, PagewardenError
from pagewarden.times import format_moment
from pagewarden.values import Finding, Severity, Verdict

if TYPE_CHECKING:
    from pagewarden.check.baseline import StoredImage
    from pagewarden.check.source import MakeImage
    from pagewarden.contracts import FileFacts
    from pagewarden.processes.reader import Attachment
    from pagewarden.repository import Manifest, Repository
    from pagewarden.repository.view import View
    from pagewarden.runtime import Runtime

COMPARING = "check-pages"
"""The checker that compares with a backup: what it finds differs there."""

_UNUSED = "unused-page"  # what led to such a page is damaged, and it stands as it stood

_MOST = 64
"""Damaged pages that are compared: one is enough to suspect a restore point."""


class Taint:
    """Looks whether restore points of one database hold what was found in it."""

    def __init__(self, runtime: Runtime, path: str, findings: Sequence[Finding]) -> None:
        """`path` is the database's own, real one."""
        self._runtime = runtime
        self._path = path
        self._findings = findings
        self._sums: Mapping[int, bytes] | None = None  # of the damaged pages, as they stand now
        self._page_size = 0
        self._known: list[frozenset[int]] = []  # sets of pages with which a restore point was found damaged

    def why(self, image: StoredImage, manifest: Manifest, view: View, repository: Repository) -> str:
        """Return why a restore point is not to be gone back to, a clause; empty where nothing speaks against it.

        Raises RepositoryDamaged, TargetFailed, OutOfSpace.
        """
        same = self._same(image)
        if not same:
            return ""
        if not self._among_known(same):
            if not self._is_damaged(manifest, view, repository):
                return ""
            self._known.append(same)
        return f"the restore point of {format_moment(manifest.position.time)} holds the damage itself"

    def known(self, image: StoredImage) -> bool:
        """Whether a restore point has damaged pages as one has that was found to hold the damage."""
        same = self._same(image)
        return bool(same) and self._among_known(same)

    def _among_known(self, same: frozenset[int]) -> bool:
        return any(same <= known for known in self._known)

    def _same(self, image: StoredImage) -> frozenset[int]:
        """Return the damaged pages that stand in a restore point as they do in the file."""
        if self._sums is None:
            self._sums = self._now()
        if image.page_size != self._page_size:
            return frozenset()
        return frozenset(
            pgno for pgno, known in self._sums.items() if pgno <= image.pages and image.sums(pgno, 1) == known
        )

    def _now(self) -> Mapping[int, bytes]:
        """Return the sums of the damaged pages; none where they cannot be had."""
        damage = [each for each in self._findings if each.severity is Severity.DAMAGE and each.checker != COMPARING]
        pgnos = sorted({each.pgno for each in damage if each.pgno is not None and each.kind != _UNUSED})[:_MOST]
        if not pgnos:
            return {}

        def work(make: MakeImage, _: FileFacts, attachment: Attachment | None) -> Mapping[int, bytes]:
            image = make(_nobody)
            self._page_size = image.page_size if attachment is not None else 0
            return {pgno: image.sums(pgno, 1) for pgno in pgnos if pgno <= image.pages}

        try:
            source = open_source(self._path, self._runtime, None, lambda: None, _told)
            try:
                return source.with_image(work)
            finally:
                source.close()
        except PagewardenError:  # what keeps it from being read, the check has said
            return {}

    def _is_damaged(self, manifest: Manifest, view: View, repository: Repository) -> bool:
        from pagewarden.restore.write import write_chain

        scratch = Scratch()
        try:
            to = scratch.path / "point.db"
            write_chain(view.chain(manifest), to, repository=repository, reader=self._runtime.reader, read_back=False)
            standard = choose_checkers(self._runtime, CheckRequest(database=str(to)))
            only = tuple(each.name for each in standard if not is_relational(each))
            report = run_check(CheckRequest(database=str(to), only=only), self._runtime, private=True)
            return report.verdict is Verdict.DAMAGED
        except (NotADatabase, DatabaseUnreadable):  # SQLite refuses it
            return True
        finally:
            scratch.close()


def _nobody() -> None:
    """Let it take its time."""


def _told(name: str, seconds: float, **fields: object) -> None:
    """Tell nobody."""
