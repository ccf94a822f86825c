"""Names and texts of a database in SQL, whatever they hold (H29)."""

from __future__ import annotations

from collections.abc import Iterable

_ROWID_NAMES = ("rowid", "oid", "_rowid_")  # lang_createtable.html, "ROWIDs and the INTEGER PRIMARY KEY"


def quote(name: str) -> str:
    """Return a name as SQL quotes it."""
    return '"' + name.replace('"', '""') + '"'


def rowid_name(columns: Iterable[str]) -> str | None:
    """Return a name of the rowid that none of a table's `columns` has; None where they have all."""
    taken = {column.lower() for column in columns}
    return next((name for name in _ROWID_NAMES if name not in taken), None)


def as_text(data: bytes) -> str:
    """Return a text as far as it is UTF-8. For a connection's `text_factory`: damaged files have others, too."""
    return data.decode("utf-8", "replace")
