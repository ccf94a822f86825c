"""Page-set values as plain values, for the way between the reader and its client.

Written out, because both sides must not pay for a library at start-up.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from pagewarden.repository.format import Commit, Kind, PageSetHeader, PageSetInfo


def header_to_wire(header: PageSetHeader) -> dict[str, int | str]:
    """Return `header` as plain values."""
    return {
        "kind": int(header.kind),
        "page_size": header.page_size,
        "pages": header.pages,
        "pages_per_frame": header.pages_per_frame,
        "timeline": header.timeline,
        "txid": header.txid,
        "txid_from": header.txid_from,
        "time": header.time.isoformat(),
        "commits": header.commits,
    }


def header_from_wire(value: Mapping[str, Any]) -> PageSetHeader:
    """Return what `header_to_wire` described. Raises ValueError for nonsense."""
    return PageSetHeader(**{**value, "kind": Kind(value["kind"]), "time": datetime.fromisoformat(value["time"])})


def info_to_wire(info: PageSetInfo) -> dict[str, Any]:
    """Return `info` as plain values."""
    return {
        "header": header_to_wire(info.header),
        "frames": info.frames,
        "held": info.held,
        "database_sum": info.database_sum,
        "database_sum_from": info.database_sum_from,
        "sha256": info.sha256,
        "bytes": info.bytes,
        "numbers_offset": info.numbers_offset,
        "index_offset": info.index_offset,
        "sums_offset": info.sums_offset,
    }


def infos_to_wire(infos: Sequence[PageSetInfo]) -> bytes:
    """Return many `infos` at once: there may be thousands, and one piece of bytes costs least on the way."""
    import json

    return json.dumps([info_to_wire(info) for info in infos]).encode()


def infos_from_wire(value: bytes) -> list[PageSetInfo]:
    """Return what `infos_to_wire` described. Raises ValueError, TypeError, KeyError or AttributeError for nonsense."""
    import json

    return [info_from_wire(each) for each in json.loads(value)]


def info_from_wire(value: Mapping[str, Any]) -> PageSetInfo:
    """Return what `info_to_wire` described. Raises ValueError for nonsense."""
    return PageSetInfo(**{**value, "header": header_from_wire(value["header"])})


def commit_to_wire(commit: Commit) -> tuple[int, bytes]:
    """Return `commit` as plain values: the position that it starts from, and its entry in a page set."""
    from pagewarden.repository.blocks import encode_commit

    return commit.txid_from, encode_commit(commit)


def commit_from_wire(value: Any, where: str) -> Commit:
    """Return what `commit_to_wire` described. Raises ValueError, TypeError or RepositoryDamaged for nonsense."""
    from pagewarden.repository.blocks import COMMITS_ENTRY, decode_commits

    txid, entry = value
    if len(entry) != COMMITS_ENTRY:
        raise ValueError("no entry of a commit")
    (commit,) = decode_commits(entry, txid, where)
    return commit
