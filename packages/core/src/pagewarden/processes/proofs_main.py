"""The page reader's answers that prove many page sets. See `processes.proofs`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pagewarden.processes.stored_main import StoredAnswers

if TYPE_CHECKING:
    from pagewarden.processes.channel import Channel
    from pagewarden.repository.proof import SumsMap


class ProofAnswers(StoredAnswers):
    """The calls, each a public method."""

    def __init__(self, channel: Channel, threads: int) -> None:
        """`threads` work on pages at once."""
        super().__init__(channel, threads)
        self._proofs: dict[int, SumsMap] = {}  # by their numbers

    def begin_proof(self, proof: int) -> None:
        """Begin a running map."""
        from pagewarden.repository.proof import SumsMap

        self._proofs[proof] = SumsMap()

    def prove_links(
        self, proof: int, links: Sequence[tuple[str, bool, bool, bool, bool]], drop_cache: bool
    ) -> list[tuple[Any, bool, Any]]:
        """Prove page sets."""
        from pagewarden.errors import to_wire
        from pagewarden.processes.wire import info_to_wire
        from pagewarden.repository.proof import Link, prove_links

        wanted = [
            Link(path=path, chained=chained, read=read, data=data, commits=commits)
            for path, chained, read, data, commits in links
        ]
        total, done = sum(_size(link.path) for link in wanted if link.read), 0

        def told(some: int) -> None:
            nonlocal done
            done += some
            self._tell(min(done, total), total)

        found = prove_links(wanted, self._proofs[proof], threads=self._threads, drop_cache=drop_cache, progress=told)
        return [
            (
                None if each.info is None else info_to_wire(each.info),
                each.summed,
                None if each.error is None else to_wire(each.error),
            )
            for each in found
        ]

    def end_proof(self, proof: int) -> None:
        """Forget a map."""
        del self._proofs[proof]


def _size(path: str) -> int:
    try:
        return Path(path).stat().st_size
    except OSError:  # who opens it will say so
        return 0
