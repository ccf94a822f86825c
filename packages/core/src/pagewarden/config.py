"""The configuration as values: databases, repositories, and what they are judged and kept by.

Every key of the file is a field of a section below, and is documented in docs/configuration.md;
`pagewarden.config_file` reads it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from pagewarden.errors import ConfigurationInvalid
from pagewarden.runtime import DEFAULT_THREADS, PluginChoice
from pagewarden.values import Level

CONFIG_VARIABLE = "PAGEWARDEN_CONFIG"

Judgement = Literal["none", "quick", "standard", "deep"]  # how a backup judges its source
Compression = Annotated[int, msgspec.Meta(ge=1, le=22)]  # zstd's levels
Seconds = Annotated[float, msgspec.Meta(gt=0)]
Text = Annotated[str, msgspec.Meta(min_length=1)]
Names = tuple[Text, ...]


class Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A table of the file; a key that it does not know is an error."""


Count = Annotated[int, msgspec.Meta(ge=0)]


class RetentionSection(Section, frozen=True):
    """`[retention]`: what `prune` keeps; without a rule it keeps every restore point."""

    last: Count = 0  # newest restore points
    within: Text | None = None  # all that are not older than this, such as "30d"
    commits: Text = "7d"  # how long every commit of a database that is followed stays
    minutely: Count = 0  # the last one of each minute, for so many minutes that have one
    hourly: Count = 0
    daily: Count = 0
    weekly: Count = 0
    monthly: Count = 0
    yearly: Count = 0
    minimum: Count = 0  # restore points that are left at the least
    grace: Text = "7d"  # how long a restore point that goes can be had back
    chain_segments: Annotated[int, msgspec.Meta(ge=1)] = 1000  # beyond so many the newest gets a snapshot of its own
    chain_ratio: Annotated[float, msgspec.Meta(gt=0)] = 1.0  # likewise: bytes of segments over those of the snapshot


class WalSection(Section, frozen=True):
    """`[wal]`: what `wal tune` asks applications to set, and how the guard checkpoints; None: as the preset has it."""

    preset: Literal["safe", "balanced", "fast"] = "balanced"
    # What belongs to each connection of the application: nobody else can set it
    synchronous: Literal["off", "normal", "full", "extra"] | None = None
    autocheckpoint: Count | None = None  # pages in the log after which a commit checkpoints
    journal_size_limit: Count | None = None  # bytes that the -wal is cut to when the log restarts
    busy_timeout: Count | None = None  # milliseconds
    guarded: bool = False  # whether a guard checkpoints, so that applications leave it
    # What the guard goes by
    passive_frames: Count | None = None  # frames that wait, from which on it checkpoints
    idle_seconds: Annotated[float, msgspec.Meta(ge=0)] | None = None  # without a commit, after which it does
    bound_bytes: Count | None = None  # of the log, beyond which `checkpoint` is due
    checkpoint: Literal["passive", "restart", "truncate"] | None = None
    wait_seconds: Annotated[float, msgspec.Meta(ge=0)] | None = None  # that writers may be kept waiting for readers


class RepairSection(Section, frozen=True):
    """`[repair]`: what the owner chose for repairs; as it stands, nothing is lost that can be kept."""

    orphans: Literal["leave", "quarantine", "set-null", "cascade"] = "leave"  # a row whose parent cannot be had
    replay_stranded: bool = False  # replay transactions behind a bad frame of the log that are provably intact
    only_lossless: bool = False  # leave out every step that loses a row, or takes one out of the database


