"""What findings amount to: the patterns of damage, by what they hurt, and what must have happened.

1. Each finding goes to one pattern: by its kind, or by what its page is used for. That is told by the page's first
   byte, where it is still one of a b-tree's; else by what a backup has there, or by the table or index that was named.
2. A file that SQLite refuses is looked at itself: whether its pages stand behind a header that is none.
3. What happened is concluded from the damaged pages and the restore points (`repair.happened`).

Little is read here: what the check has read is not read again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from pagewarden.contracts import Damage, Pattern
from pagewarden.repair.roles import Role, Roles
from pagewarden.values import Finding, Severity

if TYPE_CHECKING:
    from pagewarden.contracts import RepairCase

_KINDS: Mapping[str, Damage] = {
    "index-mismatch": Damage.INDEX,
    "duplicate-key": Damage.INDEX,
    "bad-freelist": Damage.FREELIST,
    "unused-page": Damage.FREELIST,
    "bad-pointer-map": Damage.POINTER_MAP,
    "bad-overflow": Damage.OVERFLOW,
    "bad-header": Damage.HEADER,
    "other-page-size": Damage.HEADER,
    "truncated": Damage.TRUNCATED,
    "bad-wal": Damage.LOG,
    "bad-wal-header": Damage.LOG,
    "stranded-commits": Damage.LOG,
    "foreign-wal": Damage.LOG,
    "foreign-key": Damage.RELATIONS,
    "foreign-key-mismatch": Damage.RELATIONS,
    "full-text-index": Damage.VIRTUAL,
    "full-text-content": Damage.VIRTUAL,
    "spatial-index": Damage.VIRTUAL,
    "mangled-newlines": Damage.NEWLINES,
}
"""Kinds that say by themselves what is hurt; the others are told by their page."""

_ROLES: Mapping[Role, Damage] = {
    Role.HEADER: Damage.HEADER,
    Role.SCHEMA: Damage.SCHEMA,
    Role.INDEX: Damage.INDEX,
    Role.TABLE_INTERIOR: Damage.INTERIOR,
    Role.TABLE_LEAF: Damage.PAGES,
    Role.OVERFLOW: Damage.OVERFLOW,
    Role.FREELIST: Damage.FREELIST,
    Role.POINTER_MAP: Damage.POINTER_MAP,
    Role.UNKNOWN: Damage.PAGES,
}

_NAMED = 5  # objects or pages in one sentence


def diagnose(case: RepairCase) -> tuple[Pattern, ...]:
    """Return what the findings of `case` amount to, in the order of `Damage`; notices are no damage."""
    roles = Roles(case)
    groups: dict[Damage, list[int]] = {}
    for place, finding in enumerate(case.findings):
        if finding.severity is not Severity.NOTICE:
            groups.setdefault(_damage(finding, roles), []).append(place)
    return tuple(_pattern(damage, groups[damage], case.findings) for damage in Damage if damage in groups)


def _damage(finding: Finding, roles: Roles) -> Damage:
    if finding.kind in _KINDS:
        return _KINDS[finding.kind]
    if finding.pgno is not None:
        return _ROLES[roles.of(finding)]
    if finding.object is not None and roles.is_index(finding.object):
        return Damage.INDEX
    return Damage.OTHER


def _pattern(damage: Damage, places: Sequence[int], findings: Sequence[Finding]) -> Pattern:
    mine = [findings[place] for place in places]
    pages = tuple(sorted({finding.pgno for finding in mine if finding.pgno is not None}))
    objects = tuple(sorted({finding.object for finding in mine if finding.object is not None}))
    return Pattern(
        damage=damage,
        text=_TEXTS[damage] + _extent(pages, objects),
        findings=tuple(places),
        pages=pages,
        objects=objects,
    )


_TEXTS: Mapping[Damage, str] = {
    Damage.INDEX: "indexes are damaged or stale; their tables hold every row",
    Damage.FREELIST: "the list of free pages does not hold together; no row stands in them",
    Damage.POINTER_MAP: "the pointer map contradicts the b-trees, which hold every row",
    Damage.PAGES: "single pages of tables are damaged",
    Damage.INTERIOR: "interior pages of tables are damaged, which lead to others with rows",
    Damage.OVERFLOW: "overflow chains are damaged, in which long rows go on",
    Damage.HEADER: "the database header is damaged",
    Damage.SCHEMA: "the page of the schema is damaged, which leads to all tables",
    Damage.TRUNCATED: "the file ends before the database does",
    Damage.LOG: "the write-ahead log is damaged, or not this database's",
    Damage.RELATIONS: "rows name rows that are not there",
    Damage.VIRTUAL: "the tables behind a full-text or spatial index contradict each other",
    Damage.NEWLINES: "the file was transferred as text: its newlines were changed",
    Damage.GARBAGE: "nothing of the file is a database any more",
    Damage.OTHER: "findings that no pattern explains",
}


def _extent(pages: Sequence[int], objects: Sequence[str]) -> str:
    parts = []
    if objects:
        parts.append(_some(objects))
    if pages:
        parts.append(f"page{'' if len(pages) == 1 else 's'} {_some([str(pgno) for pgno in pages])}")
    return f" ({'; '.join(parts)})" if parts else ""


def _some(names: Iterable[str]) -> str:
    listed = list(names)
    more = f" and {len(listed) - _NAMED} more" if len(listed) > _NAMED else ""
    return ", ".join(listed[:_NAMED]) + more
