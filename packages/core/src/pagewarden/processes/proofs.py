"""Calls of the page reader that prove many page sets in one go: see `repository.proof`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pagewarden.processes.channel import ProtocolError
from pagewarden.processes.client import PageProgress, ReaderClient
from pagewarden.processes.shapes import as_nothing

if TYPE_CHECKING:
    from pagewarden.repository.proof import Link, Proved


class ProofCalls(ReaderClient):
    """What the page reader can be asked about many page sets. Every method may raise ReaderCrashed."""

    def begin_proof(self) -> int:
        """Begin a running map of page sums, of no database yet; return its number, for `prove_links`."""
        proof = self._number()
        self._call("begin_proof", as_nothing, proof=proof)
        self._handles.add(proof)
        return proof

    def prove_links(
        self, proof: int, links: Sequence[Link], *, drop_cache: bool = False, progress: PageProgress | None = None
    ) -> list[Proved]:
        """Prove page sets; return what became of each. `progress` is told bytes of all that are read."""
        plain: list[Any] = [[link.path, link.chained, link.read, link.data, link.commits] for link in links]
        shape = _proved(len(links))
        self._known(proof)
        return self._call("prove_links", shape, progress, proof=proof, links=plain, drop_cache=drop_cache)

    def end_proof(self, proof: int) -> None:
        """Forget the map. One that is gone with its reader is no error."""
        self._end(proof, "end_proof", proof=proof)


def _proved(count: int) -> Any:
    """Return what makes values of an answer, which must be of `count` page sets."""

    def shape(value: Any) -> list[Proved]:
        from pagewarden.errors import from_wire
        from pagewarden.processes.wire import info_from_wire
        from pagewarden.repository.proof import Proved

        if not isinstance(value, list) or len(value) != count:
            raise ProtocolError(f"a reply is not of {count} page sets")
        return [
            Proved(
                info=None if info is None else info_from_wire(info),
                summed=bool(summed),
                error=None if error is None else from_wire(error),
            )
            for info, summed, error in value
        ]

    return shape
