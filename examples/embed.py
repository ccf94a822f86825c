"""An application that keeps its own database whole: `python examples/embed.py` runs it in a folder of its own.

The application writes through its own connection all the while. Pagewarden works in another process, so the locks of
that connection are safe, and any SQLite library will do: `guard` imports none.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import pagewarden


def guard(database: Path, repository: Path) -> pagewarden.BackupReport:
    """Judge a live database, back it up, and prove that it comes back; raise if any of it fails."""
    with pagewarden.open(database, repository=repository) as db:
        report = db.check()
        for finding in report.findings:
            print(f"{finding.severity}: {finding.message} ({finding.hint})")
        if report.verdict is pagewarden.Verdict.DAMAGED:
            raise RuntimeError(f"{database} is damaged: restore it")
        backup = db.backup()
        print(f"backed up {backup.pages_copied} pages in {backup.seconds:.2f} s as {backup.position}")
        proved = db.verify(read_data=True)
        print(f"{len(proved.points)} restore points, {proved.verdict}")
        restored = db.restore(database.with_name("restored.db"))
        assert restored.database_sum == backup.database_sum
        print(f"restored to {restored.to} in {restored.seconds:.2f} s")
    return backup


def main() -> None:
    """Be an application that uses the standard library's sqlite3."""
    import sqlite3

    with tempfile.TemporaryDirectory() as folder:
        database = Path(folder, "app.db")
        connection = sqlite3.connect(database)
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("CREATE TABLE note(id INTEGER PRIMARY KEY, text TEXT)")
        connection.executemany("INSERT INTO note(text) VALUES(?)", [(f"note {n}",) for n in range(1000)])
        connection.commit()
        guard(database, Path(folder, "backup"))
        connection.execute("INSERT INTO note(text) VALUES('still the owner of my locks')")
        connection.commit()
        connection.close()


if __name__ == "__main__":
    main()
