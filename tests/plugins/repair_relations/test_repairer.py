from __future__ import annotations

import os
import random
import sqlite3
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import pytest

from pagewarden.contracts import Loss, Orphans, Repairer, RepairPolicy, Stage
from pagewarden.errors import RepairRefused, RepositoryDamaged, TargetFailed
from pagewarden.sqlite.names import quote
from pagewarden.testing.benches import ClosedBench, ClosedCase
from pagewarden.testing.contracts import RepairerContract
from pagewarden.values import Finding, Severity
from pagewarden_repair_relations import pagewarden_repairers
from pagewarden_repair_relations.parents import OLDER
from tests.plugins.repair_relations.relating import (
    History,
    broken,
    build,
    changed,
    findings,
    kept,
    mend,
    rows,
    table,
)

FAMILY = (
    "CREATE TABLE country(code TEXT COLLATE NOCASE PRIMARY KEY, name) WITHOUT ROWID",
    "CREATE TABLE town(id INTEGER PRIMARY KEY, name TEXT UNIQUE, land TEXT REFERENCES country)",
    "CREATE TABLE person(id INTEGER PRIMARY KEY, town INTEGER REFERENCES town, boss REFERENCES person, note)",
    "CREATE TABLE log(what)",
    *(
        f"CREATE TRIGGER {table}_{event} AFTER {event} ON {table} BEGIN INSERT INTO log VALUES('{table} {event}'); END"
        for table in ("country", "town", "person")
        for event in ("INSERT", "UPDATE", "DELETE")
    ),
    "INSERT INTO country VALUES('DE', 'Germany'), ('FR', 'France')",
    "INSERT INTO town VALUES(1, 'Ulm', 'de'), (2, 'Metz', 'FR')",
    "INSERT INTO person VALUES(10, 1, NULL, 'a'), (11, 1, 10, 'b'), (12, 2, 11, 'c'), (13, NULL, 13, 'd')",
    "DELETE FROM log",
)


class TestContract(RepairerContract):
    """What every repairer must do."""

    @pytest.fixture
    def repairer(self) -> Repairer:
        """The one that the plugin registers."""
        (repairer,) = pagewarden_repairers()
        return repairer

    def break_copy(self, copy: Path) -> Sequence[Finding]:
        """Add rows without parents."""
        build(copy, "INSERT INTO orders VALUES(1000, 1000, x'00'), (1001, 1001, x'00')")
        return findings(copy)

    def make_case(self, copy: Path, findings: Sequence[Finding]) -> ClosedCase:
        """Choose that rows are moved."""
        return ClosedCase(copy, findings, policy=RepairPolicy(orphans=Orphans.CASCADE))


@pytest.fixture
def family(tmp_path: Path) -> Path:
    """A database with keys of three tables, one of them to itself."""
    path = build(tmp_path / "family.db", *FAMILY)
    assert (broken(path), findings(path), table(path, "log")) == ([], (), [])
    return path


