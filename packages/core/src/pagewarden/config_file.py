"""The configuration's file: where it is looked for, how it is decoded, and what is said of a mistake in it.

It is TOML, read from where the command line or `$PAGEWARDEN_CONFIG` names it, else from
`$XDG_CONFIG_HOME/pagewarden/pagewarden.toml`; never from the current folder, because a configuration names modules that
are imported, and a folder may belong to someone else.
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from pagewarden.config import (
    SECTIONS,
    Configuration,
    DatabaseSection,
    DefaultsSection,
    OutputSection,
    PluginsSection,
    RepairSection,
    RepositorySection,
    RetentionSection,
    Section,
    WalSection,
)
from pagewarden.errors import ConfigurationInvalid
from pagewarden.runtime import PluginChoice

MAX_CONFIG_BYTES = 1 << 20  # far above any real file, and it keeps a wrong path (a database, /dev/zero) from being read
EXAMPLE_HINT = "pagewarden config example"

S = TypeVar("S", bound=Section)


@dataclass(frozen=True, slots=True, kw_only=True)
class _File:
    """The whole file."""

    defaults: DefaultsSection
    databases: dict[str, DatabaseSection]
    repositories: dict[str, RepositorySection]
    retention: RetentionSection
    wal: WalSection
    repair: RepairSection
    plugins: PluginsSection
    output: OutputSection


def load_config(path: Path | None) -> Configuration:
    """Read and validate the file at `path`; None gives the defaults. Raises ConfigurationInvalid, naming the key."""
    if path is None:
        return Configuration(databases={}, repositories={})
    try:
        # Opening one waits for a writer. A link to a pipe that is open already is what `<(…)` of a shell gives.
        if path.is_fifo() and not path.is_symlink():
            raise ConfigurationInvalid(f"the configuration {path} is a FIFO, not a file", hint=_look_at(path))
        with path.open("rb") as stream:
            raw = stream.read(MAX_CONFIG_BYTES + 1)
    except FileNotFoundError as error:
        raise ConfigurationInvalid(
            f"there is no configuration at {path}", hint=f"pagewarden config example > {shlex.quote(str(path))}"
        ) from error
    except (OSError, ValueError) as error:  # ValueError: a path with a NUL in it
        folder = isinstance(error, IsADirectoryError)
        raise ConfigurationInvalid(
            f"the configuration {path} cannot be read: {getattr(error, 'strerror', error)}",
            hint=f"name the file in it: {shlex.quote(str(path / 'pagewarden.toml'))}" if folder else _look_at(path),
        ) from error
    if len(raw) > MAX_CONFIG_BYTES:
        raise ConfigurationInvalid(
            f"{path} is no configuration: it is larger than {MAX_CONFIG_BYTES} bytes", hint=_look_at(path)
        )
    return parse_config(raw, path)


def _look_at(path: Path) -> str:
    return shlex.join(["ls", "-l", "--", str(path)])


def parse_config(raw: bytes, path: Path) -> Configuration:
    """Validate the bytes of a file; `path` is for messages and for what relative paths start from."""
    path = path.absolute()
    file = _decode(raw, path)
    _check_references(file, path)
    plugins = file.plugins
    return Configuration(
        source=path,
        defaults=file.defaults,
        databases=file.databases,
        repositories=file.repositories,
        retention=file.retention,
        wal=file.wal,
        repair=file.repair,
        plugins=PluginChoice(only=plugins.only, disabled=plugins.disabled, extra=plugins.extra),
        output=file.output,
    )


def _decode(raw: bytes, path: Path) -> _File:
    try:
        import tomllib

        document = tomllib.loads(raw.decode())
    except UnicodeDecodeError as error:
        raise ConfigurationInvalid(f"{path} is not UTF-8 at byte {error.start}", hint="save it as UTF-8") from error
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise ConfigurationInvalid(f"{path} is not TOML: {error}", hint=EXAMPLE_HINT) from error
    known = tuple(dict.fromkeys(name.partition(".")[0] for name in SECTIONS))
    for name in document:
        if name not in known:
            raise _unknown(path, name, "at the top", known)
    return _File(
        defaults=_section(document, "defaults", DefaultsSection, path),
        databases=_sections(document, "databases", DatabaseSection, path),
        repositories=_sections(document, "repositories", RepositorySection, path),
        retention=_section(document, "retention", RetentionSection, path),
        wal=_section(document, "wal", WalSection, path),
        repair=_section(document, "repair", RepairSection, path),
        plugins=_section(document, "plugins", PluginsSection, path),
        output=_section(document, "output", OutputSection, path),
    )


def _sections(document: dict[str, Any], name: str, kind: type[S], path: Path) -> dict[str, S]:
    """Decode the tables `[name.…]`, each by itself, so that a message can name it."""
    tables = document.get(name, {})
    if not isinstance(tables, dict):
        raise ConfigurationInvalid(f"{path}: {name}: expected tables [{name}.NAME]", hint=EXAMPLE_HINT)
    for entry in tables:
        if not re.fullmatch(r"[A-Za-z0-9._-]+", entry):
            raise ConfigurationInvalid(
                f'{path}: {name}: "{entry}" is no name', hint="use letters, digits, dots, dashes and underscores"
            )
    return {entry: _section(tables, entry, kind, path, f"{name}.") for entry in tables}


def _section(tables: dict[str, Any], name: str, kind: type[S], path: Path, prefix: str = "") -> S:
    try:
        return msgspec.convert(tables.get(name, {}), kind)
    except msgspec.ValidationError as error:
        raise _explain(str(error), kind, prefix + name, path) from error


def _explain(problem: str, kind: type[Section], table: str, path: Path) -> ConfigurationInvalid:
    """Turn msgspec's message, such as "Expected `int`, got `str` - at `$.compression`", into one with key and fix."""
    what, _, place = problem.partition(" - at ")
    inner: tuple[tuple[str, type[Section]], ...] = (
        ("retention", RetentionSection),
        ("wal", WalSection),
        ("repair", RepairSection),
    )
    for name, section in inner:
        if place.startswith(f"`$.{name}"):
            return _explain(f"{what} - at `${place[len(name) + 3 :]}", section, f"{table}.{name}", path)
    if (unknown := re.fullmatch(r"Object contains unknown field `(.*)`", what, re.DOTALL)) is not None:
        return _unknown(path, unknown[1], f"in [{table}]", kind.__struct_fields__)
    if (missing := re.fullmatch(r"Object missing required field `(.*)`", what)) is not None:
        return ConfigurationInvalid(f"{path}: [{table}] has no {missing[1]}", hint=EXAMPLE_HINT)
    key = table + place.strip("`").removeprefix("$")
    what = what.replace("`", "").replace("enum value", "value")
    hint = _FIXES.get(place.strip("`").removeprefix("$.").partition("[")[0], EXAMPLE_HINT)
    return ConfigurationInvalid(f"{path}: {key}: {what[:1].lower()}{what[1:]}", hint=hint)


