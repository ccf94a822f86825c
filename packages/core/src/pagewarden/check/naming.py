"""Findings get the name of the table or index whose page they are about, and the next command to type."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from pagewarden.check.images import ImageMoved
from pagewarden.check.source import MakeImage, Source
from pagewarden.check.subject import DeadlinePassed
from pagewarden.errors import PagewardenError
from pagewarden.sqlite.owner import SECONDS, Owner, find_owners
from pagewarden.sqlite.schema import Layout
from pagewarden.values import Finding, Severity

if TYPE_CHECKING:
    from pagewarden.check.run import CheckRequest
    from pagewarden.contracts import FileFacts
    from pagewarden.processes.reader import Attachment

BUDGET = 20_000
"""How many pages are read to find the owners of all pages that findings name."""

_UNUSED = "unused-page"  # a walk over all trees has just said that it is nobody's


def name_owners(findings: Sequence[Finding], source: Source, guard: Callable[[], None]) -> tuple[Finding, ...]:
    """Fill in table, index and row where a finding names a page alone; what cannot be found stays as it is.

    The trees are those of the database under judgement, which may be damaged: a name is a help, never evidence.
    `guard` is called before each page is read and may raise to end the search.
    """
    nameless = [each for each in findings if each.object is None and each.kind != _UNUSED]
    pgnos = {finding.pgno for finding in nameless if finding.pgno is not None}
    if not pgnos:
        return tuple(findings)

    def work(make: MakeImage, _: FileFacts, attachment: Attachment | None) -> dict[int, Owner]:
        if attachment is None:  # SQLite refuses the file: there is no tree to walk
            return {}
        image = make(guard)
        if not image.pages:
            return {}
        layout = Layout.of(image.page(1), page_size=image.page_size, pages=image.pages)
        return find_owners(image.page, pgnos, layout, budget=BUDGET, seconds=SECONDS)

    try:
        owners = source.with_image(work)
    except (PagewardenError, DeadlinePassed, ImageMoved):
        return tuple(findings)
    return tuple(_named(finding, owners) for finding in findings)


def _named(finding: Finding, owners: dict[int, Owner]) -> Finding:
    owner = owners.get(finding.pgno or 0)
    if owner is None or finding.object is not None:
        return finding
    rowid = owner.rowid if finding.rowid is None else finding.rowid
    return replace(finding, object=owner.object, rowid=rowid, message=f"{finding.message} ({owner})")


def with_hints(findings: Sequence[Finding], request: CheckRequest, path: str, name: str) -> tuple[Finding, ...]:
    """Give damage without a hint the command that brings the database back, beside the damaged one."""
    if request.repository is None:
        hint = "pagewarden backups --repo URL lists what can be restored"
    else:
        to = f"{path}.restored"
        hint = shlex.join(["pagewarden", "restore", "--repo", request.repository, "--db", name, "--to", to])
    return tuple(
        replace(finding, hint=hint) if finding.severity is Severity.DAMAGE and not finding.hint else finding
        for finding in findings
    )
