"""What a checker's process may ask the run for, and the answers; each question is held against its shape."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeVar, cast

import msgspec

from pagewarden.check.outcome import ContractBroken
from pagewarden.contracts import LiveImage, PageImage
from pagewarden.errors import PagewardenError, ReaderCrashed, to_wire
from pagewarden.processes.channel import Value
from pagewarden.structure import StructureStep, Tree

if TYPE_CHECKING:
    from pagewarden.check.subject import CheckSubject
    from pagewarden.contracts import Baseline

SUMS_AT_ONCE = 1 << 19
"""How many pages' sums one question may ask for."""

_WALKS = 4  # that one checker may have open

T = TypeVar("T")


class Shape(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a message, or a part of one, must look like."""


class _Range(Shape, frozen=True):
    image: str
    first: int
    count: int


class _Page(Shape, frozen=True):
    pgno: int
    image: str = "live"


class _Walk(Shape, frozen=True):
    trees: tuple[Tree, ...]
    resume: str


class _Walking(Shape, frozen=True):
    walk: int


class _Door(Shape, frozen=True):
    copy: bool


class Answers:
    """Answers questions of one process; remembers the walks that it has begun."""

    def __init__(self) -> None:
        self._walks: dict[int, Iterator[StructureStep]] = {}

    def reply(self, what: str, arguments: object, subject: CheckSubject) -> dict[str, Value]:
        """Return the message that answers a question, errors included.

        Raises ContractBroken for one that is none, ReaderCrashed, and the signals of `subject`.
        """
        try:
            work = getattr(self, f"_ask_{what}", None)
            if work is None:
                raise ContractBroken(f"its process asked for {what!r}, which there is not")
            return {"value": work(subject, arguments)}
        except ReaderCrashed:
            raise  # the run decides whether to begin again
        except PagewardenError as error:
            fields = {key: value for key, value in error.fields.items() if isinstance(value, int | str)}
            return {"error": cast("dict[str, Value]", to_wire(error)), "fields": fields}
        except ValueError as error:
            return {"refused": str(error)}

    def _ask_image(self, subject: CheckSubject, _: object) -> Value:
        image, facts = subject.image, subject.facts
        return {"page_size": image.page_size, "pages": image.pages, "facts": msgspec.to_builtins(facts)}

    def _ask_sums(self, subject: CheckSubject, arguments: object) -> Value:
        asked = _bounded(arguments)
        return _image(subject, asked.image).sums(asked.first, asked.count)

    def _ask_reserved_sums(self, subject: CheckSubject, arguments: object) -> Value:
        asked = _bounded(arguments)
        return subject.image.reserved_sums(asked.first, asked.count)

    def _ask_page(self, subject: CheckSubject, arguments: object) -> Value:
        asked = shaped(_Page, arguments)
        return _image(subject, asked.image).page(asked.pgno)

    def _ask_reread(self, subject: CheckSubject, arguments: object) -> Value:
        return subject.image.reread(shaped(_Page, arguments).pgno)

    def _ask_wal(self, subject: CheckSubject, _: object) -> Value:
        return _plain(subject.image.wal())

    def _ask_begin_walk(self, subject: CheckSubject, arguments: object) -> Value:
        asked = shaped(_Walk, arguments)
        if len(self._walks) >= _WALKS:
            raise ValueError(f"{_WALKS} walks are under way")
        walk = max(self._walks, default=0) + 1
        self._walks[walk] = subject.image.structure(asked.trees, resume=asked.resume)
        return walk

    def _ask_walk_on(self, _: CheckSubject, arguments: object) -> Value:
        walk = self._walks.get(shaped(_Walking, arguments).walk)
        return _plain(next(walk, None) if walk is not None else None)

    def _ask_end_walk(self, _: CheckSubject, arguments: object) -> Value:
        walk = self._walks.pop(shaped(_Walking, arguments).walk, None)
        if walk is not None:
            cast("Any", walk).close()
        return None

    def _ask_baseline(self, subject: CheckSubject, _: object) -> Value:
        if subject.baseline is None:
            return None
        _ = subject.image  # whether the baseline is current depends on the commit, which must be attached
        baseline = _there(subject.baseline)
        return {
            "page_size": baseline.page_size,
            "pages": baseline.pages,
            "current": baseline.current,
            "position": _plain(baseline.position),
        }

    def _ask_older(self, subject: CheckSubject, _: object) -> Value:
        older = _there(subject.baseline).older
        return [{"page_size": image.page_size, "pages": image.pages} for image in older]

    def _ask_resume(self, subject: CheckSubject, _: object) -> Value:
        return subject.resume

    def _ask_door(self, subject: CheckSubject, arguments: object) -> Value:
        door = subject.door(copy=shaped(_Door, arguments).copy)
        return {"path": door.path, "writable": door.writable}


def shaped(kind: type[T], value: object) -> T:
    """Return a message, or a part of one, as what it must be. Raises ContractBroken."""
    try:
        return msgspec.convert(value, kind)
    except (msgspec.ValidationError, UnicodeEncodeError) as error:
        raise ContractBroken(f"its process sent nonsense: {error}") from error


def _bounded(arguments: object) -> _Range:
    """Return a range of pages whose sums fit into one answer. Raises ValueError."""
    asked = shaped(_Range, arguments)
    if asked.count > SUMS_AT_ONCE:
        raise ValueError(f"{asked.count} pages are too many for one question")
    return asked


def _plain(value: object) -> Value:
    return cast("Value", msgspec.to_builtins(value, builtin_types=(bytes,)))


def _there(baseline: Baseline | None) -> Baseline:
    if baseline is None:
        raise ValueError("there is no baseline")
    return baseline


def _image(subject: CheckSubject, name: str) -> LiveImage | PageImage:
    """Return the image that the process calls `name`. Raises ValueError where there is none."""
    if name == "live":
        return subject.image
    baseline = _there(subject.baseline)
    if name == "baseline":
        return baseline
    number = name.removeprefix("older ")
    older: Sequence[PageImage] = baseline.older
    if not number.isdecimal() or len(number) > 9 or int(number) >= len(older):
        raise ValueError(f"there is no image {name!r}")
    return older[int(number)]
