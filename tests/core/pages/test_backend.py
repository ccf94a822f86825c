"""The choice of a backend: never silent where the native one was required."""

from __future__ import annotations

import sys

import pytest

from pagewarden.errors import ConfigurationInvalid, NativeMissing
from pagewarden.pages import backend
from pagewarden.pages.backend import ENVIRONMENT, _choose


@pytest.fixture
def without_native(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make `import pagewarden_native` fail, as where the distribution is not installed."""
    _choose.cache_clear()
    monkeypatch.delitem(sys.modules, "pagewarden.pages._native", raising=False)
    monkeypatch.setitem(sys.modules, "pagewarden_native", None)


@pytest.mark.parametrize(("wish", "name"), [("require", "native"), ("prefer", "native"), ("off", "twin")])
def test_wish_is_granted(monkeypatch: pytest.MonkeyPatch, wish: str, name: str) -> None:
    """Where the native module is installed, `require` and `prefer` give it and `off` gives the twin, once for all."""
    monkeypatch.setenv(ENVIRONMENT, wish)
    assert backend().name == name
    assert backend() is backend()


def test_prefer_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the variable the native module is used if it is there."""
    monkeypatch.delenv(ENVIRONMENT, raising=False)
    assert backend().name == "native"


@pytest.mark.usefixtures("without_native")
def test_require_refuses_when_native_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """`require` without the module is NativeMissing with the command that installs it; `prefer` gives the twin."""
    monkeypatch.setenv(ENVIRONMENT, "require")
    with pytest.raises(NativeMissing, match="require") as caught:
        backend()
    assert caught.value.hint == "pip install pagewarden-native"
    monkeypatch.setenv(ENVIRONMENT, "prefer")
    assert backend().name == "twin"
    _choose.cache_clear()


def test_other_interface_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A native module of another version is not called: its structs may be laid out otherwise."""
    from pagewarden.pages import _native

    class Other:
        PW_ABI = _native.ABI + 1

    _choose.cache_clear()
    monkeypatch.setattr("pagewarden_native.lib", Other)
    monkeypatch.delitem(sys.modules, "pagewarden.pages._native")
    monkeypatch.setenv(ENVIRONMENT, "require")
    with pytest.raises(NativeMissing, match=rf"interface {_native.ABI + 1}, not {_native.ABI}"):
        backend()
    _choose.cache_clear()


def test_unknown_wish_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """A misspelt wish is an error that says what to write, not a silent default."""
    monkeypatch.setenv(ENVIRONMENT, "required")
    with pytest.raises(ConfigurationInvalid, match="'required'") as caught:
        backend()
    assert "require" in caught.value.hint
