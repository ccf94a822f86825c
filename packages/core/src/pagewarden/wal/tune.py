"""`wal tune`: the PRAGMA lines for the application, each tried on a scratch database, and what they can lose.

Of all that decides how fast and how safe commits are, the journal mode alone is kept in the file. `synchronous`,
`wal_autocheckpoint`, `journal_size_limit` and `busy_timeout` belong to each connection, and are what the library was
built with until the application sets them. Nobody else can: neither this verb nor the guard, which have connections of
their own. So the lines are printed, to be put where the application opens its connections; the database is not touched.
"""

from __future__ import annotations

import shlex
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from pagewarden.config import WalSettings
from pagewarden.errors import ConfigurationInvalid
from pagewarden.live import examine
from pagewarden.versions import linked_sqlite
from pagewarden.wal.durability import SYNCHRONOUS, loss
from pagewarden.wal.enable import SAFE_ALTERNATIVE
from pagewarden.wal.presets import Preset, chosen
from pagewarden.wal.reports import WalLoss, WalSetting, WalTuneReport
from pagewarden.wal.status import guard_of, known_bugs

if TYPE_CHECKING:
    from pagewarden.runtime import Runtime
    from pagewarden.wal.look import WalLook

_LARGEST = (1 << 31) - 1  # of what SQLite keeps in 32 bits

_WHY = {
    "journal_mode": "readers and one writer do not wait for each other; kept in the file, so once is enough",
    "wal_autocheckpoint": "pages in the log after which a commit copies them into the database file",
    "journal_size_limit": "bytes that the -wal file is cut to when the log restarts; without it, it keeps its size",
    "busy_timeout": "milliseconds that a statement waits for a lock before it fails with SQLITE_BUSY",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class WalTuneRequest:
    """For which database, and what the configuration or the command line asks for."""

    database: str  # path
    settings: WalSettings = field(default_factory=WalSettings)


def run_wal_tune(request: WalTuneRequest, runtime: Runtime) -> WalTuneReport:
    """Return the lines for the application. Raises ConfigurationInvalid where SQLite does not take one as it is."""
    began = runtime.monotonic()
    place = examine(request.database)
    look = runtime.reader.wal_look(place.path, live=False)
    preset = chosen(request.settings)
    guard = guard_of(runtime, place.path)
    return WalTuneReport(
        database=place.path,
        journal_mode="wal" if look.in_wal_mode else "rollback" if look.versions else "empty",
        preset=preset.name,
        settings=tuple(_try(preset, request.settings)),
        losses=tuple(
            WalLoss(
                synchronous=each,
                application_crash=loss("wal", each).application_crash,
                machine_crash=loss("wal", each).machine_crash,
                chosen=each == preset.synchronous,
            )
            for each in SYNCHRONOUS
        ),
        guard=preset.policy,
        warnings=tuple(_warnings(preset, look, guard, place.path)),
        seconds=runtime.monotonic() - began,
    )


def _try(preset: Preset, settings: WalSettings) -> Iterator[WalSetting]:
    """Yield each setting as the linked SQLite reads it back, on a database that is made for it and removed."""
    with (
        tempfile.TemporaryDirectory(prefix="pagewarden-tune-") as folder,
        closing(sqlite3.connect(str(Path(folder) / "scratch.db"), isolation_level=None)) as connection,
    ):
        defaults = {name: _read(connection, name) for name, _ in preset.pragmas()}
        defaults["busy_timeout"] = "0"  # SQLite's own; Python's sqlite3 sets 5000, other drivers something else
        for name, wanted in preset.pragmas():
            if wanted.isdecimal() and int(wanted) > _LARGEST:
                raise ConfigurationInvalid(f"{name} of {wanted} is more than SQLite keeps", hint=f"at most {_LARGEST}")
            connection.execute(f"PRAGMA {name}={wanted}")
            found = _read(connection, name)
            if found != wanted:
                raise ConfigurationInvalid(
                    f"SQLite {sqlite3.sqlite_version} took {name}={wanted} for {found}", hint="choose another value"
                )
            yield WalSetting(
                pragma=name,
                value=found,
                default=defaults[name],
                persistent=name == "journal_mode",
                line=f"PRAGMA {name} = {wanted.upper() if wanted.isalpha() else wanted};",
                why=_why(name, wanted, settings),
            )


def _read(connection: sqlite3.Connection, name: str) -> str:
    value = connection.execute(f"PRAGMA {name}").fetchone()[0]
    return SYNCHRONOUS[int(value)] if name == "synchronous" else str(value)


def _why(name: str, wanted: str, settings: WalSettings) -> str:
    if name == "synchronous":
        (value,) = (each for each in SYNCHRONOUS if each == wanted)
        return f"a power loss can take {loss('wal', value).machine_crash}"
    if name == "wal_autocheckpoint" and wanted == "0":
        return "the guard checkpoints, and nobody else: no two checkpoints can meet" if settings.guarded else "never"
    return _WHY[name]


def _warnings(preset: Preset, look: WalLook, guard: int | None, path: str) -> Iterator[str]:
    quoted = shlex.quote(path)
    if not look.in_wal_mode:
        yield f"{path} is not in WAL mode yet: pagewarden wal enable {quoted} tells whether anything is against it"
    if preset.synchronous == "off":
        yield "with synchronous=OFF a power loss can damage the database: only for what can be made again"
    if preset.autocheckpoint == 0 and guard is None:
        yield "with wal_autocheckpoint=0 and no guard nobody checkpoints, and the log grows without end: pagewarden run"
    if preset.autocheckpoint and guard is not None:
        yield f"a guard follows {path}: with --guarded the applications leave checkpoints to it"
    if preset.busy_timeout == 0:
        yield "with busy_timeout=0 a statement fails at once while somebody else writes"
    for bug in known_bugs(linked_sqlite()):
        if bug.name == "wal-reset" and preset.autocheckpoint:
            yield (
                f"the SQLite of this Python, {linked_sqlite().version}, has a known bug: {bug.what}; mended in "
                f"{bug.fixed}. That of the application counts. The safe way meanwhile: {SAFE_ALTERNATIVE}"
            )
