"""Opening object stores by URL. Nothing is imported for that until one is opened."""

from __future__ import annotations

from pagewarden.contracts import Target


class ObjectStoreFactory:
    """Opens `s3://bucket/prefix`, `gs://bucket/prefix` and `az://container/prefix`."""

    name = "target-object-store"
    schemes: tuple[str, ...] = ("s3", "gs", "az")

    def open(self, url: str, *, create: bool) -> Target:  # noqa: ARG002 - there is nothing to make
        """Return the target at `url`, whose bucket or container must exist; a prefix need not, and is not made.

        No request is sent yet, but for credentials. Raises ConfigurationInvalid for a URL that names none,
        PluginUnusable where what a profile needs is not installed, TargetFailed where there are no credentials.
        """
        from pagewarden_target_object_store.address import parse_address
        from pagewarden_target_object_store.connect import connect
        from pagewarden_target_object_store.target import ObjectStoreTarget

        address = parse_address(url)
        return ObjectStoreTarget(connect(address), address, url)
