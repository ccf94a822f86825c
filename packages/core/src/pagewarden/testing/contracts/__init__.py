"""The contracts of `pagewarden.contracts` as suites for pytest. A plugin's test is a subclass with one fixture:

    class TestMyChecker(CheckerContract):
        @pytest.fixture
        def checker(self) -> Checker:
            return MyChecker()

Each suite tests what core relies on, not what the plugin is for; that needs tests of its own.
"""

import pytest

# So that a failing assertion in a suite shows its values, as one in a test's own module does.
pytest.register_assert_rewrite(
    *(f"pagewarden.testing.contracts.{name}" for name in ("checker", "notifier", "repairer", "target"))
)

from pagewarden.testing.contracts.checker import CheckerContract  # noqa: E402
from pagewarden.testing.contracts.notifier import NotifierContract  # noqa: E402
from pagewarden.testing.contracts.repairer import RepairerContract  # noqa: E402
from pagewarden.testing.contracts.samples import damaged_copies, make_database  # noqa: E402
from pagewarden.testing.contracts.target import TargetContract  # noqa: E402

__all__ = [
    "CheckerContract",
    "NotifierContract",
    "RepairerContract",
    "TargetContract",
    "damaged_copies",
    "make_database",
]
