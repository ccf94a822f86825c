"""The runtime: lazy, shared by threads, and replaceable in every part."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pytest

from pagewarden.errors import PluginUnusable, RepositoryNotFound
from pagewarden.events import Event
from pagewarden.runtime import PluginChoice, Runtime, state_directory


def test_nothing_is_made_before_it_is_needed() -> None:
    """A runtime that is only opened and closed starts no reader and loads no plugin, even one that is missing."""
    with Runtime(plugins=PluginChoice(only=("no-such-plugin",))) as runtime:
        assert runtime.threads == 2
    with pytest.raises(PluginUnusable, match="no-such-plugin"):
        _ = runtime.extensions


def test_threads_share_one_reader_and_one_set_of_plugins() -> None:
    """Both are made once, whoever comes first."""
    with Runtime() as runtime, ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(lambda _: id(runtime.reader), range(32)))) == 1
        assert len(set(pool.map(lambda _: id(runtime.extensions), range(32)))) == 1


def test_leaving_ends_the_reader_and_a_later_use_starts_another() -> None:
    """`warm` starts it without waiting; after `close` the process is gone."""
    runtime = Runtime()
    runtime.warm()
    first = runtime.reader
    assert first.pid is not None
    assert first.ping() in ("native", "twin")
    runtime.close()
    assert not first.pid
    with runtime:
        assert runtime.reader is not first
        assert runtime.reader.ping() in ("native", "twin")


def test_events_go_to_the_listener_with_the_clocks_time() -> None:
    """The clock is a parameter, and fields are kept."""
    seen: list[Event] = []
    now = datetime(2026, 11, 22, tzinfo=UTC)
    with Runtime(on_event=seen.append, clock=lambda: now) as runtime:
        runtime.emit("check.finished", "/app.db", 0.5, verdict="sound")
    assert seen == [
        Event(name="check.finished", time=now, database="/app.db", seconds=0.5, fields={"verdict": "sound"})
    ]


def test_the_default_clock_is_utc() -> None:
    """Times of a run have an offset."""
    with Runtime() as runtime:
        assert runtime.clock().tzinfo is UTC
        runtime.progress("nobody listens", 0, 0)
        assert runtime.monotonic() <= runtime.monotonic()


def test_a_repository_is_opened_through_the_plugin_for_its_scheme(tmp_path: Path) -> None:
    """It is made only where that was asked for."""
    url = str(tmp_path / "backup")
    with Runtime() as runtime:
        with pytest.raises(RepositoryNotFound):
            runtime.repository(url)
        assert runtime.repository(url, create=True).names() == ()
        assert runtime.repository(url).names() == ()
        with pytest.raises(PluginUnusable, match="nosuch"):
            runtime.repository("nosuch://x")


def test_the_state_directory_is_xdgs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """XDG_STATE_HOME if it is absolute, else the place below the home folder; a runtime may be given another."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    assert state_directory() == tmp_path / "state" / "pagewarden"
    monkeypatch.setenv("XDG_STATE_HOME", "state")
    assert state_directory() == tmp_path / ".local" / "state" / "pagewarden"
    assert Runtime().state == state_directory()
    assert Runtime(state=tmp_path).state == tmp_path
