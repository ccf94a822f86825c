"""The page reader's answers that make fewer page sets of commits of many. See `processes.gathering`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pagewarden.processes.commits_main import CommitAnswers


class GatherAnswers(CommitAnswers):
    """The calls, each a public method."""

    def thin_commits(self, path: str, keep: Sequence[int], to: str, level: int) -> Mapping[str, Any]:
        """Make a page set of fewer commits."""
        from pagewarden.processes.wire import info_to_wire
        from pagewarden.repository.thin import thin

        return info_to_wire(thin(path, keep, to, level=level, threads=self._threads))

    def prove_gathered(self, segments: Sequence[str], segment: str, parts: Sequence[str], commits: str | None) -> None:
        """Prove that page sets record what others do."""
        from pagewarden.repository.thin import prove_gathered

        prove_gathered(segments, segment, parts, commits)
