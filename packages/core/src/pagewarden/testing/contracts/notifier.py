"""The contract of notifiers."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

import pytest

from pagewarden.contracts import Notice, Notifier
from pagewarden.testing.contracts.samples import NAME, in_time
from pagewarden.values import Severity


class NotifierContract:
    """What a run relies on in a notifier."""

    @pytest.fixture
    def notifier(self) -> Notifier:
        """Return the notifier under test, set up so that delivery works."""
        raise NotImplementedError("a subclass returns its notifier here")

    def delivered(self) -> Sequence[str] | None:
        """Return the titles that arrived, oldest first, where the test can see them; None where it cannot."""
        return None

    def test_it_has_a_name(self, notifier: Notifier) -> None:
        """It meets the protocol; its name is lower-case words with hyphens."""
        assert isinstance(notifier, Notifier)
        assert NAME.fullmatch(notifier.name)

    @pytest.mark.parametrize("severity", list(Severity))
    def test_it_delivers(self, notifier: Notifier, severity: Severity) -> None:
        """A notice of each severity is delivered."""
        in_time(notifier.name, lambda: notifier.notify(_notice(f"app.db: {severity}", severity=severity)))
        assert self.delivered() in (None, [f"app.db: {severity}"])

    @pytest.mark.parametrize("text", ["Łukasz 伟 🐘", "two\nlines", "a" * 10_000, '"quotes" and {braces} and %s', ""])
    def test_it_delivers_any_text(self, notifier: Notifier, text: str) -> None:
        """Line breaks, quotes, any script, much of it, none of it: a body is text."""
        in_time(notifier.name, lambda: notifier.notify(_notice("app.db is damaged", body=text)))
        assert self.delivered() in (None, ["app.db is damaged"])

    def test_it_delivers_from_any_thread(self, notifier: Notifier) -> None:
        """A run calls it from a thread of its own."""
        in_time(notifier.name, lambda: notifier.notify(_notice("from a thread")))
        assert self.delivered() in (None, ["from a thread"])

    def test_it_delivers_each_notice(self, notifier: Notifier) -> None:
        """Notices arrive in their order, equal ones included."""
        titles = ["first", "second", "second"]
        for title in titles:
            notifier.notify(_notice(title))
        assert self.delivered() in (None, titles)


def _notice(title: str, *, body: str = "page 7 is all zeros", severity: Severity = Severity.DAMAGE) -> Notice:
    time = datetime(2026, 11, 22, 10, 15, tzinfo=UTC)
    return Notice(title=title, body=body, severity=severity, database="/srv/app.db", time=time)
