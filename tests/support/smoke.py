"""Use an installation for one minute of real work: run with the Python of a clean environment."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
import tempfile
from pathlib import Path


def pagewarden(*words: str, code: int = 0) -> dict[str, object]:
    """Run the installed command and return its JSON document."""
    command = Path(sys.executable).with_name("pagewarden")
    done = subprocess.run([command, *words, "--json"], capture_output=True, text=True, check=False)
    assert done.returncode == code, (words, done.returncode, done.stdout, done.stderr)
    document: dict[str, object] = json.loads(done.stdout)
    return document


def main() -> None:
    """Check, back up, verify and restore a small database."""
    assert os.environ["PAGEWARDEN_NATIVE"] == "require"
    with tempfile.TemporaryDirectory() as folder:
        database, restored = f"{folder}/app.db", f"{folder}/restored.db"
        connection = sqlite3.connect(database)
        connection.executescript(
            "PRAGMA journal_mode=WAL; CREATE TABLE t(a INTEGER PRIMARY KEY, b TEXT);"
            "WITH n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i<2000) INSERT INTO t SELECT i, hex(i) FROM n;"
        )
        assert pagewarden("check", database)["verdict"] == "sound"
        taken = pagewarden("backup", database, "--repo", f"{folder}/repository")
        assert pagewarden("verify", "--repo", f"{folder}/repository", "--read-data")["verdict"] == "sound"
        done = pagewarden("restore", "--repo", f"{folder}/repository", "--to", restored)
        assert done["database_sum"] == taken["database_sum"]
        connection.close()
        rows = sqlite3.connect(restored).execute("SELECT count(*) FROM t").fetchone()
        assert rows == (2000,), rows
        assert not pagewarden("plugins")["faults"]
    print("smoke: check, backup, verify, restore and plugins work")


if __name__ == "__main__":
    main()
