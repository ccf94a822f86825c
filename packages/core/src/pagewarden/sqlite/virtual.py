"""Which module a virtual table is made with, and what its rows stand in: read from its statement."""

from __future__ import annotations

import re
import sqlite3
from dataclasses import dataclass

_NAME = r"""(?:"(?:[^"]|"")*"|'(?:[^']|'')*'|`(?:[^`]|``)*`|\[[^\]]*\]|[^\s"'`\[(.]+)"""
_STATEMENT = re.compile(rf"CREATE\s+VIRTUAL\s+TABLE\s+{_NAME}\s+USING\s+({_NAME})(.*)", re.IGNORECASE | re.DOTALL)
_CONTENT = re.compile(rf"[(,]\s*content\s*=\s*({_NAME}?)\s*[,)]", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class VirtualTable:
    """A virtual table of the schema."""

    name: str
    module: str  # in small letters; "" where the statement was not understood
    content: str | None  # full text: the table that holds the rows, "" for none; None: the rows are its own


def virtual_tables(connection: sqlite3.Connection) -> tuple[VirtualTable, ...]:
    """Return all virtual tables. Raises sqlite3.DatabaseError."""
    rows = connection.execute(
        "SELECT name, coalesce(sql, '') FROM sqlite_master"
        " WHERE type = 'table' AND coalesce(rootpage, 0) = 0 ORDER BY name"
    )
    return tuple(virtual_table(str(name), str(sql)) for name, sql in rows)


def virtual_table(name: str, sql: str) -> VirtualTable:
    """Return what the statement `sql` of a virtual table says."""
    statement = _STATEMENT.match(sql)
    if statement is None:
        return VirtualTable(name=name, module="", content=None)
    content = _CONTENT.search(statement[2])
    return VirtualTable(
        name=name,
        module=_bare(statement[1]).lower(),
        content=None if content is None else _bare(content[1]),
    )


def _bare(name: str) -> str:
    """Return a name without its quotes."""
    return name[1:-1] if name[:1] in ("'", '"', "`", "[") else name
