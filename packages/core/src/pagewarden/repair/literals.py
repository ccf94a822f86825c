"""Values of rows as SQL and as CSV say them, without loss: type, bytes and all."""

from __future__ import annotations

import math
import re

from pagewarden.contracts import SqlValue
from pagewarden.repair.cutouts import text_bytes

_PLAIN = re.compile(r"[^\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]*")
"""Text that a literal can hold as it is: no control character but tab and LF, nothing that is no UTF-8."""


def sql_literal(value: SqlValue) -> str:
    """Return a value as an SQL literal (lang_expr.html, "Literal Values").

    A text with control characters, with a NUL above all, or whose bytes are no UTF-8, is written as its bytes.
    """
    if value is None:
        return "NULL"
    if isinstance(value, str):
        if _PLAIN.fullmatch(value):
            return "'" + value.replace("'", "''") + "'"
        return f"CAST({_blob(text_bytes(value))} AS TEXT)"
    if isinstance(value, bytes):
        return _blob(value)
    if isinstance(value, float):
        return _real(value)
    # SQLite reads the digits of the smallest integer as a float, and negates that.
    return "(-9223372036854775807-1)" if value == -(1 << 63) else str(value)


def csv_field(value: SqlValue) -> str:
    """Return a value as a field of CSV (RFC 4180): texts in quotes, NULL as nothing, blobs as X'…' without quotes."""
    if value is None:
        return ""
    if isinstance(value, str):
        return '"' + value.replace('"', '""') + '"'
    if isinstance(value, bytes):
        return _blob(value)
    return _real(value) if isinstance(value, float) else str(value)


def _blob(data: bytes) -> str:
    return f"X'{data.hex()}'"


def _real(value: float) -> str:
    if math.isinf(value):
        return "9e999" if value > 0 else "-9e999"
    return repr(value)
