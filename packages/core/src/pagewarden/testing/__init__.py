"""For those who test plugins, or rehearse with damage: named injuries and fault injection.

The contract suites are in `pagewarden.testing.contracts`, which needs pytest; nothing else here does.
"""

from pagewarden.testing.faults import FaultyOs, Killed, cut, each_fault
from pagewarden.testing.injuries import INJURIES, Injury

__all__ = ["INJURIES", "FaultyOs", "Injury", "Killed", "cut", "each_fault"]
