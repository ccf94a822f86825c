"""The repairer: the plan, and what it is proven by."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pagewarden.contracts import Loss, PastImage, RepairBench, RepairCase, RepairStep, Stage
from pagewarden.errors import PagewardenError

if TYPE_CHECKING:
    from pagewarden_repair_splice.difference import Difference

_LOG = frozenset({"bad-wal", "bad-wal-header", "stranded-commits", "foreign-wal"})
_SHOWN = 8  # runs of pages that a step names
_NAMED = 5  # tables and indexes that it names
_OWNERS, _BUDGET, _SECONDS = 16, 4000, 0.8  # pages whose owner is looked for where no finding names it, and how long


class SpliceRepairer:
    """Puts back every page that differs from the last commit, where a repository proves what that was (H26).

    All pages go back at once: what stands there afterwards is the recorded position and nothing else, so the header, a
    trunk or a ptrmap page may be among them. Where the last commit is not proven, no page is.
    """

    name = "repair-splice"

    def plan(self, case: RepairCase) -> Sequence[RepairStep]:
        """Return one step, or none where nothing is proven or nothing differs."""
        history = case.history
        present = None if history is None else history.present
        if history is None or present is None:
            return ()
        from pagewarden_repair_splice.difference import compare, sums_of  # here, because most commands plan no repair

        difference = compare(case, present)
        aside = case.log is not None and any(finding.kind in _LOG for finding in case.findings)
        if difference.same and not aside:
            return ()
        names = _objects(case, present, difference)
        return (
            RepairStep(
                text=_text(present, difference, log=case.log is not None),
                why=f"{history.why}; the sum of every page is recorded there{f', of {names}' if names else ''}",
                loss=Loss.PROVEN,
                stage=Stage.PAGES,
                task={
                    "timeline": present.position.timeline,
                    "txid": present.position.txid,
                    "database_sum": f"{sums_of(present):016x}",
                },
            ),
        )

    def apply(self, bench: RepairBench, steps: Sequence[RepairStep]) -> None:
        """Put the pages back, and compare the database sum of what stands there then."""
        from pagewarden_repair_splice.splicing import splice

        for step in steps[:1]:  # one is all
            splice(bench, step.task)


def _text(present: PastImage, difference: Difference, *, log: bool) -> str:
    done = []
    if difference.pages:
        done.append(f"put back {_runs(difference)} as recorded at position {present.position}")
    if difference.bytes_over:
        done.append(f"cut {difference.bytes_over} bytes off the end of the file")
    if difference.bytes_missing:
        done.append(f"put back {difference.bytes_missing} bytes at the end of the file")
    if log:
        done.append(f"set the -wal aside, whose commits position {present.position} has")
    return ", ".join(done)


def _runs(difference: Difference) -> str:
    shown = [
        str(first) if count == 1 else f"{first} to {first + count - 1}" for first, count in difference.runs[:_SHOWN]
    ]
    more = "" if len(difference.runs) <= _SHOWN and difference.whole else " and others"
    if difference.pages == 1:
        return f"page {shown[0]}"
    return f"{difference.pages} pages, {', '.join(shown)}{more},"


def _objects(case: RepairCase, present: PastImage, difference: Difference) -> str:
    """Return the names of tables and indexes that have pages among those: what findings say, else what is found."""
    from pagewarden.sqlite.owner import find_owners
    from pagewarden.sqlite.schema import Layout
    from pagewarden_repair_splice.difference import pages_of

    pages = [pgno for first, count in difference.runs[:_OWNERS] for pgno in range(first, first + min(count, _OWNERS))]
    known = {finding.pgno: finding.object for finding in case.findings if finding.object}
    unknown = [pgno for pgno in pages[:_OWNERS] if pgno not in known]
    names = {name for pgno in pages if (name := known.get(pgno))}
    try:
        layout = Layout.of(present.page(1), page_size=present.page_size, pages=present.pages)
        owners = find_owners(
            pages_of(case, present, difference), unknown, layout, overflow=False, budget=_BUDGET, seconds=_SECONDS
        )
    except PagewardenError:  # the repository fails: what the pages are of is not worth the plan
        owners = {}
    names |= {owner.object for owner in owners.values() if owner.object}
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(sorted(names)[:_NAMED]) + more
