"""Which indexes the findings and flaws of a case condemn, and whether the tables allow to build them anew (H27).

An index is condemned by a finding about it, or by a flaw that a walk over its b-tree sees. Nothing is planned while the
walk sees a flaw in a table, or a finding says that a page of a table is not as it was: the rows come first. A page that
a table and an index use both is no flaw of the table. Where an index remembers rows that its table does not have, the
table is what is suspect (`repair.witnesses`): then to build it anew is the last resort. The tables that hold a
full-text index count as indexes.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from pagewarden.contracts import RepairCase
from pagewarden.errors import PagewardenError
from pagewarden.repair.witnesses import Witness, is_entry, witnesses
from pagewarden.sqlite.columns import buildable_indexes
from pagewarden.sqlite.schema import Layout, SchemaEntry, read_schema
from pagewarden.structure import FlawKind
from pagewarden.values import Finding, Severity
from pagewarden_repair_reindex.fulltext import full_texts

_UNIQUE = re.compile(r"\s*CREATE\s+UNIQUE\s", re.IGNORECASE)
_FULL_TEXT = frozenset({"full-text-index", "full-text-content"})
_OF_NO_TABLE = frozenset({FlawKind.TWICE, FlawKind.POINTER_MAP, FlawKind.UNUSED, FlawKind.NOT_NULL})
_OF_NO_INDEX = frozenset({FlawKind.POINTER_MAP})
# Findings that name a table, and may be an index's fault: the walk over the table's own pages says whether they are.
_SHARED = frozenset({"malformed", "double-reference", "unused-page"})
_BESIDE = frozenset({"bad-pointer-map", "bad-freelist", "index-mismatch", "duplicate-key"}) | _FULL_TEXT
# As long as one of these stands, page numbers mean nothing.
_OF_THE_FILE = frozenset({"truncated", "other-page-size", "shifted-bytes", "mangled-newlines"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Condemned:
    """An index, or a full-text table, that is to be built anew."""

    name: str
    table: str  # whose rows it is about
    unique: bool = False
    trees: tuple[str, ...] = ()  # full text: its tables that cannot be read, and are emptied first
    full_text: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Sentence:
    """What a case allows."""

    condemned: tuple[Condemned, ...] = ()
    findings: tuple[int, ...] = ()  # which of the case's findings that mends, by their place
    told: tuple[str, ...] = ()  # indexes with entries that their tables have no rows for
    witnesses: tuple[Witness, ...] = ()  # those that speak against their tables
    left: tuple[str, ...] = ()  # what must be left as it is, and why


def sentence(case: RepairCase) -> Sentence:
    """Return what is to be built anew. Raises PagewardenError where pages cannot be read."""
    wanted = [finding for finding in case.findings if finding.severity is Severity.DAMAGE or finding.kind in _FULL_TEXT]
    if not wanted or any(finding.kind in _OF_THE_FILE for finding in wanted):
        return Sentence()
    try:
        image = case.image
    except PagewardenError:
        return Sentence()  # not even the size of a page is known
    layout = Layout.of(image.page(1), page_size=image.page_size, pages=image.pages)
    entries = read_schema(image.page, layout)
    unrooted = _without_root(entries)
    if case.refused and not unrooted:
        return Sentence()  # something else keeps SQLite from opening it, and a walk would say nothing of use
    return _Court(case, entries, unrooted).sentence()


def _without_root(entries: Sequence[SchemaEntry]) -> frozenset[str]:
    """Return the indexes whose root page is none, or is another tree's, too: SQLite may refuse the whole schema."""
    roots = Counter(entry.root for entry in entries if entry.kind in ("table", "index"))
    return frozenset(each.name for each in entries if each.kind == "index" and (not each.root or roots[each.root] > 1))