class DefaultsSection(Section, frozen=True):
    """`[defaults]`: what holds where neither the command line nor a database's own table says otherwise."""

    repository: Text | None = None  # a name of [repositories], or a URL
    level: Level = Level.STANDARD  # of `check`
    checkers: Names = ()  # the only checkers to run; empty: all that the level includes
    max_time: Seconds | None = None  # of one `check`, in seconds
    compare: bool = False  # whether `check` compares with the newest backup in the repository
    assertions: Names = ()  # statements that must hold, of a `check` at level deep
    check: Judgement = "quick"  # how `backup` judges its source first
    compression: Compression = 1
    threads: Annotated[int, msgspec.Meta(ge=1, le=64)] = DEFAULT_THREADS
    jobs: Annotated[int, msgspec.Meta(ge=1, le=64)] | None = None  # databases that are checked side by side
    check_every: Text | None = None  # how old the last check may be, such as "7d", before `status` says it is overdue
    backup_every: Text | None = None  # likewise the newest backup
    verify_every: Text | None = None  # likewise the last verification
    interval: Annotated[float, msgspec.Meta(ge=0.001, le=10)] = 0.02  # seconds between two looks of the guard
    spool: Annotated[int, msgspec.Meta(ge=1)] = 1024  # MiB that may wait for the repository
    scrub: Annotated[float, msgspec.Meta(ge=0)] = 4.0  # MiB a second that the guard compares; 0: none


class DatabaseSection(Section, frozen=True):
    """`[databases.NAME]`: a database, and what differs from the defaults for it."""

    path: Text
    name: Text | None = None  # in the repository; None: the file's name
    repository: Text | None = None
    level: Level | None = None
    checkers: Names | None = None
    max_time: Seconds | None = None
    compare: bool | None = None
    assertions: Names | None = None  # instead of those of the defaults
    check: Judgement | None = None
    compression: Compression | None = None
    check_every: Text | None = None
    backup_every: Text | None = None
    verify_every: Text | None = None
    interval: Annotated[float, msgspec.Meta(ge=0.001, le=10)] | None = None
    spool: Annotated[int, msgspec.Meta(ge=1)] | None = None
    scrub: Annotated[float, msgspec.Meta(ge=0)] | None = None
    retention: RetentionSection | None = None  # instead of that of the repository, or of `[retention]`
    wal: WalSection | None = None  # instead of `[wal]`
    repair: RepairSection | None = None  # instead of `[repair]`


class RepositorySection(Section, frozen=True):
    """`[repositories.NAME]`: where backups are kept."""

    url: Text
    db: Text | None = None  # what --db is where it is left out
    read_data: bool = False  # whether `verify` reads the data
    retention: RetentionSection | None = None  # instead of `[retention]`


class PluginsSection(Section, frozen=True):
    """`[plugins]`: which of the installed plugins are used."""

    only: Names | None = None
    disabled: Names = ()
    extra: Names = ()  # modules to import as plugins


class OutputSection(Section, frozen=True):
    """`[output]`: how the command line speaks."""

    color: bool = True
    quiet: bool = False
    verbose: bool = False
    log: Text | None = None  # file that events are appended to as JSON lines; "-": stderr


