"""The command as such: options anywhere, errors everywhere, exit codes, terminals, pipes, signals, completion."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import pagewarden
from pagewarden_cli.command import VERBS, main
from tests.cli.conftest import Type

EXTRA = "tests.support.unruly"
ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let processes of their own import the plugins of the tests."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))


@pytest.fixture
def unruly(home: Path) -> Path:
    """A configuration with the unruly plugin."""
    path = home / "unruly.toml"
    path.write_text(f'[plugins]\nextra = ["{EXTRA}"]\n')
    return path


def on_terminal(words: list[str], *, columns: int = 80, env: dict[str, str] | None = None) -> tuple[int, str]:
    """Run a command with a terminal as its standard output and error; return its exit code and what was shown."""
    master, slave = pty.openpty()
    environment = {k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "CI")}
    environment |= {"TERM": "xterm-256color", "COLUMNS": str(columns), **(env or {})}
    process = subprocess.Popen(words, stdin=slave, stdout=slave, stderr=slave, env=environment)
    os.close(slave)
    shown = b""
    while True:
        try:
            part = os.read(master, 65536)
        except OSError:  # EIO: the last process has closed the terminal
            break
        if not part:
            break
        shown += part
    os.close(master)
    return process.wait(), shown.decode().replace("\r\n", "\n")


def test_without_a_verb_the_help_is_shown(type_in: Type) -> None:
    """Every verb is in it; the exit code is that of wrong usage."""
    typed = type_in()
    assert (typed.code, typed.err) == (2, "")
    assert all(f"  {verb} " in typed.out for verb in VERBS)


def test_help_is_no_error(type_in: Type) -> None:
    """For the command and for each verb."""
    for verb in ((), *((verb,) for verb in VERBS)):
        typed = type_in(*verb, "--help")
        assert (typed.code, typed.err) == (0, "")
        assert typed.out.startswith("Usage: pagewarden")


def test_versions(type_in: Type) -> None:
    """Of Pagewarden, SQLite and Python."""
    typed = type_in("--version")
    assert typed.code == 0
    assert typed.out.startswith(f"pagewarden {pagewarden.__version__} (SQLite 3.")
    for words in (("--json", "--version"), ("--version", "--json")):
        document = type_in(*words).document
        assert list(document) == ["version", "sqlite", "python"]
        assert document["version"] == pagewarden.__version__
        assert document["sqlite"] in typed.out
        assert document["python"] in typed.out


@pytest.mark.parametrize(
    ("words", "message", "hint"),
    [
        (["chek"], "no such command 'chek'", "pagewarden --help"),
        (["check", "--levle", "deep", "x"], "no such option", "pagewarden check --help"),
        (["check", "--level", "fast", "x"], "'fast' is not one of", "pagewarden check --help"),
        (["check", "--max-time", "0", "x"], "0.0 is not in the range", "pagewarden check --help"),
        (["undo"], "missing argument 'path'", "pagewarden undo --help"),
        (["restore", "--repo", "r"], "missing option '--to'", "pagewarden restore --help"),
        (["check"], "no database was named", "name one"),
        (["check", ""], "the database is empty", "name a file"),
        (["backup", "x", "--repo", ""], "the repository is empty", "name a folder"),
        (["restore", "--repo", "r", "--to", ""], "--to is empty", "name a file"),
        (["undo", ""], "path is empty", "name a file"),
        (["injure", "", "--kind", "zeroed-page"], "db is empty", "name a file"),
        (["check", "x", "y", "--name", "n"], "--name is for one database", "in the configuration"),
        (["backup"], "no database was named", "name one"),
        (["backups"], "no repository was named", "--repo URL"),
        (["check", "x", "--config", "none.toml"], "there is no configuration at none.toml", "config example"),
        (["completion", "tcsh"], "'tcsh' is not one of", "pagewarden completion --help"),
    ],
)
def test_wrong_usage_is_two_lines_on_stderr(type_in: Type, words: list[str], message: str, hint: str) -> None:
    """One sentence, one hint, exit code 2, nothing on stdout; and the same as JSON on stdout alone."""
    typed = type_in(*words)
    assert (typed.code, typed.out) == (2, "")
    first, second = typed.err.splitlines()
    assert first.startswith("pagewarden: ")
    assert message.lower() in first.lower()
    assert second.startswith("hint: ")
    assert hint in second
    typed = type_in(*words, "--json")
    assert (typed.code, typed.err) == (2, "")
    assert message.lower() in typed.document["error"]["message"].lower()
    assert hint in typed.document["error"]["hint"]
    assert typed.document["error"]["exit_code"] == 2


def test_json_after_a_double_dash_is_an_argument(type_in: Type) -> None:
    """A database may have any name."""
    typed = type_in("undo", "--", "--json")
    assert typed.out == ""
    assert "--json" in typed.err


def test_json_without_a_verb_is_json(type_in: Type) -> None:
    """Even that error is one document."""
    typed = type_in("--json")
    assert (typed.code, typed.document["error"]["message"]) == (2, "missing command")


def test_common_options_stand_before_or_after_the_verb(type_in: Type, home: Path) -> None:
    """The later one wins where both are given."""
    assert type_in("--json", "plugins").document == type_in("plugins", "--json").document
    good, bad = home / "good.toml", home / "bad.toml"
    good.touch()
    bad.write_text("=")
    assert type_in("--config", bad, "plugins", "--config", good).code == 0
    assert type_in("--config", good, "plugins", "--config", bad).code == 2


def test_debug_shows_where_an_error_came_from(type_in: Type) -> None:
    """On stderr, before the two lines; not without it."""
    assert "Traceback" not in type_in("backups", "--repo", "nowhere").err
    typed = type_in("backups", "--repo", "nowhere", "--debug")
    assert typed.err.startswith("Traceback")
    assert typed.err.splitlines()[-2].startswith("pagewarden: there is no repository at ")
    assert (
        type_in("backups", "--repo", "nowhere", "--debug", "--json").document["error"]["slug"] == "repository-not-found"
    )


def test_a_bug_of_ours_is_one_line_and_exit_code_70(type_in: Type, monkeypatch: pytest.MonkeyPatch) -> None:
    """No traceback without --debug."""
    from pagewarden.runtime import Runtime

    def fail(self: Runtime) -> None:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(Runtime, "extensions", property(fail))
    typed = type_in("plugins")
    assert (typed.code, typed.out) == (70, "")
    assert typed.err == "pagewarden: an error of our own: ZeroDivisionError: a bug\nhint: --debug shows more\n"
    assert type_in("plugins", "--json").document["error"]["exit_code"] == 70


def test_a_hostile_name_cannot_reach_the_terminal(type_in: Type) -> None:
    """Neither in an error nor in its hint (H29)."""
    typed = type_in("undo", "a\x1b[2Jb")
    assert "\x1b" not in typed.err
    assert "a\\x1b[2Jb" in typed.err


def test_a_name_that_is_no_utf_8_can_be_said(type_in: Type) -> None:
    """In JSON as an escape, for people as one, too."""
    name = os.fsdecode(b"caf\xe9.db")
    assert "caf\\udce9.db" in type_in("undo", name).err
    typed = type_in("undo", name, "--json")
    assert name in typed.document["error"]["message"]


def test_verbose_tells_of_events_on_stderr(type_in: Type, home: Path) -> None:
    """With their time and fields; quiet and JSON stay silent."""
    from pagewarden.runtime import Runtime

    with Runtime() as runtime:
        runtime.repository(str(home / "r"), create=True)
    typed = type_in("verify", "--repo", "r", "--verbose")
    assert typed.code == 3
    assert " verify.finished " in typed.err
    assert "verdict=unknown" in typed.err
    assert type_in("verify", "--repo", "r").err == ""
    assert type_in("verify", "--repo", "r", "--verbose", "--json").document["verdict"] == "unknown"


def test_output_settings_come_from_the_configuration(type_in: Type, home: Path) -> None:
    """And the command line wins over them."""
    (home / "c.toml").write_text("[output]\nquiet = true\n")
    assert type_in("backups", "--repo", "nowhere", "--config", "c.toml").err.startswith("pagewarden: ")
    assert type_in("plugins", "--config", "c.toml").out == ""
    assert "check-pragma" in type_in("plugins", "--config", "c.toml", "--verbose").out


def test_the_default_configuration_is_read(type_in: Type, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From XDG's place, or where the environment says; a mistake in it is named."""
    place = home / ".config" / "pagewarden" / "pagewarden.toml"
    place.parent.mkdir(parents=True)
    place.write_text("[output]\nquite = true\n")
    typed = type_in("plugins")
    assert typed.code == 2
    assert str(place) in typed.err
    assert 'did you mean "quiet"?' in typed.err
    monkeypatch.setenv("PAGEWARDEN_CONFIG", "")
    assert type_in("plugins").code == 0