class _Court:
    """One look at one case."""

    def __init__(self, case: RepairCase, entries: Sequence[SchemaEntry], unrooted: frozenset[str]) -> None:
        self._case = case
        self._entries = entries
        self._indexes = {entry.name: entry for entry in entries if entry.kind == "index"}
        self._tables = {entry.name: entry for entry in entries if entry.kind == "table"}
        trees = [tree.name for tree in case.trees]
        self._flaws = [(trees[flaw.tree], flaw) for flaw in case.flaws() if flaw.tree is not None]
        concerned = {finding.object for finding in case.findings if finding.object is not None}
        concerned.update(tree for tree, _ in self._flaws)
        self._full_texts = {table.name: table for table in full_texts(entries, concerned)}
        self._shadows = {tree: table for table in self._full_texts.values() for tree in table.indexes}
        self._flawed: dict[str, set[int]] = {}  # trees with flaws of their own, and the pages of these
        self._unrooted = unrooted
        self._known: dict[str, frozenset[str]] = {}  # by table: indexes that can be built here
        self._by_table: dict[str, list[SchemaEntry]] = {}
        for entry in self._indexes.values():
            self._by_table.setdefault(entry.table, []).append(entry)

    def sentence(self) -> Sentence:
        if not self._tables_are_sound():
            return Sentence()
        condemned: dict[str, list[int]] = {}
        for place, finding in enumerate(self._case.findings):
            name = self._guilty(finding)
            if name is not None:
                condemned.setdefault(name, []).append(place)
        for tree in (*self._flawed, *self._unrooted):
            condemned.setdefault(self._shadows[tree].name if tree in self._shadows else tree, [])
        if not condemned:
            return Sentence()
        built, left = [], []
        mended = [
            place
            for place, finding in enumerate(self._case.findings)
            if finding.kind in _SHARED and finding.severity is Severity.DAMAGE and self._guilty(finding) is None
        ]
        for name, places in condemned.items():
            one = self._condemn(name)
            fault = self._fault(one)
            if fault:
                left.append(f"{name}: {fault}")
            else:
                built.append(one)
                mended += places
        names = {one.name for one in built}
        names -= set(self._flawed)
        entries = [finding.object for finding in self._case.findings if is_entry(finding) and finding.object in names]
        return Sentence(
            condemned=tuple(built),
            findings=tuple(sorted(mended)),
            left=tuple(left),
            told=tuple(dict.fromkeys(name for name in entries if name is not None)),
            witnesses=witnesses(self._case, self._entries),
        )

    def _tables_are_sound(self) -> bool:
        """Return whether no table is damaged; sort out the flaws of indexes."""
        for name, flaw in self._flaws:
            if name not in self._indexes and name not in self._shadows:
                if flaw.kind not in _OF_NO_TABLE:
                    return False
            elif flaw.kind not in _OF_NO_INDEX:
                self._flawed.setdefault(name, set()).add(flaw.pgno)
        return not any(self._of_a_table(finding) for finding in self._case.findings)

    def _of_a_table(self, finding: Finding) -> bool:
        if finding.severity is not Severity.DAMAGE or finding.object is None or finding.object in self._shadows:
            return False
        return finding.object in self._tables and finding.kind not in _SHARED | _BESIDE

    def _guilty(self, finding: Finding) -> str | None:
        """Return the index or full-text table that a finding condemns."""
        if finding.object in self._full_texts and finding.kind in _FULL_TEXT:
            return finding.object
        if finding.severity is not Severity.DAMAGE or finding.kind == "bad-pointer-map":
            return None
        if finding.object in self._indexes:
            return finding.object
        if finding.object in self._shadows:
            return self._shadows[finding.object].name
        if finding.object is None and finding.pgno is not None:
            tree = next((tree for tree, pages in self._flawed.items() if finding.pgno in pages), None)
            return self._shadows[tree].name if tree in self._shadows else tree
        return None

    def _condemn(self, name: str) -> Condemned:
        if name in self._full_texts:
            trees = tuple(tree for tree in self._full_texts[name].indexes if tree in self._flawed)
            return Condemned(name=name, table=name, full_text=True, trees=trees)
        entry = self._indexes[name]
        unique = not entry.sql or _UNIQUE.match(entry.sql) is not None
        return Condemned(name=name, table=entry.table, unique=unique)

    def _fault(self, one: Condemned) -> str:
        """Return why this one cannot be built anew here; "" where it can."""
        table = self._tables.get(one.table)
        if one.full_text:
            return self._full_texts[one.name].fault
        if table is None:
            return "its table is not in the schema"
        index = self._indexes[one.name]
        if not table.sql or (not index.sql and not _is_automatic(index)):
            return ""  # a statement that is too long for a look at it: SQLite will see
        if one.name in self._buildable(table):
            return ""
        return "it needs what only the application has, such as a collation"

    def _buildable(self, table: SchemaEntry) -> frozenset[str]:
        """Return which indexes of a table can be built here."""
        if table.name not in self._known:
            indexes = self._by_table.get(table.name, ())
            self._known[table.name] = buildable_indexes((table, *indexes), table.name)
        return self._known[table.name]


def _is_automatic(index: SchemaEntry) -> bool:
    return index.name.lower().startswith("sqlite_autoindex_")