SECTIONS: Mapping[str, type[Section]] = {
    "defaults": DefaultsSection,
    "databases.NAME": DatabaseSection,
    "repositories.NAME": RepositorySection,
    "retention": RetentionSection,
    "wal": WalSection,
    "repair": RepairSection,
    "plugins": PluginsSection,
    "output": OutputSection,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class RetentionSettings:
    """What `prune` keeps, as `RetentionSection` has it: plain values, for requests."""

    last: int = 0
    within: str | None = None
    commits: str = "7d"
    minutely: int = 0
    hourly: int = 0
    daily: int = 0
    weekly: int = 0
    monthly: int = 0
    yearly: int = 0
    minimum: int = 0
    grace: str = "7d"
    chain_segments: int = 1000
    chain_ratio: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class WalSettings:
    """What `WalSection` has: plain values, for requests."""

    preset: Literal["safe", "balanced", "fast"] = "balanced"
    synchronous: Literal["off", "normal", "full", "extra"] | None = None
    autocheckpoint: int | None = None
    journal_size_limit: int | None = None
    busy_timeout: int | None = None
    guarded: bool = False
    passive_frames: int | None = None
    idle_seconds: float | None = None
    bound_bytes: int | None = None
    checkpoint: Literal["passive", "restart", "truncate"] | None = None
    wait_seconds: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RepairSettings:
    """What `RepairSection` has: plain values, for requests."""

    orphans: Literal["leave", "quarantine", "set-null", "cascade"] = "leave"
    replay_stranded: bool = False
    only_lossless: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class DatabaseSettings:
    """What holds for one database, the defaults filled in."""

    path: str  # absolute, not resolved
    name: str | None  # in the repository; None: the file's name
    repository: str | None  # URL
    level: Level
    checkers: tuple[str, ...]
    max_time: float | None  # seconds
    compare: bool
    assertions: tuple[str, ...]
    check: Judgement
    compression: int
    check_every: str | None = None  # length of time, such as "7d"
    backup_every: str | None = None
    verify_every: str | None = None
    interval: float = 0.02  # seconds between two looks of the guard
    spool: int = 1024  # MiB
    scrub: float = 4.0  # MiB a second
    wal: WalSettings = field(default_factory=WalSettings)
    repair: RepairSettings = field(default_factory=RepairSettings)


@dataclass(frozen=True, slots=True, kw_only=True)
class RepositorySettings:
    """What holds for one repository."""

    url: str
    db: str | None = None
    read_data: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Configuration:
    """A configuration that was read, or the defaults where there is no file (`source` is None then)."""

    source: Path | None = None
    defaults: DefaultsSection = field(default_factory=DefaultsSection)
    databases: Mapping[str, DatabaseSection]
    repositories: Mapping[str, RepositorySection]
    retention: RetentionSection = field(default_factory=RetentionSection)
    wal: WalSection = field(default_factory=WalSection)
    repair: RepairSection = field(default_factory=RepairSection)
    plugins: PluginChoice = field(default_factory=PluginChoice)
    output: OutputSection = field(default_factory=OutputSection)

    def database(self, argument: str) -> DatabaseSettings:
        """Return the settings of a configured name, or of a path; a name wins over a file in the current folder.

        A path that is a configured database's path gets that database's settings. Raises ConfigurationInvalid for an
        empty argument, and for one that no file can be called.
        """
        if not argument:
            raise ConfigurationInvalid("the database is empty text", hint="name a file, such as app.db")
        if "\0" in argument:
            raise ConfigurationInvalid(f"{argument!r} is no path", hint="name a file, such as app.db")
        if argument in self.databases:
            section, path = self.databases[argument], self._beside(self.databases[argument].path)
        else:
            path = str(Path(argument).absolute())
            section = self._section_at(path) or DatabaseSection(path=path)
        defaults = self.defaults
        repository = section.repository or defaults.repository
        return DatabaseSettings(
            path=path,
            name=section.name,
            repository=None if repository is None else self._stored_url(repository),
            level=section.level or defaults.level,
            checkers=defaults.checkers if section.checkers is None else section.checkers,
            max_time=section.max_time or defaults.max_time,
            compare=defaults.compare if section.compare is None else section.compare,
            assertions=defaults.assertions if section.assertions is None else section.assertions,
            check=section.check or defaults.check,
            compression=section.compression or defaults.compression,
            check_every=section.check_every or defaults.check_every,
            backup_every=section.backup_every or defaults.backup_every,
            verify_every=section.verify_every or defaults.verify_every,
            interval=section.interval or defaults.interval,
            spool=section.spool or defaults.spool,
            scrub=defaults.scrub if section.scrub is None else section.scrub,
            wal=_wal_settings(section.wal or self.wal),
            repair=_repair_settings(section.repair or self.repair),
        )

    def log(self) -> str | None:
        """Return the log's file, absolute, or "-" for stderr; None where there is none."""
        named = self.output.log
        return named if named in (None, "-") else self._beside(named)

    def repository(self, argument: str) -> RepositorySettings:
        """Return the settings of a configured name, or of a URL; a plain path becomes absolute.

        Raises ConfigurationInvalid for an empty argument.
        """
        if not argument:
            raise ConfigurationInvalid(
                "the repository is empty text", hint="name a folder or URL, such as /backup/pagewarden"
            )
        if argument in self.repositories:
            return self._configured(argument)
        return RepositorySettings(url=absolute_url(argument, Path.cwd()))

    def retention_in(self, url: str) -> tuple[RetentionSettings, dict[str, RetentionSettings]]:
        """Return what is kept in the repository at `url`, and of databases that have their own retention, by name."""
        own = [
            section.retention
            for name, section in self.repositories.items()
            if section.retention is not None and self._stored_url(name) == url
        ]
        by_name = {}
        for name, section in self.databases.items():
            settings = self.database(name)
            if section.retention is not None and settings.repository == url:
                by_name[settings.name or Path(os.path.realpath(settings.path)).name] = _settings(section.retention)
        return _settings(own[0] if own else self.retention), by_name

    def default_repository(self) -> RepositorySettings | None:
        """Return the repository of `[defaults]`, if there is one."""
        name = self.defaults.repository
        if name is None:
            return None
        return self._configured(name) if name in self.repositories else RepositorySettings(url=self._stored_url(name))

    def _configured(self, name: str) -> RepositorySettings:
        section = self.repositories[name]
        return RepositorySettings(url=self._stored_url(name), db=section.db, read_data=section.read_data)

    def _stored_url(self, value: str) -> str:
        """Return the URL of a repository as the file names it."""
        section = self.repositories.get(value)
        return absolute_url(value if section is None else section.url, self._folder())

    def _section_at(self, path: str) -> DatabaseSection | None:
        real = os.path.realpath(path)
        for section in self.databases.values():
            if os.path.realpath(self._beside(section.path)) == real:
                return section
        return None

    def _beside(self, path: str) -> str:
        return absolute_url(path, self._folder())

    def _folder(self) -> Path:
        """Return the folder that relative paths in the file start from: the file's own."""
        return Path.cwd() if self.source is None else self.source.parent


def _settings(section: RetentionSection) -> RetentionSettings:
    return RetentionSettings(**{key: getattr(section, key) for key in RetentionSection.__struct_fields__})


def _wal_settings(section: WalSection) -> WalSettings:
    return WalSettings(**{key: getattr(section, key) for key in WalSection.__struct_fields__})


def _repair_settings(section: RepairSection) -> RepairSettings:
    return RepairSettings(**{key: getattr(section, key) for key in RepairSection.__struct_fields__})


def absolute_url(url: str, folder: Path) -> str:
    """Return a plain path as an absolute one, starting from `folder`; anything with a scheme unchanged."""
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", url):
        return url
    return str((folder / expand_home(url)).absolute())


def expand_home(path: str) -> Path:
    """Return `path` with its `~` expanded; unchanged where the machine knows no home folder."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        return Path(path)


def default_config_path() -> Path | None:
    """Return the file that is read where none is named, if it exists.

    `$PAGEWARDEN_CONFIG` is returned whether it exists or not: a file that was named must be there. Set to nothing, it
    switches the default file off.
    """
    named = os.environ.get(CONFIG_VARIABLE)
    if named is not None:
        return Path(named) if named else None
    configured = Path(os.environ.get("XDG_CONFIG_HOME", ""))
    base = configured if configured.is_absolute() else expand_home("~/.config")
    path = base / "pagewarden" / "pagewarden.toml"
    return path if path.exists() else None


def as_plain(configuration: Configuration) -> dict[str, Any]:
    """Return the configuration as plain values, for --json."""
    return {
        "file": None if configuration.source is None else str(configuration.source),
        "databases": {name: msgspec.to_builtins(configuration.database(name)) for name in configuration.databases},
        "repositories": {
            name: msgspec.to_builtins(configuration.repository(name)) for name in configuration.repositories
        },
        "retention": msgspec.to_builtins(configuration.retention),
        "wal": msgspec.to_builtins(configuration.wal),
        "repair": msgspec.to_builtins(configuration.repair),
        "plugins": msgspec.to_builtins(configuration.plugins),
    }
