"""Page sums: XXH64 seeded with the page number, equal from every backend, bound to the place of the page."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pagewarden.pages import Backend, PageSource, database_sum, lock_page, scan_sums
from pagewarden.pages._twin import xxh64

PRIME32, PRIME64 = 2654435761, 11400714785074694797


def sanity(length: int) -> bytes:
    """Return the bytes over which xxHash publishes its sanity values."""
    state, out = PRIME32, bytearray()
    for _ in range(length):
        out.append(state >> 56)
        state = state * PRIME64 % 2**64
    return bytes(out)


# Length, seed, value: xsum_sanity_check.c of https://github.com/Cyan4973/xxHash
VECTORS = [
    (0, 0, 0xEF46DB3751D8E999),
    (0, PRIME32, 0xAC75FDA2929B17EF),
    (1, 0, 0xE934A84ADB052768),
    (1, PRIME32, 0x5014607643A9B4C3),
    (4, 0, 0x9136A0DCA57457EE),
    (14, 0, 0x8282DCC4994E35C8),
    (14, PRIME32, 0xC3BD6BF63DEB6DF0),
    (222, 0, 0xB641AE8CB691C174),
    (222, PRIME32, 0x20CB8AB7AE10C14A),
]


@pytest.mark.parametrize(("length", "seed", "value"), VECTORS)
def test_stock_vectors(pages_backend: Backend, length: int, seed: int, value: int) -> None:
    """Every backend gives the values that xxHash itself is tested against."""
    assert pages_backend.page_sum(seed, sanity(length)) == value


@settings(max_examples=60, deadline=None)
@given(data=st.binary(max_size=300), seed=st.integers(0, 2**32 - 1))
def test_native_equals_twin(data: bytes, seed: int) -> None:
    """For any bytes and any seed the C code and its twin agree, from bytes, bytearrays and memoryviews alike."""
    from pagewarden.pages._native import NativeBackend

    native = NativeBackend()
    assert native.page_sum(seed, data) == xxh64(data, seed)
    assert native.page_sum(seed, memoryview(bytearray(data))) == xxh64(bytearray(data), seed)


def test_a_page_in_the_wrong_place_never_matches(pages_backend: Backend) -> None:
    """H10: the same bytes have another sum under another page number."""
    page = random.Random(1).randbytes(512)
    sums = {pages_backend.page_sum(pgno, page) for pgno in range(1, 200)}
    assert len(sums) == 199


def test_lock_byte_page_counts_zero(pages_backend: Backend) -> None:
    """H12: whatever stands in the lock-byte page, its sum is 0."""
    for size in (512, 4096, 65536):
        page = random.Random(size).randbytes(size)
        first = lock_page(size) - 1
        assert pages_backend.page_sum(lock_page(size), page) == 0
        sums = pages_backend.buffer_sums(page * 3, size, first, 3)
        assert sums[8:16] == bytes(8)
        assert sums[:8] == pages_backend.page_sum(first, page).to_bytes(8, "little")
        assert sums[16:] == pages_backend.page_sum(first + 2, page).to_bytes(8, "little")


def test_fold_is_the_xor(pages_backend: Backend) -> None:
    """The database sum follows a commit at the cost of its pages: old and new sum, both XORed in."""
    sums = random.Random(3).randbytes(80)
    words = [int.from_bytes(sums[i : i + 8], "little") for i in range(0, 80, 8)]
    total = 0
    for word in words:
        total ^= word
    assert pages_backend.fold(sums) == total
    assert pages_backend.fold(b"") == 0
    assert database_sum([sums[:24], b"", sums[24:]], using=pages_backend) == total
    with pytest.raises(ValueError):
        pages_backend.fold(bytes(7))


@pytest.mark.parametrize(
    ("size", "first", "count", "length"),
    [(500, 1, 1, 500), (512, 0, 1, 512), (512, 1, 2, 1023), (512, 1, -1, 512), (512, 2**32 - 1, 1, 512)],
)
def test_buffers_out_of_bounds_are_refused(
    pages_backend: Backend, size: int, first: int, count: int, length: int
) -> None:
    """No sum is taken over bytes that are not there, or of pages that no database has."""
    with pytest.raises(ValueError):
        pages_backend.buffer_sums(bytes(length), size, first, count)


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_scan_covers_every_page_in_order(
    pages_backend: Backend, tmp_path_factory: pytest.TempPathFactory, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Chunks come in page order and without gaps from any number of threads, and progress ends at the total."""
    monkeypatch.setattr("pagewarden.pages.scan.CHUNK", 5 * 512)
    content = random.Random(7).randbytes(43 * 512)
    path = tmp_path_factory.mktemp("scan") / "file"
    path.write_bytes(content)
    told: list[tuple[int, int]] = []
    with path.open("rb") as file:
        source = PageSource(database=file.fileno(), page_size=512, pages=43, file_size=len(content))
        for first, count in ((1, None), (4, 17), (43, 1), (1, 0), (44, None)):
            told.clear()
            chunks = list(
                scan_sums(
                    source,
                    first=first,
                    count=count,
                    threads=threads,
                    progress=lambda done, total: told.append((done, total)),
                    using=pages_backend,
                )
            )
            past = 44 if count is None else first + count
            assert [start for start, _ in chunks] == list(range(first, past, 5))
            assert b"".join(sums for _, sums in chunks) == pages_backend.sums(source, first, past - first)
            assert told == [(min(start + 5, past) - first, past - first) for start in range(first, past, 5)]
        with pytest.raises(ValueError):
            next(scan_sums(source, first=2, count=43, using=pages_backend))
