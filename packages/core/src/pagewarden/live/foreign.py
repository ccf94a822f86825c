"""A rollback journal beside a database that is proved to be none of its own: whoever plays it back destroys both."""

from __future__ import annotations

import shlex
from functools import partial
from typing import TYPE_CHECKING

from pagewarden.errors import DatabaseUnsettled, PagewardenError

if TYPE_CHECKING:
    from pagewarden.processes.reader import PageReader


def without_foreign_journal(reader: PageReader, path: str) -> DatabaseUnsettled | None:
    """Return what is to be said of the database at the real path `path` if the journal beside it is another one's.

    None where that is not proved, and where there is none. SQLite may have refused the database because of it: nothing
    here asks SQLite.
    """
    from pagewarden.sqlite.journal import why_foreign

    journal = f"{path}-journal"
    try:
        why = why_foreign(reader.file_header(path), partial(reader.read_file, journal))
    except PagewardenError:  # it went meanwhile, or cannot be read: then nothing is proved
        return None
    if not why:
        return None
    away = shlex.join(["mv", journal, f"{journal}.foreign"])
    return DatabaseUnsettled(
        f"the journal beside {path} is of another database, or of another time of this one: {why}; the next program "
        "that opens it would play it back, and destroy it",
        hint=f"start none; put the journal elsewhere, and check again: {away}",
    )