class TestParentsComeBack:
    """From the newest restore point that has them, and theirs with them; nobody else changes."""

    def test_with_their_own_parents(self, family: Path, tmp_path: Path) -> None:
        """A country, its towns and a person are gone: all come back, in three tables, and no trigger fires."""
        app = changed(
            family,
            tmp_path / "app.db",
            "DELETE FROM country WHERE code = 'FR'",
            "DELETE FROM town",
            "DELETE FROM person WHERE id = 10",
            "DELETE FROM log",
        )
        bench = mend(app, tmp_path / "s", History(family))
        assert rows(app) == rows(family)
        assert (broken(app), bench.cut_rows) == ([], [])
        assert bench.notes == {
            name: {"rows_from_backup": count} for name, count in (("town", 2), ("person", 1), ("country", 1))
        }

    def test_not_from_what_may_be_another_database(self, family: Path, tmp_path: Path) -> None:
        """Where the contents alone speak for a restore point, a parent comes only from a table that has others here."""
        gone = "DELETE FROM town WHERE id = 2"
        app = changed(family, tmp_path / "app.db", gone, "UPDATE town SET name = 'Linz'")
        alike = changed(family, tmp_path / "alike.db", gone)
        history = History(family)
        history.certain = False
        bench = mend(app, tmp_path / "s", history, Orphans.LEAVE)
        assert (table(app, "town", "id, name"), bench.notes) == ([(1, "Linz")], {})
        mend(alike, tmp_path / "t", history, Orphans.LEAVE)
        assert table(alike, "town", "id, name") == [(1, "Ulm"), (2, "Metz")]

    def test_from_older_restore_points_where_newer_ones_have_none(self, family: Path, tmp_path: Path) -> None:
        """The newest version that there is; an older one is asked only for what is missing still."""
        middle = changed(
            family, tmp_path / "middle.db", "DELETE FROM town WHERE id = 2", "UPDATE town SET name = 'Neu-Ulm'"
        )
        app = changed(middle, tmp_path / "app.db", "DELETE FROM town")
        history = History(middle, family, family)
        bench = mend(app, tmp_path / "s", history)
        assert table(app, "town", "id, name") == [(1, "Neu-Ulm"), (2, "Metz")]
        assert (broken(app), bench.cut_rows, history.fetched) == ([], [], [middle, family])

    def test_no_more_are_asked_than_are_promised(self, family: Path, tmp_path: Path) -> None:
        """What is nowhere is not looked for in every backup that there ever was."""
        app = changed(family, tmp_path / "app.db", "UPDATE person SET town = 99 WHERE id = 10")
        history = History(*[family] * 20)
        bench = mend(app, tmp_path / "s", history)
        assert len(history.fetched) == 1 + OLDER
        assert kept(bench)[("person", (10, 99, None, "a"))] == 1

    def test_a_damaged_restore_point_has_no_parents(self, family: Path, tmp_path: Path) -> None:
        """The next one is asked."""
        app = changed(family, tmp_path / "app.db", "DELETE FROM town", "DELETE FROM log")
        twin = changed(family, tmp_path / "twin.db")
        history = History(twin, family, failing={twin: RepositoryDamaged("a page set is damaged")})
        mend(app, tmp_path / "s", history)
        assert (rows(app), broken(app)) == (rows(family), [])

    def test_a_target_that_fails_ends_the_repair(self, family: Path, tmp_path: Path) -> None:
        """Nothing is taken out because of a network that is down."""
        app = changed(family, tmp_path / "app.db", "DELETE FROM town")
        before = app.read_bytes()
        (repairer,) = pagewarden_repairers()
        history = History(family, failing={family: TargetFailed("no answer")})
        case = ClosedCase(app, findings(app), history=history, policy=RepairPolicy(orphans=Orphans.QUARANTINE))
        with pytest.raises(TargetFailed):
            repairer.apply(ClosedBench(app, tmp_path, case), repairer.plan(case))
        assert app.read_bytes() == before

    def test_a_place_that_was_taken_is_left(self, tmp_path: Path) -> None:
        """A parent whose rowid or other key a newer row has: a rowid alone is given anew, a key of the row's never."""
        past = build(
            tmp_path / "past.db",
            "CREATE TABLE p(name UNIQUE, mail UNIQUE)",
            "CREATE TABLE c(p REFERENCES p(name))",
            "INSERT INTO p(rowid, name, mail) VALUES(1, 'one', 1), (2, 'two', 2), (3, 'three', 3)",
            "INSERT INTO c VALUES('one'), ('two'), ('three')",
        )
        app = changed(past, tmp_path / "app.db", "DELETE FROM p", "INSERT INTO p VALUES('new', 2)")
        bench = mend(app, tmp_path / "s", History(past))
        assert table(app, "p") == [("new", 2), ("one", 1), ("three", 3)]
        assert (broken(app), kept(bench)) == ([], Counter({("c", ("two",)): 1}))
        assert table(app, "p", "rowid, name")[0] == (1, "new")

    def test_columns_that_came_later_have_their_default(self, tmp_path: Path) -> None:
        """And columns that are gone, or generated, are no obstacle."""
        past = build(
            tmp_path / "past.db",
            "CREATE TABLE p(id INTEGER PRIMARY KEY, old, both)",
            "INSERT INTO p VALUES(1, 'old', 'both')",
        )
        app = build(
            tmp_path / "app.db",
            "CREATE TABLE p(id INTEGER PRIMARY KEY, both, new DEFAULT 'new', g AS (both || '!') STORED)",
            "CREATE TABLE c(p REFERENCES p)",
            "INSERT INTO c VALUES(1)",
        )
        mend(app, tmp_path / "s", History(past))
        assert table(app, "p") == [(1, "both", "new", "both!")]

    @pytest.mark.parametrize(
        "then",
        [
            ("CREATE TABLE other(id)",),
            ("CREATE VIEW p AS SELECT 1 AS id",),
            ("CREATE TABLE p(name)", "INSERT INTO p VALUES(1)"),
            ("CREATE TABLE p(id INTEGER PRIMARY KEY, t)", "INSERT INTO p VALUES(1, 'text')"),
            ("CREATE TABLE p(id INTEGER PRIMARY KEY, t)", "INSERT INTO p VALUES(1, -5)"),
            ("CREATE TABLE p(id INTEGER PRIMARY KEY, t)", "INSERT INTO p VALUES(1, NULL)"),
        ],
    )
    def test_a_past_that_has_no_such_parent(self, then: tuple[str, ...], tmp_path: Path) -> None:
        """No table, a view, no such column, or a row that a rule of today's forbids: then the policy decides."""
        app = build(
            tmp_path / "app.db",
            "CREATE TABLE p(id INTEGER PRIMARY KEY, t INTEGER NOT NULL CHECK(t > 0)) STRICT",
            "CREATE TABLE c(p REFERENCES p)",
            "INSERT INTO c VALUES(1)",
        )
        bench = mend(app, tmp_path / "s", History(build(tmp_path / "past.db", *then)))
        assert (broken(app), kept(bench), bench.notes) == (
            [],
            Counter({("c", (1,)): 1}),
            {"c": {"rows_quarantined": 1}},
        )


