"""From an address to a client of obstore's: credentials, endpoint, retries.

Credentials are obstore's own affair, which looks into the environment, then for a web identity, a container's and an
instance's credentials. It does not read ~/.aws: where that is needed, boto3 does.
"""

from __future__ import annotations

import os
import socket
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from obstore.exceptions import BaseError
from obstore.store import AzureStore, GCSStore, S3Store

from pagewarden.errors import ConfigurationInvalid, PluginUnusable
from pagewarden_target_object_store.failures import no_credentials, reason

if TYPE_CHECKING:
    from obstore.store import ClientConfig, RetryConfig

    from pagewarden_target_object_store.address import Address

    Store = S3Store | GCSStore | AzureStore

_ENDPOINTS = {
    "s3": ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT"),
    "az": ("AZURE_STORAGE_ENDPOINT", "AZURE_ENDPOINT"),
    "gs": (),
}
_WITHOUT_FILES = (
    "AWS_ACCESS_KEY_ID",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
)
_LOOK = 1.0  # seconds in which an instance's metadata service, which is on the same machine, must be found


def connect(address: Address) -> Store:
    """Return a client. Sends no request, but for credentials.

    Raises ConfigurationInvalid for a configuration in the environment that obstore refuses, PluginUnusable where boto3
    is needed and missing, TargetFailed where there are no credentials.
    """
    client: ClientConfig = {
        "timeout": timedelta(seconds=address.timeout),
        "connect_timeout": timedelta(seconds=min(10.0, address.timeout)),
        "user_agent": "pagewarden",
        # Whoever names an endpoint http:// means it.
        "allow_http": _endpoint(address).startswith("http://"),
    }
    retry: RetryConfig = {
        "max_retries": address.retries,
        "retry_timeout": timedelta(seconds=max(180.0, 2 * address.timeout)),
        "backoff": {"init_backoff": timedelta(milliseconds=100), "max_backoff": timedelta(seconds=15), "base": 2},
    }
    common: dict[str, Any] = {
        "prefix": address.prefix or None,
        "client_options": client,
        "retry_config": retry,
    }
    try:
        if address.scheme == "gs":
            return GCSStore(address.bucket, **common)
        if address.scheme == "az":
            common |= _given(account_name=address.account, endpoint=address.endpoint)
            return AzureStore(address.bucket, **common)
        options = _given(region=address.region, endpoint=address.endpoint) | _from_files(address)
        if "credential_provider" not in options:
            _look_for_credentials(address)
        if address.virtual_hosted:
            options["virtual_hosted_style_request"] = True
        return S3Store(
            address.bucket,
            # One removal at a time says clearly what was refused; and "etag" is If-None-Match, whatever the
            # environment says: a put that replaces is what the probe is there to find.
            disable_bulk_delete=True,
            conditional_put="etag",
            **common,
            **options,
        )
    except (BaseError, ValueError) as error:
        raise ConfigurationInvalid(
            f"the {address.place} cannot be connected to: {reason(error)}", hint="see docs/object-stores.md"
        ) from None


def _endpoint(address: Address) -> str:
    found = (os.environ.get(name, "") for name in _ENDPOINTS[address.scheme])
    return address.endpoint or next(filter(None, found), "")


def _given(**options: str) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value}


def _look_for_credentials(address: Address) -> None:
    """Raise TargetFailed where only an instance's metadata service is left to ask, and there is none.

    obstore would ask an address that answers nobody, again and again, for minutes.
    """
    if any(os.environ.get(name) for name in (*_WITHOUT_FILES, "AWS_SKIP_SIGNATURE")):
        return
    service = urlsplit(os.environ.get("AWS_METADATA_ENDPOINT") or "http://169.254.169.254")
    try:
        socket.create_connection((service.hostname or "", service.port or 80), timeout=_LOOK).close()
    except OSError:
        raise no_credentials(address) from None


def _from_files(address: Address) -> dict[str, Any]:
    """Return credentials of ~/.aws, and the region if nobody named one; nothing where they come from elsewhere.

    They do not where somebody named a profile, or where the files are there and the environment has nothing.
    """
    profile = address.profile or os.environ.get("AWS_PROFILE", "")
    files = (("AWS_SHARED_CREDENTIALS_FILE", "credentials"), ("AWS_CONFIG_FILE", "config"))
    there = any(Path(os.environ.get(name) or f"~/.aws/{file}").expanduser().is_file() for name, file in files)
    if not profile and (not there or any(os.environ.get(name) for name in _WITHOUT_FILES)):
        return {}
    try:
        import boto3  # type: ignore[import-untyped]
        from obstore.auth.boto3 import Boto3CredentialProvider
    except ImportError as error:
        if not profile:
            return {}
        raise PluginUnusable(
            f"the profile {profile} of ~/.aws is read by boto3, which is not installed",
            hint='pip install "pagewarden-target-object-store[profiles]"',
        ) from error
    try:
        session = boto3.Session(profile_name=profile or None)
        provider = Boto3CredentialProvider(session)
    except Exception as error:
        if not profile:
            return {}
        raise ConfigurationInvalid(
            f"the profile {profile} of ~/.aws cannot be used: {type(error).__name__}", hint="aws configure list"
        ) from error
    return _given(region=address.region or session.region_name or "") | {"credential_provider": provider}
