"""What a repairer's process may ask the run for, and the answers: the case, piece by piece.

Each question is held against its shape, each answer is bounded: the process may have been taken over by hostile bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import msgspec

from pagewarden.check.answers import SUMS_AT_ONCE, Shape, shaped
from pagewarden.check.outcome import ContractBroken
from pagewarden.contracts import PageImage, PastImage, RepairCase, RepairHistory
from pagewarden.errors import PagewardenError, to_wire
from pagewarden.processes.channel import Value

FINDINGS_AT_ONCE = 500
FLAWS_AT_ONCE = 50_000
FILE_AT_ONCE = 16 << 20
"""Bytes of the file in one answer."""


class _Part(Shape, frozen=True):
    first: int
    count: int


class _Range(Shape, frozen=True):
    image: str
    first: int
    count: int


class _Page(Shape, frozen=True):
    image: str
    pgno: int


class _Bytes(Shape, frozen=True):
    offset: int
    length: int


class _Fetch(Shape, frozen=True):
    image: str
    name: str


class CaseAnswers:
    """Answers questions about one case; files that are fetched are put into the folder `scratch`."""

    def __init__(self, case: RepairCase, scratch: Path) -> None:
        self._case = case
        self._scratch = scratch

    def reply(self, what: str, arguments: object) -> dict[str, Value]:
        """Return the message that answers a question, errors included. Raises ContractBroken for one that is none."""
        work = getattr(self, f"_ask_{what}", None)
        if work is None:
            raise ContractBroken(f"its process asked for {what!r}, which there is not")
        try:
            return {"value": work(arguments)}
        except PagewardenError as error:
            fields = {key: value for key, value in error.fields.items() if isinstance(value, int | str)}
            return {"error": cast("dict[str, Value]", to_wire(error)), "fields": fields}
        except ValueError as error:
            return {"refused": str(error)}

    def _ask_case(self, _: object) -> Value:
        case = self._case
        return {
            "path": case.path,
            "refused": case.refused,
            "facts": _plain(case.facts),
            "policy": _plain(case.policy),
            "findings": len(case.findings),
        }

    def _ask_findings(self, arguments: object) -> Value:
        return _plain(_cut(self._case.findings, arguments, FINDINGS_AT_ONCE))

    def _ask_patterns(self, _: object) -> Value:
        return _plain(tuple(self._case.patterns))

    def _ask_log(self, _: object) -> Value:
        return _plain(self._case.log)

    def _ask_trees(self, _: object) -> Value:
        return _plain(tuple(self._case.trees))

    def _ask_flaws(self, arguments: object) -> Value:
        return _plain(_cut(self._case.flaws(), arguments, FLAWS_AT_ONCE))

    def _ask_inferred(self, _: object) -> Value:
        return cast("Value", self._case.inferred().to_wire())

    def _ask_file(self, arguments: object) -> Value:
        asked = shaped(_Bytes, arguments)
        if asked.offset < 0 or not 0 <= asked.length <= FILE_AT_ONCE:
            raise ValueError(f"{asked.length} bytes at {asked.offset} are none for one question")
        return self._case.file(asked.offset, asked.length)

    def _ask_image(self, _: object) -> Value:
        return _size(self._case.image)

    def _ask_sums(self, arguments: object) -> Value:
        asked = shaped(_Range, arguments)
        if asked.count > SUMS_AT_ONCE:
            raise ValueError(f"{asked.count} pages are too many for one question")
        return self._image(asked.image).sums(asked.first, asked.count)

    def _ask_page(self, arguments: object) -> Value:
        asked = shaped(_Page, arguments)
        return self._image(asked.image).page(asked.pgno)

    def _ask_history(self, _: object) -> Value:
        history = self._case.history
        if history is None:
            return None
        present = history.present
        return {
            "why": history.why,
            "certain": history.certain,
            "newest": _past(history.newest),
            "present": None if present is None else _past(present),
        }

    def _ask_older(self, _: object) -> Value:
        return [_past(image) for image in self._history().older]

    def _ask_fetch(self, arguments: object) -> Value:
        asked = shaped(_Fetch, arguments)
        to = self._scratch / asked.name
        if to.parent != self._scratch or asked.name in ("", "..") or "\0" in asked.name:
            raise ValueError(f"{asked.name!r} is no name for a file")
        self._history().fetch(cast("PastImage", self._image(asked.image)), to)
        return None

    def _history(self) -> RepairHistory:
        history = self._case.history
        if history is None:
            raise ValueError("there is no history")
        return history

    def _image(self, name: str) -> PageImage:
        """Return the image that the process calls `name`. Raises ValueError where there is none."""
        if name == "live":
            return self._case.image
        history = self._history()
        if name == "newest":
            return history.newest
        if name == "present" and (present := history.present) is not None:
            return present
        number = name.removeprefix("older ")
        if not number.isdecimal() or len(number) > 9 or int(number) >= len(history.older):
            raise ValueError(f"there is no image {name!r}")
        return history.older[int(number)]


def _size(image: PageImage) -> dict[str, Value]:
    return {"page_size": image.page_size, "pages": image.pages}


def _past(image: PastImage) -> dict[str, Value]:
    return {**_size(image), "position": _plain(image.position)}


def _cut(items: Sequence[object], arguments: object, most: int) -> Sequence[object]:
    asked = shaped(_Part, arguments)
    if asked.first < 0 or not 0 <= asked.count <= most:
        raise ValueError(f"{asked.count} from {asked.first} on are none for one question")
    return tuple(items[asked.first : asked.first + asked.count])


def _plain(value: object) -> Value:
    return cast("Value", cast("Any", msgspec.to_builtins(value, builtin_types=(bytes,))))
