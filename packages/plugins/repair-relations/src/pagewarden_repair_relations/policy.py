"""What becomes of rows whose parent is nowhere: the owner's policy, to a fix point. Each row is recorded first."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import closing

from pagewarden.contracts import Orphans, RepairBench
from pagewarden.errors import RepairRefused
from pagewarden.repair.moving import stored_text, without_triggers
from pagewarden.sqlite.names import quote
from pagewarden_repair_relations.keys import Key, fold
from pagewarden_repair_relations.parents import connect


def settle(bench: RepairBench, keys: Sequence[Key], policy: Orphans) -> None:
    """Let no row of `keys` be without its parent. A row that leaves may leave others without one, which follow.

    Raises PagewardenError, sqlite3.Error.
    """
    with closing(connect(bench)) as connection:
        connection.text_factory = stored_text
        with without_triggers(connection):
            waiting = list(keys)
            while waiting:
                changed = {fold(key.child.name) for key in waiting if _settle(bench, connection, key, policy)}
                waiting = [key for key in keys if fold(key.parent.name) in changed]


def _settle(bench: RepairBench, connection: sqlite3.Connection, key: Key, policy: Orphans) -> bool:
    """Deal with the orphans by one key; return whether there were any."""
    if not connection.execute(f"SELECT 1 {key.orphans} LIMIT 1").fetchone():
        return False
    nowhere = f"no row of {key.parent.name} is what its {', '.join(key.columns)} names"
    counted = 0
    if policy is Orphans.SET_NULL and key.nullable:
        counted = _keep(bench, connection, key, f"{nowhere}: its key became NULL")
        values = ", ".join(f"{quote(name)} = NULL" for name in key.nullable)
        connection.execute(f"UPDATE OR IGNORE main.{quote(key.child.name)} AS c SET {values} WHERE {key.orphan}")
        if not connection.execute(f"SELECT 1 {key.orphans} LIMIT 1").fetchone():
            bench.note(key.child.name, rows_quarantined=counted)
            return True
        nowhere = f"{nowhere}, and a rule of its table does not let that be NULL"
    taken = _keep(bench, connection, key, f"{nowhere}: it was taken out")
    gone = connection.execute(f"DELETE FROM main.{quote(key.child.name)} AS c WHERE {key.orphan}").rowcount
    if gone != taken:
        raise RepairRefused(f"{gone} rows of {key.child.name} would go, and {taken} were kept")
    bench.note(key.child.name, rows_quarantined=counted or taken)
    return True


def _keep(bench: RepairBench, connection: sqlite3.Connection, key: Key, why: str) -> int:
    rows = connection.execute(f"SELECT {key.child.select('c')} {key.orphans}")
    return bench.keep_rows(key.child.name, key.child.selected, rows, why)
