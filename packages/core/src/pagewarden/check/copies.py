"""The private copies of one check, each made once for all checkers, when the first of them asks for it.

One is for reading alone, so that nothing that a checker does to the other one can look like damage. Where there is no
space for one, what was begun of it is removed, nobody tries again, and all who ask for it are told the same.
"""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from pagewarden.errors import OutOfSpace, PagewardenError, ReaderCrashed

if TYPE_CHECKING:
    from pagewarden.check.scratch import Scratch
    from pagewarden.runtime import Runtime

_STEP = "copying pages"
_SUM = 8  # bytes that a copy under way takes for each page beside it

Tell = Callable[..., None]
"""Told the name of an event, the seconds of the step that it ends, and fields: `tell(name, seconds, **fields)`."""


class Copies:
    """Copies of one database, in a folder that is removed with them. Any thread may ask."""

    def __init__(
        self,
        path: str,
        runtime: Runtime,
        deadline: float | None,
        tell: Tell,
        *,
        pages: int,
        page_size: int,
        private: bool = False,
    ) -> None:
        """`deadline` is a reading of the runtime's monotonic clock. Nothing is copied yet.

        A `private` database is a copy itself, which nobody else has open: none is made of it that is only read.
        `pages` of `page_size` bytes are the size of the database, for whoever has to make room for a copy.
        """
        self._path = path
        self._needed = pages * (page_size + _SUM)
        self._runtime = runtime
        self._deadline = deadline
        self._tell = tell
        self._private = private
        self._folder: Scratch | None = None
        self._readable: Path | None = None
        self._writable: Path | None = None
        self._refused: dict[str, str] = {}  # why there is no copy of that name, where there is no space for it
        self._lock = threading.RLock()

    def readable(self) -> Path:
        """Return the copy of one commit that nobody writes to. Raises as `scratch_copy` does."""
        if self._private:
            return Path(self._path)
        with self._lock:
            if self._readable is None:
                self._readable = self._made("readable", self._copy_live)
            return self._readable

    def writable(self) -> Path:
        """Return the copy that checkers may write to: of the readable one where there is one, else of the database."""
        with self._lock:
            if self._writable is None:
                again = self._private or self._readable is not None
                self._writable = self._made("writable", self._copy_again if again else self._copy_live)
            return self._writable

    def close(self) -> None:
        """Remove what was copied."""
        with self._lock:
            if self._folder is not None:
                self._folder.close()
                self._folder = self._readable = self._writable = None

    def _made(self, name: str, copy: Callable[[Path], Path]) -> Path:
        """Let `copy` make a copy in a folder `name`; remove that if it fails, and remember if there was no space."""
        from pagewarden import durable
        from pagewarden.check.scratch import Scratch

        if name not in self._refused:
            room = None
            try:
                self._folder = self._folder or Scratch()
                room = self._folder.path / name
                room.mkdir()
                return copy(room)
            except BaseException as error:
                if room is not None:
                    shutil.rmtree(room, ignore_errors=True)  # what is left is removed with the folder
                if isinstance(error, OSError):
                    error = durable.failure(error, "cannot make a folder for it")
                if not isinstance(error, OutOfSpace):
                    raise error
                self._refused[name] = error.message
        raise self._no_space(name)

    def _no_space(self, name: str) -> OutOfSpace:
        """Return the refusal, anew for each who asks: an error is changed by being raised."""
        import tempfile

        folder = self._folder.path.parent if self._folder else tempfile.gettempdir()
        return OutOfSpace(
            f"there is no space for a private copy of {self._path}: {self._refused[name]}",
            hint=f"free {self._needed} bytes in {folder}, or set TMPDIR to a folder that has them",
        )

    def _copy_live(self, room: Path) -> Path:
        from pagewarden.live import scratch_copy

        runtime, began = self._runtime, self._runtime.monotonic()
        copy = scratch_copy(
            self._path,
            runtime.reader,
            room,
            deadline=self._deadline,
            progress=self._progress,
            clock=runtime.monotonic,
            sleep=runtime.sleep,
        )
        self._tell("check.copied", runtime.monotonic() - began, copy=room.name)
        return copy

    def _copy_again(self, room: Path) -> Path:
        """Copy a copy: the reader does it, because this process may have it open (H1)."""
        reader, began = self._runtime.reader, self._runtime.monotonic()
        source = self.readable()
        copy = room / source.name
        attachment = reader.attach(str(source))
        try:
            image = reader.begin_image(copy, attachment.page_size)
            try:
                if attachment.pages:
                    reader.copy(image, attachment.handle, 1, attachment.pages, self._progress)
            except PagewardenError:
                reader.abandon(image)  # it would keep the space for as long as the reader has it open
                raise
            reader.seal_image(image, attachment.pages)
        finally:
            with suppress(ReaderCrashed):  # then its descriptors are closed, too
                reader.release(attachment.handle)
        self._tell("check.copied", self._runtime.monotonic() - began, copy=room.name)
        return copy

    def _progress(self, done: int, total: int) -> None:
        self._runtime.progress(_STEP, done, total)
