"""Manifests: one small JSON document for each restore point, which proves itself (docs/formats/repository-1.md).

The envelope is `{"<what>":{…},"sha256":"…"}` and a newline: the digest is over the inner document's bytes as they stand
there, and a document that would not be written exactly so is refused, so that no byte can change unnoticed. The
marker and intents use the same envelope.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TypedDict, TypeVar, Unpack

import msgspec
from msgspec import UNSET, UnsetType

from pagewarden.errors import RepositoryDamaged
from pagewarden.pages import MAX_PAGES, is_page_size
from pagewarden.repository.format import PageSetInfo
from pagewarden.values import PointCommits, Position, RestorePoint, SourceVerdict, Verification

FORMAT = 1
"""Version of the repository's format: of marker, manifests and intents, and of the page sets that they name."""

LARGEST = 64 << 10
"""Bytes of a document that a reader accepts."""

_HEX16 = re.compile(r"[0-9a-f]{16}").fullmatch
_HEX32 = re.compile(r"[0-9a-f]{32}").fullmatch
_HEX64 = re.compile(r"[0-9a-f]{64}").fullmatch
_PAST_TXID = _PAST_BYTES = 1 << 63  # what the header of a page set, and a file, can have
_PAST_SEQUENCE = 10**16  # what a key has digits for
_NO_OFFSET = timedelta(0)
_HEAD = len('{"":')  # bytes of an envelope before the document, but for its name
_TAIL = len(',"sha256":""}\n') + 64

Document = TypeVar("Document")


@dataclass(frozen=True, slots=True, kw_only=True)
class FileState:
    """What `stat` says of a database file that a write through SQLite moves, and rot does not."""

    inode: int
    size: int  # bytes
    mtime_ns: int  # when it was last written to, in nanoseconds since 1970


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceFacts:
    """What the database's files said at the commit that was backed up.

    Kept to know later whether a commit was made since: salts and frames for WAL mode. An unchanged change counter
    proves nothing about bytes (H34).
    """

    path: str  # real path
    host: str
    change_counter: int  # header bytes 24–27
    schema_cookie: int  # header bytes 40–43
    journal_mode: str  # "wal", "delete", …
    wal_salts: str = ""  # 16 hexadecimal digits, empty where the WAL was not used
    wal_frames: int = 0  # frames of the WAL that belong to the commit
    sqlite_version: str = ""  # of the library that pinned the commit
    wal_checksum: str | UnsetType = UNSET  # running, of the log at that frame: 16 hexadecimal digits
    gap: str | UnsetType = UNSET  # why the commits before this one were not followed; unset where none was missed
    file_state: FileState | UnsetType = UNSET  # where the file alone was the commit, and was not just written to


@dataclass(frozen=True, slots=True, kw_only=True)
class CommitsFacts:
    """A page set of commits: every commit between the parent's position and its manifest's, each with its own pages."""

    key: str
    bytes: int
    sha256: str  # over all its bytes but the last 40
    count: int  # commits that can be restored from it, that of the manifest's position included
    earliest: datetime  # the earliest time at which one of them was seen, UTC: clocks step back (H23)


