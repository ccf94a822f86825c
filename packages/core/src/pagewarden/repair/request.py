"""What is asked of a repair."""

from __future__ import annotations

from dataclasses import dataclass, field

from pagewarden.contracts import RepairPolicy


@dataclass(frozen=True, slots=True, kw_only=True)
class RepairRequest:
    """What to repair, by what, and how much of it may be done."""

    database: str  # path
    repository: str | None = None  # URL of the repository that holds its backups
    name: str | None = None  # of the database in the repository; None: its file name
    apply: bool = False  # execute the plan, on a copy that takes the database's path if it is sound
    output: str | None = None  # path where the repaired copy is put instead, with `apply`; must not exist
    only_lossless: bool = False  # leave out every step that loses a row, or takes one out of the database
    policy: RepairPolicy = field(default_factory=RepairPolicy)
    max_time: float | None = None  # seconds for the whole run; None: as long as it takes
