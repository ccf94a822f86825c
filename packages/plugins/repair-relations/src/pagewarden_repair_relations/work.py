"""What is done about broken foreign keys: parents are fetched, then the policy is followed."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection
from contextlib import closing

from pagewarden.contracts import Orphans, RepairBench
from pagewarden.repair.moving import not_mended
from pagewarden_repair_relations.keys import enforceable_keys, touched
from pagewarden_repair_relations.parents import OLDER, fetch_parents
from pagewarden_repair_relations.policy import settle


def relate(bench: RepairBench, tables: Collection[str]) -> None:
    """Mend the foreign keys of `tables`, and of those that these name or that name these. Raises PagewardenError."""
    try:
        with closing(bench.connect()) as connection:
            keys = touched(enforceable_keys(connection), tables)
        history, policy = bench.case.history, bench.case.policy.orphans
        leave = policy is Orphans.LEAVE
        if history is not None:
            fetch_parents(bench, history, keys, older=0 if leave else OLDER)
        if not leave:
            settle(bench, keys, policy)
    except sqlite3.Error as error:
        raise not_mended(error, bench, "foreign keys cannot be mended") from error
