"""Opening directories by path or `file:` URL."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from pathlib import Path
from urllib.parse import unquote_to_bytes, urlsplit

from pagewarden import durable
from pagewarden.contracts import Target
from pagewarden.errors import ConfigurationInvalid
from pagewarden_target_directory.directory import STAGING, DirectoryTarget

_SCHEME = re.compile(r"file:", re.IGNORECASE)
_NAME = re.compile(r"[A-Za-z0-9._=-]+")


class DirectoryFactory:
    """Opens `/a/path`, `a/path` and `file:///a/path` (RFC 8089)."""

    name = "target-directory"
    schemes: tuple[str, ...] = ("", "file")

    def open(self, url: str, *, create: bool) -> Target:
        """Return the directory at `url`; with `create`, make it and what is missing above it.

        Raises FileNotFoundError, ConfigurationInvalid for a URL that names no directory here or a directory with
        somebody else's files (with `create`), TargetFailed where the system refuses.
        """
        path = Path(os.path.realpath(_local_path(url)))
        try:
            if not path.exists():
                if not create:
                    raise FileNotFoundError(f"no such directory: {path}")
                durable.make_directories(path)
            if not path.is_dir():
                raise ConfigurationInvalid(f"{path} is not a directory", hint="name a directory")
            # Where there is a staging folder, it was ours before; or is since another process began meanwhile.
            staging = path / STAGING
            foreign = None if not create or staging.exists() else _foreign(path)
            if foreign is not None and not staging.exists():
                raise ConfigurationInvalid(
                    f"{path} holds other files, such as {foreign}", hint="choose an empty directory"
                )
        except FileNotFoundError:
            raise
        except OSError as error:
            raise durable.failure(error, f"cannot open {path}") from error
        return DirectoryTarget(path, url)


def _local_path(url: str) -> str:
    if _SCHEME.match(url):
        parts = urlsplit(url)
        if parts.netloc.lower() not in ("", "localhost"):
            raise ConfigurationInvalid(
                f"{url} is on another host, {parts.netloc}",
                hint=f"mount it, or write file://{parts.path} for this host",
            )
        if parts.query or parts.fragment or not parts.path.startswith("/"):
            raise ConfigurationInvalid(
                f"{url} is no absolute path", hint="write file:///PATH, with %23 and %3F for # and ?, or the plain path"
            )
        path = os.fsdecode(unquote_to_bytes(parts.path))
    else:
        path = url
    if not path or "\0" in path:
        raise ConfigurationInvalid(f"{url!r} is no path", hint="name a directory")
    return path


def _foreign(folder: Path) -> Path | None:
    """Return something below `folder` that no repository would hold, None without any.

    What has a name that a key could have is left for the repository to judge: it looks for its marker.
    """
    for path in sorted(folder.iterdir()):
        if path.is_symlink() or not (path.is_file() or path.is_dir()) or _NAME.fullmatch(path.name) is None:
            return path
        if path.is_dir():
            with suppress(FileNotFoundError):  # it is gone
                if (foreign := _foreign(path)) is not None:
                    return foreign
    return None
