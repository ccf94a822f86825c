"""Tables that only the damaged file has."""

from __future__ import annotations

from pathlib import Path

from tests.plugins.repair_restore.scene import Scene, asked, damage_leaf, ran


def test_a_new_table_beside_damage_comes_with_its_rows_and_indexes(tmp_path: Path) -> None:
    """What was made since the backup is made again, and no number of its rows is given twice."""
    scene = Scene(tmp_path)
    ran(
        scene.database,
        "CREATE TABLE later(a INTEGER PRIMARY KEY AUTOINCREMENT, b)",
        "CREATE UNIQUE INDEX later_b ON later(b)",
        "INSERT INTO later VALUES (7, 'x'), (9, 'y')",
        "DELETE FROM later WHERE a = 9",
    )
    scene.good = scene.database.read_bytes()
    damage_leaf(scene, "strict")
    scene.repair()
    scene.check()
    assert asked(scene.database, "SELECT a, b FROM later INDEXED BY later_b WHERE b > ''") == [(7, "x")]
    ran(scene.database, "INSERT INTO later(b) VALUES ('z')")
    assert asked(scene.database, "SELECT max(a) FROM later") == [(10,)]
