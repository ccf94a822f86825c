"""`pagewarden.open`: the verbs as methods, for an application that embeds Pagewarden.

The application's own process opens no database file and imports no SQLite: one spawned worker does the work, so the
application's locks are safe (H1), and it may use any SQLite library it likes (H2). What the verbs return are the values
of `pagewarden.values`, the same that the command line prints; what they raise are the errors of `pagewarden.errors`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from pagewarden.config import Configuration, Judgement, RepositorySettings
from pagewarden.errors import ConfigurationInvalid
from pagewarden.processes.worker import Worker
from pagewarden.runtime import PluginChoice
from pagewarden.times import format_moment, parse_moment
from pagewarden.values import (
    BackupReport,
    BackupsReport,
    CheckReport,
    DoctorReport,
    LedgerReport,
    Level,
    PinReport,
    PluginsReport,
    PruneReport,
    RestoreReport,
    UndeleteReport,
    UndoReport,
    VerifyReport,
    WalCheckpointReport,
    WalEnableReport,
    WalStatusReport,
    WalTuneReport,
)

if TYPE_CHECKING:
    from pagewarden.contracts import ProgressSink
    from pagewarden.events import Event
    from pagewarden.guard.embedded import Guard
    from pagewarden.repair.reports import RepairReport

    StrPath = str | os.PathLike[str]


def open(
    path: StrPath,
    repository: StrPath | None = None,
    plugins: Iterable[str] | None = None,
    config: StrPath | None = None,
    *,
    on_progress: ProgressSink | None = None,
    on_event: Callable[[Event], None] | None = None,
) -> Database:
    """Return a handle on the database at `path`; no process is started before the first verb.

    `path` and `repository` may be names of the configuration; `config` is its file, and without it there is none: what
    an application does must not depend on the files of whoever runs it. `plugins` picks among the installed plugins by
    name (`repository` needs the one that opens its URL: "target-directory" for paths), and adds importable modules
    ("myapp.pagewarden_plugin"); None takes all that are installed. `on_progress` is told (step, done, total),
    `on_event` what observers see; both run in the thread that called the verb.

    Raises ConfigurationInvalid.
    """
    from pagewarden.config_file import load_config

    database = _text("path", path)
    configuration = load_config(None if config is None else Path(_text("config", config)))
    worker = Worker(
        plugins=configuration.plugins if plugins is None else _choose(_names("plugins", plugins)),
        threads=configuration.defaults.threads,
        on_progress=on_progress,
        on_event=on_event,
    )
    return Database(database, None if repository is None else _text("repository", repository), configuration, worker)


def _choose(names: tuple[str, ...]) -> PluginChoice:
    """Sort names of plugins, which are words with hyphens and installed, from names of modules."""
    from pagewarden.installed import entry_points

    installed = {entry.name for entry in entry_points("pagewarden")}
    return PluginChoice(
        only=tuple(name for name in names if name in installed or "-" in name),
        extra=tuple(name for name in names if name not in installed and "-" not in name),
    )


class Database:
    """One database, and the repository that its backups are kept in. Close it, or use it as a context manager.

    Threads may share it; their calls wait for each other. If the worker dies, the call raises WorkerCrashed and the
    next one starts another. A verb of one that is closed raises ConfigurationInvalid.
    """

    def __init__(self, path: str, repository: str | None, configuration: Configuration, worker: Worker) -> None:
        self._settings = configuration.database(path)
        self._configuration = configuration
        self._worker = worker
        if repository is not None:
            self._repository: RepositorySettings | None = configuration.repository(repository)
        elif self._settings.repository is not None:
            self._repository = RepositorySettings(url=self._settings.repository)
        else:
            self._repository = None

    @property
    def path(self) -> str:
        """The database's absolute path."""
        return self._settings.path

    @property
    def repository(self) -> str | None:
        """The URL of its repository."""
        return None if self._repository is None else self._repository.url

    def check(
        self,
        *,
        level: Level | str | None = None,
        only: Iterable[str] = (),
        max_time: float | None = None,
        compare: bool | None = None,
        baseline: StrPath | None = None,
    ) -> CheckReport:
        """Judge the database, changing no byte of it, of its -wal or of its -journal.

        `level` is quick, standard or deep; `only` names checkers; `max_time` is in seconds. `compare` compares with the
        newest backup, and answers `unknown` where a commit since then cannot be told from damage; `baseline` is a
        snapshot that the caller declares current, so that every difference is damage. Damage is in the report, not
        raised.
        """
        settings = self._settings
        compared = settings.compare if compare is None else compare
        if isinstance(max_time, int | float) and not max_time > 0:  # NaN is not, either
            raise ConfigurationInvalid(f"max_time is {max_time}", hint="give seconds above 0, or None for no limit")
        request = {
            "database": settings.path,
            "level": settings.level if level is None else level,
            "only": _names("only", only) or settings.checkers,
            "max_time": settings.max_time if max_time is None else max_time,
            "repository": self._named_repository().url if compared else None,
            "baseline": None if baseline is None else _absolute("baseline", baseline),
            "name": settings.name,
            "assertions": settings.assertions,
        }
        return self._worker.call("check", request, CheckReport)

    def backup(
        self,
        *,
        name: str | None = None,
        full: bool = False,
        compression: int | None = None,
        check: Judgement | None = None,
    ) -> BackupReport:
        """Take a hot backup, which does not count until it was read back and verified.

        What changed since the newest one is stored, or every page if it is `full` or there is none to compare with.
        `name` is what the database is called in the repository; `compression` is zstd's level; `check` is how the
        database is judged first. A damaged database is backed up, too, and the report's `source` says so (H18).
        """
        settings = self._settings
        request = {
            "database": settings.path,
            "repository": self._named_repository().url,
            "name": settings.name if name is None else name,
            "full": full,
            "compression": settings.compression if compression is None else compression,
            "check": settings.check if check is None else check,
        }
        return self._worker.call("backup", request, BackupReport)

    def backups(self) -> BackupsReport:
        """Return the database's restore points, newest last."""
        return self._worker.call("backups", self._in_repository(), BackupsReport)

    def verify(
        self, *, read_data: bool | None = None, read_subset: str | None = None, max_time: float | None = None
    ) -> VerifyReport:
        """Prove the chains and checksums of the database's backups and, with `read_data`, every page in them.

        `read_subset` does so with a part, such as "5%" of the bytes or "20" objects, and `max_time` begins with no
        further object after so many seconds: the next such call goes on from there.
        """
        data = self._named_repository().read_data if read_data is None else read_data
        request = {**self._in_repository(), "read_data": data, "read_subset": read_subset, "max_time": max_time}
        return self._worker.call("verify", request, VerifyReport)

    def restore(
        self,
        to: StrPath,
        *,
        at: datetime | str | None = None,
        txid: int | None = None,
        mark: str | None = None,
        read_back: bool = False,
        dry_run: bool = False,
        force: bool = False,
    ) -> RestoreReport:
        """Bring the database back at `to`; a file there is not touched until the new one is verified and durable.

        `at` is a datetime with an offset, or text such as "2026-11-22T10:15:00Z" or "-15m": the last commit that was
        seen by then; `mark` is the name of a moment. Without them and `txid` the newest restore point is used.
        `before` and `after` of the report are the moments beside that which was found. `read_back` compares every page
        again, read from the disk, before the new file is used. `dry_run` returns the plan in the report's `steps`. A
        file that any process has open is refused without `force`: an application closes its own connections first, and
        opens new ones.
        """
        request = {
            **self._in_repository(),
            "to": _absolute("to", to),
            "at": None if at is None else _moment(at),
            "txid": txid,
            "mark": mark,
            "read_back": read_back,
            "dry_run": dry_run,
            "force": force,
        }
        return self._worker.call("restore", request, RestoreReport)

    def repair(
        self,
        *,
        apply: bool = False,
        output: StrPath | None = None,
        only_lossless: bool = False,
        orphans: str | None = None,
        replay_stranded: bool | None = None,
        assume_current: bool = False,
        max_time: float | None = None,
    ) -> RepairReport:
        """Diagnose the database and plan its repair; with `apply`, make it on a copy, which takes its path if sound.

        The handle's repository, if it has one, is where lost pages and rows come from. `output` is a path that is not
        there yet, for the repaired copy; then the database stays as it is. `only_lossless` leaves out what loses a row
        or takes one out of the database. `orphans` is what becomes of rows without a parent: leave, quarantine,
        set-null or cascade; `replay_stranded` replays what is provably intact behind a bad frame of the log;
        `assume_current` declares that nothing was committed since the newest backup. `max_time` is in seconds. An
        application closes its own connections before it applies. `undo` takes a repair back.
        """
        from pagewarden.repair.reports import RepairReport

        settings = self._settings
        replay = settings.repair.replay_stranded if replay_stranded is None else replay_stranded
        policy = {
            "orphans": settings.repair.orphans if orphans is None else orphans,
            "replay_stranded": replay,
            "assume_current": assume_current,
        }
        request = {
            "database": settings.path,
            "repository": None if self._repository is None else self._repository.url,
            "name": settings.name,
            "apply": apply,
            "output": None if output is None else _absolute("output", output),
            "only_lossless": only_lossless,
            "policy": policy,
            "max_time": max_time,
        }
        return self._worker.call("repair", request, RepairReport)

    def undo(self, path: StrPath | None = None, *, force: bool = False) -> UndoReport:
        """Take the last restore or repair of `path` back; None is the database itself. What stands there is kept."""
        restored = self.path if path is None else _absolute("path", path)
        return self._worker.call("undo", {"path": restored, "force": force}, UndoReport)

    def prune(
        self,
        *,
        apply: bool = False,
        last: int = 0,
        within: str | None = None,
        commits: str | None = None,
        minutely: int = 0,
        hourly: int = 0,
        daily: int = 0,
        weekly: int = 0,
        monthly: int = 0,
        yearly: int = 0,
        minimum: int = 0,
        grace: str | None = None,
    ) -> PruneReport:
        """Apply the retention policy to the database's backups; without `apply`, only tell what that would do.

        Rules that are given stand in place of all rules of the configuration; `within`, `commits` (how long every
        commit stays that was followed) and `grace` are lengths of time such as "30d". What goes is deleted softly, and
        purged when `grace` is over. Never the last backup known to be sound goes, and nothing while the newest check
        says damaged.
        """
        repository = self._in_repository()
        general, by_name = self._configuration.retention_in(str(repository["repository"]))
        settings = by_name.get(str(repository["name"]), general)
        rules = {"last": last, "within": within, "minutely": minutely, "hourly": hourly, "daily": daily}
        rules |= {"weekly": weekly, "monthly": monthly, "yearly": yearly, "minimum": minimum}
        retention = {**asdict(settings), **(rules if any(rules.values()) else {})}
        retention |= {key: value for key, value in (("commits", commits), ("grace", grace)) if value is not None}
        return self._worker.call("prune", {**repository, "apply": apply, "retention": retention}, PruneReport)

    def pin(self, *, at: datetime | str | None = None, txid: int | None = None, note: str = "") -> PinReport:
        """Keep a restore point whatever the policy, the newest by default; `note` says why."""
        request = {**self._in_repository(), "at": None if at is None else _moment(at), "txid": txid, "note": note}
        return self._worker.call("pin", request, PinReport)

    def unpin(self, *, at: datetime | str | None = None, txid: int | None = None) -> PinReport:
        """Leave a pinned restore point, the newest by default, to the policy again."""
        request = {**self._in_repository(), "at": None if at is None else _moment(at), "txid": txid}
        return self._worker.call("unpin", request, PinReport)

    def undelete(self, *, txid: int | None = None) -> UndeleteReport:
        """Let a restore point that `prune` deleted be listed again, or all, until their grace period is over."""
        return self._worker.call("undelete", {**self._in_repository(), "txid": txid}, UndeleteReport)

    def ledger(self) -> LedgerReport:
        """Return the database's suspect pages and what became of them, and its checks, oldest first."""
        return self._worker.call("ledger", {"database": self.path}, LedgerReport)

    def doctor(self) -> DoctorReport:
        """Look at the machine, and at the database's surroundings."""
        return self._worker.call("doctor", {"database": self.path}, DoctorReport)

    def wal_status(self) -> WalStatusReport:
        """Return how the log stands: mode, size, frames, readers, locks, and whether a checkpoint would be good."""
        request = {"database": self.path, "settings": asdict(self._settings.wal)}
        return self._worker.call("wal_status", request, WalStatusReport)

    def wal_enable(self, *, off: bool = False, force: bool = False, max_time: float = 5.0) -> WalEnableReport:
        """Switch the database to WAL mode, or `off` back to a rollback journal; `force` goes past warnings.

        Reasons against it are raised as WalRefused. Others are waited for until `max_time`, in seconds, is over; who
        has it open in a way that does not let it is named by DatabaseBusy: an application closes its connections first.
        """
        request = {"database": self.path, "off": off, "force": force, "max_time": max_time}
        return self._worker.call("wal_enable", request, WalEnableReport)

    def wal_checkpoint(self, *, mode: str = "passive", max_time: float = 10.0) -> WalCheckpointReport:
        """Bring the log into the database file: `mode` is passive, full, restart or truncate.

        Readers that are in the way are waited for until `max_time`, in seconds, is over; then the report says so.
        """
        request = {"database": self.path, "mode": mode, "max_time": max_time, "settings": asdict(self._settings.wal)}
        return self._worker.call("wal_checkpoint", request, WalCheckpointReport)

    def wal_tune(
        self,
        *,
        preset: str | None = None,
        synchronous: str | None = None,
        autocheckpoint: int | None = None,
        journal_size_limit: int | None = None,
        busy_timeout: int | None = None,
        guarded: bool | None = None,
    ) -> WalTuneReport:
        """Return the PRAGMA lines that your connections should execute when they are opened; it changes nothing.

        `preset` is safe, balanced or fast; the others stand in place of what it has. `guarded` leaves checkpoints to a
        guard.
        """
        given = {"preset": preset, "synchronous": synchronous, "autocheckpoint": autocheckpoint, "guarded": guarded}
        given |= {"journal_size_limit": journal_size_limit, "busy_timeout": busy_timeout}
        settings = asdict(self._settings.wal) | {key: value for key, value in given.items() if value is not None}
        return self._worker.call("wal_tune", {"database": self.path, "settings": settings}, WalTuneReport)

    def guard(
        self,
        *,
        name: str | None = None,
        compression: int | None = None,
        interval: float | None = None,
        spool: int | None = None,
        scrub: float | None = None,
        log: StrPath | None = None,
    ) -> Guard:
        """Follow every commit from now on, in a process of its own, until the guard that is returned is closed.

        `interval` is how often it looks while something is committed, in seconds; `spool` what may wait on this disk
        for the repository, in MiB; `scrub` how much of the file is compared, in MiB a second; `log` a file that events
        are appended to as lines of JSON. Raises DatabaseBusy where the database has a guard. That it is not in WAL mode
        is told by the guard's `flush` and `status`.
        """
        from pagewarden.guard.embedded import Guard
        from pagewarden.guard.values import GuardRequest
        from pagewarden.wal.presets import chosen

        settings = self._settings
        request = GuardRequest(
            database=settings.path,
            repository=self._named_repository().url,
            name=settings.name if name is None else name,
            compression=settings.compression if compression is None else compression,
            check=settings.check,
            interval=settings.interval if interval is None else interval,
            spool=(settings.spool if spool is None else spool) << 20,
            scrub=settings.scrub if scrub is None else scrub,
            policy=chosen(settings.wal).policy,
        )
        return Guard(
            request,
            plugins=self._worker.plugins,
            threads=self._configuration.defaults.threads,
            log=None if log is None else _absolute("log", log),
        )

    def plugins(self) -> PluginsReport:
        """Return what is installed, faults included."""
        return self._worker.call("plugins", {}, PluginsReport)

    def close(self) -> None:
        """End the worker, if one was started. What was closed stays so: `pagewarden.open` gives another handle."""
        self._worker.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _named_repository(self) -> RepositorySettings:
        if self._repository is None:
            raise ConfigurationInvalid(
                f"no repository was named for {self.path}", hint='pagewarden.open(path, repository="/backup/app")'
            )
        return self._repository

    def _in_repository(self) -> dict[str, object]:
        """Return what requests about the database's backups begin with; its name is its real file's by default."""
        name = self._settings.name or Path(os.path.realpath(self.path)).name
        return {"repository": self._named_repository().url, "name": name}


