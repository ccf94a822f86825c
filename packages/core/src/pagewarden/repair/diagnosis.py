"""What findings amount to: the patterns of damage, by what they hurt, and what must have happened.

1. Some things explain everything: a file that was transferred as text, or of which nothing is a database any more.
2. Each finding goes to one pattern: by its kind, or by what its page is used for (`repair.roles`). What may only follow
   from damaged pages of tables and indexes goes to those: pages that nothing uses, a malformed object, an index at odds
   with a table that has lost pages.
3. A file that SQLite refuses is looked at itself: whether pages stand behind a header that is none.
4. What happened is concluded from the damaged pages and the restore points (`repair.happened`).

Little is read here: what the check has read is not read again.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from pagewarden.contracts import Damage, Pattern
from pagewarden.repair.happened import Stories
from pagewarden.repair.roles import Role, Roles
from pagewarden.repair.sight import Sight
from pagewarden.repair.wholes import explains_everything
from pagewarden.values import Finding, Severity

if TYPE_CHECKING:
    from pagewarden.contracts import RepairCase

_KINDS: Mapping[str, Damage] = {
    "bad-overflow": Damage.OVERFLOW,
    "bad-header": Damage.HEADER,
    "other-page-size": Damage.HEADER,
    "truncated": Damage.TRUNCATED,
    "bad-wal": Damage.LOG,
    "bad-wal-header": Damage.LOG,
    "stranded-commits": Damage.LOG,
    "foreign-wal": Damage.LOG,
    "lost-locks": Damage.LOG,
    "deleted-files": Damage.LOG,
    "foreign-key": Damage.RELATIONS,
    "foreign-key-mismatch": Damage.RELATIONS,
    "full-text-index": Damage.VIRTUAL,
    "full-text-content": Damage.VIRTUAL,
    "spatial-index": Damage.VIRTUAL,
    "mangled-newlines": Damage.NEWLINES,
}
"""Kinds that say by themselves what is hurt; the others are told by their page."""

_FOLLOWS: Mapping[str, Damage] = {
    "index-mismatch": Damage.INDEX,
    "duplicate-key": Damage.INDEX,
    "bad-freelist": Damage.FREELIST,
    "unused-page": Damage.FREELIST,
    "bad-pointer-map": Damage.POINTER_MAP,
    "malformed": Damage.OTHER,
    "structure": Damage.OTHER,
}
"""Kinds that follow from damaged pages of trees, too; what they say where there are none."""

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

_ROWS = (Damage.HEADER, Damage.SCHEMA, Damage.TRUNCATED, Damage.INTERIOR, Damage.PAGES, Damage.OVERFLOW)
"""Patterns in which rows may be lost, what explains most first."""

_OTHERS = (Damage.INDEX, Damage.FREELIST, Damage.POINTER_MAP)

_STRANGE = re.compile(r" has an entry that .* does not have$")

_NAMED = 5  # objects or pages in one sentence


def diagnose(case: RepairCase) -> tuple[Pattern, ...]:
    """Return what the findings of `case` amount to, in the order of `Damage`; notices are no damage."""
    wanted = [place for place, finding in enumerate(case.findings) if finding.severity is not Severity.NOTICE]
    if not wanted and not case.refused:
        return ()
    sight = Sight(case)
    stories = Stories(case, sight)
    whole = explains_everything(case)
    if whole is not None:
        return (_pattern(whole, wanted, case.findings, stories, frozenset({whole})),)
    groups = _grouped(case, wanted, sight)
    _merge_unhurt(groups, case, stories)
    return tuple(
        _pattern(damage, sorted(groups[damage]), case.findings, stories, groups.keys())
        for damage in Damage
        if damage in groups
    )


def _grouped(case: RepairCase, wanted: Iterable[int], sight: Sight) -> dict[Damage, list[int]]:
    roles = Roles(case, sight)
    cut_off = any(finding.kind == "truncated" for finding in case.findings)
    groups: dict[Damage, list[int]] = {}
    later: list[int] = []
    for place in wanted:
        finding = case.findings[place]
        damage = _KINDS.get(finding.kind) or _by_place(
            finding, sight.page_size, case.facts.file_size if cut_off else None
        )
        if damage is None and (finding.kind in _FOLLOWS or finding.pgno is None):
            later.append(place)
            continue
        role = roles.of_holder(finding) if finding.kind == "double-reference" else roles.of(finding)
        groups.setdefault(damage or _ROLES[role], []).append(place)
    objects = {damage: {case.findings[place].object for place in places} - {None} for damage, places in groups.items()}
    for place in later:
        finding = case.findings[place]
        groups.setdefault(_followed(finding, roles, objects), []).append(place)
    return groups


def _merge_unhurt(groups: dict[Damage, list[int]], case: RepairCase, stories: Stories) -> None:
    """Let what names only pages that are as they were committed go with those that are not: it follows from them."""
    unhurt = [
        damage for damage in (*_ROWS, *_OTHERS) if damage in groups and stories.unhurt(_pages(groups[damage], case))
    ]
    hurt = [
        damage
        for damage in (*_ROWS, *_OTHERS)
        if damage in groups and damage not in unhurt and _pages(groups[damage], case)
    ]
    for damage in unhurt if hurt else ():
        groups[hurt[0]] += groups.pop(damage)


def _pages(places: Iterable[int], case: RepairCase) -> list[int]:
    return sorted({pgno for place in places if (pgno := case.findings[place].pgno) is not None})


def _by_place(finding: Finding, page_size: int, cut_off: int | None) -> Damage | None:
    """Return what the place of a finding says alone: behind the byte at which a file was cut off, or in the schema."""
    if cut_off is not None and finding.pgno is not None:
        return Damage.TRUNCATED if finding.pgno * page_size > cut_off else None
    if finding.kind == "malformed" and "database schema" in f"{finding.message} {finding.evidence}":
        return Damage.SCHEMA
    return None


def _followed(finding: Finding, roles: Roles, objects: Mapping[Damage, set[str | None]]) -> Damage:
    """Return the pattern of what may follow from another: that of the same object, or else the one that explains it."""
    named = finding.object
    table = roles.table_of(named) if named is not None else None
    for damage in (*_ROWS, Damage.INDEX):
        if damage in objects and ({named, table} & objects[damage]) - {None}:
            return damage
    if finding.kind in ("bad-freelist", "unused-page", "bad-pointer-map", "malformed", "structure"):
        for damage in (*_ROWS, Damage.INDEX):
            if damage in objects and (named is None or damage in _ROWS[:3]):
                return damage
    if finding.kind in _FOLLOWS and _FOLLOWS[finding.kind] is not Damage.OTHER:
        return _FOLLOWS[finding.kind]
    return Damage.INDEX if named is not None and roles.is_index(named) else Damage.OTHER


def _pattern(
    damage: Damage,
    places: Sequence[int],
    findings: Sequence[Finding],
    stories: Stories,
    beside: Iterable[Damage],
) -> Pattern:
    mine = [findings[place] for place in places]
    pages = tuple(sorted({finding.pgno for finding in mine if finding.pgno is not None}))
    objects = tuple(sorted({finding.object for finding in mine if finding.object is not None}))
    story = stories.of(damage, mine, pages)
    return Pattern(
        damage=damage,
        text=_text(damage, mine, beside) + _extent(pages, objects),
        findings=tuple(places),
        pages=pages,
        objects=objects,
        happened=story.happened,
        between=story.between,
        prevent=story.prevent,
    )


def _text(damage: Damage, findings: Sequence[Finding], beside: Iterable[Damage]) -> str:
    if damage is Damage.INDEX and set(beside) & set(_ROWS):
        return "indexes are damaged, or at odds with tables that lost pages"
    if damage is Damage.INDEX and any(_STRANGE.search(each.message) for each in findings):
        return "indexes have entries that their tables do not: either is stale, so rows may be lost"
    if damage is Damage.FREELIST and {each.kind for each in findings} == {"unused-page"}:
        return "pages are in no tree and not in the list of free pages: that list is at fault, or the way to them"
    if damage is Damage.OTHER and findings and all(each.severity is Severity.VIOLATION for each in findings):
        return "rows break rules of the owner's; no page is damaged by that"
    return _TEXTS[damage]


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