def test_a_mistake_in_the_configuration_is_json_when_asked(type_in: Type, home: Path) -> None:
    """Although it is found late."""
    (home / "bad.toml").write_text("=")
    assert type_in("plugins", "--json", "--config", "bad.toml").document["error"]["slug"] == "configuration-invalid"


def test_a_pipe_gets_plain_text(pagewarden: list[str]) -> None:
    """No colour, no cursor, nothing on stderr."""
    done = subprocess.run([*pagewarden, "plugins"], capture_output=True, text=True, check=True)
    assert "check-pragma" in done.stdout
    assert "\x1b" not in done.stdout
    assert done.stderr == ""


def test_a_terminal_gets_colour_unless_it_is_unwanted(pagewarden: list[str]) -> None:
    """--no-color and NO_COLOR take the colour, --color brings it back."""
    words = [*pagewarden, "plugins"]
    code, shown = on_terminal(words)
    assert code == 0
    assert "\x1b[32mok" in shown
    for plain in (on_terminal([*words, "--no-color"]), on_terminal(words, env={"NO_COLOR": "1"})):
        assert "\x1b[" not in plain[1]
        assert "check-pragma" in plain[1]
    assert "\x1b[32mok" in on_terminal([*words, "--color"], env={"NO_COLOR": "1"})[1]


