"""The C module of the page reader: `lib` holds its functions, `ffi` its types. See `c/pagewarden_native.h`."""

from pagewarden_native._native import ffi, lib

__all__ = ["ffi", "lib"]