class Further(TypedDict, total=False):
    """What only `backups` fills in; see RestorePoint."""

    ratio: float
    chain: int
    chain_bytes: int
    verification: Verification | None
    pin: str | None
    deleted: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """One restore point. Raises ValueError for what no manifest says."""

    format: int = FORMAT
    database: str  # name in the repository
    kind: str  # "snapshot" or "segment"
    sequence: int  # counts the manifests of the database, from 1: the order of commits, whatever clocks say (H23)
    position: Position
    # What it continues. A segment is relative to it; a snapshot's is of another timeline where a restored database was
    # written to.
    parent: Position | None
    key: str  # of the object
    bytes: int  # of the object
    sha256: str  # the object's, over all its bytes but the last 40
    page_size: int  # bytes
    pages: int  # size of the database, in pages
    database_sum: str  # 16 hexadecimal digits
    compression: int  # zstd level
    source: SourceVerdict
    facts: SourceFacts
    verified_at: datetime  # when the object was read back and verified, UTC
    created_by: str  # program and version
    # What only a followed batch has, one of the two; unset elsewhere, so that older documents stay byte for byte.
    commits: CommitsFacts | UnsetType = UNSET
    merged: int | UnsetType = UNSET  # commits that it stands for, of which only the last can be restored
    # The lowest number that it stands for: those from there up to its own are gathered in it, and count no more.
    gathered: int | UnsetType = UNSET

    def __post_init__(self) -> None:
        # Thousands are decoded by one command, so each look is the cheapest that sees the same.
        if self.kind != "segment" and self.kind != "snapshot":
            raise ValueError(f"the kind {self.kind!r}")
        parent = self.parent
        for each in (self.position,) if parent is None else (self.position, parent):
            if not 0 < each.txid < _PAST_TXID or _HEX32(each.timeline) is None:
                raise ValueError(f"the position {each}")
            if each.time.tzinfo is not UTC and each.time.utcoffset() != _NO_OFFSET:
                raise ValueError("a time that is not UTC")
        if self.verified_at.tzinfo is not UTC and self.verified_at.utcoffset() != _NO_OFFSET:
            raise ValueError("a time that is not UTC")
        if _HEX64(self.sha256) is None or _HEX16(self.database_sum) is None:
            raise ValueError("sums that are none")
        if not is_page_size(self.page_size) or not 0 <= self.pages <= MAX_PAGES:
            raise ValueError(f"{self.pages} pages of {self.page_size} bytes, which no database has")
        if not (0 < self.sequence < _PAST_SEQUENCE and 0 < self.bytes < _PAST_BYTES and 0 < self.compression < 23):
            raise ValueError(
                f"the number {self.sequence}, an object of {self.bytes} bytes and zstd's level {self.compression}, "
                "not all of which there can be"
            )
        if self.kind == "segment" and (
            self.parent is None
            or self.parent.timeline != self.position.timeline
            or self.parent.txid >= self.position.txid
        ):
            raise ValueError(f"a segment that continues {self.parent}, at {self.position}")
        facts = self.facts
        if facts.wal_checksum is not UNSET and (_HEX16(facts.wal_checksum) is None or _HEX16(facts.wal_salts) is None):
            raise ValueError(f"the checksum {facts.wal_checksum!r} of a log with the salts {facts.wal_salts!r}")
        if self.commits is not UNSET or self.merged is not UNSET or self.gathered is not UNSET:
            self._check_followed()

    def _check_followed(self) -> None:
        """Raise ValueError unless what is said of followed commits fits the rest."""
        commits, merged, gathered = self.commits, self.merged, self.gathered
        if gathered is not UNSET and not 0 < gathered < self.sequence:
            raise ValueError(f"number {self.sequence}, in which those from {gathered} on are gathered")
        if commits is UNSET and merged is UNSET:
            return
        span = self.span
        if not span or (commits is not UNSET and merged is not UNSET):
            raise ValueError("commits that were followed, and none that they follow or two accounts of them")
        if merged is not UNSET and not 0 < merged <= span:
            raise ValueError(f"{merged} commits in one of {span}")
        if commits is not UNSET:
            if not 1 < commits.count <= span:
                raise ValueError(f"{commits.count} commits of {span}")
            if not 0 < commits.bytes < _PAST_BYTES or _HEX64(commits.sha256) is None:
                raise ValueError("commits in an object that there cannot be")
            if commits.earliest.utcoffset() != _NO_OFFSET:
                raise ValueError("a time that is not UTC")

    @property
    def span(self) -> int:
        """How many commits its position is after its parent's on the same timeline; 0 where it continues none there."""
        parent, at = self.parent, self.position
        return at.txid - parent.txid if parent is not None and parent.timeline == at.timeline else 0

    @property
    def followed(self) -> bool:
        """Whether it is of commits that were followed, and not of a backup."""
        return self.commits is not UNSET or self.merged is not UNSET

    @property
    def bytes_stored(self) -> int:
        """Bytes of its objects: the page set, and that of the commits."""
        return self.bytes + (0 if self.commits is UNSET else self.commits.bytes)

    @property
    def object_keys(self) -> tuple[str, ...]:
        """The keys of its objects, that of the commits last."""
        return (self.key,) if self.commits is UNSET else (self.key, self.commits.key)

    def contradiction(self, info: PageSetInfo) -> str:
        """Return why the page set `info` is not the one that this manifest names: a clause, empty if it is."""
        header = info.header
        relative = self.parent.txid if self.kind == "segment" and self.parent is not None else 0
        for what, said, seen in (
            ("kind", self.kind, header.kind.name.lower()),
            ("bytes", self.bytes, info.bytes),
            ("SHA-256", self.sha256, info.sha256),
            ("position", self.position, info.position),
            ("beginning", relative, header.txid_from),
            ("page size", self.page_size, header.page_size),
            ("pages", self.pages, header.pages),
            ("database sum", self.database_sum, f"{info.database_sum:016x}"),
        ):
            if said != seen:
                return f"is a whole page set, but not the one of its manifest: {what} {seen}, not {said}"
        return ""

    def commits_contradiction(self, info: PageSetInfo) -> str:
        """Return why `info` is not the page set of commits that this manifest names: a clause, empty if it is."""
        commits, parent, header = self.commits, self.parent, info.header
        if commits is UNSET or parent is None:
            return "is of commits, and its manifest names none"
        for what, said, seen in (
            ("kind", "commits", header.kind.name.lower()),
            ("bytes", commits.bytes, info.bytes),
            ("SHA-256", commits.sha256, info.sha256),
            ("position", self.position, info.position),
            ("beginning", parent.txid, header.txid_from),
            ("page size", self.page_size, header.page_size),
            ("pages", self.pages, header.pages),
            ("commits", commits.count, header.commits),
            ("database sum", self.database_sum, f"{info.database_sum:016x}"),
        ):
            if said != seen:
                return f"is a whole page set, but not the one of its manifest: {what} {seen}, not {said}"
        return ""

    @property
    def restore_point(self) -> RestorePoint:
        """It, as far as it can be told from the manifest alone."""
        return self.listed()

    def listed(self, **further: Unpack[Further]) -> RestorePoint:
        """Return what `backups` lists, with what the others and the marks say of it."""
        commits, span = self.commits, self.span
        return RestorePoint(
            database=self.database,
            position=self.position,
            kind=self.kind,
            pages=self.pages,
            page_size=self.page_size,
            bytes=self.pages * self.page_size,
            bytes_stored=self.bytes_stored,
            database_sum=self.database_sum,
            source=self.source,
            verified_at=self.verified_at,
            key=self.key,
            continues=self.position.txid - span if span else 0,
            commits=None
            if commits is UNSET
            else PointCommits(count=commits.count, earliest=commits.earliest, bytes=commits.bytes, key=commits.key),
            merged=0 if self.merged is UNSET else self.merged,
            gap="" if self.facts.gap is UNSET else self.facts.gap,
            **further,
        )