class TestLeaving:
    """What nobody chose to move stays: orphans are a matter of the owner's, not damage."""

    def test_parents_come_from_the_newest_restore_point_alone(self, family: Path, tmp_path: Path) -> None:
        """What it has comes back; what was gone then was gone by somebody's will, and the row that names it stays."""
        middle = changed(family, tmp_path / "middle.db", "DELETE FROM town WHERE id = 2")
        app = changed(middle, tmp_path / "app.db", "DELETE FROM town", "DELETE FROM log")
        history = History(middle, family)
        bench = mend(app, tmp_path / "s", history, Orphans.LEAVE)
        assert (history.fetched, bench.cut_rows, bench.notes) == ([middle], [], {"town": {"rows_from_backup": 1}})
        assert (table(app, "town", "id"), table(app, "log")) == ([(1,)], [])
        assert table(app, "person") == table(family, "person")
        assert [row[0] for row in broken(app)] == ["person"]

    def test_without_a_repository_there_is_nothing_to_do(self, family: Path, tmp_path: Path) -> None:
        """No step, and that is what happens by default."""
        app = changed(family, tmp_path / "app.db", "DELETE FROM town")
        (repairer,) = pagewarden_repairers()
        assert repairer.plan(ClosedCase(app, findings(app))) == ()
        (step,) = repairer.plan(ClosedCase(app, findings(app), history=History(family)))
        assert (step.loss, step.loses) == (Loss.NOTHING, "nothing")
        assert "from the newest restore point, then leave the rows that stay without one" in step.text


