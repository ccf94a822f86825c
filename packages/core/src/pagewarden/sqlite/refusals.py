"""What it means when SQLite ends a judgement with an error: damage, a lack of what the application has, or neither.

The texts differ between SQLite's versions (H9), so that error codes decide where they can.
"""

from __future__ import annotations

import re
import sqlite3
from dataclasses import dataclass

_DAMAGED = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
# A statement that is wrong; SQLITE_SCHEMA where it is the first one of a connection.
_WRONG = frozenset({sqlite3.SQLITE_ERROR, sqlite3.SQLITE_SCHEMA, sqlite3.SQLITE_AUTH})
# The limits of sqlite3_limit() have no error code, but for that of a value's length.
_LIMIT = re.compile(r"\btoo (large|many|big)\b|\bat most \d+ tables in a join|parser stack overflow", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """Why SQLite did not go on, where that says something of the database."""

    damage: bool  # whether the file is at fault; otherwise it needs what this SQLite has not (H7)
    message: str  # SQLite's own


def refusal_of(error: sqlite3.DatabaseError | UnicodeDecodeError) -> Refusal | None:
    """Tell damage from a database that this SQLite alone cannot judge; None for an error that says nothing of the file.

    An interrupt, a lock, a full disk are such; the caller raises them on, as `refusal_or_raise` does.
    """
    if isinstance(error, UnicodeDecodeError):
        # Python could not make an exception of SQLite's message, which quotes a name of the schema.
        message = error.object.decode("utf-8", "replace")
        return Refusal(damage="malformed" in message, message=message)
    message = str(error)
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if "unsafe use of" in message:  # SQLite calls a schema malformed for a function that it does not trust in it
        return Refusal(damage=False, message=f"it needs a function that is not trusted in a schema: {message}")
    # No SQLite writes a schema format above 4, and this error is the only sign of one.
    if code in _DAMAGED or "unsupported file format" in message:
        return Refusal(damage=True, message=message)
    if code == sqlite3.SQLITE_TOOBIG or (code in _WRONG and _LIMIT.search(message)):
        return Refusal(damage=False, message=f"it goes beyond a limit of this sqlite: {message}")
    if code in _WRONG:  # no such tokenizer, collation, function or module: the application would have it
        return Refusal(damage=False, message=f"it needs what only the application has: {message}")
    return None


def refusal_or_raise(error: sqlite3.DatabaseError | UnicodeDecodeError) -> Refusal:
    """Return what an error says of the database; raise what says nothing of it."""
    refusal = refusal_of(error)
    if refusal is None:
        raise error
    return refusal
