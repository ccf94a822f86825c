"""Names the cffi module and the oldest interpreter of its ABI; everything else is in pyproject.toml."""

from setuptools import setup

setup(cffi_modules=["cffi_build.py:ffi"], options={"bdist_wheel": {"py_limited_api": "cp311"}})
