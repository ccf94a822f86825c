"""Values of rows as SQL and as CSV say them, without loss: type, bytes and all."""

from __future__ import annotations

import math
import re
from decimal import Decimal
from fractions import Fraction

from pagewarden.contracts import SqlValue
from pagewarden.repair.cutouts import text_bytes

_PLAIN = re.compile(r"[^\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]*")
"""Text that a literal can hold as it is: no control character but tab and LF, nothing that is no UTF-8."""

_EXTENDED_BITS, _DOUBLE_BITS = 64, 53  # of the significands of a long double of x86, and of a double


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
        return _real_literal(value)
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


def _real_literal(value: float) -> str:
    """Return what every SQLite reads as this very float: its decimals, where no version reads them as a neighbour.

    Otherwise a whole number that is multiplied or divided by powers of two, which is exact. Before version 3.43 SQLite
    computed decimals in long double, of 64 bits here and of 53 there (sqlite3AtoF of util.c).
    """
    text = _real(value)
    if math.isinf(value) or _is_read_exactly(text):
        return text
    significand, two = value.as_integer_ratio()
    exponent = 1 - two.bit_length()
    if exponent == 0:
        exponent = (significand & -significand).bit_length() - 1
        significand >>= exponent
    steps = [str(1 << min(62, abs(exponent) - done)) for done in range(0, abs(exponent), 62)]
    return f"CAST({significand} AS REAL)" + "".join(("*" if exponent > 0 else "/") + step for step in steps)


def _is_read_exactly(text: str) -> bool:
    """Return whether one multiplication or division of exact floats, rounded once or twice, makes what `text` says."""
    _sign, digits, exponent = Decimal(text).as_tuple()
    significand = int("".join(map(str, digits)))
    if significand >= 1 << _DOUBLE_BITS or not isinstance(exponent, int) or abs(exponent) > 22:  # 10**23 is no float
        return False
    exact = significand * Fraction(10) ** exponent
    return _rounded(_rounded(exact, _EXTENDED_BITS), _DOUBLE_BITS) == _rounded(exact, _DOUBLE_BITS)


def _rounded(number: Fraction, bits: int) -> Fraction:
    """Return a number that is not negative rounded to so many bits, to the even one of two that are as near."""
    above = number.numerator.bit_length() - number.denominator.bit_length() - bits
    while number >= Fraction(2) ** (above + bits):
        above += 1
    unit = Fraction(2) ** above
    return round(number / unit) * unit
