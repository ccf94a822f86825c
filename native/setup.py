"""Names the cffi module; everything else is in pyproject.toml."""

from setuptools import setup

setup(cffi_modules=["cffi_build.py:ffi"])