class _Version(msgspec.Struct):
    format: int


def encode_document(what: str, document: object) -> bytes:
    """Return `document` (a dataclass) in its envelope."""
    inner = msgspec.json.encode(document)
    return _envelope(what, inner)


def decode_document(what: str, data: bytes, kind: type[Document], where: str, *, hint: str = "") -> Document:
    """Return the document in `data`. Raises RepositoryDamaged, naming `where`, unless every byte is as it must be.

    `hint` is for one that was changed.
    """
    inner = data[len(what) + _HEAD : -_TAIL]
    if len(data) > LARGEST or _envelope(what, inner) != data:
        raise RepositoryDamaged(f"{where} is not what was stored there: it does not match its own SHA-256", hint=hint)
    try:
        version = msgspec.json.decode(inner, type=_Version).format
        if version != FORMAT:
            raise RepositoryDamaged(
                f"{where} is of format {version}, which this version cannot read", hint="install a newer pagewarden"
            )
        document = msgspec.json.decode(inner, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise RepositoryDamaged(f"{where} cannot be understood: {error}", hint=hint) from error
    if msgspec.json.encode(document) != inner:
        raise RepositoryDamaged(f"{where} says more than format {FORMAT} knows", hint="install a newer pagewarden")
    return document


def encode_manifest(manifest: Manifest) -> bytes:
    """Return the bytes of a manifest."""
    return encode_document("manifest", manifest)


def decode_manifest(data: bytes, where: str) -> Manifest:
    """Return the manifest in `data`. Raises RepositoryDamaged; `where` is its key."""
    return decode_document("manifest", data, Manifest, where)


def _envelope(what: str, inner: bytes) -> bytes:
    digest = hashlib.sha256(inner).hexdigest()
    return b'{"%s":%s,"sha256":"%s"}\n' % (what.encode(), inner, digest.encode())
