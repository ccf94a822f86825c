"""Keeps SQLite databases whole: check, back up, verify, restore.

`pagewarden.open` is the door for applications; the rest of what is public is below. Names are imported when they are
first asked for, so that `import pagewarden` costs nothing, and no module here imports a SQLite library (H2).
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pagewarden.database import Database as Database
    from pagewarden.database import open as open
    from pagewarden.errors import ConfigurationInvalid as ConfigurationInvalid
    from pagewarden.errors import DatabaseBusy as DatabaseBusy
    from pagewarden.errors import DatabaseNotFound as DatabaseNotFound
    from pagewarden.errors import DatabaseUnreadable as DatabaseUnreadable
    from pagewarden.errors import DatabaseUnsettled as DatabaseUnsettled
    from pagewarden.errors import DeletionRefused as DeletionRefused
    from pagewarden.errors import GuardFailed as GuardFailed
    from pagewarden.errors import LedgerUnusable as LedgerUnusable
    from pagewarden.errors import NativeMissing as NativeMissing
    from pagewarden.errors import NotADatabase as NotADatabase
    from pagewarden.errors import NotInWalMode as NotInWalMode
    from pagewarden.errors import OutOfSpace as OutOfSpace
    from pagewarden.errors import PagewardenError as PagewardenError
    from pagewarden.errors import PluginUnusable as PluginUnusable
    from pagewarden.errors import ReaderCrashed as ReaderCrashed
    from pagewarden.errors import RepairRefused as RepairRefused
    from pagewarden.errors import RepositoryBusy as RepositoryBusy
    from pagewarden.errors import RepositoryDamaged as RepositoryDamaged
    from pagewarden.errors import RepositoryNotFound as RepositoryNotFound
    from pagewarden.errors import RestoreRefused as RestoreRefused
    from pagewarden.errors import SharedWritingRefused as SharedWritingRefused
    from pagewarden.errors import TargetFailed as TargetFailed
    from pagewarden.errors import VerificationFailed as VerificationFailed
    from pagewarden.errors import WalRefused as WalRefused
    from pagewarden.errors import WorkerCrashed as WorkerCrashed
    from pagewarden.events import Event as Event
    from pagewarden.guard.embedded import Guard as Guard
    from pagewarden.guard.values import GuardStatus as GuardStatus
    from pagewarden.hookspecs import hookimpl as hookimpl
    from pagewarden.plugins import Extensions as Extensions
    from pagewarden.plugins import load_plugins as load_plugins
    from pagewarden.runtime import PluginChoice as PluginChoice
    from pagewarden.runtime import Runtime as Runtime
    from pagewarden.values import BackupReport as BackupReport
    from pagewarden.values import BackupsReport as BackupsReport
    from pagewarden.values import CheckerResult as CheckerResult
    from pagewarden.values import CheckReport as CheckReport
    from pagewarden.values import DoctorFact as DoctorFact
    from pagewarden.values import DoctorReport as DoctorReport
    from pagewarden.values import Finding as Finding
    from pagewarden.values import InjuryReport as InjuryReport
    from pagewarden.values import LedgerReport as LedgerReport
    from pagewarden.values import Level as Level
    from pagewarden.values import PastRun as PastRun
    from pagewarden.values import PluginInfo as PluginInfo
    from pagewarden.values import PluginsReport as PluginsReport
    from pagewarden.values import Position as Position
    from pagewarden.values import Progress as Progress
    from pagewarden.values import RestorePoint as RestorePoint
    from pagewarden.values import RestoreReport as RestoreReport
    from pagewarden.values import Severity as Severity
    from pagewarden.values import SourceVerdict as SourceVerdict
    from pagewarden.values import Suspect as Suspect
    from pagewarden.values import UndoReport as UndoReport
    from pagewarden.values import Verdict as Verdict
    from pagewarden.values import VerifiedPoint as VerifiedPoint
    from pagewarden.values import VerifyReport as VerifyReport

    __version__: str

_HOMES = {
    "database": ("Database", "open"),
    "errors": (
        "ConfigurationInvalid",
        "DatabaseBusy",
        "DatabaseNotFound",
        "DatabaseUnreadable",
        "DatabaseUnsettled",
        "DeletionRefused",
        "GuardFailed",
        "LedgerUnusable",
        "NativeMissing",
        "NotADatabase",
        "NotInWalMode",
        "OutOfSpace",
        "PagewardenError",
        "PluginUnusable",
        "ReaderCrashed",
        "RepairRefused",
        "RepositoryBusy",
        "RepositoryDamaged",
        "RepositoryNotFound",
        "RestoreRefused",
        "SharedWritingRefused",
        "TargetFailed",
        "VerificationFailed",
        "WalRefused",
        "WorkerCrashed",
    ),
    "events": ("Event",),
    "guard.embedded": ("Guard",),
    "guard.values": ("GuardStatus",),
    "hookspecs": ("hookimpl",),
    "plugins": ("Extensions", "load_plugins"),
    "runtime": ("PluginChoice", "Runtime"),
    "values": (
        "BackupReport",
        "BackupsReport",
        "CheckReport",
        "CheckerResult",
        "DoctorFact",
        "DoctorReport",
        "Finding",
        "InjuryReport",
        "LedgerReport",
        "Level",
        "PastRun",
        "PluginInfo",
        "PluginsReport",
        "Position",
        "Progress",
        "RestorePoint",
        "RestoreReport",
        "Severity",
        "SourceVerdict",
        "Suspect",
        "UndoReport",
        "Verdict",
        "VerifiedPoint",
        "VerifyReport",
    ),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = ("__version__", *_HOME_OF)  # noqa: PLE0604 - they are strings; a test compares them with the imports above


def __getattr__(name: str) -> object:
    if name == "__version__":
        from pagewarden.installed import version

        return version("pagewarden")
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOME_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
