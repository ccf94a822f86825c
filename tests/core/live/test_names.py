"""The public names of pagewarden.live."""

from __future__ import annotations

import pytest

from pagewarden import live


def test_every_public_name_is_there() -> None:
    """Also those that are imported when they are first used; others are an AttributeError."""
    assert all(getattr(live, name) is not None for name in live.__all__)
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        live.nothing  # noqa: B018