_FIXES = {
    **dict.fromkeys(("path", "name", "repository", "url", "db", "log"), "write a text in quotes"),
    **dict.fromkeys(("checkers", "only", "disabled"), 'write a list of names, such as ["check-pragma"]'),
    **dict.fromkeys(
        ("color", "quiet", "verbose", "read_data", "compare", "replay_stranded", "only_lossless"), "write true or false"
    ),
    "assertions": 'write a list of statements, such as ["SELECT count(*) > 0 FROM users"]',
    "extra": 'write a list of modules, such as ["myapp.pagewarden_plugin"]',
    "level": 'write "quick", "standard" or "deep"',
    "check": 'write "none", "quick", "standard" or "deep"',
    "compression": "write a whole number from 1 to 22",
    "threads": "write a whole number from 1 to 64",
    "jobs": "write a whole number from 1 to 64",
    "max_time": "write a number of seconds above 0",
    **dict.fromkeys(
        ("within", "commits", "grace", "check_every", "backup_every", "verify_every"),
        'write a length of time, such as "12h", "7d" or "4w"',
    ),
    **dict.fromkeys(
        ("last", "minutely", "hourly", "daily", "weekly", "monthly", "yearly", "minimum"),
        "write a whole number, 0 for none",
    ),
    "chain_segments": "write a whole number from 1",
    "chain_ratio": "write a number above 0",
    "retention": "write a table [….retention] with the keys of [retention]",
    "wal": "write a table [….wal] with the keys of [wal]",
    "repair": "write a table [….repair] with the keys of [repair]",
    "orphans": 'write "leave", "quarantine", "set-null" or "cascade"',
    "preset": 'write "safe", "balanced" or "fast"',
    "synchronous": 'write "off", "normal", "full" or "extra"',
    "checkpoint": 'write "passive", "restart" or "truncate"',
    **dict.fromkeys(("autocheckpoint", "passive_frames"), "write a whole number of pages, 0 for never"),
    **dict.fromkeys(("journal_size_limit", "bound_bytes"), "write a whole number of bytes"),
    "busy_timeout": "write a whole number of milliseconds",
    "guarded": "write true or false",
    **dict.fromkeys(("idle_seconds", "wait_seconds"), "write a number of seconds from 0"),
}


