"""The C interface and its binding: one list of statuses, one list of ends, and sources that keep their own rules."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from pagewarden.pages import PageDataError, WalEnd
from pagewarden.pages._native import ABI, EXCEPTIONS, _raise
from pagewarden.pages.walk import MAX_DEPTH, MAX_FLAWS, MAX_KEY
from pagewarden.structure import Collation, FlawKind
from pagewarden_native import ffi, lib

SOURCES = Path(__file__).parents[2] / "native" / "c"


def test_every_status_has_its_exception() -> None:
    """The status enum and the table of exceptions name the same things, success aside."""
    statuses = set(ffi.typeof("pw_status").relements) - {"PW_OK"}
    assert statuses == set(EXCEPTIONS)
    for name, exception in EXCEPTIONS.items():
        fault = ffi.new("pw_fault *", {"status": getattr(lib, name), "error": 5, "pgno": 77, "offset": 4096})
        with pytest.raises(exception) as caught:
            _raise(fault)
        assert type(caught.value) is exception or name == "PW_IO"
        assert "77" in str(caught.value)
        if isinstance(caught.value, PageDataError):
            assert caught.value.pgno == 77
        if isinstance(caught.value, OSError):
            assert caught.value.errno == 5


def test_every_end_has_its_value() -> None:
    """`WalEnd` follows the order of `pw_wal_end`."""
    ends = sorted(ffi.typeof("pw_wal_end").elements.items())
    assert [f"PW_WAL_{end.name}" for end in WalEnd] == [name for _, name in ends]
    assert [number for number, _ in ends] == list(range(len(WalEnd)))
    assert lib.PW_ABI == ABI


def test_flaws_and_bounds_of_the_walk_are_those_of_the_values() -> None:
    """`pw_flaw_kind` is `FlawKind`, `pw_order` begins with `Collation`, and the bounds are the documented ones."""
    kinds = {name.removeprefix("PW_FLAW_"): number for number, name in ffi.typeof("pw_flaw_kind").elements.items()}
    assert kinds == {kind.name: kind.value for kind in FlawKind}
    orders = ffi.typeof("pw_order").relements
    assert {collation.name: collation.value for collation in Collation}.items() <= {
        name.removeprefix("PW_ORDER_"): number for name, number in orders.items()
    }.items()
    assert lib.PW_PAGE_FLAWS == MAX_FLAWS
    walk = (SOURCES / "walk.h").read_text("ascii")
    assert f"PW_MAX_DEPTH {MAX_DEPTH}u" in walk
    assert f"PW_MAX_KEY {MAX_KEY}u" in walk
    assert lib.PW_PARTS > MAX_DEPTH


def test_sources_keep_their_rules() -> None:
    """No Python.h, no SQLite, no zstd, no printing, no allocation, no mapping, no globals; files under 400 lines."""
    units = sorted(SOURCES.glob("*.[ch]"))
    assert {"xxh64.c", "source.c", "sums.c", "reserved.c", "compress.c", "decompress.c", "wal.c"} <= {
        unit.name for unit in units
    }
    for unit in units:
        text = unit.read_text("ascii")
        assert text.count("\n") < 400, unit.name
        code = re.sub(r"/\*.*?\*/", "", text, flags=re.DOTALL)
        assert set(re.findall(r"#include [<\"](.*?)[>\"]", code)) <= {
            "bytes.h", "errno.h", "pagewarden_native.h", "record.h", "stddef.h", "stdint.h", "string.h", "sys/types.h",
            "unistd.h", "walk.h",
        }  # fmt: skip
        assert not re.search(r"\b(printf|malloc|calloc|realloc|alloca|free|mmap|open|close|memcpy_s)\s*\(", code)
        assert not re.search(r"^static (?!inline|pw_status|int|uint32_t|void|.*\()", code, re.MULTILINE), unit.name


def test_declarations_are_cut_once() -> None:
    """The header holds each of cffi's two markers once, around everything that is declared."""
    header = (SOURCES / "pagewarden_native.h").read_text("ascii")
    assert header.count("/* cffi: begin */") == header.count("/* cffi: end */") == 1
    cut = header.partition("/* cffi: begin */")[2].partition("/* cffi: end */")[0]
    declared = set(re.findall(r"^\w.*?\b(pw_\w+)\(", cut, re.MULTILINE))
    defined = {
        name
        for unit in SOURCES.glob("*.c")
        for name in re.findall(r"^\w[\w ]*?\b(pw_\w+)\([^;{]*\{", unit.read_text("ascii"), re.MULTILINE)
    }
    between_units = {
        name
        for other in SOURCES.glob("*.h")
        if other.name != "pagewarden_native.h"
        for name in re.findall(r"^\w.*?\b(pw_\w+)\(", other.read_text("ascii"), re.MULTILINE)
    }
    assert "pw_pread" in between_units
    assert declared == defined - between_units


def test_hostile_calls_are_refused_by_the_c_code_itself() -> None:
    """Without Python's checks before them the C functions refuse sizes, counts and buffers that do not fit."""
    fault, sums = ffi.new("pw_fault *"), ffi.new("uint8_t[]", 8)
    source = ffi.new("pw_source *", {"database": -1, "wal": -1, "page_size": 4096, "pages": 2, "file_size": 8192})
    page = ffi.new("uint8_t[]", 4096)
    for first, count in ((0, 1), (3, 1), (1, 3), (2, 2**32 - 1), (2**32 - 1, 2**32 - 1)):
        assert lib.pw_read(source, first, count, page, 4096, fault) == lib.PW_ARGUMENT
    assert lib.pw_read(source, 1, 2, page, 4096, fault) == lib.PW_ARGUMENT
    assert lib.pw_sums(source, 1, 2, page, 4096, sums, 8, fault) == lib.PW_ARGUMENT
    assert lib.pw_buffer_sums(page, 4096, 4096, 1, 2, sums, 8, fault) == lib.PW_ARGUMENT
    assert lib.pw_listed_sums(page, 4096, 4096, b"\1\0\0\0" * 2, 8, 2, sums, 8, fault) == lib.PW_ARGUMENT
    assert lib.pw_read(source, 1, 0, page, 0, fault) == lib.PW_OK
