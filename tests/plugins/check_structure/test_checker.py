from __future__ import annotations

import pytest

from pagewarden.contracts import Checker
from pagewarden.testing.contracts import CheckerContract
from pagewarden_check_structure import pagewarden_checkers


class TestContract(CheckerContract):
    """What every checker must do."""

    @pytest.fixture
    def checker(self) -> Checker:
        """The one that the plugin registers."""
        (checker,) = pagewarden_checkers()
        return checker
