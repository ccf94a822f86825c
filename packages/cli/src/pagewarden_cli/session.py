"""One invocation of the command: its common options, its configuration, its runtime, and where results go."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Generic, TypeVar

import msgspec

from pagewarden.errors import ConfigurationInvalid, PagewardenError, to_wire
from pagewarden_cli.exits import Failure
from pagewarden_cli.human import safe, safe_command

if TYPE_CHECKING:
    from pagewarden.config import Configuration, DatabaseSettings, RepositorySettings
    from pagewarden.events import Event
    from pagewarden.logs import EventLog
    from pagewarden.processes.reader import PageReader
    from pagewarden.runtime import Runtime
    from pagewarden_cli.blocks import Block
    from pagewarden_cli.render import Manner

R = TypeVar("R")


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome(Generic[R]):
    """What became of one database among several: a report, or the error that kept it from being made."""

    database: str
    report: R | None = None
    error: PagewardenError | None = None


class Session:
    """What every verb needs; made once per invocation and filled by the common options, wherever they stand."""

    def __init__(self, reader: PageReader | None = None) -> None:
        """`reader` was started ahead, with the default number of threads."""
        self._reader = reader
        self.json = False
        self.debug = False
        self.config: str | None = None
        self.given_quiet: bool | None = None
        self.given_verbose: bool | None = None
        self.given_color: bool | None = None
        self.given_log: str | None = None
        self._log: EventLog | None = None

    @cached_property
    def configuration(self) -> Configuration:
        """The configuration, read at its first use."""
        from pagewarden.config import Configuration

        path = self.config_path
        if path is None:
            return Configuration(databases={}, repositories={})
        from pagewarden.config_file import load_config

        return load_config(path)

    @property
    def config_path(self) -> Path | None:
        """The file that --config, the environment or the default place names; None where there is none."""
        if self.config is not None:
            return Path(self.config)
        from pagewarden.config import default_config_path

        return default_config_path()

    @property
    def quiet(self) -> bool:
        """Whether only what is wrong is shown."""
        return self._output(self.given_quiet, "quiet") and not self.given_verbose

    @property
    def verbose(self) -> bool:
        """Whether nothing is cut and events are shown."""
        return self._output(self.given_verbose, "verbose") and not self.given_quiet

    @property
    def color(self) -> bool:
        """Whether a terminal may be painted; NO_COLOR (https://no-color.org) has a say where no option does."""
        if self.given_color is None and os.environ.get("NO_COLOR"):
            return False
        return self._output(self.given_color, "color")

    def _output(self, given: bool | None, key: str) -> bool:
        return bool(getattr(self.configuration.output, key)) if given is None else given

    def databases(self, arguments: Sequence[str], *, name: str | None) -> tuple[DatabaseSettings, ...]:
        """Return the settings of the databases that were named, or of all configured ones where none was.

        `name` is what --name calls one of them; it cannot call several so.
        """
        chosen = tuple(arguments) or tuple(self.configuration.databases)
        if not chosen:
            raise ConfigurationInvalid("no database was named", hint="name one, such as app.db, or configure some")
        if name is not None and len(chosen) > 1:
            raise ConfigurationInvalid("--name is for one database", hint="give each a name in the configuration")
        return tuple(self.configuration.database(argument) for argument in chosen)

    def repository(self, given: str | None) -> RepositorySettings:
        """Return the repository of --repo or of the configuration. Raises ConfigurationInvalid without either."""
        settings = self.optional_repository(given) or self.configuration.default_repository()
        if settings is None:
            raise ConfigurationInvalid(
                "no repository was named", hint="add --repo URL, such as --repo /backup/pagewarden"
            )
        return settings

    def optional_repository(self, given: str | None) -> RepositorySettings | None:
        """Return the repository of --repo, if it was given."""
        return None if given is None else self.configuration.repository(given)

    @contextmanager
    def runtime(self) -> Iterator[Runtime]:
        """Build the runtime of this process, with progress bars and log; leaving it ends the page reader.

        Raises ConfigurationInvalid for a log that cannot be written to.
        """
        from pagewarden.runtime import DEFAULT_THREADS, Runtime
        from pagewarden_cli.progress import Bars

        threads = self.configuration.defaults.threads

        shown = not self.quiet and sys.stderr is not None and sys.stderr.isatty()

        def observe(event: Event) -> None:
            if event.name == "checker.finished":  # it may have ended in the midst of a step
                bars.finish(str(event.fields.get("checker")))
            self.observe(event)

        with (
            self._logging(),
            Bars(shown=shown, color=self.color) as bars,
            Runtime(
                plugins=self.configuration.plugins,
                threads=threads,
                reader=self._reader if threads == DEFAULT_THREADS else None,
                on_progress=bars.update,
                on_event=observe,
            ) as runtime,
        ):
            yield runtime

    @contextmanager
    def runtimes(self, count: int, observe: Callable[[Event], None]) -> Iterator[tuple[Runtime, ...]]:
        """Build runtimes without progress bars, each with a page reader of its own; leaving it ends those.

        Every event is logged, and given to `observe`, from any thread. Raises ConfigurationInvalid for a log that
        cannot be written to.
        """
        from contextlib import ExitStack

        from pagewarden.runtime import Runtime

        def both(event: Event) -> None:
            self.observe(event)
            observe(event)

        with self._logging(), ExitStack() as stack:
            yield tuple(
                stack.enter_context(
                    Runtime(
                        plugins=self.configuration.plugins,
                        threads=self.configuration.defaults.threads,
                        on_event=both,
                    )
                )
                for _ in range(count)
            )

    @contextmanager
    def _logging(self) -> Iterator[None]:
        """Open the log, if there is to be one, for as long as this context lasts."""
        path = self.configuration.log() if self.given_log is None else self.given_log
        if path is None:
            yield
            return
        from pagewarden.logs import EventLog

        with EventLog(path, self.warn) as self._log:
            yield
        self._log = None

    @property
    def observes(self) -> bool:
        """Whether events are wanted: for the log, or to be shown."""
        return self.verbose or self._log is not None

    def observe(self, event: Event) -> None:
        """Write an event to the log, and show it, as far as either is wanted. From any thread."""
        if self._log is not None:
            self._log.write(event)
        if self.verbose:
            show_event(event)

    def note(self, text: str) -> None:
        """Say something beside the result, on stderr."""
        if sys.stderr is not None and not self.quiet:
            sys.stderr.write(f"note: {safe(text)}\n")

    def warn(self, text: str) -> None:
        """Say on stderr what a person should know beside the result, also where only what is wrong is said."""
        if sys.stderr is not None:
            sys.stderr.write(f"warning: {safe(text)}\n")

    def show(self, report: object, rendered: Callable[[], tuple[Block, ...]] | None = None) -> None:
        """Print a report: as the one JSON document, or for people (as `rendered` says, where it is none of ours)."""
        if self.json:
            self.print_json(report)
            return
        self._paint(self._render(report) if rendered is None else rendered())

    def each(
        self, databases: Sequence[DatabaseSettings], run: Callable[[DatabaseSettings], R], *, several: bool = False
    ) -> list[Outcome[R]]:
        """Run for every database. Among several, an error of one does not keep the others from their turn.

        `several` says that there are others, or might have been.
        """
        if len(databases) == 1 and not several:
            return [Outcome(database=databases[0].path, report=run(databases[0]))]
        outcomes: list[Outcome[R]] = []
        for settings in databases:
            try:
                outcomes.append(Outcome(database=settings.path, report=run(settings)))
            except PagewardenError as error:
                self.trace(error)
                outcomes.append(Outcome(database=settings.path, error=error))
        return outcomes

    def show_each(self, outcomes: Sequence[Outcome[R]], code_of: Callable[[R], int], **more: object) -> int:
        """Print one report, or several as one document {"databases": […], **more}; return the exit code.

        Of several: 1 if any found something, else the first error's code, else 3 if any is unknown.
        """
        if len(outcomes) == 1 and outcomes[0].report is not None:
            self.show(outcomes[0].report)
            return code_of(outcomes[0].report)
        return self.show_several(outcomes, code_of, lambda manner: self._one_by_one(outcomes, manner), **more)

    def show_several(
        self,
        outcomes: Sequence[Outcome[R]],
        code_of: Callable[[R], int],
        rendered: Callable[[Manner], tuple[Block, ...]],
        **more: object,
    ) -> int:
        """Print several outcomes as `show_each` does; for people as `rendered` says, errors after that, on stderr."""
        if self.json:
            documents = [
                {"database": outcome.database, "error": to_wire(outcome.error)} if outcome.error else outcome.report
                for outcome in outcomes
            ]
            self.print_json({"databases": documents, **more})
        else:
            self._paint(rendered(self.manner()))
            for outcome in outcomes:
                if outcome.error is not None:
                    _say_error(outcome.error.message, outcome.error.hint)
        codes = [outcome.error.exit_code for outcome in outcomes if outcome.error is not None]
        codes += [code_of(outcome.report) for outcome in outcomes if outcome.report is not None]
        errors = [code for code in codes if code not in (0, 1, 3)]
        return 1 if 1 in codes else (errors or [3 if 3 in codes else 0])[0]

    def _one_by_one(self, outcomes: Sequence[Outcome[R]], manner: Manner) -> tuple[Block, ...]:
        from pagewarden_cli.render import render

        reports = [outcome.report for outcome in outcomes if outcome.report is not None]
        return tuple(block for report in reports for block in render(report, manner))

    def print_json(self, document: object) -> None:
        """Print the one document of this invocation: indented on a terminal, in one line elsewhere."""
        if sys.stdout is None:
            return
        terminal = sys.stdout.isatty()
        try:
            text = msgspec.json.encode(document).decode()
        except UnicodeEncodeError:
            # A path whose bytes are no UTF-8 holds lone surrogates; JSON can say them only as escapes.
            text = _ascii_json(document)
        if terminal:
            # JSON need not escape U+009B, which is the beginning of an escape sequence to some terminals (H29).
            text = text if safe(text) == text else _ascii_json(document)
            text = msgspec.json.format(text, indent=2)
        sys.stdout.write(text + "\n")

    def fail(self, failure: Failure, error: BaseException) -> int:
        """Print what ended the invocation, and return its exit code."""
        self.trace(error)
        if self.json:
            self.print_json({"error": msgspec.to_builtins(failure)})
        else:
            _say_error(failure.message, failure.hint)
        return failure.exit_code

    def trace(self, error: BaseException) -> None:
        """With --debug, show where an error came from."""
        if self.debug:
            import traceback

            traceback.print_exception(error)

    def _render(self, report: object) -> tuple[Block, ...]:
        from pagewarden_cli.render import render

        return render(report, self.manner())

    def manner(self) -> Manner:
        """Return how much is said."""
        from datetime import UTC, datetime

        from pagewarden_cli.render import Manner

        return Manner(quiet=self.quiet, verbose=self.verbose, now=datetime.now(UTC))

    def _paint(self, blocks: tuple[Block, ...]) -> None:
        if sys.stdout is None or not blocks:
            return
        if sys.stdout.isatty():
            from rich.console import Console

            from pagewarden_cli.blocks import paint_rich

            paint_rich(blocks, Console(color_system="auto" if self.color else None, no_color=not self.color))
        else:
            from pagewarden_cli.blocks import paint_plain

            paint_plain(blocks, sys.stdout)


def show_event(event: Event) -> None:
    """Tell of an event on stderr."""
    if sys.stderr is None:
        return
    took = "" if event.seconds is None else f" {event.seconds:.3f} s"
    fields = "".join(f" {name}={value}" for name, value in event.fields.items())
    place = f" {event.database}" if event.database else ""
    sys.stderr.write(safe(f"{event.time:%H:%M:%S} {event.name}{took}{place}{fields}") + "\n")


def _ascii_json(document: object) -> str:
    import json

    return json.dumps(msgspec.to_builtins(document))


def _say_error(message: str, hint: str) -> None:
    if sys.stderr is None:
        return
    sys.stderr.write(f"pagewarden: {safe(message)}\n")
    if hint:
        sys.stderr.write(f"hint: {safe_command(hint)}\n")
