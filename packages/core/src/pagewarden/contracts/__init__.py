"""The four kinds of plugin objects. Core calls them one by one, with a deadline, a timing and its own except.

A plugin's hooks (`pagewarden.hookspecs`) return objects that meet these protocols; `pagewarden.testing` ships a
contract suite for each. An object must be safe to build without I/O: work begins when a method is called.
"""

from pagewarden.contracts.checking import (
    Baseline,
    Checker,
    CheckOutcome,
    FileFacts,
    LiveImage,
    PageImage,
    Subject,
)
from pagewarden.contracts.repairing import (
    Damage,
    Loss,
    Orphans,
    PastImage,
    Pattern,
    RepairBench,
    RepairCase,
    Repairer,
    RepairHistory,
    RepairPolicy,
    RepairStep,
    SqlValue,
    Stage,
)
from pagewarden.contracts.storing import (
    BulkTarget,
    ClearingTarget,
    ObjectInfo,
    RemoteTarget,
    Target,
    TargetFactory,
)
from pagewarden.contracts.telling import (
    Notice,
    Notifier,
    ProgressSink,
)

__all__ = [
    "Baseline",
    "BulkTarget",
    "CheckOutcome",
    "Checker",
    "ClearingTarget",
    "Damage",
    "FileFacts",
    "LiveImage",
    "Loss",
    "Notice",
    "Notifier",
    "ObjectInfo",
    "Orphans",
    "PageImage",
    "PastImage",
    "Pattern",
    "ProgressSink",
    "RemoteTarget",
    "RepairBench",
    "RepairCase",
    "RepairHistory",
    "RepairPolicy",
    "RepairStep",
    "Repairer",
    "SqlValue",
    "Stage",
    "Subject",
    "Target",
    "TargetFactory",
]
