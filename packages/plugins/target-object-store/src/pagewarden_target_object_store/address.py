"""URLs of object stores, as values: which bucket, which prefix, and what differs from the defaults.

A URL is printed in messages, reports and logs, so it must hold no secret: credentials come from elsewhere (see
`connect`).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from pagewarden.errors import ConfigurationInvalid

SCHEMES = {"s3": "bucket", "gs": "bucket", "az": "container"}
"""Each scheme, and what the store calls what holds its objects."""

_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,221}")
_PART = re.compile(r"(?!\.\.?$)[A-Za-z0-9._=-]+")
_YES = {"yes": True, "true": True, "1": True, "no": False, "false": False, "0": False}


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """What one URL says."""

    scheme: str  # "s3", "gs" or "az"
    bucket: str  # for "az" the container
    prefix: str = ""  # parts with slashes between them, none at either end
    endpoint: str = ""  # URL of a store that speaks S3 or Azure's language elsewhere; "": the provider's own
    region: str = ""
    account: str = ""  # Azure's storage account
    profile: str = ""  # of ~/.aws
    virtual_hosted: bool = False  # whether the endpoint's host name has the bucket in it
    only_writer: bool = False  # whether the owner says that no other process ever writes there
    retries: int = 8  # how often a request is tried again
    timeout: float = 120.0  # seconds that one request may take, its body included

    @property
    def place(self) -> str:
        """The bucket or container, for messages."""
        return f"{SCHEMES[self.scheme]} {self.bucket}"


def parse_address(url: str) -> Address:
    """Return what `url` says. Raises ConfigurationInvalid, which repeats nothing that might be a secret."""
    try:
        parts = urlsplit(url)
        query = parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query))
    except ValueError as error:
        raise _invalid("the URL of the object store cannot be read") from error
    scheme = parts.scheme.lower()
    if "@" in parts.netloc or "@" in parts.path:
        raise ConfigurationInvalid(
            f"a URL {scheme}:// must hold no user name and no password: it is printed and logged",
            hint="set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or see docs/object-stores.md for other credentials",
        )
    if parts.fragment or not _BUCKET.fullmatch(parts.netloc):
        raise _invalid(f"a URL {scheme}:// names a {SCHEMES[scheme]}, and perhaps a prefix")
    prefix = parts.path.strip("/")
    if prefix and not all(_PART.fullmatch(part) for part in prefix.split("/")):
        raise _invalid("the prefix in the URL of an object store has letters, digits and ._=- between its slashes")
    options: dict[str, Any] = {}
    for name, value in query:
        if name not in _OPTIONS or scheme not in _OPTIONS[name][0]:
            known = ", ".join(option for option, (schemes, _) in _OPTIONS.items() if scheme in schemes)
            raise _invalid(f'a URL {scheme}:// has no option "{name}"', hint=f"known are {known}; no secrets")
        if name in options:
            raise _invalid(f'the URL of the object store has the option "{name}" twice')
        options[name] = _OPTIONS[name][1](name, value)
    return Address(scheme=scheme, bucket=parts.netloc, prefix=prefix, **options)


def _text(name: str, value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9._@+ -]+", value):
        raise _invalid(f'the option "{name}" of the object store\'s URL is no name')
    return value


def _endpoint(name: str, value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme not in ("http", "https") or not parts.netloc or "@" in parts.netloc or parts.query:
        raise _invalid(
            f'the option "{name}" of the object store\'s URL is no http:// or https:// URL of a host alone',
            hint="write it as in s3://bucket/prefix?endpoint=https://minio.example:9000; credentials go elsewhere",
        )
    return value.rstrip("/")


def _switch(name: str, value: str) -> bool:
    if value.lower() not in _YES:
        raise _invalid(f'the option "{name}" of the object store\'s URL is neither yes nor no')
    return _YES[value.lower()]


def _retries(name: str, value: str) -> int:
    if not re.fullmatch(r"[0-9]{1,2}", value):
        raise _invalid(f'the option "{name}" of the object store\'s URL is no number from 0 to 99')
    return int(value)


def _seconds(name: str, value: str) -> float:
    if not re.fullmatch(r"[0-9]{1,4}(\.[0-9]{1,3})?", value) or not float(value):
        raise _invalid(f'the option "{name}" of the object store\'s URL is no number of seconds')
    return float(value)


def _invalid(message: str, hint: str = "") -> ConfigurationInvalid:
    return ConfigurationInvalid(message, hint=hint or "write it as in s3://bucket/prefix; see docs/object-stores.md")


_OPTIONS: dict[str, tuple[tuple[str, ...], Callable[[str, str], object]]] = {
    "endpoint": (("s3", "az"), _endpoint),
    "region": (("s3",), _text),
    "profile": (("s3",), _text),
    "virtual_hosted": (("s3",), _switch),
    "account": (("az",), _text),
    "only_writer": (("s3", "gs", "az"), _switch),
    "retries": (("s3", "gs", "az"), _retries),
    "timeout": (("s3", "gs", "az"), _seconds),
}
"""Each option of a URL: the schemes that have it, and what reads it."""
