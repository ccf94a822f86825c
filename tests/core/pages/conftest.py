"""One suite for every backend: native, native without `zstandard._cffi`, the twin. None falls back silently."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest

from pagewarden.pages import Backend, backend
from pagewarden.pages.backend import ENVIRONMENT


def _native_without_cffi(monkeypatch: pytest.MonkeyPatch) -> Backend:
    """Return a native backend for which `import zstandard._cffi` fails, as in a build of zstandard without it."""
    from pagewarden.pages import _native

    monkeypatch.setitem(sys.modules, "zstandard._cffi", None)
    _native.zstd_library.cache_clear()
    built = _native.NativeBackend()
    assert _native.zstd_library() is None
    return built


@pytest.fixture(params=["native", "native-public-zstd", "twin"])
def pages_backend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Backend]:
    """Every backend in turn."""
    monkeypatch.setenv(ENVIRONMENT, "off" if request.param == "twin" else "require")
    chosen = _native_without_cffi(monkeypatch) if request.param == "native-public-zstd" else backend()
    assert chosen.name == request.param.partition("-")[0]
    yield chosen
    monkeypatch.undo()
    if request.param == "native-public-zstd":
        from pagewarden.pages import _native

        _native.zstd_library.cache_clear()


@pytest.fixture
def both(monkeypatch: pytest.MonkeyPatch) -> tuple[Backend, Backend]:
    """The native backend and its twin, to be compared."""
    monkeypatch.setenv(ENVIRONMENT, "require")
    native = backend()
    monkeypatch.setenv(ENVIRONMENT, "off")
    return native, backend()