def _text(argument: str, path: object) -> str:
    """Return a path or URL as text; what a caller without a type checker may pass instead is refused by name."""
    text = os.fspath(path) if isinstance(path, os.PathLike) else path
    if isinstance(text, bytes):
        raise ConfigurationInvalid(f"{argument} is bytes, {text!r}", hint="os.fsdecode(path) makes a path of them")
    if not isinstance(text, str) or not text or "\0" in text:
        what = "empty" if text == "" else f"no path: {text!r}"
        raise ConfigurationInvalid(f"{argument} is {what}", hint=f"give {argument} a path")
    return text


def _names(argument: str, names: object) -> tuple[str, ...]:
    """Return names; a text alone, whose letters would be taken for names, is refused."""
    found = None if isinstance(names, str) or not isinstance(names, Iterable) else tuple(names)
    if found is None or not all(isinstance(name, str) for name in found):
        example = names if isinstance(names, str) else "check-pragma"
        raise ConfigurationInvalid(
            f"{argument} is {names!r}, not a list of names", hint=f'give a list: {argument}=["{example}"]'
        )
    return found


def _absolute(argument: str, path: StrPath) -> str:
    """Return `path` as the worker finds it wherever it works."""
    return str(Path(_text(argument, path)).absolute())


def _moment(at: object) -> str:
    if isinstance(at, str):
        return format_moment(parse_moment(at, now=datetime.now(UTC), local=False).time)
    if not isinstance(at, datetime):
        raise ConfigurationInvalid(
            f"at is {at!r}, neither a datetime nor text", hint='give at=datetime.now(timezone.utc), or at="-15m"'
        )
    if at.tzinfo is None:
        raise ConfigurationInvalid(f"the time {at} has no offset", hint="datetime.now(timezone.utc) has one")
    return format_moment(at)
