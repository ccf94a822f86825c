"""What `doctor` finds out about the machine: SQLite and its known bugs, Python, the native module, plugins."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

from pagewarden.doctor.facts import ok, problem, warning
from pagewarden.doctor.libraries import sqlite_libraries
from pagewarden.errors import PagewardenError
from pagewarden.values import DoctorFact
from pagewarden.versions import KNOWN_BUGS, KnownBug, LinkedSQLite, compile_options, linked_sqlite

if TYPE_CHECKING:
    from pagewarden.runtime import Runtime

# Options that decide how safe commits are and what is left of deleted rows. https://www.sqlite.org/compile.html
_OPTIONS_OF_NOTE = (
    "THREADSAFE",
    "SECURE_DELETE",
    "DEFAULT_SYNCHRONOUS",
    "DEFAULT_WAL_SYNCHRONOUS",
    "DEFAULT_AUTOVACUUM",
    "DEFAULT_WAL_AUTOCHECKPOINT",
    "DEFAULT_MMAP_SIZE",
    "OMIT_WAL",
)


def machine_facts(runtime: Runtime) -> Iterator[DoctorFact]:
    """Yield what is to be said of the machine and the installation."""
    linked = linked_sqlite()
    yield _version(linked)
    yield from (bug_fact(bug, linked) for bug in KNOWN_BUGS)
    yield _options(compile_options())
    if (libraries := _libraries()) is not None:
        yield libraries
    yield ok("python", f"{platform.python_version()} ({platform.python_implementation()})", sys.executable)
    yield _native(runtime)
    yield _plugins(runtime)
    yield _state(runtime)


def bug_fact(bug: KnownBug, linked: LinkedSQLite) -> DoctorFact:
    """Return whether a known bug of SQLite is in the linked library."""
    name = f"sqlite-{bug.name}"
    if not bug.fixed:
        return ok(name, "in every version", f"{bug.what}; the doctor looks for such indexes in a database it is shown")
    if not bug.affects(linked.release):
        return ok(name, f"not in {linked.version}", f"{bug.what}; mended in {bug.fixed}")
    unsure = (
        "; this library was built from changed sources, so the fix may have been brought in, which cannot be told"
        if linked.patched
        else ""
    )
    return warning(name, f"in {linked.version}", f"{bug.what}; mended in {bug.fixed}{unsure}", bug.advice)


def _version(linked: LinkedSQLite) -> DoctorFact:
    source = f"source id {linked.source_id}"
    if linked.withdrawn:
        return warning(
            "sqlite-version", linked.version, f"its authors withdrew this release; {source}", "link 3.51.3, or 3.53"
        )
    changed = ", changed by who built it" if linked.patched else ""
    return ok("sqlite-version", linked.version, f"{source}{changed}")


def _options(options: tuple[str, ...]) -> DoctorFact:
    noted = tuple(option for option in options if option.partition("=")[0] in _OPTIONS_OF_NOTE)
    value = " ".join(noted)
    if "THREADSAFE=0" in noted:
        hint = "use a Python whose SQLite is built with THREADSAFE=1"
        return problem("sqlite-options", value, "SQLite without mutexes is not safe beside threads", hint)
    if "OMIT_WAL" in noted:
        return problem("sqlite-options", value, "SQLite without WAL cannot read databases in WAL mode", "link another")
    return ok("sqlite-options", value, "what decides how safe commits are, and what is left of deleted rows")


def _libraries() -> DoctorFact | None:
    try:
        libraries = sqlite_libraries("self")
    except OSError:  # this system has no /proc
        return None
    if len(libraries) > 1:
        return problem(
            "sqlite-libraries",
            ", ".join(libraries),
            "two SQLite libraries in one process break each other's locks",
            "run Pagewarden in a process of its own: pagewarden.open does",
        )
    return ok("sqlite-libraries", ", ".join(libraries) or "none of a known name")


def _native(runtime: Runtime) -> DoctorFact:
    from pagewarden.pages.backend import ENVIRONMENT, backend

    wish = os.environ.get(ENVIRONMENT, "prefer")
    try:
        here, there = backend().name, runtime.reader.ping()
    except PagewardenError as error:
        return problem("native", "unusable", error.message, error.hint)
    if here != "native" or there != "native":
        why = f"pages are read, hashed and compressed in pure Python, which is many times slower ({ENVIRONMENT}={wish})"
        hint = f"pip install pagewarden-native, and {ENVIRONMENT}=prefer"
        return warning("native", there, why, hint)
    from pagewarden.pages._native import zstd_library

    if zstd_library() is None:
        why = "this build of zstandard has no cffi module, so compression goes through Python"
        return warning(
            "native", "native, without zstd's function table", why, "pip install --force-reinstall zstandard"
        )
    return ok("native", "native, with zstd's function table", f"{ENVIRONMENT}={wish}")


def _plugins(runtime: Runtime) -> DoctorFact:
    try:
        report = runtime.extensions.report()
    except PagewardenError as error:
        return problem("plugins", "unusable", error.message, error.hint)
    value = f"{len(report.plugins)} installed"
    faults = [f"{plugin.name}: {plugin.fault}" for plugin in report.plugins if plugin.fault]
    faults += [fault for fault in report.faults if fault not in faults]
    if faults:
        return warning("plugins", f"{value}, {len(faults)} faults", "; ".join(faults), "pagewarden plugins")
    return ok("plugins", value, ", ".join(plugin.name for plugin in report.plugins))


def _state(runtime: Runtime) -> DoctorFact:
    folder = runtime.state
    there = next(each for each in (folder, *folder.parents) if each.exists())
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        why = "after a restore, the next backup could not know that a new timeline begins"
        return warning("state-directory", str(folder), f"it cannot be written to: {why}", "set XDG_STATE_HOME")
    return ok("state-directory", str(folder))
