"""Takes the text of a CREATE INDEX apart: what an expression is, and for which rows there are entries.

SQLite's PRAGMAs name the columns of an index, but neither its expressions nor its WHERE. The text comes from a file
that may be hostile (H29) and becomes part of other statements, so what is not surely understood is refused.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_TOKEN = re.compile(
    r"""
      (?P<skip> \s+ | --[^\n]* | /\*.*?(?:\*/|\Z) )
    | (?P<quoted> [xX]?'(?:[^']|'')*' | "(?:[^"]|"")*" | `(?:[^`]|``)*` | \[[^\]]*\] )
    | (?P<word> [\w$\x80-\U0010ffff]+ )
    | (?P<open> \( ) | (?P<close> \) ) | (?P<comma> , )
    | (?P<other> [^'"`\[\](),;\0] )
    """,
    re.VERBOSE | re.DOTALL,
)
_FORBIDDEN = frozenset({"SELECT", "WITH", "VALUES", "INDEXED"})  # no expression of an index has a query in it
_ORDERS = ("ASC", "DESC")


class NotUnderstood(ValueError):
    """The text is none that can be taken apart; the message says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexText:
    """The parts of a CREATE INDEX."""

    terms: tuple[str, ...]  # what is indexed, in order, without ASC and DESC
    condition: str  # of a partial index; "" for an index of all rows


def take_apart(sql: str) -> IndexText:
    """Return the parts of the statement `sql`, comments left out. Raises NotUnderstood."""
    terms: list[list[str]] = []
    rest: list[str] = []
    depth = position = 0
    while position < len(sql):
        token = _TOKEN.match(sql, position)
        if token is None:
            raise NotUnderstood(f"character {position + 1} of its statement")
        position = token.end()
        kind, text = token.lastgroup, token[0]
        if kind == "word" and text.upper() in _FORBIDDEN:
            raise NotUnderstood(f"{text} in its statement")
        if kind == "skip":
            text = " "
        depth += (kind == "open") - (kind == "close")
        if kind == "open" and depth == 1 and not terms:
            terms.append([])
        elif depth < 0 or (kind == "comma" and depth == 0):
            raise NotUnderstood("the parentheses of its statement")
        elif kind == "comma" and depth == 1 and not rest:
            terms.append([])
        elif kind == "close" and depth == 0 and not rest:
            rest.append(" ")
        elif rest:
            rest.append(text)
        elif terms:
            terms[-1].append(text)
    if depth or not rest:
        raise NotUnderstood("the parentheses of its statement")
    return IndexText(terms=tuple(map(_without_order, terms)), condition=_condition("".join(rest).strip()))


def _without_order(parts: list[str]) -> str:
    while parts and parts[-1] == " ":
        parts.pop()
    if parts and parts[-1].upper() in _ORDERS:
        parts.pop()
    text = "".join(parts).strip()
    if not text:
        raise NotUnderstood("an empty term of its statement")
    return text


def _condition(text: str) -> str:
    word, condition = text[:5], text[5:].strip()
    if not text:
        return ""
    if word.upper() != "WHERE" or not condition:
        raise NotUnderstood("what follows the columns of its statement")
    return condition
