"""The checker on a live database, without a run, and without a connection of ours that would change what comes next."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import cast

from pagewarden.check.images import attached_image, facts_of
from pagewarden.contracts import FileFacts, LiveImage, Subject
from pagewarden.processes.reader import PageReader
from pagewarden.sqlite.wal import LARGE_WAL
from pagewarden.values import Finding
from pagewarden_check_wal.checker import WalChecker


@dataclass(frozen=True, slots=True, kw_only=True)
class Watched:
    """A live database without a pin, as far as the checker looks at it."""

    path: str
    image: LiveImage
    facts: FileFacts


def judge(path: Path, reader: PageReader, *, large: int = LARGE_WAL) -> list[Finding]:
    """Let the checker judge a database that nobody writes to meanwhile."""
    attachment = reader.attach(str(path))
    image = attached_image(reader, attachment, lambda: None)
    subject = Watched(path=str(path), image=image, facts=facts_of(attachment))
    try:
        return list(WalChecker(large=large, sleep=lambda _: None).check(cast("Subject", subject)))
    finally:
        reader.release(attachment.handle)
