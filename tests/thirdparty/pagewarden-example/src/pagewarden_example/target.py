"""A target that keeps all objects in one flat folder, as an object store would: no local files for core to open."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from pagewarden.contracts import ObjectInfo

_PART = re.compile(r"[A-Za-z0-9._=-]+")
_HALF = "+"  # begins the name of a file that is still being written; no key has it


class FlatTarget:
    """The files of one folder; a slash of a key is a comma in its file's name, which no key has."""

    def __init__(self, url: str, folder: Path) -> None:
        """`folder` exists."""
        self.url = url
        self._folder = folder

    def put(self, key: str, data: bytes) -> None:
        """Write aside, make durable, then link: link(2) never replaces, so the first one wins."""
        path = self._path(key)
        half = self._folder / f"{_HALF}{secrets.token_hex(8)}"
        with half.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(half, path)
        finally:
            half.unlink()
        folder = os.open(self._folder, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def adopt(self, key: str, path: Path) -> None:
        """Upload the file, then remove it."""
        self.put(key, path.read_bytes())
        path.unlink()

    def get(self, key: str) -> bytes:
        """Return an object."""
        return self._path(key).read_bytes()

    def open(self, key: str) -> Path | None:
        """Keep no local files."""
        if not self._path(key).exists():
            raise FileNotFoundError(key)
        return None

    def read(self, key: str, offset: int, length: int) -> bytes:
        """Return a range."""
        with self._path(key).open("rb") as file:
            file.seek(offset)
            return file.read(length)

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """Yield whole objects, in the order of their keys."""
        names = (name for name in os.listdir(self._folder) if not name.startswith(_HALF))
        for key in sorted(name.replace(",", "/") for name in names):
            if key.startswith(prefix):
                with contextlib.suppress(FileNotFoundError):  # deleted meanwhile
                    status = self._path(key).stat()
                    modified = datetime.fromtimestamp(status.st_mtime, UTC)
                    yield ObjectInfo(key=key, bytes=status.st_size, modified=modified)

    def delete(self, key: str) -> None:
        """Remove an object."""
        self._path(key).unlink(missing_ok=True)

    def staging(self) -> Path | None:
        """Let core spool where it likes."""
        return None

    def _path(self, key: str) -> Path:
        parts = key.split("/")
        if any(_PART.fullmatch(part) is None or part in (".", "..") for part in parts):
            raise ValueError(f"{key!r} is no key")
        return self._folder / ",".join(parts)


class FlatFactory:
    """Opens `flat:///absolute/folder`."""

    name = "target-flat"
    schemes: tuple[str, ...] = ("flat",)

    def open(self, url: str, *, create: bool) -> FlatTarget:
        """Return the target in the folder that `url` names."""
        folder = Path(url.partition("://")[2])
        if create:
            folder.mkdir(parents=True, exist_ok=True)
        if not folder.is_dir():
            raise FileNotFoundError(f"{folder} is no folder")
        return FlatTarget(url, folder)
