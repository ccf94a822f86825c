"""The pages of one commit: reading, page sums, compressed copies and their inverse, and the WAL they may stand in.

Only the page-reader process may use this on the files of a live database (H1). What copies is imported when it is first
used, because the page reader's start counts.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from pagewarden.pages.backend import ENVIRONMENT, Backend, Compressor, Decompressor, backend
from pagewarden.pages.source import (
    LOCK_BYTE_OFFSET,
    MAX_PAGES,
    BadFrame,
    Buffer,
    Followed,
    PageDataError,
    PageSource,
    ShortRead,
    SumMismatch,
    WalBehind,
    WalEnd,
    WalPoint,
    WalScan,
    WalStart,
    WalTail,
    frame_bound,
    is_page_size,
    lock_page,
)

if TYPE_CHECKING:
    from pagewarden.pages.again import read_again
    from pagewarden.pages.behind import Behind, forget
    from pagewarden.pages.copier import Batch, FrameCopy, OutSlot, StoredFrame, copy_out, out_slots
    from pagewarden.pages.gather import Gathered, Runs, frames_of, gather_out
    from pagewarden.pages.scan import Progress, database_sum, differing_runs, scan_reserved, scan_sums
    from pagewarden.pages.spread import FrameIn, Stretch, Wanted, decode_frame, frames_in, runs_of, spread_in

_HOMES = {
    "again": ("read_again",),
    "behind": ("Behind", "forget"),
    "copier": ("Batch", "FrameCopy", "OutSlot", "StoredFrame", "copy_out", "out_slots"),
    "gather": ("Gathered", "Runs", "frames_of", "gather_out"),
    "spread": ("FrameIn", "Stretch", "Wanted", "decode_frame", "frames_in", "runs_of", "spread_in"),
    "scan": ("Progress", "database_sum", "differing_runs", "scan_reserved", "scan_sums"),
}

__all__ = [
    "ENVIRONMENT",
    "LOCK_BYTE_OFFSET",
    "MAX_PAGES",
    "Backend",
    "BadFrame",
    "Batch",
    "Behind",
    "Buffer",
    "Compressor",
    "Decompressor",
    "Followed",
    "FrameCopy",
    "FrameIn",
    "Gathered",
    "OutSlot",
    "PageDataError",
    "PageSource",
    "Progress",
    "Runs",
    "ShortRead",
    "StoredFrame",
    "Stretch",
    "SumMismatch",
    "WalBehind",
    "WalEnd",
    "WalPoint",
    "WalScan",
    "WalStart",
    "WalTail",
    "Wanted",
    "backend",
    "copy_out",
    "database_sum",
    "decode_frame",
    "differing_runs",
    "forget",
    "frame_bound",
    "frames_in",
    "frames_of",
    "gather_out",
    "is_page_size",
    "lock_page",
    "out_slots",
    "read_again",
    "runs_of",
    "scan_reserved",
    "scan_sums",
    "spread_in",
]


def __getattr__(name: str) -> object:
    for home, names in _HOMES.items():
        if name in names:
            value = getattr(import_module(f"{__name__}.{home}"), name)
            globals()[name] = value
            return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
