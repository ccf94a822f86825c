"""Repositories with chains, made without a backup: page sets and manifests as a backup would store them."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from pagewarden.repository import keys
from pagewarden.repository.blocks import (
    DIGEST_TAIL,
    TRAILER_SIZE,
    close,
    decode_header,
    decode_trailer,
    encode_header,
    encode_trailer,
    info_of,
)
from pagewarden.repository.format import HEADER_SIZE, PageSetInfo
from pagewarden.repository.manifest import FORMAT, Manifest, encode_document, encode_manifest
from pagewarden.repository.repository import Marker
from pagewarden.values import Position
from tests.core.repository.segments import write_segment
from tests.core.repository.sets import FACTS, NOW, SOUND, header, image, write


def histories(count: int, *, pages: int = 20, seed: int = 1) -> list[bytes]:
    """Return images of a database that changes, grows and shrinks from one to the next."""
    rng = random.Random(seed)
    images = [image(pages, seed=seed)]
    while len(images) < count:
        data = bytearray(images[-1])
        for pgno in rng.sample(range(len(data) // 512), 3):
            data[pgno * 512 : pgno * 512 + 40] = rng.randbytes(40)
        if rng.random() < 0.4:
            data += image(rng.randrange(1, 9), seed=rng.randrange(1000))
        elif rng.random() < 0.3:
            del data[(len(data) // 512 - rng.randrange(1, 4)) * 512 :]
        images.append(bytes(data))
    return images


def make_repository(root: Path) -> None:
    """Make an empty one."""
    root.mkdir(parents=True)
    (root / keys.MARKER).write_bytes(encode_document("repository", Marker()))


def put_point(
    root: Path, sequence: int, path: Path, info: PageSetInfo, *, name: str = "app.db", generation: int = 0
) -> Manifest:
    """Store a page set that was written to `path`, and its manifest."""
    head = info.header
    position = Position(timeline=head.timeline, txid=head.txid, time=head.time)
    nonce = random.Random(f"{name} {sequence} {generation} {head.txid_from}").randbytes(8).hex()
    key = keys.object_key(keys.ObjectKey(name=name, timeline=head.timeline, txid=head.txid, nonce=nonce))
    manifest = Manifest(
        format=FORMAT,
        database=name,
        kind=head.kind.name.lower(),
        sequence=sequence,
        position=position,
        parent=replace(position, txid=head.txid_from) if head.txid_from else None,
        key=key,
        bytes=info.bytes,
        sha256=info.sha256,
        page_size=head.page_size,
        pages=head.pages,
        database_sum=f"{info.database_sum:016x}",
        compression=1,
        source=SOUND,
        facts=FACTS,
        verified_at=NOW,
        created_by="pagewarden test",
    )
    (root / key).parent.mkdir(parents=True, exist_ok=True)
    path.replace(root / key)
    stored = root / keys.manifest_key(name, sequence, generation)
    stored.parent.mkdir(parents=True, exist_ok=True)
    stored.write_bytes(encode_manifest(manifest))
    return manifest


def put_snapshot(
    root: Path, data: bytes, *, txid: int = 1, sequence: int | None = None, name: str = "app.db"
) -> Manifest:
    """Store a snapshot; its number is its txid unless another is given."""
    path = root.parent / "page-set"
    return put_point(root, sequence or txid, path, write(path, data, header(len(data) // 512, txid=txid)), name=name)


def put_segment(root: Path, before: bytes, data: bytes, *, txid: int, name: str = "app.db") -> Manifest:
    """Store the segment between two images; its number is its txid."""
    path = root.parent / "page-set"
    return put_point(root, txid, path, write_segment(path, before, data, txid=txid), name=name)


def make_chain(
    root: Path, images: Sequence[bytes], *, name: str = "app.db", snapshots: Sequence[int] = (1,)
) -> list[Manifest]:
    """Store one restore point for each image, from txid 1; those of `snapshots` are snapshots, others segments."""
    if not root.exists():
        make_repository(root)
    found = []
    for txid, data in enumerate(images, start=1):
        found.append(
            put_snapshot(root, data, txid=txid, name=name)
            if txid in snapshots
            else put_segment(root, images[txid - 2], data, txid=txid, name=name)
        )
    return found


def reseal(path: Path, **changes: int) -> PageSetInfo:
    """Forge fields of a page set's trailer, with all checksums and the SHA-256 right again."""
    return _forge(path, {}, changes)


def claim_pages(path: Path, pages: int) -> PageSetInfo:
    """Let a segment say that its database has `pages` pages, with all checksums and the SHA-256 right again."""
    return _forge(path, {"pages": pages}, {})


def _forge(path: Path, in_header: dict[str, int], in_trailer: dict[str, int]) -> PageSetInfo:
    data = path.read_bytes()
    head = decode_header(data[:HEADER_SIZE], "forged")
    trailer = decode_trailer(data[-TRAILER_SIZE:], head, len(data), "forged")
    head = replace(head, **in_header)  # type: ignore[arg-type]
    begin = encode_header(head)
    trailer = replace(trailer, header_check=int.from_bytes(begin[-8:], "little"), **in_trailer)  # type: ignore[arg-type]
    body = data[HEADER_SIZE:-TRAILER_SIZE] + encode_trailer(trailer)
    digest = hashlib.sha256(body + begin).digest()
    path.write_bytes(begin + body + close(digest))
    assert len(close(digest)) == DIGEST_TAIL
    return info_of(head, replace(trailer, sha256=digest))