def _unknown(path: Path, key: str, where: str, known: tuple[str, ...]) -> ConfigurationInvalid:
    from difflib import get_close_matches

    close = get_close_matches(key, known, n=1)
    hint = f'did you mean "{close[0]}"?' if close else f"known here: {', '.join(known)}"
    return ConfigurationInvalid(f'{path}: unknown key "{key}" {where}', hint=hint)


def _check_references(file: _File, path: Path) -> None:
    """Refuse a repository that is neither a name of the file nor a URL, and two names for one thing."""
    named: list[tuple[str, str | None]] = [("defaults.repository", file.defaults.repository)]
    named += [(f"databases.{name}.repository", section.repository) for name, section in file.databases.items()]
    for key, value in named:
        if value is None or value in file.repositories or "/" in value:
            continue
        from difflib import get_close_matches

        close = get_close_matches(value, file.repositories, n=1)
        hint = (
            f'did you mean "{close[0]}"?' if close else f'add [repositories.{value}] with its url, or write "./{value}"'
        )
        raise ConfigurationInvalid(f'{path}: {key}: there is no repository "{value}"', hint=hint)
    _check_lengths(file, path)
    for name, section in file.databases.items():
        if not section.path or "\0" in section.path:
            raise ConfigurationInvalid(
                f"{path}: databases.{name}.path: {section.path!r} is no path", hint='name a file, such as "app.db"'
            )
    if file.output.quiet and file.output.verbose:
        raise ConfigurationInvalid(f"{path}: output: quiet and verbose exclude each other", hint="remove one of them")


def _check_lengths(file: _File, path: Path) -> None:
    """Refuse lengths of time that are none."""
    sections: dict[str, Section | None] = {"retention": file.retention, "defaults": file.defaults}
    sections |= {f"databases.{name}": section for name, section in file.databases.items()}
    sections |= {f"databases.{name}.retention": section.retention for name, section in file.databases.items()}
    sections |= {f"repositories.{name}.retention": section.retention for name, section in file.repositories.items()}
    for table, section in sections.items():
        for key in ("within", "commits", "grace", "check_every", "backup_every", "verify_every"):
            value = getattr(section, key, None)
            if value is not None:
                from pagewarden.times import parse_duration

                try:
                    parse_duration(value)
                except ConfigurationInvalid as error:
                    raise ConfigurationInvalid(f"{path}: {table}.{key}: {error.message}", hint=error.hint) from error


def example_config() -> str:
    """Return a commented file that has every key and that `parse_config` accepts."""
    return EXAMPLE


