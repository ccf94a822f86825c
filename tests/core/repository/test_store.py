from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import pytest

from pagewarden.errors import OutOfSpace, PagewardenError, TargetFailed
from pagewarden.repository.store import Store
from tests.core.repository.sets import MemoryTarget


@dataclass
class ManyAtOnce(MemoryTarget):
    """Reads many at once, but for those with an error of their own."""

    broken: dict[str, Exception] = field(default_factory=dict)

    def keys(self, prefix: str) -> Iterator[str]:
        """Yield keys."""
        return (each.key for each in self.list(prefix))

    def read(self, key: str, offset: int, length: int) -> bytes:
        """Return a range, or fail."""
        if key in self.broken:
            raise self.broken[key]
        return super().read(key, offset, length)

    def read_many(self, keys: Sequence[str], length: int) -> Iterator[bytes | None]:
        """Yield one after the other, up to one that fails."""
        for key in keys:
            try:
                data = self.read(key, 0, length)
            except FileNotFoundError:
                yield None
            else:
                yield data


@pytest.mark.parametrize("kind", [MemoryTarget, ManyAtOnce])
def test_documents_are_read_in_order_whatever_is_missing(kind: type[MemoryTarget]) -> None:
    """From a target that reads many at once, and from one that does not."""
    store = Store(kind(objects={"a": b"1", "b": b"", "c/d": b"3"}), "memory:")
    assert list(store.documents(["c/d", "x", "a", "b"])) == [b"3", None, b"1", b""]
    assert list(store.documents([])) == []
    assert (store.keys(""), store.keys("c")) == (["a", "b", "c/d"], ["c/d"])
    assert (store.sizes(""), store.sizes("c")) == ({"a": 1, "b": 0, "c/d": 1}, {"c/d": 1})


def test_one_that_cannot_be_read_hides_no_other() -> None:
    """An error stands in its place, with the key's name, and all others are read."""
    target = ManyAtOnce(objects={key: key.encode() for key in "abcdef"})
    target.broken = {
        "b": OSError(5, "Input/output error"),
        "c": OSError(5, "Input/output error"),
        "f": OutOfSpace("quota"),
    }
    answers = list(Store(target, "memory:").documents(list("abcxdef")))
    assert [each if not isinstance(each, PagewardenError) else type(each) for each in answers] == [
        *(b"a", TargetFailed, TargetFailed, None, b"d", b"e", OutOfSpace)
    ]
    assert "memory: cannot give c: input/output error" in str(answers[2])


def test_one_by_one_hides_no_other_either() -> None:
    """The same of a target that does not read many at once."""

    class OneByOne(MemoryTarget):
        def read(self, key: str, offset: int, length: int) -> bytes:
            """Fail for one."""
            if key == "b":
                raise OSError(5, "Input/output error")
            return super().read(key, offset, length)

    answers = list(Store(OneByOne(objects={"a": b"1", "b": b"2", "c": b"3"}), "memory:").documents(["a", "b", "c"]))
    assert (answers[0], answers[2]) == (b"1", b"3")
    assert isinstance(answers[1], TargetFailed) and "cannot give b" in str(answers[1])


class Remote(MemoryTarget):
    """Is behind a network."""

    def size(self, key: str) -> int:
        """Return bytes."""
        return len(self.get(key))

    def probe(self, key: str, data: bytes) -> None:
        """Have nothing to prove."""


class Clearing(MemoryTarget):
    """Removes many at once."""

    def delete_many(self, keys: Sequence[str]) -> None:
        """Forget them."""
        for key in keys:
            self.objects.pop(key, None)


@pytest.mark.parametrize("kind", [MemoryTarget, Remote, Clearing])
def test_many_objects_are_removed(kind: type[MemoryTarget], monkeypatch: pytest.MonkeyPatch) -> None:
    """One after the other, side by side, or at once; what is not there is no error, and what fails is told."""
    target = kind(objects={str(number): b"x" for number in range(30)})
    store = Store(target, "memory:")
    store.delete_many([])
    store.delete_many([*(str(number) for number in range(29)), "missing"])
    assert list(target.objects) == ["29"]

    def refuse(*_: object) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(target, "delete", refuse)
    if isinstance(target, Clearing):
        monkeypatch.setattr(target, "delete_many", refuse)
    with pytest.raises(TargetFailed, match="cannot remove"):
        store.delete_many(["29", "1"])
