"""Which files below a folder, or of a pattern, are databases: told by their first bytes, read by the page reader (H1).

What is left out: the log, journal and wal-index beside a database, empty files, whatever else does not begin as a
database does, repositories and quarantines of ours, and what a symbolic link leads to outside. A file whose first bytes
are gone is a database all the same if a log or a journal of its own lies beside it.
"""

from __future__ import annotations

import os
import re
import shlex
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fnmatch import translate

from pagewarden.errors import DatabaseNotFound, DatabaseUnreadable, PagewardenError
from pagewarden.repository.keys import MARKER
from pagewarden.restore.quarantine import FOLDER
from pagewarden.sqlite.header import MAGIC

_COMPANIONS = ("-wal", "-shm", "-journal")

_Unreadable = dict[str, PagewardenError]


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What a search found."""

    databases: tuple[str, ...]  # real paths, sorted; at least one
    unreadable: tuple[tuple[str, PagewardenError], ...]  # files and folders that could not be looked at
    looked_at: int  # files


def search(place: str, read_header: Callable[[str], bytes], *, pattern: bool = False) -> Found:
    """Look for databases in the folder `place` and all below it, or for those that the `pattern` of that text matches.

    In a pattern `**` stands for any number of folders; `*`, `?` and `[…]` for parts of one name, and they match no name
    that begins with a dot. `read_header` returns the first bytes of a file.

    Raises DatabaseNotFound where there is none, or the error that kept the first file or folder from being looked at.
    """
    unreadable: _Unreadable = {}
    if pattern:
        base, parts = _base(place)
        files = set(_matching(base, parts, os.path.realpath(base), unreadable))
    else:
        files = set(_below(os.path.realpath(place), unreadable))
    looked_at = 0
    databases = []
    for path in sorted(files):
        if _is_companion(path):
            continue
        looked_at += 1
        try:
            header = read_header(path)
        except DatabaseNotFound:  # gone since
            continue
        except PagewardenError as error:
            unreadable[path] = error
            continue
        if header.startswith(MAGIC) or any(_size(path + suffix) for suffix in ("-wal", "-journal")):
            databases.append(path)
    if not databases:
        if unreadable:
            raise next(iter(unreadable.values()))
        counted = f"{looked_at} file{'' if looked_at == 1 else 's'} looked at"
        raise DatabaseNotFound(
            f"no database matches {place}: {counted}" if pattern else f"there is no database in {place}: {counted}",
            hint="name the file itself if it is encrypted, or damaged at its beginning: pagewarden check FILE",
        )
    return Found(databases=tuple(databases), unreadable=tuple(unreadable.items()), looked_at=looked_at)


def _is_companion(path: str) -> bool:
    return any(path.endswith(suffix) and os.path.lexists(path.removesuffix(suffix)) for suffix in _COMPANIONS)


def _size(path: str) -> int:
    try:
        return os.lstat(path).st_size
    except OSError:  # there is none
        return 0


def _entries(folder: str, unreadable: _Unreadable) -> list[os.DirEntry[str]]:
    """Return what is in a folder but is not ours; nothing of a repository."""
    try:
        with os.scandir(folder) as each:
            entries = list(each)
    except (FileNotFoundError, NotADirectoryError):  # gone since
        return []
    except OSError as error:
        unreadable[folder] = DatabaseUnreadable(
            f"the folder {folder} cannot be looked into: {error.strerror}", hint=shlex.join(["ls", "-ld", folder])
        )
        return []
    if any(entry.name == MARKER for entry in entries):
        return []
    return [entry for entry in entries if not entry.name.startswith(FOLDER)]


def _below(root: str, unreadable: _Unreadable) -> Iterator[str]:
    """Yield every regular file below a folder; symbolic links are not followed."""
    folders = [root]
    while folders:
        for entry in _entries(folders.pop(), unreadable):
            if entry.is_file(follow_symlinks=False):
                yield entry.path
            elif entry.is_dir(follow_symlinks=False):
                folders.append(entry.path)


def _base(pattern: str) -> tuple[str, list[str]]:
    """Return the folder that a pattern begins in, and its parts from there on."""
    parts = pattern.split("/")
    first = next(number for number, part in enumerate(parts) if re.search(r"[*?[]", part))
    base = "/".join(parts[:first]) or ("/" if pattern.startswith("/") else ".")
    return base, [part for part in parts[first:] if part]


def _matching(folder: str, parts: list[str], root: str, unreadable: _Unreadable) -> Iterator[str]:
    """Yield the real paths of files in `folder` that `parts` match, of those that lie below `root`."""
    first, rest = parts[0], parts[1:]
    if first == "**":
        yield from _matching(folder, rest or ["*"], root, unreadable)
        for entry in _entries(folder, unreadable):
            if entry.is_dir(follow_symlinks=False) and not entry.name.startswith("."):
                yield from _matching(entry.path, parts, root, unreadable)
        return
    matches = re.compile(translate(first)).match
    for entry in _entries(folder, unreadable):
        if not matches(entry.name) or (entry.name.startswith(".") and not first.startswith(".")):
            continue
        if rest and entry.is_dir(follow_symlinks=False):
            yield from _matching(entry.path, rest, root, unreadable)
        elif not rest:
            path = os.path.realpath(entry.path)
            if _is_regular(path) and path.startswith(root.rstrip("/") + "/"):
                yield path


def _is_regular(path: str) -> bool:
    try:
        return stat.S_ISREG(os.lstat(path).st_mode)
    except OSError:  # gone since, or a link that leads nowhere
        return False
