"""Servers that all tests of object stores share, and a bucket of its own for each test."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pagewarden.contracts import Target
from pagewarden_target_object_store import ObjectStoreFactory
from tests.support import stores
from tests.support.faulty_proxy import FaultyProxy, faulty_proxy

FROM_ELSEWHERE = ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_REGION")

Opener = Callable[..., Target]


@pytest.fixture(autouse=True)
def _credentials(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The environment has the credentials of the tests and no others."""
    for name in FROM_ELSEWHERE:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", stores.KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", stores.SECRET)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))


@pytest.fixture(scope="session")
def moto() -> Iterator[str]:
    """The URL of a server that honours conditional puts."""
    with stores.moto() as url:
        yield url


@pytest.fixture(scope="session")
def rclone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """The URL of a server that ignores them, and the folder of its one bucket, "careless"."""
    folder = tmp_path_factory.mktemp("rclone")
    (folder / "careless").mkdir()
    with stores.rclone(folder) as url:
        yield url, folder / "careless"


@pytest.fixture
def bucket(moto: str) -> str:
    """The name of an empty bucket on `moto`."""
    name = f"bucket-{secrets.token_hex(6)}"
    stores.make_bucket(moto, name)
    return name


@pytest.fixture
def proxy(moto: str) -> Iterator[FaultyProxy]:
    """A proxy in front of `moto`."""
    with faulty_proxy(moto) as running:
        yield running


@pytest.fixture
def url(moto: str, bucket: str) -> str:
    """The URL of a place in the empty bucket."""
    return f"s3://{bucket}/some/prefix?endpoint={moto}&retries=2"


@pytest.fixture
def faulty_url(proxy: FaultyProxy, bucket: str) -> str:
    """The same place through the proxy."""
    return f"s3://{bucket}/some/prefix?endpoint={proxy.url}&retries=2"


@pytest.fixture
def careless_url(rclone: tuple[str, Path]) -> str:
    """The URL of an empty place on `rclone`."""
    return f"s3://careless/{secrets.token_hex(6)}?endpoint={rclone[0]}&retries=2"


@pytest.fixture
def target(url: str) -> Target:
    """An empty target."""
    return ObjectStoreFactory().open(url, create=True)
