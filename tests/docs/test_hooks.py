"""docs/hooks.md has every hook with its signature, and no other."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

from pagewarden import hookspecs

DOCUMENT = Path(__file__).parents[2] / "docs" / "hooks.md"
HOOKS = {name: hook for name, hook in vars(hookspecs).items() if name.startswith("pagewarden_")}


def test_every_hook_is_documented_with_its_signature() -> None:
    """As the specification has it, annotations included."""
    text = DOCUMENT.read_text()
    for name, hook in HOOKS.items():
        assert f"{name}{inspect.signature(hook)}".replace("'", "") in text.replace("\n    ", ""), name


def test_no_hook_is_invented() -> None:
    """Every name that looks like a hook is one."""
    assert set(
        re.findall(r"\bpagewarden_(?:checkers|repairers|targets|notifiers|on_\w+)\b", DOCUMENT.read_text())
    ) == set(HOOKS)
