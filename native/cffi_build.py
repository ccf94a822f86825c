"""Builds `pagewarden_native._native`: the declarations are cut out of the one header, between its two markers."""

from __future__ import annotations

from pathlib import Path

from cffi import FFI

HEADER = Path(__file__).parent / "c" / "pagewarden_native.h"
# Paths of sources are relative to setup.py: setuptools puts nothing else into an sdist or a build folder.
SOURCES = tuple(f"c/{unit.name}" for unit in sorted(HEADER.parent.glob("*.c")))


def declarations() -> str:
    """Return the part of the header that cffi reads."""
    _, _, rest = HEADER.read_text("ascii").partition("/* cffi: begin */")
    cut, end, _ = rest.partition("/* cffi: end */")
    if not end:
        raise SystemExit(f"{HEADER}: the two cffi markers are missing")
    return cut


ffi = FFI()
ffi.cdef(declarations())
ffi.set_source(
    "pagewarden_native._native",
    '#include "pagewarden_native.h"',
    sources=list(SOURCES),
    include_dirs=["c"],
    extra_compile_args=["-std=c11", "-O3"],
    py_limited_api=True,
)
