"""`pagewarden check`."""

from __future__ import annotations

import hashlib
import os
import signal
import sqlite3
import subprocess
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from pagewarden.processes.worker import Worker
from pagewarden_cli.crew import MOST_JOBS, usual_jobs
from pagewarden_cli.summary import NAME_WIDTH
from tests.cli.conftest import Type, make_database


def digest(path: Path) -> str:
    """Return the SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_sound_database(type_in: Type, database: Path) -> None:
    """Exit code 0, the verdict for people and as one document, and not a byte changed."""
    before = digest(database)
    typed = type_in("check", database)
    assert (typed.code, typed.err) == (0, "")
    assert typed.out.startswith(f"{database} is sound\n")
    typed = type_in("check", database, "--json")
    assert (typed.code, typed.err) == (0, "")
    assert typed.document["verdict"] == "sound"
    assert typed.document["pages"] * typed.document["page_size"] == database.stat().st_size
    assert type_in("check", database, "--quiet").out == ""
    assert digest(database) == before


def test_a_damaged_database(type_in: Type, damaged: Path) -> None:
    """Exit code 1, and each finding has a kind, a message, evidence and a hint."""
    typed = type_in("check", damaged, "--json")
    assert (typed.code, typed.document["verdict"]) == (1, "damaged")
    assert typed.document["findings"]
    assert all(finding["kind"] and finding["message"] for finding in typed.document["findings"])
    shown = type_in("check", damaged)
    assert shown.code == 1
    assert "  damage " in shown.out


def test_a_violation_is_exit_code_1_with_a_sound_verdict(type_in: Type, database: Path) -> None:
    """The owner's rule is broken, the file is whole."""
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("INSERT INTO note VALUES(9999, 9999, 'an orphan')")
        connection.commit()
    typed = type_in("check", database, "--json")
    assert (typed.code, typed.document["verdict"]) == (1, "sound")
    assert {finding["severity"] for finding in typed.document["findings"]} == {"violation"}


def test_what_cannot_be_judged_is_exit_code_3(type_in: Type, database: Path) -> None:
    """Locked by somebody: unknown, with the reason, never silence."""
    with closing(sqlite3.connect(database, isolation_level=None)) as holder:
        holder.execute("PRAGMA locking_mode=EXCLUSIVE")
        holder.execute("BEGIN EXCLUSIVE")
        holder.execute("INSERT INTO note VALUES(10000, 1, 'x')")
        typed = type_in("check", database, "--json", "--max-time", "1")
        assert (typed.code, typed.document["verdict"]) == (3, "unknown")
        assert all(checker["why"] for checker in typed.document["checkers"])


def test_level_only_and_max_time_choose_the_work(type_in: Type, database: Path) -> None:
    """More at a higher level, exactly what was named, and no time is no judgement."""

    def names(*words: str) -> list[str]:
        return [checker["name"] for checker in type_in("check", database, "--json", *words).document["checkers"]]

    assert set(names("--level", "quick")) < set(names("--level", "standard")) <= set(names("--level", "deep"))
    assert names("--only", "check-pragma") == ["check-pragma"]
    assert set(names("--only", "check-pragma", "--only", "check-pages")) == {"check-pragma", "check-pages"}
    assert type_in("check", database, "--max-time", "0.000001").code == 3
    typed = type_in("check", database, "--only", "check-nothing", "--json")
    assert (typed.code, typed.document["error"]["slug"]) == (40, "plugin-unusable")


def test_assertions_of_the_configuration_are_run_at_level_deep(type_in: Type, database: Path, home: Path) -> None:
    """One that does not hold is a violation; one that cannot be run makes the verdict unknown."""
    (home / "c.toml").write_text('[defaults]\nassertions = ["SELECT count(*) < 9 FROM note", "SELECT * FROM none"]\n')
    words = ("check", database, "--config", "c.toml", "--json")
    assert "check-assertions" not in {checker["name"] for checker in type_in(*words).document["checkers"]}
    typed = type_in(*words, "--level", "deep")
    assert (typed.code, typed.document["verdict"]) == (1, "unknown")
    assert [finding["kind"] for finding in typed.document["findings"]] == ["assertion"]


