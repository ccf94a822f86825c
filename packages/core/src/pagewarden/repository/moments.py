"""Names that people give to moments: a document beside the manifests for each, found again by its text.

A name is of a position, which need not have a manifest of its own: a commit in between does. Several moments may have
the same name; the last of them in the order of commits is meant.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from secrets import token_hex

from pagewarden.errors import ConfigurationInvalid, PagewardenError, RepositoryDamaged
from pagewarden.lineage import readable
from pagewarden.repository import keys
from pagewarden.repository.keys import MomentKey
from pagewarden.repository.manifest import FORMAT, decode_document, encode_document
from pagewarden.repository.store import Store
from pagewarden.values import Position

LONGEST_TEXT = 200
"""Characters of the name of a moment."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedMoment:
    """One name of one moment. Raises ValueError for nonsense."""

    format: int = FORMAT
    database: str  # name in the repository
    position: Position
    text: str
    time: datetime  # when the name was given, UTC
    by: str  # host name

    def __post_init__(self) -> None:
        if not 0 < self.position.txid <= keys.LAST or not 0 < len(self.text) <= LONGEST_TEXT:
            raise ValueError(f"the name of {len(self.text)} characters of the moment {self.position}")
        if any(each.utcoffset() != timedelta(0) for each in (self.time, self.position.time)):
            raise ValueError("a time that is not UTC")


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedMoments:
    """All names of the moments of one database."""

    moments: tuple[NamedMoment, ...] = ()  # by txid
    problems: tuple[str, ...] = ()  # what cannot be read, one sentence each

    def of(self, text: str) -> tuple[NamedMoment, ...]:
        """Return those with exactly that name."""
        return tuple(each for each in self.moments if each.text == text)


def name_of(text: str) -> str:
    """Return `text` as the name of a moment. Raises ConfigurationInvalid for what cannot be one."""
    text = readable(text.strip())
    if not 0 < len(text) <= LONGEST_TEXT or not text.isprintable():
        raise ConfigurationInvalid(
            f"a moment cannot be named {text[:LONGEST_TEXT]!r}",
            hint=f"write one line of at most {LONGEST_TEXT} characters",
        )
    return text


def name_moment(
    store: Store,
    name: str,
    position: Position,
    text: str,
    *,
    now: datetime,
    token: Callable[[int], str] = token_hex,
) -> NamedMoment:
    """Give the moment `position` of the database `name` a name, durably.

    Raises ConfigurationInvalid for a name that is empty, too long, or goes over several lines.
    """
    text = name_of(text)
    moment = NamedMoment(database=name, position=position, text=text, time=now, by=readable(socket.gethostname()))
    key = keys.moment_key(MomentKey(name=name, txid=position.txid, nonce=token(8)))
    store.put(key, encode_document("moment", moment))
    return moment


def read_moments(store: Store, name: str) -> NamedMoments:
    """Return the names of the moments of `name`; what is broken is among the problems."""
    found = [(key, parts) for key in store.keys(keys.moments_prefix(name)) if (parts := keys.parse_moment_key(key))]
    moments: list[NamedMoment] = []
    problems: list[str] = []
    for (key, parts), data in zip(found, store.documents([key for key, _ in found]), strict=True):
        if data is None:
            continue  # it went away meanwhile
        try:
            if isinstance(data, PagewardenError):
                raise data
            moment = decode_document("moment", data, NamedMoment, key)
            if (moment.database, moment.position.txid) != (parts.name, parts.txid):
                raise RepositoryDamaged(f"{key} holds the name of another moment")
            moments.append(moment)
        except PagewardenError as error:
            problems.append(error.message)
    return NamedMoments(moments=tuple(moments), problems=tuple(problems))