class TestThePolicy:
    """What stays without a parent is dealt with as the owner chose, to a fix point, and each row is recorded."""

    def test_quarantine_takes_the_rows_out_and_what_names_them(self, family: Path, tmp_path: Path) -> None:
        """Also along a key of a table to itself; the row that names itself stays."""
        app = changed(family, tmp_path / "app.db", "UPDATE person SET town = 99 WHERE id = 10")
        bench = mend(app, tmp_path / "s")
        assert table(app, "person") == [(13, None, 13, "d")]
        assert {row[1][0] for row in kept(bench)} == {10, 11, 12}
        assert (broken(app), table(app, "log"), bench.notes) == (
            [],
            [("person UPDATE",)],
            {"person": {"rows_quarantined": 3}},
        )

    def test_set_null_keeps_the_rows(self, family: Path, tmp_path: Path) -> None:
        """The row stays with its other columns, and as it was in the quarantine."""
        app = changed(family, tmp_path / "app.db", "DELETE FROM town", "DELETE FROM log")
        bench = mend(app, tmp_path / "s", orphans=Orphans.SET_NULL)
        assert table(app, "person", "id, town, boss") == [
            (10, None, None), (11, None, 10), (12, None, 11), (13, None, 13),
        ]  # fmt: skip
        assert kept(bench) == Counter({row: 1 for row in rows(family) if row[0] == "person" and row[1][0] != 13})
        assert (broken(app), table(app, "log"), bench.notes) == ([], [], {"person": {"rows_quarantined": 3}})

    @pytest.mark.parametrize(
        ("columns", "stay"),
        [
            ("a REFERENCES p, b NOT NULL, n", [(None, 1, 1), (None, 2, 2)]),
            ("a NOT NULL REFERENCES p, b, n", []),
            ("a INTEGER PRIMARY KEY REFERENCES p, b, n", []),
            ("a REFERENCES p, b, n, UNIQUE(coalesce(a, 0)))--", None),
            ("a REFERENCES p CHECK(a IS NOT NULL OR n = 2), b, n", [(None, 2, 2)]),
            ("a AS (b + 7) STORED REFERENCES p, b, n", []),
        ],
    )
    def test_set_null_where_a_rule_forbids_it(
        self, columns: str, stay: list[tuple[object, ...]] | None, tmp_path: Path
    ) -> None:
        """NOT NULL, a primary key, CHECK, a generated column, a unique expression: those rows leave, no other does."""
        path = tmp_path / "app.db"
        build(path, "CREATE TABLE p(id INTEGER PRIMARY KEY)", "INSERT INTO p VALUES(1)")
        if stay is None:
            build(path, "CREATE TABLE c(a REFERENCES p, b, n)", "CREATE UNIQUE INDEX u ON c(coalesce(a, 0))")
            stay = [(None, 1, 1)]
        else:
            build(path, f"CREATE TABLE c({columns})")
        into = "b, n) VALUES(1, 1), (2, 2)" if " AS " in columns else "a, b, n) VALUES(7, 1, 1), (8, 2, 2)"
        build(path, f"INSERT INTO c({into}")
        before = {row[1][-1] for row in rows(path) if row[0] == "c"}
        bench = mend(path, tmp_path / "s", orphans=Orphans.SET_NULL)
        assert (table(path, "c"), broken(path)) == (stay, [])
        assert {row[1][-1] for row in kept(bench)} == before
        assert bench.notes == {"c": {"rows_quarantined": 2}}

    def test_of_a_composite_key_only_what_may_be_null_becomes_so(self, tmp_path: Path) -> None:
        """One NULL is enough: the column that other things hang on stays."""
        path = build(
            tmp_path / "app.db",
            "CREATE TABLE p(x, y, PRIMARY KEY(x, y)) WITHOUT ROWID",
            "CREATE TABLE c(x NOT NULL, y, z, FOREIGN KEY(x, y) REFERENCES p DEFERRABLE INITIALLY DEFERRED)",
            "INSERT INTO p VALUES(1, 1)",
            "INSERT INTO c VALUES(1, 1, 'a'), (1, 2, 'b'), (2, NULL, 'c')",
        )
        mend(path, tmp_path / "s", orphans=Orphans.SET_NULL)
        assert (table(path, "c"), broken(path)) == ([(1, 1, "a"), (1, None, "b"), (2, None, "c")], [])

    def test_no_action_of_a_key_runs(self, tmp_path: Path) -> None:
        """ON DELETE CASCADE and the like are the application's: rows go because they have no parent, and are kept."""
        path = build(
            tmp_path / "app.db",
            "CREATE TABLE a(id INTEGER PRIMARY KEY, up REFERENCES a ON DELETE CASCADE)",
            "CREATE TABLE b(id INTEGER PRIMARY KEY, a REFERENCES a ON DELETE CASCADE ON UPDATE SET NULL)",
            "INSERT INTO a VALUES(1, 99), (2, 1), (3, NULL)",
            "INSERT INTO b VALUES(1, 1), (2, 2), (3, 3)",
        )
        before = rows(path)
        bench = mend(path, tmp_path / "s", orphans=Orphans.CASCADE)
        assert (table(path, "a"), table(path, "b")) == ([(3, None)], [(3, 3)])
        assert rows(path) + kept(bench) == before

    def test_texts_that_are_none_are_kept_as_they_are(self, tmp_path: Path) -> None:
        """Whatever bytes a row has go into the quarantine."""
        path = build(
            tmp_path / "app.db",
            "CREATE TABLE p(id INTEGER PRIMARY KEY)",
            "CREATE TABLE c(p REFERENCES p, t)",
            "INSERT INTO c VALUES(1, CAST(x'61ff62' AS TEXT))",
        )
        bench = mend(path, tmp_path / "s")
        ((_, columns, ((rowid, parent, text),), _),) = bench.cut_rows
        assert (columns, rowid, parent, str(text).encode("utf-8", "surrogateescape")) == (
            ("rowid", "p", "t"), 1, 1, b"a\xffb",
        )  # fmt: skip


