"""What a repository knows of a database under repair, and whether that is its present state: the proofs (H26).

A page may be put back only where its version is proved to be the current one. `present` is proved by

1. the log beside the file: it goes on from the restore point without a gap, and what was committed since is laid over;
2. no content in a log, and the file as it was when it was backed up, or known to stand there: the same inode, size and
   time of the last write; every write through SQLite moves that, and rot does not;
3. the file being, to its last byte, what a transfer as text makes of the restore point;
4. the owner, who declares it.

Nothing here opens a file of the database in this process, or asks SQLite: the page reader reads the bare files.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING

from pagewarden import durable, lineage, standing
from pagewarden.check.baseline import OLDER, StoredImage, stored_image
from pagewarden.errors import PagewardenError, RepositoryDamaged, TargetFailed
from pagewarden.forward import RolledImage, roll_forward
from pagewarden.repair.identity import is_certain
from pagewarden.repair.tainted import Taint
from pagewarden.sqlite.wal import WAL_HEADER_SIZE
from pagewarden.times import format_moment
from pagewarden.values import Finding, Verdict

if TYPE_CHECKING:
    from pagewarden.contracts import PastImage
    from pagewarden.processes.reader import PageReader
    from pagewarden.repair.request import RepairRequest
    from pagewarden.repository import Manifest, Repository
    from pagewarden.repository.view import View
    from pagewarden.runtime import Runtime

ASSUME = "--assume-current declares that nothing was"

_COMPARED = 4 << 20  # bytes of pages that are compared at once


class History:
    """A `RepairHistory`; made by `open_history`."""

    def __init__(
        self,
        *,
        runtime: Runtime,
        repository: Repository,
        path: str,
        view: View,
        at: int,
        image: StoredImage,
        passed: Sequence[str],
        broken: Mapping[int, str],
        reopen: Callable[[Mapping[int, str]], History],
    ) -> None:
        """`image` is what point number `at` of the `view` makes; `passed` says why newer ones were passed over.

        `broken` are those that were found not to be whole, by their sequence, with why; `reopen` does without such.
        """
        self.newest = image
        self.present: PastImage | None = None
        self.why = ""
        self.certain = True
        self.passed = tuple(passed)
        self.broken = dict(broken)
        self._reopen = reopen
        self._runtime = runtime
        self._repository = repository
        self._path = path
        self._view = view
        self._at = at

    @property
    def manifest(self) -> Manifest:
        """That of `newest`."""
        return self._view.points[self._at]

    @property
    def manifests(self) -> Sequence[Manifest]:
        """Those of all restore points, oldest first: what was found at each, and when."""
        return self._view.points

    @cached_property
    def mangled(self) -> bool:
        """Whether the file is what a transfer as text makes of the newest restore point."""
        return is_mangled(self._runtime.reader, self._path, self.newest)

    @cached_property
    def older(self) -> Sequence[StoredImage]:
        """Older restore points, newest first; broken ones are left out."""
        found: list[StoredImage] = []
        for manifest in reversed(self._view.points[: self._at]):
            image = self.image(manifest)
            if image is not None:
                found.append(image)
            if len(found) == OLDER:
                break
        return tuple(found)

    def image(self, manifest: Manifest) -> StoredImage | None:
        """Return a restore point; None where it cannot be had, which is `verify`'s to judge."""
        if manifest.sequence in self.broken:
            return None
        try:
            return stored_image(self._repository, self._runtime.reader, self._view.chain(manifest))
        except PagewardenError:
            return None

    def without_broken(self) -> History | None:
        """Return this anew without restore points that turn out not to be whole, for after a read has failed.

        None where all are whole that were not known to be broken. Raises as `open_history` does.
        """
        broken = self._find_broken()
        return None if len(broken) == len(self.broken) else self._reopen(broken)

    def _find_broken(self) -> Mapping[int, str]:
        """Read the newest restore point and the older ones to their ends; return those that are not whole, with why."""
        broken, proved = dict(self.broken), set[str]()
        images = {image.position: image for image in (self.newest, *self.older)}
        for manifest in self.manifests:
            image = images.get(manifest.position)
            try:
                for path in [] if image is None else [os.fspath(each) for each in image.chain]:
                    if path not in proved:
                        self._runtime.reader.verify_pageset(path, read_data=True)
                        proved.add(path)
            except RepositoryDamaged as error:
                broken[manifest.sequence] = error.message
        return broken

    def fetch(self, image: PastImage, to: Path) -> None:
        """Write a restore point, every page of it proved, to the new file `to`."""
        from pagewarden.restore.write import write_chain

        manifest = next((each for each in self._view.points if each.position == image.position), None)
        if manifest is None:
            raise RepositoryDamaged(f"{self._repository.url} holds no restore point at {image.position}")
        write_chain(
            self._view.chain(manifest), to, repository=self._repository, reader=self._runtime.reader, read_back=False
        )
        if isinstance(image, RolledImage):
            _lay_over(image, to)

    def close(self) -> None:
        """Remove the copies that were made of stored objects; no image may be asked any more."""
        self._repository.store.forget()


