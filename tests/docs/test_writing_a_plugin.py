"""The code in docs/writing-a-plugin.md is that of the example package, which the tests install and use."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "writing-a-plugin.md").read_text()
EXAMPLE = ROOT / "tests/thirdparty/pagewarden-example"


def test_every_piece_of_code_stands_in_the_example() -> None:
    """Line for line."""
    files = [file.read_text() for file in EXAMPLE.rglob("*") if file.suffix in (".py", ".toml")]
    blocks = re.findall(r"```(?:python|toml)\n(.*?)```", TEXT, re.DOTALL)
    assert len(blocks) >= 5
    for block in blocks:
        assert any(block.rstrip() in text for text in files), block


def test_what_is_named_of_the_testing_package_exists() -> None:
    """Names in the text can be imported."""
    from pagewarden import testing
    from pagewarden.testing import benches, contracts, subjects

    for name in ("INJURIES", "each_fault", "cut"):
        assert name in TEXT
        assert hasattr(testing, name)
    for name in ("ClosedSubject", "FileImage"):
        assert name in TEXT
        assert hasattr(subjects, name)
    for name in ("ClosedCase", "ClosedBench"):
        assert name in TEXT
        assert hasattr(benches, name)
    assert hasattr(contracts, "CheckerContract")
