"""Whose log is it? What a -wal and the database file beside it say of each other.

A log begins when everything before it stands in the database file, and checkpoints bring its frames into the file. So
the file's own page 1 is the one that the log began with, or one of those that stand in it; and as long as the log has
no page 1, nothing was allocated or freed, because that changes the header's counts.

- Every commit that writes page 1 writes a change counter that is one more than the one which it read. So the log's
  first page 1 has the counter that the file's page 1 has, or one more, and its last one no lower one. VACUUM and the
  backup API, which overwrite every page, keep to that.
- A statement that changes the schema moves the schema cookie, and never back.
- Text encoding and reserved bytes change with every page of the database, or never.

What an application that patches its own file by hand can do (`writable_schema`, `PRAGMA schema_version`) is not legal
in that sense.
"""

from __future__ import annotations

from collections.abc import Iterator

from pagewarden.sqlite.header import DatabaseHeader, HeaderInvalid
from pagewarden.structure import WalSurvey

_HALF = 1 << 31  # counters are compared as they wrap


def signs_of_another(survey: WalSurvey) -> Iterator[str]:
    """Yield, one clause each, what shows that the committed frames were not written for the file beside them."""
    if not survey.committed:
        return
    try:
        file = DatabaseHeader.parse(survey.file_header)
    except HeaderInvalid:  # the file itself is damaged: what it says proves nothing
        return
    if survey.page_size != file.page_size:
        yield f"its pages have {survey.page_size} bytes, those of the database {file.page_size}"
        return
    if file.write_version == file.read_version == 1:
        yield "the database file is not in WAL mode"
    if survey.page_one:
        yield from _by_page_one(survey, file)
    else:
        yield from _by_kinds(survey, file)


def _by_page_one(survey: WalSurvey, file: DatabaseHeader) -> Iterator[str]:
    try:
        first, last = (DatabaseHeader.parse(page) for page in (survey.first_page_one, survey.page_one))
    except HeaderInvalid as error:
        yield f"page 1 in it does not begin with the header of a database: {error}"
        return
    counter = file.change_counter
    if _before(last.change_counter, counter):
        yield f"its change counter is {last.change_counter}, that of the database file {counter}: it is older"
    elif _before(counter + 1, first.change_counter):
        yield f"its change counter begins at {first.change_counter}, that of the database file is {counter}"
    if _before(last.schema_cookie, file.schema_cookie):
        yield f"its schema cookie is {last.schema_cookie}, that of the database file {file.schema_cookie}"
    elif last.schema_cookie == file.schema_cookie and survey.schema_differs:
        yield f"its schema is another, under the same schema cookie {file.schema_cookie}"
    if not survey.whole:
        for what, theirs, ours in (
            ("text encoding", last.text_encoding, file.text_encoding),
            ("number of reserved bytes", last.reserved, file.reserved),
        ):
            if theirs != ours:
                yield f"its {what} is {theirs}, that of the database file {ours}"


def _by_kinds(survey: WalSurvey, file: DatabaseHeader) -> Iterator[str]:
    if file.count_valid and survey.committed_pages != file.page_count:
        yield (
            f"it commits a database of {survey.committed_pages} pages without page 1, "
            f"and the database file counts {file.page_count}"
        )
    if survey.kinds_differ:
        yield (
            f"{survey.kinds_differ} of {survey.kinds_compared} pages are of another kind in it than in the database "
            "file, and no frame holds page 1"
        )


def _before(one: int, other: int) -> bool:
    """Whether a counter of 32 bits stood at `one` before it stood at `other`."""
    return 0 < (other - one) % (1 << 32) < _HALF