@pytest.mark.parametrize("columns", [40, 80, 120])
def test_nothing_is_wider_than_the_terminal(pagewarden: list[str], columns: int) -> None:
    """Whatever its width."""
    _, shown = on_terminal([*pagewarden, "plugins", "--no-color"], columns=columns)
    assert max(len(row) for row in shown.splitlines()) <= columns
    assert shown.count("ok") >= 4


def test_json_on_a_terminal_is_indented(pagewarden: list[str]) -> None:
    """And without colour."""
    _, shown = on_terminal([*pagewarden, "plugins", "--json"])
    assert shown.startswith('{\n  "plugins": [')
    assert json.loads(shown)["faults"] == []


def test_json_on_a_terminal_moves_no_cursor(pagewarden: list[str]) -> None:
    """JSON may hold U+009B as it is; a terminal may not get it (H29)."""
    _, shown = on_terminal([*pagewarden, "undo", "a\x9b2Jb", "--json"])
    assert "\x9b" not in shown
    assert "a\x9b2Jb" in json.loads(shown)["error"]["message"]


def test_a_reader_that_has_gone_is_no_error(pagewarden: list[str]) -> None:
    """As after `| head -1`: no word on stderr, and the exit code of SIGPIPE."""
    read, write = os.pipe()
    os.close(read)
    for words in (["plugins"], ["plugins", "--json"], ["--help"], ["nonsense", "--json"]):
        done = subprocess.run([*pagewarden, *words], stdout=write, stderr=subprocess.PIPE, check=False)
        assert (done.stderr, done.returncode) in ((b"", 141), (b"", 2)), words
    os.close(write)


