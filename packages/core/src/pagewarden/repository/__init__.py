"""Repositories: page sets, manifests, restore points and their verification. Targets are known by contract only.

Names are imported when they are first used, because the page reader needs only some and start-up counts.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pagewarden.repository.backups import BackupsRequest, run_backups
    from pagewarden.repository.catalogue import Entry
    from pagewarden.repository.chain import Chain, Chains
    from pagewarden.repository.format import Kind, PageSetHeader, PageSetInfo, pages_per_frame
    from pagewarden.repository.intent import Intent
    from pagewarden.repository.manifest import Manifest, SourceFacts
    from pagewarden.repository.pageset import PageSetFile, read_info, verify_pageset
    from pagewarden.repository.repository import Repository
    from pagewarden.repository.verify import VerifyRequest, run_verify
    from pagewarden.repository.writer import SnapshotWriter

_HOMES = {
    "backups": ("BackupsRequest", "run_backups"),
    "catalogue": ("Entry",),
    "chain": ("Chain", "Chains"),
    "format": ("Kind", "PageSetHeader", "PageSetInfo", "pages_per_frame"),
    "intent": ("Intent",),
    "manifest": ("Manifest", "SourceFacts"),
    "pageset": ("PageSetFile", "read_info", "verify_pageset"),
    "repository": ("Repository",),
    "verify": ("VerifyRequest", "run_verify"),
    "writer": ("SnapshotWriter",),
}

__all__ = [
    "BackupsRequest",
    "Chain",
    "Chains",
    "Entry",
    "Intent",
    "Kind",
    "Manifest",
    "PageSetFile",
    "PageSetHeader",
    "PageSetInfo",
    "Repository",
    "SnapshotWriter",
    "SourceFacts",
    "VerifyRequest",
    "pages_per_frame",
    "read_info",
    "run_backups",
    "run_verify",
    "verify_pageset",
]


def __getattr__(name: str) -> object:
    for home, names in _HOMES.items():
        if name in names:
            return getattr(import_module(f"{__name__}.{home}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
