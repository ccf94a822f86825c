"""The private copies of one check, each made once for all checkers, when the first of them asks for it.

One is for reading alone, so that nothing that a checker does to the other one can look like damage.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pagewarden.check.scratch import Scratch
    from pagewarden.runtime import Runtime

_STEP = "copying pages"

Tell = Callable[..., None]
"""Told the name of an event, the seconds of the step that it ends, and fields: `tell(name, seconds, **fields)`."""


class Copies:
    """Copies of one database, in a folder that is removed with them. Any thread may ask."""

    def __init__(self, path: str, runtime: Runtime, deadline: float | None, tell: Tell) -> None:
        """`deadline` is a reading of the runtime's monotonic clock. Nothing is copied yet."""
        self._path = path
        self._runtime = runtime
        self._deadline = deadline
        self._tell = tell
        self._folder: Scratch | None = None
        self._readable: Path | None = None
        self._writable: Path | None = None
        self._lock = threading.RLock()

    def readable(self) -> Path:
        """Return the copy of one commit that nobody writes to. Raises as `scratch_copy` does."""
        with self._lock:
            if self._readable is None:
                self._readable = self._copy_live("readable")
            return self._readable

    def writable(self) -> Path:
        """Return the copy that checkers may write to: of the readable one where there is one, else of the database."""
        with self._lock:
            if self._writable is None:
                if self._readable is None:
                    self._writable = self._copy_live("writable")
                else:
                    self._writable = self._copy_again(self._readable)
            return self._writable

    def close(self) -> None:
        """Remove what was copied."""
        with self._lock:
            if self._folder is not None:
                self._folder.close()
                self._folder = self._readable = self._writable = None

    def _room(self, name: str) -> Path:
        from pagewarden.check.scratch import Scratch

        self._folder = self._folder or Scratch()
        room = self._folder.path / name
        room.mkdir()
        return room

    def _copy_live(self, name: str) -> Path:
        from pagewarden.live import scratch_copy

        runtime, began = self._runtime, self._runtime.monotonic()
        copy = scratch_copy(
            self._path,
            runtime.reader,
            self._room(name),
            deadline=self._deadline,
            progress=self._progress,
            clock=runtime.monotonic,
            sleep=runtime.sleep,
        )
        self._tell("check.copied", runtime.monotonic() - began, copy=name)
        return copy

    def _copy_again(self, source: Path) -> Path:
        """Copy a copy: the reader does it, because this process may have it open (H1)."""
        reader, began = self._runtime.reader, self._runtime.monotonic()
        copy = self._room("writable") / source.name
        attachment = reader.attach(str(source))
        try:
            image = reader.begin_image(copy, attachment.page_size)
            if attachment.pages:
                reader.copy(image, attachment.handle, 1, attachment.pages, self._progress)
            reader.seal_image(image, attachment.pages)
        finally:
            reader.release(attachment.handle)
        self._tell("check.copied", self._runtime.monotonic() - began, copy="writable")
        return copy

    def _progress(self, done: int, total: int) -> None:
        self._runtime.progress(_STEP, done, total)
