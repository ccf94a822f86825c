"""`pagewarden run DB… --repo URL`."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from pagewarden.errors import PagewardenError
from pagewarden_cli.options import any_file, any_folder, common, pass_session
from pagewarden_cli.session import Session

if TYPE_CHECKING:
    from types import FrameType

    from pagewarden.config import DatabaseSettings
    from pagewarden.guard.guard import Guard
    from pagewarden.guard.values import GuardRequest, GuardStatus
    from pagewarden.runtime import Runtime
    from pagewarden_cli.blocks import Block
    from pagewarden_cli.guarding import Display

_LOOK_EVERY = 1.0  # seconds between two looks at the guards
_END_SECONDS = 20.0  # for all guards together to store what they have taken


@click.command("run", short_help="Guard databases: follow every commit.")
@click.argument("databases", nargs=-1, metavar="[DB]...", shell_complete=any_file)
@click.option("--repo", shell_complete=any_folder, metavar="URL", help="The repository; made where there is none.")
@click.option("--name", metavar="NAME", help="The database's name in the repository; its file name otherwise.")
@click.option("--compression", type=click.IntRange(1, 22), metavar="LEVEL", help="zstd's level, 1 to 22.")
@common
@pass_session
def command(
    session: Session, databases: tuple[str, ...], repo: str | None, name: str | None, compression: int | None
) -> int:
    """Follow every commit of databases into a repository, until SIGTERM or Ctrl-C.

    Each database is in WAL mode. Its log is kept small, and its file is compared, bit by bit, with what was followed.
    DB is a path or a name of the configuration; without one, every configured database is guarded.

    Exit code 0: ended as it was told to. 1: the same, and a page was found that changed though no commit wrote to it.
    """
    chosen = session.databases(databases, name=name)
    given = session.optional_repository(repo)
    urls = {
        settings.path: given.url if given is not None else settings.repository or session.repository(None).url
        for settings in chosen
    }
    from pagewarden.guard.reports import RunReport
    from pagewarden_cli.guarding import Display, show_run

    began = time.monotonic()
    stopping = threading.Event()
    with (
        _signals(stopping),
        Display(quiet=session.quiet, verbose=session.verbose, color=session.color) as display,
        session.runtimes(len(chosen), display.observe) as runtimes,
    ):
        requests = [_request(settings, urls[settings.path], name, compression) for settings in chosen]
        guards = _begin(session, requests, runtimes)
        _wait(session, guards, stopping, display)
        statuses = _end(session, guards)
    failed = [guard.error for guard in guards if guard.error is not None]
    if len(chosen) == 1 and failed:
        raise failed[0]
    report = RunReport(guards=tuple(statuses), seconds=time.monotonic() - began)

    def rendered() -> tuple[Block, ...]:
        return tuple(show_run(report, session.manner()))

    session.show(report, rendered)
    return report.exit_code or (failed[0].exit_code if failed else 0)


def _request(settings: DatabaseSettings, url: str, name: str | None, compression: int | None) -> GuardRequest:
    from pagewarden.guard.values import GuardRequest
    from pagewarden.wal.presets import chosen

    return GuardRequest(
        database=settings.path,
        repository=url,
        name=settings.name if name is None else name,
        compression=settings.compression if compression is None else compression,
        check=settings.check,
        interval=settings.interval,
        spool=settings.spool << 20,
        scrub=settings.scrub,
        policy=chosen(settings.wal).policy,
    )


def _begin(session: Session, requests: Sequence[GuardRequest], runtimes: Sequence[Runtime]) -> list[Guard]:
    """Start the guards. Among several, one that cannot begin does not keep the others from it; all is an error."""
    from pagewarden.guard.guard import Guard

    guards: list[Guard] = []
    errors: list[PagewardenError] = []
    for request, runtime in zip(requests, runtimes, strict=True):
        runtime.warm(copies=True)
        try:
            guards.append(Guard(request, runtime))
        except PagewardenError as error:
            session.trace(error)
            errors.append(error)
            session.warn(f"{error.message} (hint: {error.hint})")
    if not guards:
        raise errors[0]
    return guards


def _wait(session: Session, guards: Sequence[Guard], stopping: threading.Event, display: Display) -> None:
    """Wait until a signal comes, or every guard has ended because it cannot go on."""
    told: set[int] = set()
    while not stopping.wait(_LOOK_EVERY):
        display.refresh([guard.status() for guard in guards])
        for place, guard in enumerate(guards):
            if not guard.running and place not in told:
                told.add(place)
                if guard.error is not None and len(guards) > 1:
                    session.warn(f"{guard.error.message} (hint: {guard.error.hint})")
        if len(told) == len(guards):
            return


def _end(session: Session, guards: Sequence[Guard]) -> list[GuardStatus]:
    """Let the guards end, all at once and within bounds; return how they stand then."""
    for guard in guards:
        guard.stop()
    until = time.monotonic() + _END_SECONDS
    for guard in guards:
        if guard.join(max(0.0, until - time.monotonic())):
            guard.close()
        else:
            session.warn(f"the guard of {guard.path} did not end in time; what it has taken waits in its spool")
    return [guard.status() for guard in guards]


@contextmanager
def _signals(stopping: threading.Event) -> Iterator[None]:
    """Let the first SIGTERM, SIGINT or SIGHUP ask the guards to end, and a second one end them at once."""

    def stop(number: int, frame: FrameType | None) -> None:
        if stopping.is_set():
            earlier = before[number]
            if callable(earlier):
                earlier(number, frame)
        stopping.set()

    numbers: tuple[int, ...] = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
    before = {number: signal.signal(number, stop) for number in numbers}
    try:
        yield
    finally:
        for number, earlier in before.items():
            signal.signal(number, earlier)