def open_history(
    request: RepairRequest,
    runtime: Runtime,
    path: str,
    *,
    findings: Sequence[Finding] = (),
    log_set_aside: bool = False,
) -> History | None:
    """Return what the repository of `request` knows of the database at the real path `path`; None without one.

    It is the database's own path, not that of a copy: the proofs are of its files as they were found. `findings`
    are what is wrong with it: restore points that hold that themselves are passed over. `log_set_aside` says that its
    log was proved to be none of its own. Whatever is wrong with the newest one, an older one that is whole takes its
    place; what is wrong with its pages may show when they are read: see `History.without_broken`.

    Raises RepositoryNotFound, RepositoryDamaged where no restore point can be read at all, RepairRefused where nothing
    shows that they are of this database, TargetFailed.
    """
    if request.repository is None:
        return None
    repository = runtime.repository(request.repository)
    name = Path(path).name if request.name is None else request.name
    view = repository.view(name)
    taint = Taint(runtime, path, findings)

    def opened(broken: Mapping[int, str]) -> History:
        history = _newest(path, view, repository, runtime, taint, broken, opened)
        try:
            history.certain = is_certain(history, runtime, path, repository)
            history.present, history.why = _Proof(history, request, runtime, path, repository).find(log_set_aside)
        except RepositoryDamaged:
            older = history.without_broken()
            if older is None:
                raise
            return older
        return history

    return opened({})


def _newest(
    path: str, view: View, repository: Repository, runtime: Runtime, taint: Taint, broken: Mapping[int, str],
    reopen: Callable[[Mapping[int, str]], History],
) -> History:  # fmt: skip
    """Return the history as of the newest restore point that can be had, if possible one that was not found damaged."""
    points = view.on(None)
    passed = [*_unread(view, points[-1])]
    found: tuple[int, StoredImage] | None = None
    fallback: tuple[int, StoredImage] | None = None  # where every other one is damaged, too
    at = len(points)
    while at > 0:
        at -= 1
        manifest = points[at]
        damaged = manifest.source.verdict is Verdict.DAMAGED
        if damaged and found is not None:
            continue
        if manifest.sequence in broken:
            passed.append(_of_point(manifest, broken[manifest.sequence]))
            continue
        try:
            image = stored_image(repository, runtime.reader, view.chain(manifest))
            why = taint.why(image, manifest, view, repository)
        except (RepositoryDamaged, TargetFailed) as error:
            passed.append(_of_point(manifest, error.message))
            continue
        if why:
            passed.append(why)
            fallback = fallback or (at, image)
            at = _first_with(at, partial(_holds, taint, view, repository, runtime))
            continue
        if not damaged and found is not None:
            passed.append(f"the restore points after {manifest.position} are of a database found damaged")
        found = at, image
        if not damaged:
            break
    found = found or fallback
    if found is None:
        raise RepositoryDamaged(
            f"none of the {len(points)} restore points of {view.name} in {repository.url} can be read: {passed[0]}",
            hint=repository.command("verify", "--read-data"),
        )
    return History(
        runtime=runtime, repository=repository, path=path, view=view, at=found[0], image=found[1], passed=passed,
        broken=broken, reopen=reopen,
    )  # fmt: skip


def _of_point(manifest: Manifest, why: str) -> str:
    return f"the restore point of {format_moment(manifest.position.time)} cannot be used: {why}"


def _unread(view: View, newest: Manifest) -> Iterator[str]:
    """Yield why a backup that was made after the newest restore point cannot be read; nothing if there is none."""
    try:
        view.refuse_unread_after(newest)
    except RepositoryDamaged as error:
        yield error.message


def _holds(taint: Taint, view: View, repository: Repository, runtime: Runtime, at: int) -> bool:
    """Whether point number `at` is known to hold the damage, or cannot be had."""
    try:
        return taint.known(stored_image(repository, runtime.reader, view.chain(view.points[at])))
    except PagewardenError:
        return True


def _first_with(at: int, holds: Callable[[int], bool]) -> int:
    """Return the first of the points up to `at`, which holds the damage, that do, looking at few of very many."""
    step = 1
    while at - step >= 0 and holds(at - step):
        at, step = at - step, 2 * step
    without = max(-1, at - step)
    while at - without > 1:
        middle = (at + without) // 2
        if holds(middle):
            at = middle
        else:
            without = middle
    return at


def _lay_over(image: RolledImage, to: Path) -> None:
    """Lay what was committed since over the restore point that was written to `to`."""
    try:
        with to.open("r+b") as file:
            for pgno in image.written:
                durable.write_at(file.fileno(), image.page(pgno), (pgno - 1) * image.page_size)
            file.truncate(image.pages * image.page_size)
            os.fsync(file.fileno())
    except OSError as error:
        raise durable.failure(error, f"cannot write {to}") from error


