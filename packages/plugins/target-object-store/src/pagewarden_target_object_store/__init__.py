"""The plugin `target-object-store`: a repository in S3 and compatible stores, Google Cloud Storage or Azure."""

from __future__ import annotations

from collections.abc import Iterable

from pagewarden.contracts import TargetFactory
from pagewarden.hookspecs import hookimpl
from pagewarden_target_object_store.factory import ObjectStoreFactory

__all__ = ["ObjectStoreFactory", "pagewarden_targets"]


@hookimpl
def pagewarden_targets() -> Iterable[TargetFactory]:
    """Register the factory for `s3:`, `gs:` and `az:` URLs."""
    return (ObjectStoreFactory(),)