EXAMPLE = """\
# Pagewarden's configuration. Every key is optional except `path` and `url`; docs/configuration.md explains each.
# Relative paths start from this file's folder.

[defaults]
repository = "main"       # a name of [repositories], or a URL
level = "standard"        # of check: quick, standard or deep
checkers = []             # the only checkers to run; empty: all that the level includes
max_time = 600            # seconds that one check may take
compare = false           # whether check compares with the newest backup; unknown once something was committed since
assertions = []           # statements that a deep check runs: each returns one row whose first column is true
check = "quick"           # how backup judges its source first: none, quick, standard or deep
compression = 1           # zstd's level, 1 to 22
threads = 2               # that read, hash and compress pages
jobs = 2                  # databases that are checked side by side; one for each core, 4 at most, where it is left out
check_every = "7d"        # how old the last check may be before status says that it is overdue; never, if left out
backup_every = "24h"      # likewise the newest backup
verify_every = "30d"      # likewise the last verification of a backup
interval = 0.02           # seconds between two looks of a guard at a database that is written to
spool = 1024              # MiB that a guard keeps on this disk while the repository cannot be reached
scrub = 4                 # MiB a second of the database file that a guard compares with what it followed; 0: none

[databases.app]           # `pagewarden check app` finds it by this name
path = "/srv/app/app.db"
name = "app.db"           # in the repository; the file's name where it is left out
repository = "main"
level = "deep"
checkers = ["check-pages", "check-structure", "check-indexes", "check-foreign-keys"]
max_time = 1800
compare = true
assertions = ["SELECT count(*) > 0 FROM users", "SELECT NOT EXISTS (SELECT 1 FROM account WHERE balance < 0)"]
check = "standard"
compression = 3
check_every = "1d"
backup_every = "1h"
verify_every = "7d"
interval = 0.1
spool = 4096
scrub = 16
retention = { within = "90d", monthly = 24 }   # instead of [retention], not beside it
wal = { preset = "safe" }                      # instead of [wal], not beside it
repair = { orphans = "set-null" }              # instead of [repair], not beside it

[repositories.main]       # `--repo main` finds it by this name
url = "/backup/pagewarden"
db = "app.db"             # what --db is where it is left out
read_data = true          # verify reads the data
retention = { within = "30d", daily = 30 }     # instead of [retention], not beside it

[retention]               # what prune keeps; without a rule every restore point
last = 3                  # restore points, the newest
within = "14d"            # all that are not older, and the last one before them
commits = "7d"            # of a database that is followed: every commit that is not older
minutely = 20160          # the last one of each minute, for so many minutes that have one
hourly = 24
daily = 14
weekly = 8
monthly = 12
yearly = 5
minimum = 3               # restore points that are left whatever the rest says
grace = "7d"              # how long what goes can be had back: pagewarden undelete
chain_segments = 1000     # a longer chain of the newest restore point becomes a snapshot
chain_ratio = 1.0         # and one whose segments have more than so many times the bytes of its snapshot

[wal]
preset = "balanced"       # safe, balanced or fast: docs/wal.md has what each can lose
# Of each connection of an application: `pagewarden wal tune DB` prints the lines for it. As the preset, if left out.
synchronous = "normal"    # off, normal, full or extra
autocheckpoint = 1000     # pages in the log after which a commit checkpoints; 0: never
journal_size_limit = 67108864   # bytes that the -wal is cut to when the log restarts
busy_timeout = 5000       # milliseconds that a connection waits for a lock
guarded = false           # true: a guard runs and checkpoints, so tune tells the application to leave that to it
# How the guard checkpoints. As the preset, if left out.
passive_frames = 4000     # frames that are not in the database file yet, from which on it copies what it can
idle_seconds = 1.0        # without a commit, after which it does so, too
bound_bytes = 67108864    # of the log, beyond which it does what the next key says, as soon as readers let it
checkpoint = "restart"    # passive, restart or truncate
wait_seconds = 0.1        # that writers may be kept waiting then, for readers to end

[repair]
orphans = "leave"         # of a row whose parent cannot be had: leave, quarantine, set-null or cascade
replay_stranded = false   # replay transactions behind a bad frame of the log that are provably intact
only_lossless = false     # leave out every step that loses a row, or takes one out of the database

[plugins]
# only = ["check-pages", "check-pragma", "target-directory"]   # all that are installed where it is left out
disabled = []             # names of installed plugins
extra = []                # modules to import as plugins, such as "myapp.pagewarden_plugin"

[output]
color = true
quiet = false
verbose = false
# log = "/var/log/pagewarden.jsonl"    # every event as a line of JSON; "-" is stderr
"""
