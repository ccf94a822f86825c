"""Where the file at a path stands in the histories that repositories keep, remembered in the state directory.

After a restore the newest position of a repository is no longer what the file continues. Without this memory the next
backup would carry on a history that the file is not part of; with it, a new timeline starts where it must.

A backup notes its position before it commits and once it has. So one that is killed in between is known again: if what
it noted is in the repository it was committed, and is where the file comes from.
"""

from __future__ import annotations

import hashlib
import os
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import msgspec

from pagewarden import durable
from pagewarden.values import Position


@dataclass(frozen=True, slots=True, kw_only=True)
class Lineage:
    """What is known of one path."""

    path: str  # real path, readable: bytes that are no UTF-8 are escaped
    restored: Position | None = None  # what was last restored there
    backups: dict[str, Position] = field(default_factory=dict)  # since then, newest by place (`place_of`)
    coming: dict[str, Position] = field(default_factory=dict)  # what was about to be committed, by place

    def origin(self, place: str) -> Position | None:
        """Return the position that the file comes from, as a backup to `place` must see it; None: not known."""
        return self.backups.get(place, self.restored)


def place_of(url: str, name: str) -> str:
    """Return what tells one history from all others: the repository's URL and the database's name in it.

    A directory has one place however it is written: as a path, through a link, or as a `file:` URL.
    """
    return readable(f"{_canonical(url)} {name}")


def _canonical(url: str) -> str:
    scheme, colon, rest = url.partition(":")
    if colon and scheme.lower() == "file":
        from urllib.parse import unquote_to_bytes, urlsplit

        return os.path.realpath(os.fsdecode(unquote_to_bytes(urlsplit(f"file:{rest}").path)))
    return url.rstrip("/") if "://" in url else os.path.realpath(url)


def readable(text: str) -> str:
    """Return `text` with what is no UTF-8 in a file name escaped, because JSON cannot hold it."""
    return text.encode("utf-8", "backslashreplace").decode()


def file_name(*texts: str) -> str:
    """Return the name, without its ending, of a file about `texts`, such as a path, which may hold anything."""
    return hashlib.sha256("\0".join(texts).encode("utf-8", "surrogateescape")).hexdigest()[:32]


def read_lineage(state: Path, path: str) -> Lineage:
    """Return what is remembered of the real path `path`; nothing, if that cannot be read."""
    try:
        return msgspec.json.decode(_file(state, path).read_bytes(), type=Lineage)
    except (OSError, msgspec.DecodeError):
        # Mostly there is none. No memory is better than a wrong one, and whoever writes the next one is told of errors.
        return Lineage(path=readable(path))


def write_lineage(state: Path, path: str, lineage: Lineage) -> None:
    """Remember `lineage` of the real path `path`, durably. Raises OSError."""
    file = _file(state, path)
    durable.make_directories(file.parent)
    durable.sweep(file.parent.glob(f".{file.name}.*"))
    durable.write(file, msgspec.json.encode(lineage))


def after_restore(state: Path, path: str, position: Position) -> None:
    """Remember that `position` was restored to the real path `path`. Raises OSError."""
    write_lineage(state, path, Lineage(path=readable(path), restored=position))


def before_backup(state: Path, path: str, place: str, parent: Position | None, position: Position) -> None:
    """Remember that the real path `path`, which continues `parent`, is about to be committed as `position`.

    Raises OSError.
    """
    lineage = read_lineage(state, path)
    backups = lineage.backups
    if parent is not None and parent == lineage.coming.get(place):
        backups = {**backups, place: parent}  # the one before was committed after all
    write_lineage(state, path, replace(lineage, backups=backups, coming={**lineage.coming, place: position}))


def after_backup(state: Path, path: str, place: str, position: Position) -> None:
    """Remember that the real path `path` was backed up to `place` as `position`. Raises OSError."""
    lineage = read_lineage(state, path)
    coming = {other: noted for other, noted in lineage.coming.items() if other != place}
    write_lineage(state, path, replace(lineage, backups={**lineage.backups, place: position}, coming=coming))


def while_followed(state: Path, path: str, place: str, parent: Position, position: Position, known: Lineage) -> Lineage:
    """Remember what `before_backup` does, for a guard that commits many times a second; return what is remembered now.

    `parent` is known to be stored, and `known` is what the guard was told last, or read when it began. Where something
    else is remembered by now, such as a restore over the guarded file, nothing is changed. A loss of power may take
    what was written since the last `settle`: then the next backup begins a new timeline. Raises OSError.
    """
    now = read_lineage(state, path)
    if (now.restored, now.backups) != (known.restored, known.backups):
        return known
    if parent not in (known.backups.get(place), known.coming.get(place)):
        return known  # the file does not come from there, as far as is known: something else was restored since
    # A backup that was under way beside this, and was refused, may have noted what it meant to commit.
    lineage = replace(now, backups={**now.backups, place: parent}, coming={**now.coming, place: position})
    file = _file(state, path)
    durable.make_directories(file.parent)
    half = file.with_name(f".{file.name}.followed")
    half.write_bytes(msgspec.json.encode(lineage))
    half.chmod(durable.FILE_MODE)
    half.replace(file)
    return lineage


def settle(state: Path, path: str) -> None:
    """Let no loss of power take what `while_followed` remembered. Raises OSError."""
    with suppress(FileNotFoundError):  # nothing is remembered
        durable.sync_file(_file(state, path))
        durable.sync_directory(_file(state, path).parent)


def _file(state: Path, path: str) -> Path:
    return state / "lineage" / f"{file_name(path)}.json"