class TestOnlyTold:
    """What cannot be mended is left to be told."""

    def test_a_mismatch(self, tmp_path: Path) -> None:
        """A parent key that is not unique cannot be enforced: no step, and nothing of the table changes."""
        path = build(
            tmp_path / "app.db",
            "CREATE TABLE p(id INTEGER PRIMARY KEY, x)",
            "CREATE TABLE m(a REFERENCES p(x))",
            "CREATE TABLE c(a REFERENCES p)",
            "INSERT INTO m VALUES(1), (2)",
            "INSERT INTO c VALUES(5)",
        )
        assert {finding.kind for finding in findings(path)} == {"foreign-key", "foreign-key-mismatch"}
        mend(path, tmp_path / "s")
        assert (table(path, "m"), table(path, "c")) == ([(1,), (2,)], [])
        (left,) = findings(path)
        assert left.kind == "foreign-key-mismatch"

    def test_a_table_that_is_gone(self, tmp_path: Path) -> None:
        """All rows name it: that is a matter of the schema, and no reason to empty a table."""
        path = build(
            tmp_path / "app.db",
            "CREATE TABLE p(id INTEGER PRIMARY KEY)",
            "CREATE TABLE c(a REFERENCES gone, b REFERENCES p)",
            "INSERT INTO c VALUES(1, NULL), (NULL, 2), (3, 3)",
        )
        (repairer,) = pagewarden_repairers()
        found, policy = findings(path), RepairPolicy(orphans=Orphans.QUARANTINE)
        (step,) = repairer.plan(ClosedCase(path, found, policy=policy))
        assert {found[place].evidence.rpartition(", ")[2] for place in step.mends} == {"p"}
        mend(path, tmp_path / "s")
        assert table(path, "c") == [(1, None)]
        assert repairer.plan(ClosedCase(path, findings(path), policy=policy)) == ()

    def test_damage_comes_first(self, family: Path, tmp_path: Path) -> None:
        """H27: a parent may be there and not be seen; and of a file that SQLite refuses nothing is known."""
        app = changed(family, tmp_path / "app.db", "DELETE FROM town")
        (repairer,) = pagewarden_repairers()
        damage = Finding(kind="bad-page", severity=Severity.DAMAGE, object="town", message="no page of its kind")
        policy = RepairPolicy(orphans=Orphans.QUARANTINE)
        assert repairer.plan(ClosedCase(app, (*findings(app), damage), policy=policy)) == ()
        assert repairer.plan(ClosedCase(app, findings(app), refused="malformed", policy=policy)) == ()

    def test_what_the_application_has(self, tmp_path: Path) -> None:
        """A table whose index needs it cannot be written to: refused, and nothing was changed."""
        path = tmp_path / "app.db"
        with closing(sqlite3.connect(path)) as connection:
            connection.create_collation("theirs", lambda one, other: (one > other) - (one < other))
            connection.execute("CREATE TABLE p(id INTEGER PRIMARY KEY)")
            connection.execute("CREATE TABLE c(a REFERENCES p, b)")
            connection.execute("CREATE INDEX i ON c(b COLLATE theirs)")
            connection.execute("INSERT INTO c VALUES(1, 'b')")
            connection.commit()
        before = rows(path)
        with pytest.raises(RepairRefused, match="theirs"):
            mend(path, tmp_path / "s")
        assert rows(path) == before


def test_names_are_only_names(tmp_path: Path) -> None:
    """H29: whatever tables and columns are called, now and in the past, nothing of it is ever run."""
    names = ('a"b', "it's", "x; DROP TABLE y; --", "select", "c", "p", "q", "w", "past", "main", "oid", "k0", "ü", " ")
    statements = []
    for number, name in enumerate(names):
        parent, column = quote(f"{name} t" if number % 2 else name), quote(name)
        child = quote(f"{name} child")
        statements += [
            f"CREATE TABLE {parent}({column} TEXT COLLATE NOCASE PRIMARY KEY, b)",
            f"CREATE TABLE {child}({column} REFERENCES {parent}({column}), b)",
            f"INSERT INTO {parent} VALUES('One', {number})",
            f"INSERT INTO {child} VALUES('oNE', 1), ('two', 2)",
        ]
    past = build(tmp_path / "past.db", *statements)
    gone = [f"DELETE FROM {quote(f'{name} t' if number % 2 else name)}" for number, name in enumerate(names)]
    app = changed(past, tmp_path / "app.db", *gone)
    bench = mend(app, tmp_path / "s", History(past))
    assert broken(app) == []
    assert rows(app) + kept(bench) == rows(past)
    assert set(kept(bench)) == {(f"{name} child", ("two", 2)) for name in names}


