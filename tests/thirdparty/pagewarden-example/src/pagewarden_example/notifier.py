"""A notifier that appends lines of JSON to a file."""

from __future__ import annotations

import json
import os

from pagewarden.contracts import Notice


class LineNotifier:
    """Writes into the file that PAGEWARDEN_EXAMPLE_NOTICES names; says nothing without one."""

    name = "notify-lines"

    def notify(self, notice: Notice) -> None:
        """Append one line."""
        path = os.environ.get("PAGEWARDEN_EXAMPLE_NOTICES")
        if path:
            line = {
                "title": notice.title,
                "body": notice.body,
                "severity": notice.severity,
                "database": notice.database,
            }
            with open(path, "a") as file:
                file.write(json.dumps(line) + "\n")
