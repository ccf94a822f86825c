"""The quarantine's folders, entries and lock, and what is said where they are not what they must be."""

from __future__ import annotations

import fcntl
import json
import os
import shlex
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from pagewarden import durable
from pagewarden.errors import DatabaseBusy, RestoreRefused, TargetFailed
from pagewarden.lineage import Lineage
from pagewarden.restore import pending_intents, recover_intents
from pagewarden.restore.quarantine import Entry, Kept, Origin, Phase, Quarantine
from pagewarden.values import Position
from tests.support.pipes import unwaited

NOW = datetime(2026, 11, 22, 10, 15, tzinfo=UTC)
ORIGIN = Origin(
    repository="/backup",
    database="app.db",
    position=Position(timeline="0" * 32, txid=1, time=NOW),
    database_sum="0" * 16,
)


def begin(quarantine: Quarantine) -> Entry:
    """Begin an entry."""
    return quarantine.begin(begun=NOW, origin=ORIGIN, lineage_before=Lineage(path="/app.db"))


def test_an_empty_quarantine_leaves_nothing_behind(tmp_path: Path) -> None:
    """Folders that hold nothing but the lock go with it; other databases' stay."""
    quarantine = Quarantine(path=tmp_path / "app.db")
    with quarantine.lock():
        assert quarantine.folder.is_dir()
        assert quarantine.entries() == ()
    assert list(tmp_path.iterdir()) == []
    with quarantine.lock():
        begin(quarantine)
    with Quarantine(path=tmp_path / "other.db").lock():
        pass
    assert os.listdir(tmp_path / ".pagewarden") == ["app.db"]


def test_entries_are_read_as_they_were_written(tmp_path: Path) -> None:
    """In the order of their numbers; each phase is durable when it is recorded."""
    quarantine = Quarantine(path=tmp_path / "app.db")
    with quarantine.lock():
        first, second = begin(quarantine), begin(quarantine)
        assert quarantine.entries() == (first, second)
        assert [entry.number for entry in quarantine.entries()] == [1, 2]
        assert pending_intents(tmp_path / "app.db") == (first, second)
        quarantine.remove(first)
        assert begin(quarantine).number == 3
    assert recover_intents(tmp_path / "app.db")[0] == second
    assert list(tmp_path.iterdir()) == []
    assert recover_intents(tmp_path / "app.db") == ()


