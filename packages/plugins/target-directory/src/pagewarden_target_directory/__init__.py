"""The plugin `target-directory`: a repository in a directory."""

from __future__ import annotations

from collections.abc import Iterable

from pagewarden.contracts import TargetFactory
from pagewarden.hookspecs import hookimpl
from pagewarden_target_directory.directory import DirectoryTarget
from pagewarden_target_directory.factory import DirectoryFactory

__all__ = ["DirectoryFactory", "DirectoryTarget", "pagewarden_targets"]


@hookimpl
def pagewarden_targets() -> Iterable[TargetFactory]:
    """Register the factory for plain paths and `file:` URLs."""
    return (DirectoryFactory(),)