def test_a_baseline_shows_what_sqlite_cannot_see(type_in: Type, database: Path, home: Path) -> None:
    """A flipped bit in a text: a sound file for SQLite, damage against a snapshot that is declared current."""
    backup = type_in("backup", database, "--repo", "r", "--json").document
    key = type_in("backups", "--repo", "r", "--json").document["backups"][0]["key"]
    stored = Path(backup["repository"]) / key
    assert type_in("check", database, "--baseline", stored).code == 0
    data = bytearray(database.read_bytes())
    at = data.index(b"note 77 xxxx") + 8
    data[at] ^= 1
    database.write_bytes(data)
    assert type_in("check", database, "--only", "check-pragma").code == 0
    typed = type_in("check", database, "--baseline", stored, "--json")
    assert typed.code == 1
    (finding,) = typed.document["findings"]
    assert (finding["kind"], finding["pgno"]) == ("flipped-bit", at // 4096 + 1)
    shown = type_in("check", database, "--baseline", stored).out
    assert f"  damage flipped-bit  page {finding['pgno']}, note" in shown
    assert "    hint: pagewarden backups " in shown


def test_a_repository_is_compared_with(type_in: Type, database: Path, home: Path) -> None:
    """The position of its newest page map is in the report; a configured one is compared with where that is wanted."""
    taken = type_in("backup", database, "--repo", "r", "--json").document
    typed = type_in("check", database, "--repo", "r", "--json")
    assert (typed.code, typed.document["position"]) == (0, taken["position"])
    assert "compared with position" in type_in("check", database, "--repo", "r").out
    (home / "c.toml").write_text('[defaults]\nrepository = "./r"\n')
    assert type_in("check", database, "--config", "c.toml", "--json").document["position"] is None
    (home / "c.toml").write_text('[defaults]\nrepository = "./r"\ncompare = true\n')
    assert type_in("check", database, "--config", "c.toml", "--json").document["position"] == taken["position"]


def test_a_backup_under_another_name_is_compared_with(type_in: Type, database: Path) -> None:
    """It is found by the name that it was given."""
    taken = type_in("backup", database, "--repo", "r", "--name", "main", "--json").document
    typed = type_in("check", database, "--repo", "r", "--name", "main", "--json")
    assert (typed.code, typed.document["position"]) == (0, taken["position"])
    assert type_in("check", database, "--repo", "r", "--json").document["position"] is None


def test_several_databases_are_one_document(type_in: Type, database: Path, home: Path) -> None:
    """With the worst verdict; an error of one stands in its place, and does not keep the others from their turn."""
    other = make_database(home / "other.db")
    typed = type_in("check", database, other, "--json")
    assert (typed.code, typed.document["verdict"]) == (0, "sound")
    assert [entry["database"] for entry in typed.document["databases"]] == [str(database), str(other)]
    typed = type_in("check", home / "none.db", other, "--json")
    assert (typed.code, typed.document["verdict"]) == (10, "unknown")
    missing, sound = typed.document["databases"]
    assert missing["error"]["slug"] == "database-not-found"
    assert missing["database"] == str(home / "none.db")
    assert sound["verdict"] == "sound"
    shown = type_in("check", home / "none.db", other, "--debug")
    assert "\nnone.db   error\nother.db  sound  " in shown.out
    assert f"{home / 'none.db'} is not there" in shown.err
    assert "Traceback" in shown.err


def test_several_databases_are_as_bad_as_the_worst(type_in: Type, damaged: Path, home: Path) -> None:
    """Damage wins over an error, an error over unknown, unknown over sound."""
    make_database(home / "other.db")
    (home / "c.toml").write_text('[databases.hasty]\npath = "other.db"\nmax_time = 0.000001\n')
    sound = make_database(home / "sound.db")

    def code(*words: str | Path) -> int:
        return type_in("check", "--config", "c.toml", *words).code

    assert code("none.db", damaged, "hasty") == 1
    assert code("hasty", sound) == 3
    assert code("hasty", "none.db") == 10


def test_names_and_settings_come_from_the_configuration(type_in: Type, database: Path, home: Path) -> None:
    """By name, by path, and all of them without an argument; the command line wins."""
    make_database(home / "other.db")
    (home / "c.toml").write_text(
        """
        [databases.first]
        path = "app.db"
        checkers = ["check-pragma"]
        [databases.second]
        path = "other.db"
        level = "quick"
        """
    )

    def names(*words: str) -> list[str]:
        document = type_in("check", "--config", "c.toml", "--json", *words).document
        return [checker["name"] for checker in document["checkers"]]

    assert names("first") == names("app.db") == ["check-pragma"]
    assert names("first", "--only", "check-pages") == ["check-pages"]
    assert "check-foreign-keys" not in names("second")
    assert "check-foreign-keys" in names("second", "--level", "standard")
    everything = type_in("check", "--config", "c.toml", "--json").document
    assert [entry["database"] for entry in everything["databases"]] == [str(database), str(home / "other.db")]


@pytest.fixture
def folder(home: Path) -> Path:
    """A folder with a damaged database, one that breaks a rule, two sound ones, and what is none."""
    (home / "data" / "deep").mkdir(parents=True)
    for name in ("damaged.db", "deep/orphan.db", "sound.db", "deep/sound.sqlite"):
        make_database(home / "data" / name)
    damage = home / "data" / "damaged.db"
    content = bytearray(damage.read_bytes())
    begin = content.index(b"note 77 xxxx") // 4096 * 4096
    content[begin : begin + 4096] = bytes(4096)
    damage.write_bytes(content)
    with closing(sqlite3.connect(home / "data" / "deep" / "orphan.db")) as connection:
        connection.execute("INSERT INTO note VALUES(9999, 9999, 'an orphan')")
        connection.commit()
    (home / "data" / "read.me").write_text("no database")
    return home / "data"


FOUND = ["damaged.db", "deep/orphan.db", "deep/sound.sqlite", "sound.db"]


@pytest.mark.parametrize("jobs", ["1", "3"])
def test_a_folder_is_one_document_and_one_table(type_in: Type, folder: Path, jobs: str) -> None:
    """Every database in it or below it, the worst first; the exit code is the worst one's."""
    typed = type_in("check", folder, "--json", "--jobs", jobs)
    assert (typed.code, typed.document["verdict"], typed.document["looked_at"]) == (1, "damaged", 5)
    assert [entry["database"] for entry in typed.document["databases"]] == [str(folder / name) for name in FOUND]
    shown = type_in("check", folder, "--jobs", jobs)
    assert (shown.code, shown.err) == (1, "")
    first, head, *rows = shown.out.splitlines()
    assert first.startswith("4 databases: 1 damaged, 1 sound with a broken rule, 2 sound; 5 files looked at; ")
    assert head.split() == ["database", "verdict", "findings", "pages", "time"]
    assert [row.split()[:2] for row in rows[:4]] == [
        ["data/damaged.db", "damaged"],
        ["data/deep/orphan.db", "sound"],
        ["data/deep/sound.sqlite", "sound"],
        ["data/sound.db", "sound"],
    ]
    assert rows[4:6] == ["", "data/damaged.db is damaged"]
    assert "data/deep/orphan.db is sound" in rows
    assert "data/sound.db is sound" not in rows


def test_a_name_that_is_too_long_is_one_error_and_widens_no_table(type_in: Type, folder: Path) -> None:
    """SQLite cannot keep a journal beside such a file; the others are judged, and the table stays as wide as names are
    shown, though the document has all of them."""
    long = folder / ("n" * 250 + ".db")
    make_database(long.with_name("m.db"))
    long.with_name("m.db").rename(long)
    shown = type_in("check", folder)
    assert shown.code == 1
    assert "5 databases: 1 damaged, 1 with an error, 1 sound with a broken rule, 2 sound" in shown.out
    table = [each for each in shown.out.splitlines() if "  error" in each or each.startswith("database ")]
    assert len(table) == 2 and max(map(len, table)) < NAME_WIDTH + 50
    assert "nn…nn" in table[1] and ".db  error" in table[1]
    assert f"{long} cannot have a -journal or -wal beside it" in shown.err
    typed = type_in("check", long, "--json")
    assert typed.code == 12 and "database-unreadable" in typed.out + typed.err


def test_a_pattern_needs_no_shell_and_stands_beside_files_and_names(type_in: Type, folder: Path, home: Path) -> None:
    """Each database once, with the settings that the configuration has for it; a folder without any is an error."""
    (home / "c.toml").write_text('[databases.mine]\npath = "data/sound.db"\n')
    typed = type_in("check", "--config", "c.toml", "mine", "data/**/*.db", "data/sound.db", "--json")
    assert [entry["database"] for entry in typed.document["databases"]] == [
        str(folder / name) for name in ("sound.db", "damaged.db", "deep/orphan.db")
    ]
    (home / "none").mkdir()
    typed = type_in("check", "data/deep", "none", "gone/*.db", "--json")
    assert typed.code == 1
    assert [entry.get("error", {}).get("slug") for entry in typed.document["databases"]] == [
        None,
        None,
        "database-not-found",
        "database-not-found",
    ]
    typed = type_in("check", "none", "--json")
    assert (typed.code, typed.document["error"]["slug"]) == (10, "database-not-found")
    assert type_in("check", "data/sound*", "--json").document["databases"][0]["verdict"] == "sound"


def test_a_file_that_is_called_like_a_pattern_is_a_file(type_in: Type, home: Path) -> None:
    """And its document is that of one database."""
    odd = make_database(home / "odd [1]*.db")
    assert type_in("check", odd, "--json").document["database"] == str(odd)


def test_quiet_and_verbose_say_less_and_more_of_many(type_in: Type, folder: Path) -> None:
    """What is wrong alone; every checker of every database."""
    quiet = type_in("check", folder, "--quiet").out
    assert quiet.startswith("data/damaged.db is damaged\n")
    assert "files looked at" not in quiet and "data/sound.db" not in quiet
    verbose = type_in("check", folder, "--verbose")
    assert f"{folder / 'sound.db'} is sound" in verbose.out
    assert "check.started" in verbose.err and "checker.finished" in verbose.err


def test_what_is_for_one_database_is_refused_for_many(type_in: Type, folder: Path) -> None:
    """A name, and a baseline: of the others every page would differ."""
    for words in (("--name", "x"), ("--baseline", "x")):
        typed = type_in("check", folder, *words, "--json")
        assert (typed.code, typed.document["error"]["slug"]) == (2, "configuration-invalid")
        assert typed.document["error"]["message"] == f"{words[0]} is for one database"


def test_an_interruption_ends_every_worker(folder: Path, pagewarden: list[str]) -> None:
    """Ctrl-C while databases are checked: exit code 130, and no process is left."""
    words = [*pagewarden, "check", str(folder), "--verbose", "--jobs", "2", "--level", "deep"]
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    while "checker.finished" not in process.stderr.readline():
        assert process.poll() is None
    children = descendants(process.pid)
    process.send_signal(signal.SIGINT)
    told = process.communicate(timeout=30)[1]
    assert (process.returncode, told.splitlines()[-1]) == (130, "pagewarden: interrupted")
    assert len(children) >= 2
    until = time.monotonic() + 10
    while left := [pid for pid in children if Path(f"/proc/{pid}").exists()]:
        assert time.monotonic() < until, left
        time.sleep(0.02)


def descendants(pid: int) -> list[int]:
    """Return the numbers of all processes below one."""
    found = []
    for child in Path(f"/proc/{pid}/task").glob("*/children"):
        for number in map(int, child.read_text().split()):
            found += [number, *descendants(number)]
    return found


def test_a_worker_that_dies_is_an_error_of_its_database_alone(
    type_in: Type, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next database gets another worker."""
    converse = Worker._converse

    def dying(worker: Worker, verb: str, request: Any, kind: Any) -> Any:
        if request["database"].endswith("sound.db"):
            worker._child().kill()
        return converse(worker, verb, request, kind)

    monkeypatch.setattr(Worker, "_converse", dying)
    typed = type_in("check", folder, "--json", "--jobs", "2")
    assert [entry.get("error", {}).get("slug") for entry in typed.document["databases"]] == [None] * 3 + [
        "worker-crashed"
    ]


def test_an_error_of_our_own_among_many_is_not_hidden(
    type_in: Type, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It ends the run, as it would with one database."""

    def broken(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(Worker, "call", broken)
    typed = type_in("check", folder, "--json", "--jobs", "2")
    assert (typed.code, typed.document["error"]["message"]) == (70, "an error of our own: ZeroDivisionError")


def test_few_small_databases_are_worth_no_process(tmp_path: Path) -> None:
    """Many, or large ones, are; however many there are, there are no more than cores."""
    small = [str(tmp_path / f"{number}.db") for number in range(400)]
    assert usual_jobs(small[:5]) == 1
    large = [str(tmp_path / "large"), str(tmp_path / "larger")]
    for path in large:
        Path(path).touch()
        os.truncate(path, 1 << 30)
    cores = min(MOST_JOBS, len(os.sched_getaffinity(0)))
    assert usual_jobs(large) == usual_jobs(small) == cores