def test_only_one_process_works_on_a_path(tmp_path: Path) -> None:
    """Another restore or undo is refused as long as the lock is held, and goes on when its holder is killed."""
    quarantine = Quarantine(path=tmp_path / "app.db")
    script = (
        "import sys; from pathlib import Path; from pagewarden.restore.quarantine import Quarantine\n"
        "with Quarantine(path=Path(sys.argv[1])).lock(): print('x', flush=True); sys.stdin.read()"
    )
    run = [sys.executable, "-c", script, str(quarantine.path)]
    with subprocess.Popen(run, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        other.stdout.read(1)
        with pytest.raises(DatabaseBusy, match="under way"), quarantine.lock():
            pass
        other.kill()
    with quarantine.lock():
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_lock_whose_file_was_removed_is_not_believed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A lock taken on a file that the last holder has just removed is worth nothing: it is taken anew."""
    quarantine = Quarantine(path=tmp_path / "app.db")
    real, removed = durable.make_directories, list[Path]()

    def remade(path: Path) -> None:
        real(path)
        if len(removed) < 2:
            (path / "lock").touch()
            removed.append(path)

    real_flock = fcntl.flock

    def flock(descriptor: int, operation: int) -> None:
        real_flock(descriptor, operation)
        if len(removed) == 1:
            os.unlink(quarantine.folder / "lock")
        elif len(removed) == 2:
            os.replace(tmp_path / "another", quarantine.folder / "lock")
            removed.append(tmp_path)

    (tmp_path / "another").touch()
    monkeypatch.setattr(durable, "make_directories", remade)
    monkeypatch.setattr("pagewarden.restore.quarantine.fcntl.flock", flock)
    with quarantine.lock():
        assert len(removed) == 3
        with pytest.raises(DatabaseBusy), quarantine.lock():
            pass


def test_symbolic_links_are_not_followed_into_other_places(tmp_path: Path) -> None:
    """Whoever may write to the directory must not choose where earlier files go."""
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / ".pagewarden").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(RestoreRefused, match="symbolic link"), Quarantine(path=tmp_path / "app.db").lock():
        pass
    (tmp_path / ".pagewarden").unlink()
    (tmp_path / ".pagewarden").mkdir()
    (tmp_path / ".pagewarden" / "app.db").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(RestoreRefused, match="symbolic link"), Quarantine(path=tmp_path / "app.db").lock():
        pass


def test_a_place_that_is_none_is_named(tmp_path: Path) -> None:
    """No directory, and a file where the quarantine's folder is to be."""
    with pytest.raises(RestoreRefused, match="no directory"), Quarantine(path=tmp_path / "none" / "app.db").lock():
        pass
    (tmp_path / ".pagewarden").write_text("in the way")
    with pytest.raises(TargetFailed, match="cannot keep earlier files"), Quarantine(path=tmp_path / "app.db").lock():
        pass


@pytest.mark.parametrize("change", ["not json", {"format": 2}, {"number": 7}, {"phase": "dreaming"}])
def test_an_entry_that_cannot_be_understood_stops_everything(tmp_path: Path, change: str | dict[str, object]) -> None:
    """What another version wrote is never guessed at."""
    quarantine = Quarantine(path=tmp_path / "app.db")
    with quarantine.lock():
        entry = begin(quarantine)
    file = quarantine.folder_of(entry) / "entry.json"
    text = change if isinstance(change, str) else json.dumps({**json.loads(file.read_text()), **change})
    file.write_text(text)
    with pytest.raises(RestoreRefused, match=r"entry\.json"):
        recover_intents(tmp_path / "app.db")
    with pytest.raises(RestoreRefused):
        pending_intents(tmp_path / "app.db")
    assert file.read_text() == text


GOLDEN = """{
 "format": 1,
 "number": 1,
 "phase": "undone",
 "begun": "2026-11-22T10:15:00Z",
 "origin": {
  "repository": "/backup",
  "database": "app.db",
  "position": {"timeline": "00000000000000000000000000000000", "txid": 1, "time": "2026-11-22T10:15:00Z"},
  "database_sum": "0000000000000000"
 },
 "lineage_before": {"path": "/app.db", "restored": null, "backups": {}},
 "incoming": [64768, 12],
 "incoming_name": "previous",
 "displaced": [64768, 13],
 "displaced_name": "restored",
 "previous": "file",
 "restored": "raw"
}"""


def test_an_entry_of_format_1_is_read_for_ever(tmp_path: Path) -> None:
    """What a first version wrote must still be undone by a later one: docs/formats/quarantine-1.md."""
    quarantine = Quarantine(path=tmp_path / "app.db")
    (quarantine.folder / "000001").mkdir(parents=True)
    (quarantine.folder / "000001" / "entry.json").write_text(GOLDEN)
    (entry,) = quarantine.entries()
    assert (entry.phase, entry.previous, entry.restored) == (Phase.UNDONE, Kept.FILE, Kept.RAW)
    assert (entry.incoming, entry.displaced) == ((64768, 12), (64768, 13))
    assert (entry.origin, entry.begun) == (ORIGIN, NOW)
    quarantine.record(entry)
    expected = json.loads(GOLDEN)
    expected["lineage_before"]["coming"] = {}  # optional fields, which the first version did not write
    expected |= {"verb": "restore", "bridge": None, "previous_file": None}
    assert json.loads((quarantine.folder_of(entry) / "entry.json").read_text()) == expected


def test_what_a_cut_write_left_is_swept_away(tmp_path: Path) -> None:
    """A temporary entry.json, a folder without one, the files beside the path; nothing else."""
    quarantine = Quarantine(path=tmp_path / "app.db")
    with quarantine.lock():
        entry = quarantine.advance(begin(quarantine), Phase.DONE)
        (quarantine.folder_of(entry) / ".entry.json.0123").touch()
        (quarantine.folder / "000002").mkdir()
        (quarantine.folder / "000003").mkdir()
        (quarantine.folder / "000003" / "evidence").touch()
        assert begin(quarantine).number == 4
        for file in (quarantine.new, quarantine.settled, Path(f"{quarantine.settled}-journal")):
            file.touch()
    Quarantine(path=tmp_path / "other.db").new.touch()
    assert [entry.number for entry in recover_intents(tmp_path / "app.db")] == [4]
    assert sorted(os.listdir(quarantine.folder)) == ["000001", "000003", "lock"]
    assert os.listdir(quarantine.folder_of(entry)) == ["entry.json"]
    assert [file for file in tmp_path.iterdir() if file.is_file()] == [Quarantine(path=tmp_path / "other.db").new]


ODD: dict[str, Callable[[Path], None]] = {
    "a FIFO": os.mkfifo,
    "a directory": os.mkdir,
    "a symbolic link": lambda path: os.symlink("../..", path),
}


def test_what_is_no_entry_is_passed_over_and_told(tmp_path: Path) -> None:
    """Files, folders and links of any name hold nothing up, keep what they hold, and no entry takes their numbers."""
    quarantine = Quarantine(path=tmp_path / "app.db")
    (tmp_path / "else" / "work").mkdir(parents=True)
    with quarantine.lock():
        entry = quarantine.advance(begin(quarantine), Phase.DONE)
        (quarantine.folder_of(entry) / "work").symlink_to(tmp_path / "else")
        (quarantine.folder / "000005").mkdir()  # a cut `begin`: nothing to be told
    assert quarantine.strays() == ()
    (quarantine.folder / "000002").write_text("x")
    (quarantine.folder / "000003").symlink_to("nowhere")
    (quarantine.folder / "000004").symlink_to(tmp_path / "else")
    names = ["000002", "000003", "000004", "000999/work", "9" * 21, "notes"]
    for name in names[3:]:
        (quarantine.folder / name).mkdir(parents=True)
    (quarantine.folder / "999999").mkdir()
    (quarantine.folder / "999999" / ".entry.json.1").mkdir()
    assert [entry.number for entry in recover_intents(tmp_path / "app.db")] == []
    assert [entry.number for entry in quarantine.entries()] == [1]
    told = [Path(sentence.partition(" is no entry")[0]).name for sentence in quarantine.strays()]
    assert told == ["000002", "000003", "000004", "000999", "9" * 21, "notes"]
    for name in names:
        assert os.path.lexists(quarantine.folder / name)
    assert (tmp_path / "else" / "work").is_dir()
    with quarantine.lock():
        assert begin(quarantine).number == 5


def test_there_is_no_entry_after_the_last_number(tmp_path: Path) -> None:
    """Its folder would not be found again."""
    quarantine = Quarantine(path=tmp_path / "app.db")
    with quarantine.lock():
        entry = begin(quarantine)
        quarantine.folder_of(entry).rename(quarantine.folder / "999999")
        with pytest.raises(RestoreRefused, match="an entry 999999"):
            begin(quarantine)
    assert Quarantine(path=tmp_path / "other.db").strays() == ()


@pytest.mark.parametrize("kind", ODD)
def test_a_lock_that_is_no_file_is_named(tmp_path: Path, kind: str) -> None:
    """It is refused with what it is and where, and told where what is kept is listed."""
    quarantine = Quarantine(path=tmp_path / "app.db")
    quarantine.folder.mkdir(parents=True)
    ODD[kind](quarantine.folder / "lock")
    with pytest.raises(RestoreRefused, match=f"lock is {kind}, not the file") as refused:
        recover_intents(quarantine.path)
    assert shlex.split(refused.value.hint)[-1] == str(quarantine.folder / "lock")
    assert quarantine.strays() == (refused.value.message,)


@pytest.mark.parametrize("kind", ODD)
def test_an_entry_that_is_no_file_is_named(tmp_path: Path, kind: str) -> None:
    """Nobody waits at a FIFO for ever."""
    quarantine = Quarantine(path=tmp_path / "app.db")
    with quarantine.lock():
        entry = begin(quarantine)
    (quarantine.folder_of(entry) / "entry.json").unlink()
    ODD[kind](quarantine.folder_of(entry) / "entry.json")
    with (
        unwaited(quarantine.folder_of(entry) / "entry.json"),
        pytest.raises(RestoreRefused, match=rf"entry\.json cannot be understood: .*{kind}, not a regular file"),
    ):
        pending_intents(quarantine.path)


def test_names_in_an_entry_are_free(tmp_path: Path) -> None:
    """What was put aside once is never written over."""
    quarantine = Quarantine(path=tmp_path / "app.db")
    with quarantine.lock():
        entry = begin(quarantine)
        folder = quarantine.folder_of(entry)
        assert quarantine.free_name(entry, "restored") == "restored"
        (folder / "restored.raw-wal").touch()
        assert quarantine.free_name(entry, "restored") == "restored-2"
        (folder / "restored-2").touch()
        assert quarantine.free_name(entry, "restored") == "restored-3"
