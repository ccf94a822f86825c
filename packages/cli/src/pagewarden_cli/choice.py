"""Which databases a check is about: names of the configuration, files, folders and patterns become a list."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pagewarden.errors import ConfigurationInvalid, PagewardenError
from pagewarden.values import CheckReport
from pagewarden_cli.session import Outcome, Session

if TYPE_CHECKING:
    from pagewarden.config import DatabaseSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """What was chosen."""

    entries: tuple[DatabaseSettings | Outcome[CheckReport], ...]  # an outcome: what was named and cannot be looked at
    looked_at: int | None  # files; None where no folder and no pattern was named

    @property
    def several(self) -> bool:
        """Whether this is about more than one database, or might be."""
        return self.looked_at is not None or len(self.entries) > 1


def choose(
    session: Session, arguments: Sequence[str], *, name: str | None, read_header: Callable[[str], bytes]
) -> Choice:
    """Return the databases that were named, each once; all configured ones where none was.

    `read_header` returns the first bytes of a file. Raises ConfigurationInvalid, and what a search raises where nothing
    else was named.
    """
    searched = [argument for argument in arguments if _is_searched(session, argument)]
    if not searched:
        return Choice(entries=session.databases(arguments, name=name), looked_at=None)
    if name is not None:
        raise ConfigurationInvalid("--name is for one database", hint="give each a name in the configuration")
    # Imported here, because the check of one sound database needs no repository and nothing that reads one.
    from pagewarden.search import search

    entries: list[DatabaseSettings | Outcome[CheckReport]] = []
    known: set[str] = set()
    looked_at = 0
    for argument in arguments:
        paths: tuple[str, ...] = (argument,)
        if argument in searched:
            try:
                found = search(argument, read_header, pattern=not os.path.isdir(argument))  # noqa: PTH112 - see below
            except PagewardenError as error:
                if len(arguments) == 1:
                    raise
                entries.append(Outcome(database=argument, error=error))
                continue
            looked_at += found.looked_at
            paths = found.databases
            entries += [Outcome(database=path, error=error) for path, error in found.unreadable]
        for path in paths:
            settings = session.configuration.database(path)
            real = os.path.realpath(settings.path)
            if real not in known:
                known.add(real)
                entries.append(settings)
    return Choice(entries=tuple(entries), looked_at=looked_at)


def _is_searched(session: Session, argument: str) -> bool:
    """Return whether an argument is a folder or a pattern, and no name of the configuration."""
    if not argument or "\0" in argument or argument in session.configuration.databases:
        return False
    if os.path.isdir(argument):  # noqa: PTH112 - Path.is_dir raises for a name that is too long
        return True
    return not _WILD.isdisjoint(argument) and not os.path.lexists(argument)


_WILD = frozenset("*?[")