def test_output_that_cannot_be_written_is_an_error(pagewarden: list[str]) -> None:
    """A full disk under stdout; a crash never exits 0 or 1."""
    with Path("/dev/full").open("w") as full:
        done = subprocess.run([*pagewarden, "plugins"], stdout=full, stderr=subprocess.PIPE, text=True, check=False)
        assert done.returncode == 70
        assert "No space left" in done.stderr
        assert subprocess.run([*pagewarden, "plugins"], stdout=full, stderr=full, check=False).returncode == 70


@pytest.mark.parametrize("redirection", [">&-", "2>&-", ">&- 2>&- <&-"])
def test_closed_streams_are_no_crash(pagewarden: list[str], redirection: str) -> None:
    """A daemon may close them all."""
    words = " ".join(f"'{word}'" for word in pagewarden)
    for verb in ("plugins", "plugins --json", "config example"):
        done = subprocess.run(f"{words} {verb} {redirection}", shell=True, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, ""), verb


def test_a_locale_without_the_character_costs_a_character(pagewarden: list[str], tmp_path: Path) -> None:
    """Not the result."""
    env = os.environ | {"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    done = subprocess.run([*pagewarden, "undo", "Łódź.db"], capture_output=True, env=env, check=False)
    assert done.returncode != 70
    assert b"\\u0141\\xf3d\\u017a.db" in done.stderr


@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)],
    ids=str,
)
def test_a_signal_ends_the_run_cleanly(pagewarden: list[str], unruly: Path, number: int, code: int) -> None:
    """What runs is interrupted and cleans up; one line, no traceback, and the exit code a shell expects."""
    trace = unruly.parent / "hang"
    words = [*pagewarden, "backups", "--repo", f"hang://{trace}", "--config", str(unruly)]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 20
    while not trace.exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(number)
    out, err = process.communicate(timeout=20)
    assert (process.returncode, out, err) == (code, "", "pagewarden: interrupted\n")
    assert trace.with_suffix(".cleaned").exists()


def test_an_ignored_signal_stays_ignored(pagewarden: list[str], unruly: Path) -> None:
    """`nohup pagewarden …` goes on when its terminal goes."""
    trace = unruly.parent / "hang"
    words = [*pagewarden, "backups", "--repo", f"hang://{trace}", "--config", str(unruly)]
    program = (
        f"import os, signal; signal.signal(signal.SIGHUP, signal.SIG_IGN); os.execv({sys.executable!r}, {words!r})"
    )
    process = subprocess.Popen([sys.executable, "-c", program], stderr=subprocess.PIPE)
    while not trace.exists():
        time.sleep(0.02)
    process.send_signal(signal.SIGHUP)
    time.sleep(0.1)
    assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=20)
    assert process.returncode == 143


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts(type_in: Type, shell: str) -> None:
    """They ask the command with the documented variable; as JSON, too."""
    typed = type_in("completion", shell)
    assert typed.code == 0
    assert f"_PAGEWARDEN_COMPLETE={shell}_complete" in typed.out
    assert type_in("completion", shell, "--json").document["script"] + "\n" == typed.out


@pytest.mark.parametrize(
    ("words", "expected"),
    [("pagewarden che", "plain,check"), ("pagewarden check --l", "plain,--level"), ("pagewarden check ap", "file,ap")],
)
def test_a_shell_completes(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, words: str, expected: str
) -> None:
    """Verbs, options, and files where a database is meant."""
    monkeypatch.setenv("_PAGEWARDEN_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", words)
    monkeypatch.setenv("COMP_CWORD", str(len(words.split()) - 1))
    assert main([]) == 0
    assert expected in capsys.readouterr().out.splitlines()


def test_a_shell_completes_folders_for_a_repository(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A repository is one, mostly."""
    monkeypatch.setenv("_PAGEWARDEN_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", "pagewarden backups --repo x")
    monkeypatch.setenv("COMP_CWORD", "3")
    assert main([]) == 0
    assert capsys.readouterr().out == "dir,x\n"
