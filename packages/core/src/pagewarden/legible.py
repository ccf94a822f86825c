"""Sizes, times and names for people, and nothing that a hostile file could say to whoever reads it (H29)."""

from __future__ import annotations

import re
import unicodedata
from datetime import UTC, datetime

UNITS = ("KiB", "MiB", "GiB", "TiB", "PiB")


def size(count: int) -> str:
    """Return a number of bytes, such as "21.3 MiB"."""
    if count < 1024:
        return f"{count} B"
    value = float(count)
    unit = "B"
    for unit in UNITS:
        value /= 1024
        if value < 1023.95 or unit == UNITS[-1]:
            break
    return f"{value:.1f} {unit}"


def number(count: int, what: str = "") -> str:
    """Return `count` with its thousands apart, and with `what` in the singular or plural."""
    text = f"{count:,}"
    if not what:
        return text
    return f"{text} {what}" if count == 1 else f"{text} {what}s"


def seconds(value: float) -> str:
    """Return a duration, such as "7 ms", "0.41 s" or "3 min 20 s"."""
    if value < 0.0995:
        return f"{value * 1000:.0f} ms"
    if value < 60:
        return f"{value:.2f} s" if value < 10 else f"{value:.1f} s"
    minutes, rest = divmod(round(value), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def moment(time: datetime) -> str:
    """Return a time in UTC to the second."""
    return time.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def safe(text: str) -> str:
    """Return `text` with control characters and what would reorder a line escaped.

    Names of tables and messages of SQLite come from the file: an escape sequence among them could rewrite what the
    terminal shows (H29). Bytes of a path that are no UTF-8 are escaped, too.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(character if _harmless(character) else _escape(character) for character in text)


# What shlex.quote makes of a text, as a word: parts in single quotes, and "'" where the text had one.
_QUOTED = re.compile(r"""(?<![^\s=])'[^']*'(?:"'"'[^']*')*""")


def safe_command(text: str) -> str:
    """Return `text` with a command in it as `safe` does, but so that a shell still reads the same file names.

    What has to be escaped in an argument that shlex.quote has quoted is written as bash, zsh and ksh read it: $'…'.
    """
    return text if safe(text) == text else safe(_QUOTED.sub(lambda match: _requote(match[0]), text))


def _requote(quoted: str) -> str:
    if safe(quoted) == quoted:
        return quoted
    return "$'" + "".join(map(_shell_escape, quoted[1:-1].replace("""'"'"'""", "'"))) + "'"


def _shell_escape(character: str) -> str:
    if character not in ("'", "\\") and _harmless(character):
        return character
    # Octal, because it always ends after three digits; bytes, because the shell's locale may be another.
    errors = "surrogateescape" if "\udc80" <= character <= "\udcff" else "surrogatepass"
    return "".join(f"\\{byte:03o}" for byte in character.encode("utf-8", errors))


def _harmless(character: str) -> bool:
    # Cc: control; Cf: format, such as a right-to-left override; Cs: surrogate; Zl and Zp: separators of lines.
    return unicodedata.category(character) not in ("Cc", "Cf", "Cs", "Zl", "Zp")


def _escape(character: str) -> str:
    code = ord(character)
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