class _Proof:
    """The search for a proof of one database's present state."""

    def __init__(
        self, history: History, request: RepairRequest, runtime: Runtime, path: str, repository: Repository
    ) -> None:
        self._history = history
        self._request = request
        self._runtime = runtime
        self._path = path
        self._repository = repository
        self._manifest = history.manifest
        self._place = lineage.place_of(repository.url, self._manifest.database)

    def find(self, log_set_aside: bool) -> tuple[PastImage | None, str]:
        """Return the present state, and how it is proved; or None, and why it is not."""
        newest, at = self._history.newest, f"{format_moment(self._manifest.position.time)}"
        image, why = self._proved(log_set_aside)
        if image is None and self._request.policy.assume_current and not self._history.passed:
            return newest, f"its owner declares that nothing was committed since {at}"
        if image is None:
            # What the owner declares is of the newest one, and not of that which takes its place.
            last = "newer restore points cannot be used" if self._history.passed else ASSUME
            return None, f"what was committed since {at} is not known: {why}; {last}"
        return image, why

    def _proved(self, log_set_aside: bool) -> tuple[PastImage | None, str]:
        facts, newest, path = self._manifest.facts, self._history.newest, self._path
        if not standing.here(facts, path):
            return None, f"the restore point is of {facts.path} on {facts.host}"
        state = standing.look(path)
        note = standing.read_note(
            self._runtime.state, path, self._place, self._manifest.position, self._manifest.database_sum
        )
        known = [each for each in (facts.file_state, None if note is None else note.state) if each]
        if self._has_log() and not log_set_aside:
            return self._by_log(unwritten=state is not None and state in known)
        header = self._runtime.reader.file_header(path)
        if state is not None and state in known and not standing.counters_moved(facts, header):
            return newest, "the file was not written to since it stood at the newest restore point"
        if self._history.mangled:
            return newest, "the file is what a transfer as text makes of the newest restore point"
        if known:
            return None, "the file was written to since"
        return None, "the log has no frames any more that would tell" if facts.wal_frames else "nothing tells"

    def _has_log(self) -> bool:
        """Whether there is a log that could hold a frame."""
        try:
            return os.lstat(f"{self._path}-wal").st_size > WAL_HEADER_SIZE
        except OSError:
            return False

    def _by_log(self, *, unwritten: bool) -> tuple[PastImage | None, str]:
        """Go by the log; `unwritten` says that the file was not written to since it alone was the restore point."""
        newest = self._history.newest
        found = self._roll(next_log=False)
        if isinstance(found, str) and unwritten:
            later = self._roll(next_log=True)
            found = found if isinstance(later, str) else later
        if isinstance(found, str):
            at_all = self._manifest.facts.wal_frames
            return None, found if at_all else "a log stands beside the file, of which the restore point knows nothing"
        if not found.written:
            return newest, "the log ends with the commit of the newest restore point"
        return found, f"the log goes on from the newest restore point, with {len(found.written)} pages written since"

    def _roll(self, *, next_log: bool) -> RolledImage | str:
        return roll_forward(
            self._runtime.reader,
            self._path,
            self._history.newest,
            self._manifest.facts,
            repository=self._repository,
            points=self._history.manifests,
            next_log=next_log,
        )


def is_mangled(reader: PageReader, path: str, image: StoredImage) -> bool:
    """Return whether the file at `path` is, to its last byte, `image` with every LF made CRLF, or every CRLF made LF.

    Reads only as far as they agree.
    """
    if not image.pages:
        return False
    first = image.page(1)
    return any(
        reader.read_file(path, 0, len(changed)) == changed and _equals(reader, path, image, change)
        for change in (_to_crlf, _to_lf)
        if (changed := change(first, last=False)[0])
    )


def _equals(reader: PageReader, path: str, image: StoredImage, change: Callable[..., tuple[bytes, bytes]]) -> bool:
    at, held, differs = 0, b"", False
    step = max(1, _COMPARED // image.page_size)
    for number in range(1, image.pages + 1, step):
        numbers = range(number, min(number + step, image.pages + 1))
        pages = held + b"".join(reader.chain_pages(image.chain, numbers))
        changed, held = change(pages, last=numbers.stop > image.pages)
        if reader.read_file(path, at, len(changed)) != changed:
            return False
        differs = differs or changed != pages
        at += len(changed)
    return differs and not reader.read_file(path, at, 1)


def _to_crlf(data: bytes, *, last: bool) -> tuple[bytes, bytes]:  # noqa: ARG001 - as its sibling
    return data.replace(b"\n", b"\r\n"), b""


def _to_lf(data: bytes, *, last: bool) -> tuple[bytes, bytes]:
    """Return what is changed, and a CR at the end whose LF may come next."""
    held = b"\r" if data.endswith(b"\r") and not last else b""
    return data[: len(data) - len(held)].replace(b"\r\n", b"\n"), held