def test_a_long_chain_is_followed_to_its_end(tmp_path: Path) -> None:
    """A thread of a hundred answers whose beginning is nowhere, and one of a hundred that is in the past."""
    chain = (
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 100)"
        " INSERT INTO t SELECT {0} + i, CASE i WHEN 1 THEN {1} ELSE {0} + i - 1 END FROM n"
    )
    past = build(
        tmp_path / "past.db",
        "CREATE TABLE t(id INTEGER PRIMARY KEY, up REFERENCES t)",
        chain.format(0, "NULL"),
        chain.format(1000, 77777),
    )
    app = changed(past, tmp_path / "app.db", "DELETE FROM t WHERE id < 100")
    bench = mend(app, tmp_path / "s", History(past))
    assert {row[1][0] for row in kept(bench)} == set(range(1001, 1101))
    assert table(app, "t", "id") == sorted([(number,) for number in range(1, 101)], key=repr)
    assert broken(app) == []


def test_the_plan_says_what_it_will_do(family: Path, tmp_path: Path) -> None:
    """One step for each table, what it loses by policy, at its stage; the same with a past."""
    app = changed(family, tmp_path / "app.db", "DELETE FROM town", "DELETE FROM country")
    (repairer,) = pagewarden_repairers()
    policy = RepairPolicy(orphans=Orphans.QUARANTINE)
    (step,) = repairer.plan(ClosedCase(app, findings(app), policy=policy))
    assert step.text == "the 3 rows of table person without a parent: take the rows that stay without one out"
    assert (step.loss, step.stage, step.mends) == (Loss.MOVED, Stage.RELATIONS, (0, 1, 2))
    (step,) = repairer.plan(ClosedCase(app, findings(app), history=History(family), policy=policy))
    assert "fetch their parents from restore points, then" in step.text


@pytest.mark.parametrize("orphans", [Orphans.QUARANTINE, Orphans.SET_NULL, Orphans.CASCADE])
def test_whatever_is_broken_comes_to_a_fix_point(orphans: Orphans, tmp_path: Path) -> None:
    """Random rows of random keys, random losses, two pasts: no key is broken, no row is lost, none is made up."""
    for seed in range(60 if os.environ.get("PAGEWARDEN_FULL") else 4):
        chance = random.Random(seed)
        folder = tmp_path / str(seed)
        folder.mkdir()
        kinds = ["INTEGER PRIMARY KEY", "TEXT COLLATE NOCASE PRIMARY KEY", "PRIMARY KEY"]
        tables = []
        for number in range(4):
            kind = chance.choice(kinds)
            rowid = "" if kind == kinds[0] or chance.random() < 0.5 else " WITHOUT ROWID"
            up, aside = chance.randrange(4), chance.randrange(4)
            null = chance.choice(["", "", " NOT NULL"])
            tables.append(
                f"CREATE TABLE t{number}(k {kind}, up{null} REFERENCES t{up}, aside REFERENCES t{aside}"
                f" DEFERRABLE INITIALLY DEFERRED, n, UNIQUE(n)){rowid}"
            )
        first = build(folder / "first.db", *tables)
        with closing(sqlite3.connect(first)) as connection, connection:
            for place in range(120):
                key, above, beside = chance.sample([str(each) for each in range(40)], 3)
                values = (key, above, chance.choice([None, beside]), place)
                connection.execute(f"INSERT OR IGNORE INTO t{chance.randrange(4)} VALUES(?, ?, ?, ?)", values)
        losses = [f"DELETE FROM t{number} WHERE (n + {seed}) % 3 = {number % 3}" for number in range(4)]
        second = changed(first, folder / "second.db", *losses[:2], "UPDATE t0 SET n = n + 1000 WHERE k < '2'")
        app = changed(
            second, folder / "app.db", *losses[1:], f"UPDATE OR IGNORE t1 SET k = {1000 + seed} WHERE n % 50 = 0"
        )
        before = rows(app)
        bench = mend(app, folder / "s", History(second, first) if seed % 2 else None, orphans)
        assert broken(app) == []
        after, cut = rows(app), kept(bench)
        assert before - after - cut == Counter()
        made = after - before
        nulls = Counter({row: 1 for row in made if row not in rows(first) and row not in rows(second)})
        assert orphans is Orphans.SET_NULL or nulls == Counter()
        assert all(None in row[1][1:3] for row in nulls)
        assert table(app, "sqlite_master", "type, name, sql") == table(second, "sqlite_master", "type, name, sql")
